"""The plan counts tokens with the model's own tokenizer, once, where it is at hand."""

import json
import shutil
from pathlib import Path

import pytest

from launcher import paths
from tests.integration.command import ROOT, Command

SAMPLE = ROOT / "jobs/sample"


@pytest.fixture
def plan(launch: Command, train_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`launch estimate --json` on this CPU with a token cache of its own."""
    environments = paths.environments_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths.environments_folder().parent.mkdir(parents=True)
    paths.environments_folder().symlink_to(environments)

    def made(*arguments: str) -> dict:
        done = launch("estimate", *arguments, "--gpu", "cpu", "--json")
        assert done.returncode in (0, 3), done.stderr  # 3: counted, and too large for this CPU
        return json.loads(done.stdout)

    return made


def test_a_folder_s_tokenizer_is_asked_once(plan, launch: Command, tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"prompt": f"{'word ' * n}?", "completion": f" {n}"}) + "\n" for n in range(40)
    )
    data = tmp_path / "rows.jsonl"
    data.write_text(rows)
    flags = ("--model", str(SAMPLE / "model"), "--data", str(data))
    first = plan(*flags)
    (kept,) = paths.token_counts_folder().iterdir()
    assert first["data"]["tokenizer_rows"] == 40
    counted = json.loads(kept.read_text())["rows"]
    slope, per_row = (first["data"][k] for k in ("tokens_per_character", "template_tokens_per_row"))
    for characters, tokens in counted:
        assert characters * slope + per_row == pytest.approx(tokens, abs=2)
    kept.write_text(json.dumps({"rows": [[100, 50]]}))  # read again, not counted again
    assert plan(*flags)["data"]["tokens_per_character"] == 0.5


def test_a_model_that_is_not_here_is_assumed(plan) -> None:
    found = plan("--model", "Qwen/Qwen2.5-7B", "--data", str(SAMPLE / "train.jsonl"))["data"]
    assert (found["tokenizer_rows"], found["tokens_per_character"]) == (0, 0.25)


def test_a_hub_model_s_tokenizer_is_found_in_the_cache(
    launch: Command, plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "hub"
    model = home / "models--Qwen--Qwen2.5-7B"
    shutil.copytree(SAMPLE / "model", model / "snapshots" / "abc")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(home))
    found = plan("--model", "Qwen/Qwen2.5-7B", "--data", str(SAMPLE / "train.jsonl"))
    assert found["data"]["tokenizer_rows"] > 100
