"""What a lineage binds, and how each thing that was swapped shows."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import (
    BaseModel,
    Lineage,
    Lora,
    Provenance,
    config_sha256,
    departures,
    encode,
    weights_sha256,
)
from jobs.spec.bound import bindable

HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\x80?"
PLAN = b'{"run_id": "one"}\n'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A collected run: adapter, generated base, plan, receipt."""
    home = tmp_path / "one"
    adapter, base = home / layout.ADAPTER, home / layout.BASE
    adapter.mkdir(parents=True)
    base.mkdir()
    (base / "config.json").write_bytes(b'{"hidden_size": 8}')
    (base / "model.safetensors").write_bytes(WEIGHTS)
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
        (adapter / name).write_bytes(WEIGHTS)
    (home / layout.PLAN).write_bytes(PLAN)
    lineage = Lineage(
        run_id="one",
        task="sft",
        base=BaseModel(
            id="a/b",
            config_sha256=config_sha256((base / "config.json").read_bytes()),
            weights_sha256=weights_sha256(base),
            tokenizer_sha256="3",
        ),
        quantization=None,
        dtype="fp32",
        lora=Lora(),
        seed=1,
        provenance=Provenance(plan_sha256=sha256(PLAN), version="1"),
        files={file.name: sha256(file.read_bytes()) for file in bindable(adapter)},
    )
    for folder in (home, adapter):
        (folder / layout.LINEAGE).write_bytes(encode(lineage))
    receipt = {
        "run_id": "one",
        "plan_sha256": sha256(PLAN),
        "lineage_sha256": sha256(encode(lineage)),
    }
    (home / layout.RECEIPT).write_bytes(msgspec.json.encode(receipt))
    return home


def test_what_was_bound_departs_in_nothing(run: Path) -> None:
    assert departures(run / layout.ADAPTER) == []
    assert [file.name for file in bindable(run / layout.ADAPTER)] == [
        "adapter_model.safetensors",
        "tokenizer.json",
    ]


def _receipt(**changes: str) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        said = msgspec.json.decode(file.read_bytes())
        file.write_bytes(msgspec.json.encode(said | changes))

    return change


def _longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")


def _of_another(file: Path) -> None:
    lineage = msgspec.json.decode(file.read_bytes(), type=Lineage)
    file.write_bytes(encode(msgspec.structs.replace(lineage, run_id="two")))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adapter/adapter_model.safetensors", _longer, "adapter_model.safetensors has changed"),
        ("adapter/tokenizer.json", Path.unlink, "tokenizer.json is gone"),
        ("lineage.json", _of_another, "adapter/lineage.json is another than the run's"),
        ("adapter/lineage.json", _longer, "lineage.json cannot be read"),
        ("base/config.json", lambda f: f.write_bytes(b'{"hidden_size": 9}'), "is another base"),
        ("base/model.safetensors", lambda f: f.write_bytes(WEIGHTS[:-1]), "is another base"),
        ("base/model.safetensors", lambda f: f.write_bytes(b"no"), "is no safetensors file"),
        ("plan.json", _longer, "plan.json is another"),
        ("receipt.json", _receipt(run_id="two"), "receipt.json is another run's"),
        ("receipt.json", _receipt(plan_sha256="00"), "receipt.json is another run's"),
        ("receipt.json", _receipt(lineage_sha256="00"), "receipt.json is another run's"),
        ("receipt.json", _longer, "receipt.json cannot be read"),
    ],
)
def test_what_was_swapped_shows(run: Path, name: str, change: Callable, said: str) -> None:
    change(run / name)
    assert said in "; ".join(departures(run / layout.ADAPTER))


def test_what_is_not_there_yet_or_never_was_bound_is_no_departure(run: Path) -> None:
    for name in (layout.PLAN, layout.RECEIPT):
        (run / name).unlink()
    assert departures(run / layout.ADAPTER) == []
    (run / layout.ADAPTER / layout.LINEAGE).unlink()
    (run / layout.LINEAGE).unlink()
    assert departures(run / layout.ADAPTER) == []


def test_an_attempt_that_ended_before_it_saved_takes_nothing_from_the_one_before(
    run: Path,
) -> None:
    """It has written a lineage of its own, which binds no files."""
    content = json.loads((run / layout.LINEAGE).read_bytes())
    (run / layout.LINEAGE).write_text(json.dumps(content | {"files": {}, "versions": {}}))
    assert departures(run / layout.ADAPTER) == []
    _longer(run / layout.ADAPTER / "tokenizer.json")
    assert departures(run / layout.ADAPTER) == ["tokenizer.json has changed"]


def test_the_runs_lineage_binds_an_adapter_that_has_lost_its_own(run: Path) -> None:
    (run / layout.ADAPTER / layout.LINEAGE).unlink()
    _longer(run / layout.ADAPTER / "tokenizer.json")
    assert departures(run / layout.ADAPTER) == ["tokenizer.json has changed"]


def test_an_account_from_before_it_named_what_it_is_of_is_taken(run: Path) -> None:
    (run / layout.RECEIPT).write_bytes(b'{"run_id": "one"}')
    assert departures(run / layout.ADAPTER) == []
