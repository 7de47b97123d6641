"""A data set of the Hugging Face Hub as files of this machine: `org/name[@revision][:split]`.

Its files are fetched at the commit that the revision names now, once, and are then bound by their
digest like any others. A split that lies in several files is written into one.
"""

import importlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from jobs.spec import Data
from jobs.spec.tables import BadTable, extension, read_table
from launcher import paths
from launcher.errors import BadInput, LaunchError, OutsideFailed
from launcher.types import DATA_FILES, Setting

# Patterns are compiled on use: every start of the command comes past here.
_ID = r"(?a)(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?(?::([\w-]+))?"

# How the Hub names the files of a split: by shard (`data/train_sft-00000-of-00003.parquet`), else
# by a word of file or folder (huggingface.co/docs/hub/datasets-file-names-and-splits).
_SHARD = r"(?:.*/)?([\w.]+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.[a-z]+(?:\.gz)?"
_WORDS = {
    "train": "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}
_NO_ROWS = ("dataset_infos.json", "dataset_dict.json", "state.json", "config.json")


def is_id(text: str) -> bool:
    """Whether it reads as a data set of the Hub and not as a file: `org/name`, no extension."""
    if extension(text) is not None or text.startswith(("/", ".")):
        return False
    match = re.fullmatch(_ID, text)
    return match is not None and extension(match[1]) is None


def localised(data: Data) -> tuple[Data, list[Setting]]:
    """The data with files in the place of Hub ids, each said as a setting.

    Where `train` names a data set without a split, its validation and test files come with it,
    unless the recipe has its own. Raises BadInput and OutsideFailed.
    """
    settings = []
    for name in DATA_FILES:
        text = getattr(data, name)
        if text is None or not is_id(text):
            continue
        for wanted, path, commit in _fetched(text, name, data):
            data = msgspec.structs.replace(data, **{wanted: str(path)})
            settings.append(
                Setting(
                    key=f"data.{wanted}",
                    value=str(path),
                    source=f"the Hub's {text} at commit {commit[:12]}",
                    instead_of=text if wanted == name else "the default",
                )
            )
    return data, settings


def _fetched(text: str, name: str, data: Data) -> Iterable[tuple[str, Path, str]]:
    """(key, file, commit) of what the id stands for under the key `name`."""
    match = re.fullmatch(_ID, text)
    assert match is not None, "only what is_id takes comes here"
    data_set, revision, split = match.groups()
    hub = _client(text)
    try:
        info = hub.HfApi().dataset_info(data_set, revision=revision)
    except Exception as error:  # the client's errors, and those of its transport, share no base
        raise _hub_error(text, error) from error
    splits = splits_of(file.rfilename for file in info.siblings or ())
    wanted = {name: split or name}
    if name == "train" and split is None:
        wanted |= {
            other: other
            for other in ("validation", "test")
            if getattr(data, other) is None and other in splits
        }
    for key, which in wanted.items():
        files = _one_table(text, which, splits)
        folder = paths.hub_data_folder(data_set, info.sha)
        try:
            found = [
                Path(
                    hub.hf_hub_download(
                        data_set, file, repo_type="dataset", revision=info.sha, local_dir=folder
                    )
                )
                for file in files
            ]
        except Exception as error:
            raise _hub_error(text, error) from error
        yield key, found[0] if len(found) == 1 else _merged(found, folder, which), info.sha


def splits_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of rows by split; those of no named split are `train` where no other file is."""
    splits: dict[str, list[str]] = {}
    unnamed = []
    for name in sorted(names):
        if extension(name) is None or os.path.basename(name) in _NO_ROWS:
            continue
        split = _split_of(name)
        if split is None:
            unnamed.append(name)
        else:
            splits.setdefault(split, []).append(name)
    return splits or ({"train": unnamed} if unnamed else {})


def _split_of(name: str) -> str | None:
    shard = re.fullmatch(_SHARD, name)
    if shard is not None:
        return shard[1]
    for split, words in _WORDS.items():
        if re.search(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", name):
            return split
    return None


def _one_table(text: str, split: str, splits: dict[str, list[str]]) -> list[str]:
    """The files of a split, when they are parts of one table."""
    if not splits:
        raise BadInput(f"{text}: the data set has no file of rows (.jsonl, .json, .csv, .parquet)")
    if split not in splits:
        has = ", ".join(splits)
        raise BadInput(
            f"{text}: the data set has no split {split} but {has}; name one, as in "
            f"{text.partition(':')[0]}:{next(iter(splits))}"
        )
    files = splits[split]
    # `en/train.csv` and `fr/train.csv`, or `train.csv` and `train.parquet`: which, nobody said.
    kinds = {(_folder(file, split), extension(file)) for file in files}
    if len(kinds) > 1:
        raise BadInput(
            f"{text}: its split {split} lies in {len(kinds)} folders or kinds of file "
            f"({', '.join(files[:3])}, ...); download one and give it as a file"
        )
    return files


def _folder(file: str, split: str) -> str:
    folder = os.path.dirname(file)
    return os.path.dirname(folder) if _split_of(folder) == split else folder


def _merged(files: list[Path], folder: Path, split: str) -> Path:
    """One file of JSON lines with the rows of all, in the order of their names."""
    whole = folder / f"{split}.merged.jsonl"
    if whole.exists():
        return whole
    aside = whole.with_name(f"{whole.name}.{os.getpid()}.part")
    with aside.open("wb") as out:
        for file in files:
            try:
                for _, fields in read_table(str(file)):
                    out.write(msgspec.json.encode(fields) + b"\n")
            except BadTable as error:
                raise BadInput(f"{file}{error.place}: {error.why}") from None
    aside.replace(whole)
    return whole


def _client(text: str) -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise BadInput(
            f"data: no file {text} here; if it is a data set of the Hub, fetching it needs:\n"
            "pip install 'loralift[hub]' (and 'loralift[parquet]' where its files are Parquet)"
        ) from error


def _hub_error(text: str, error: Exception) -> LaunchError:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    missing = {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}
    if kinds & missing:
        return BadInput(
            f"data: the Hub has no data set {text}: {said}\n"
            "check id and revision (a private or gated one needs HF_TOKEN), or give a file"
        )
    return OutsideFailed(
        f"data: fetching {text} from the Hub failed: {said}\ntry again, or give a file of rows"
    )
