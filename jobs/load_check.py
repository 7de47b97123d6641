"""`python -m jobs.load_check DIR [--base DIR]`: does this adapter load, whole, onto its base?

One line a check, `ok` or `FAIL`; a check that could not be made because an earlier one failed is
not printed. Exit codes: 0 all hold, 1 one does not, 2 bad input (nothing there to check). The base
is loaded as it lies, not quantised, on the CPU.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs import adapters, fingerprint, layout
from jobs.adapters import Adapter, Check
from jobs.lineage import lineage_of
from jobs.outcome import BadInput
from jobs.sources import model_folder

# What the forward pass reads where there is no tokenizer: any ids of any vocabulary.
_IDS = tuple(range(1, 17))
_TEXT = "The quick brown fox jumps over the lazy dog."


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.load_check", description=__doc__)
    parser.add_argument("folder", metavar="DIR", help="an adapter's folder, or a run's")
    parser.add_argument("--base", metavar="DIR", help="its base model, where it is elsewhere now")
    given = parser.parse_args(arguments)
    held = True
    try:
        for check in checks(given.folder, given.base):
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.said}", flush=True)
            held = held and check.ok
    except BadInput as error:
        print(f"bad input: {error}", file=sys.stderr)
        return 2
    return 0 if held else 1


def checks(folder: str, base: str | None) -> Iterator[Check]:
    """Every check in turn, ending early where the next ones would make no sense."""
    place = adapters.adapter_folder(folder)
    yield Check("folder", True, f"{place}, safetensors")
    from jobs.trainer import quiet

    quiet()
    adapter = adapters.open_adapter(place)
    warning = adapters.ignored_warning(adapter)
    said = f"LoRA r {adapter.config.r}, alpha {adapter.config.lora_alpha}"
    yield Check("settings", True, f"{said}; {warning}" if warning else said)
    yield adapters.finite(adapter)
    yield adapters.trained(adapter)
    source = base_of(adapter, base)
    yield from same_base(adapter, source)
    tokenizer, said = tokenizer_of(place, source)
    yield Check("pad token", True, said)
    model = load_base(adapter, source, tokenizer)
    yield from _loaded(model, adapter, tokenizer)


def _loaded(model: Any, adapter: Adapter, tokenizer: Any) -> Iterator[Check]:
    from peft import get_peft_model

    try:
        model = get_peft_model(model, adapter.config)
    except (ValueError, RuntimeError) as error:  # its targets are no modules of this base
        yield Check("targets", False, " ".join(str(error).split())[:200])
        return
    found = adapters.placed(model, adapter)
    yield from found
    if not all(check.ok for check in found):
        return
    adapters.fill(model, adapter)
    yield from adapters.arrived(model, adapter)
    yield changes_output(model, tokenizer)


def base_of(adapter: Adapter, base: str | None) -> str:
    """The base's folder, or its Hub id. Raises `BadInput` where a folder is meant and not there."""
    named = base or adapter.base
    if not named:
        raise BadInput(f"{adapter.folder}: {adapters.CONFIG} names no base model; give --base DIR")
    try:
        local = model_folder(named, Path.cwd())
    except BadInput as error:
        raise BadInput(f"the base {named} is not there ({error}); give --base DIR") from None
    if local is None and base is not None:
        raise BadInput(f"--base {base}: no such folder")
    return named if local is None else str(local)


def same_base(adapter: Adapter, source: str) -> Iterator[Check]:
    """Whether the base is the one that the adapter's lineage names, by its hashes."""
    lineage = lineage_of(adapter.folder)
    if lineage is None:
        yield Check("base", True, f"{source}; no {layout.LINEAGE} to hold it against")
        return
    if not Path(source).is_dir():
        yield Check("base", source == lineage.base.id, f"{source}, trained on {lineage.base.id}")
        return
    config = fingerprint.config_sha256(Path(source))
    weights = fingerprint.weights_sha256(Path(source))
    for name, then, now in (
        ("base config", lineage.base.config_sha256, config),
        ("base weights", lineage.base.weights_sha256, weights),
    ):
        same = then == now
        said = f"{now[:12]} in {source}"
        yield Check(name, same, said if same else f"{said}, the adapter was trained on {then[:12]}")


def tokenizer_of(folder: Path, source: str) -> tuple[Any, str]:
    """The adapter's tokenizer, else the base's, with a pad token; None where there is neither."""
    from jobs.tokenizer import load_tokenizer

    for place in (str(folder), source):
        if Path(place).is_dir() and not (Path(place) / "tokenizer_config.json").is_file():
            continue
        tokenizer = load_tokenizer(place, None)
        return tokenizer, f"{tokenizer.pad_token!r}, from the tokenizer in {place}"
    return None, "no tokenizer beside the adapter or the base; checked with plain ids"


def load_base(adapter: Adapter, source: str, tokenizer: Any) -> Any:
    """The base in fp32, with a head of the adapter's own outputs where it scores texts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if adapter.config.task_type != "SEQ_CLS":
        return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    from jobs.strategies import HEAD

    heads = [
        tensor
        for key, tensor in adapter.tensors.items()
        if adapters.canonical(key) == f"{HEAD}.weight"
    ]
    if not heads:
        raise BadInput(f"{adapter.folder}: a SEQ_CLS adapter without its head `{HEAD}.weight`")
    return AutoModelForSequenceClassification.from_pretrained(
        source,
        dtype=torch.float32,
        num_labels=len(heads[0]),
        pad_token_id=None if tokenizer is None else tokenizer.pad_token_id,
    )


def changes_output(model: Any, tokenizer: Any) -> Check:
    """Whether the last layer's output is another with the adapter than without: a forward each.

    The hidden state rather than the answer: a head trained whole would differ by itself.
    """
    import torch

    ids = _IDS if tokenizer is None else tokenizer(_TEXT)["input_ids"]
    inputs = {"input_ids": torch.tensor([ids])}
    model.eval()
    with torch.inference_mode():
        tuned = model(**inputs, output_hidden_states=True).hidden_states[-1]
        with model.disable_adapter():
            base = model(**inputs, output_hidden_states=True).hidden_states[-1]
    size = float((tuned - base).norm() / base.norm())
    said = f"with the adapter the output moves by {size:.3g} of its own length"
    return Check("output", bool(torch.isfinite(tuned).all()) and size > 0, said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
