import json
import os
from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import Result, encode
from results.collect import CollectError, collect, verify

RECEIPT = {layout.RECEIPT: b'{"run_id": "run-1"}'}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    for name in ("adapter", "base", "checkpoints/checkpoint-1"):
        (work / name).mkdir(parents=True)
    (work / "adapter/adapter_model.safetensors").write_bytes(b"weights")
    (work / "adapter/training_args.bin").write_bytes(b"a pickle")
    (work / "adapter/adapter_config.json").write_text('{"base_model_name_or_path": "/gone"}')
    (work / "base/model.safetensors").write_bytes(b"base")
    (work / "checkpoints/checkpoint-1/optimizer.pt").write_bytes(b"state")
    (work / layout.METRICS).write_text("{}\n")
    (work / layout.GATES).write_text("[]\n")
    (work / layout.REVIEW).write_text("question\r\n")
    (work / layout.OWN_METRICS / "__pycache__").mkdir(parents=True)
    (work / layout.OWN_METRICS / "checks.py").write_text("")
    (work / layout.OWN_METRICS / "__pycache__" / "checks.pyc").write_text("")
    (work / layout.RESULT).write_text("{}\n")
    (work / layout.LOCK).write_text("")
    return work


def test_brings_home_what_the_layout_names_and_nothing_else(work: Path, tmp_path: Path) -> None:
    home = collect(work, tmp_path / "runs", "run-1", {layout.REPORT: b"# report\n"})
    names = {p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()}
    assert names == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base/model.safetensors",
        f"{layout.OWN_METRICS}/checks.py",
        layout.GATES,
        layout.METRICS,
        layout.RESULT,
        layout.REVIEW,
        layout.REPORT,
        layout.SUMS,
    }
    assert verify(home) == []


def test_a_name_that_no_line_can_hold_stays_and_any_other_comes(work: Path, tmp_path: Path) -> None:
    tracked = work / layout.TRACKING
    tracked.mkdir()
    for name in ("a\nb", "a\u2028b", "a\x85b", "a b"):
        (tracked / name).write_text("curve")
    home = collect(work, tmp_path / "runs", "run-1", {})
    assert verify(home) == []
    names = sorted(path.name for path in (home / layout.TRACKING).iterdir())
    assert names == ["a b", "a\x85b", "a\u2028b"]


def test_the_adapter_finds_its_base_at_home(work: Path, tmp_path: Path) -> None:
    home = collect(work, tmp_path / "runs", "run-1", {})
    config = json.loads((home / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(home / "base")


def test_again_replaces_the_whole(work: Path, tmp_path: Path) -> None:
    home = collect(work, tmp_path / "runs", "run-1", RECEIPT | {"old.json": b"{}"})
    assert collect(work, tmp_path / "runs", "run-1", RECEIPT) == home
    assert not (home / "old.json").exists()
    assert verify(home) == []
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run-1"]


@pytest.mark.parametrize("inside", [{"thesis.txt": b""}, {layout.RECEIPT: b'{"run_id": "other"}'}])
def test_a_folder_that_is_not_the_run_is_never_touched(
    work: Path, tmp_path: Path, inside: dict[str, bytes]
) -> None:
    mine = tmp_path / "runs" / "run-1"
    mine.mkdir(parents=True)
    for name, content in inside.items():
        (mine / name).write_bytes(content)
    with pytest.raises(CollectError, match="is not run run-1"):
        collect(work, tmp_path / "runs", "run-1", RECEIPT)
    assert {p.name: p.read_bytes() for p in mine.iterdir()} == inside


def test_a_run_without_the_adapter_its_result_names_does_not_come_home(
    work: Path, tmp_path: Path
) -> None:
    result = Result(run_id="run-1", status="success", adapter="adapter")
    (work / layout.RESULT).write_bytes(encode(result))
    (work / "adapter").rename(work / "half")
    with pytest.raises(CollectError, match="adapter/, which is not there"):
        collect(work, tmp_path / "runs", "run-1", RECEIPT)
    assert not (tmp_path / "runs" / "run-1").exists()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda home: (home / layout.METRICS).write_text("{}\n{}\n"), "metrics.jsonl has changed"),
        (lambda home: (home / layout.RESULT).unlink(), "result.json is missing"),
        (lambda home: (home / "adapter/extra").write_text(""), "adapter/extra is not listed"),
        (lambda home: (home / layout.SUMS).unlink(), "did not finish"),
    ],
)
def test_harm_is_found(work: Path, tmp_path: Path, harm, said: str) -> None:
    home = collect(work, tmp_path / "runs", "run-1", {})
    harm(home)
    assert len(verify(home)) == 1
    assert said in verify(home)[0]


def test_what_is_home_is_on_the_disk(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []

    def key(found: os.stat_result) -> tuple[int, int]:
        return found.st_dev, found.st_ino

    store = tmp_path / "runs"
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(key(os.fstat(file))))
    home = collect(work, store, "run-1", RECEIPT)
    assert {key(path.stat()) for path in (home, *home.rglob("*"))} <= set(synced)
    assert synced[-2:] == [key(store.stat()), key(tmp_path.stat())]  # it is known by its name last
