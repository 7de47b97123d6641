import json
from pathlib import Path

import pytest

from jobs import layout
from results.collect import collect, verify


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
        layout.METRICS,
        layout.RESULT,
        layout.REPORT,
        layout.SUMS,
    }
    assert verify(home) == []


def test_the_adapter_finds_its_base_at_home(work: Path, tmp_path: Path) -> None:
    home = collect(work, tmp_path / "runs", "run-1", {})
    config = json.loads((home / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(home / "base")


def test_again_replaces_the_whole(work: Path, tmp_path: Path) -> None:
    home = collect(work, tmp_path / "runs", "run-1", {"old.json": b"{}"})
    assert collect(work, tmp_path / "runs", "run-1", {}) == home
    assert not (home / "old.json").exists()
    assert verify(home) == []
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run-1"]


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
