"""What of a run is published: which files, under which names, and what must hold of them first.

The adapter lies at the top, so that PEFT loads it by the repository's name; beside it the card,
lineage.json, a generated base (base/), and on request what an export made. SHA256SUMS has every
file's hash. Only safetensors, GGUF and text; no path of the machine they come from.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.spec import Lineage, Measured, ResolvedSpec, departures, encode
from results.portable import on_hub, own_name
from results.sums import sha256_of, write_sums

CARD = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
Files = dict[str, Path | bytes]  # by the name in the repository

# Tokenizers that are no text: SentencePiece models, protobuf.
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_CODE = (*layout.PICKLES, ".pickle", ".joblib", ".py", ".pyc", ".sh", ".so")
# Of the Hub, and of S3: tokens of fixed length that no word has. Assumption: 30 characters or more
_TOKEN = re.compile(rb"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}(?![A-Za-z0-9]))")
_HEAD_BYTES = 1 << 22  # of a binary file, looked through for paths: headers end before. Assumption


class Unpublishable(Exception):
    """What lies there must not be published as this run's; says what and what to do next."""


def require_lineage(home: Path, spec: ResolvedSpec) -> Lineage:
    """The run's lineage, which must be its spec's and its adapter's. Raises Unpublishable."""
    weights = layout.weights_folder(home, spec.strategy)
    try:
        content = (home / layout.LINEAGE).read_bytes()
        lineage = msgspec.json.decode(content, type=Lineage)
        inside = (weights / layout.LINEAGE).read_bytes()
    except (OSError, msgspec.DecodeError) as error:
        raise Unpublishable(f"{home} has no {layout.LINEAGE} that can be read: {error}") from None
    wrong = [] if inside == content else [f"{weights.name}/{layout.LINEAGE} is another"]
    wrong += departures(weights) if inside == content else []
    lora = None if spec.strategy == "full" else spec.lora
    bound: dict[str, tuple[object, object]] = {
        "run_id": (lineage.run_id, spec.run_id),
        "task": (lineage.task, spec.task),
        "base": (lineage.base.id, spec.model.id),
        "quantisation": (lineage.quantization, spec.quantization),
        "lora": (lineage.lora, lora),
        "seed": (lineage.seed, spec.seed),
    }
    for name in ("train", "validation", "test", "replay"):
        planned = getattr(spec, f"{name}_sha256")
        if planned is not None:
            bound[f"{name} data"] = (lineage.data_sha256.get(name), planned)
    wrong += [f"its {key} is another" for key, (ours, its) in bound.items() if ours != its]
    if lora is not None:
        config = _json(weights / ADAPTER_CONFIG)
        shape = (config.get("r"), config.get("lora_alpha"), set(config.get("target_modules") or ()))
        if shape != (lora.r, lora.alpha, set(lora.targets)):
            wrong.append(f"{ADAPTER_CONFIG} has another rank, alpha or targets")
    if wrong:
        raise Unpublishable(
            f"{home / layout.LINEAGE} is not of {layout.SPEC} and adapter: {'; '.join(wrong)}\n"
            "train again, or bring the run home anew from its store"
        )
    return lineage


def gather(home: Path, spec: ResolvedSpec, lineage: Lineage) -> Files:
    """The files of a run, its own paths taken out; without card and checksums."""
    weights = layout.weights_folder(home, spec.strategy)
    if not any(weights.glob("*.safetensors")):
        raise Unpublishable(f"{home} has no {weights.name}/ with weights: nothing to publish")
    files: Files = dict(_below(weights))
    files.pop(CARD, None)  # PEFT's own, empty but for its headings
    if (home / layout.BASE).is_dir():
        files |= _below(home / layout.BASE, layout.BASE)
    files[layout.LINEAGE] = encode(_portable(lineage))
    if ADAPTER_CONFIG in files:
        files[ADAPTER_CONFIG] = _adapter_config(_json(weights / ADAPTER_CONFIG), spec, lineage)
    return files


def exported(folder: Path, merged: str | None, measured: tuple[Measured, ...]) -> Files:
    """What an export shipped: the merged model, the GGUF files that passed, and their table.

    Raises Unpublishable where a file is not the one that was measured.
    """
    files: Files = {}
    if merged is not None:
        files |= _below(folder / merged, layout.MERGED)
    shipped = [one for one in measured if one.shipped]
    for one in shipped:
        path = folder / one.file
        if not path.is_file() or sha256_of(path) != one.sha256:
            raise Unpublishable(f"{path} is not what was measured; `launch export` makes it again")
        files[one.file] = path
    if shipped:
        files[layout.QUANTISATION] = encode_table(shipped)
        if (folder / layout.MODELFILE).is_file():
            files[layout.MODELFILE] = folder / layout.MODELFILE
    if not files:
        raise Unpublishable(f"{folder}: no file of the export passed its gates")
    return files


def encode_table(shipped: list[Measured]) -> bytes:
    """quantisation.json of the files that are published, and of no others."""
    return msgspec.json.format(msgspec.json.encode({"files": shipped})) + b"\n"


def sealed(files: Files) -> Files:
    """The same with SHA256SUMS over all of them."""
    sums = {name: sha256_of(content) for name, content in files.items()}
    return {**files, layout.SUMS: write_sums(sums)}


def require_clean(files: Mapping[str, Path | bytes], places: Sequence[str]) -> None:
    """Raises Unpublishable for a file that may run code when loaded, names one of `places`, or
    holds what looks like a token."""
    needles = {form.encode(): place for place in places for form in _written(place)}
    for name, content in files.items():
        kind = _kind(name, content)
        if kind is None:
            raise Unpublishable(
                f"{name} is neither safetensors nor text, so it may run code when it is loaded\n"
                "only safetensors, GGUF and text are published: remove it, and make the run anew"
            )
        text = _start(content, None if kind == "text" else _HEAD_BYTES)
        found = next((place for needle, place in needles.items() if needle in text), None)
        if found is not None:
            raise Unpublishable(
                f"{name} names a place on this machine, {found}\n"
                "it would be published with it: take it out, and make the run or export anew"
            )
        token = _TOKEN.search(text)
        if token is not None:
            raise Unpublishable(
                f"{name} holds what looks like a token, {token[0][:4].decode()}...\n"
                "it would be published with it: take it out, and make the run or export anew; if "
                "it is one, revoke it"
            )


def _written(place: str) -> Iterator[str]:
    """A path as it may stand in a file: JSON can escape what is not ASCII, and slashes."""
    for form in dict.fromkeys((place, json.dumps(place)[1:-1])):
        yield form
        yield form.replace("/", "\\/")


def _kind(name: str, content: Path | bytes) -> str | None:
    """safetensors, gguf, sentencepiece or text, by what is in it; None for anything else.

    Of text a pickle of protocol 0 cannot be told, and code is no text.
    """
    if name.lower().endswith(_CODE):
        return None
    head = _start(content, 16)
    if name.endswith(".safetensors"):
        # eight bytes of length, then a JSON object: github.com/huggingface/safetensors#format
        return "safetensors" if head[8:9] == b"{" else None
    if name.endswith(".gguf"):
        return "gguf" if head[:4] == b"GGUF" else None
    if Path(name).name in _SENTENCEPIECE:
        # a protobuf message that begins with its first piece; a pickle with 0x80, a zip with PK
        return "sentencepiece" if head[:1] == b"\n" else None
    try:
        text = _start(content, None).decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else "text"


def _start(content: Path | bytes, count: int | None) -> bytes:
    if isinstance(content, bytes):
        return content[:count]
    with content.open("rb") as file:
        return file.read(-1 if count is None else count)


def _below(folder: Path, prefix: str = "") -> Files:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = ((path.relative_to(folder).as_posix(), path) for path in files)
    return {f"{prefix}/{name}" if prefix else name: path for name, path in names}


def _portable(lineage: Lineage) -> Lineage:
    """Files and folders by their own names: the hashes say which they are."""
    parent = lineage.parent
    if parent is not None:
        parent = msgspec.structs.replace(parent, source=own_name(parent.source))
    base = msgspec.structs.replace(lineage.base, id=own_name(lineage.base.id))
    return msgspec.structs.replace(lineage, base=base, parent=parent)


def _adapter_config(config: dict[str, Any], spec: ResolvedSpec, lineage: Lineage) -> bytes:
    """PEFT's settings, the base by what it is called elsewhere: its Hub id and commit, base/ in
    this repository, or a folder's own name."""
    base = layout.BASE if spec.model.init == "random" else own_name(spec.model.id)
    config["base_model_name_or_path"] = base
    if on_hub(spec):
        config["revision"] = lineage.base.revision or spec.model.revision
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise Unpublishable(f"{path} cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


def places(home: Path, spec: ResolvedSpec) -> list[str]:
    """Paths that would tell of the machine a run comes from: its folder, its data's, a home."""
    data = (spec.data.train, spec.data.validation, spec.data.test, spec.data.replay)
    own = (metric.partition(":")[0] for metric in spec.eval.metrics)
    named = (spec.model.id, *data, spec.eval.golden, spec.eval.schema, *own, spec.resume_from)
    files = (Path(name) for name in named if name is not None and name.startswith("/"))
    return list(dict.fromkeys(_telling(home, home.parent, Path.home(), *files)))


def _telling(*paths: Path) -> Iterator[str]:
    """As a folder of its own where it is one name deep: /data/ is a place, /database no word."""
    for path in paths:
        text = str(path)
        if re.fullmatch(r"/[^/]*", text):
            if text != "/":
                yield f"{text}/"
        else:
            yield text
