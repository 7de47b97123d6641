"""Before the first paid second: the real command, the training environment, a Hub on loopback, and
a real SkyPilot that has neither credentials nor a network."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.catalog.refresh import VARIABLE
from launcher.executors.environment import PYTHON_VARIABLE
from tests.integration.command import LAUNCH
from tests.integration.skypilot import offline
from tests.servers import hub

MODEL = "Qwen/Qwen2.5-7B-Instruct"
RENTED = ("--model", MODEL, "--on", "runpod", "--max-cost", "10")


@pytest.fixture
def server() -> Iterator[hub.Hub]:
    with hub.running() as running:
        running.models[MODEL] = hub.Repository()
        running.models[MODEL].commit({"config.json": b"{}"})
        running.accounts["hf_mine"] = {"name": "me"}
        yield running


@pytest.fixture
def launch(server: hub.Hub, train_python: str, sky_python: str, tmp_path: Path):
    """`launch` with folders of its own, beside that SkyPilot and that Hub."""
    python = tmp_path / "skypilot-python"
    python.write_text(f'#!/bin/sh\nexec {" ".join([*offline(), sky_python])} "$@"\n')
    python.chmod(0o755)

    def run(*arguments: str, code: int, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"}
        environment |= {
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HF_ENDPOINT": server.url,
            PYTHON_VARIABLE: train_python,
            VARIABLE: str(python),
        }
        done = subprocess.run(
            [*LAUNCH, *arguments], cwd=tmp_path, env=environment | changes,
            capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return run


def of_job(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(done.stdout)["job"]}


def test_a_sound_local_job(launch) -> None:
    found = of_job(launch("doctor", "--max-cost", "10", "--json", code=0))
    assert {name: check["state"] for name, check in found.items()} == {
        "dtype": "ok", "disk": "ok", "data": "ok", "token": "missing",
    }  # fmt: skip
    assert found["data"]["found"].startswith("900 train + 100 validation rows teach something")


def test_rows_without_an_answer_after_truncation_are_named(launch) -> None:
    found = of_job(launch("doctor", "--set", "train.seq_len=12", "--json", code=4))["data"]
    assert found["state"] == "failed"
    assert "train.jsonl:1: no supervised tokens after cutting" in found["found"]
    assert "train.seq_len" in found["next"]


def test_a_paid_job_without_credentials_never_starts(launch, server) -> None:
    done = launch(*RENTED, "--yes", code=4, HF_TOKEN="hf_mine")
    said = done.stderr.splitlines()
    assert f"not checked: data: the tokenizer of {MODEL} is not in the Hub's cache" in said
    errors = [line for line in said if line.startswith("error: ")]
    assert errors[0].startswith("error: skypilot: RunPod: SkyPilot may not rent there: ")
    assert "runpod config" in errors[0]
    assert ("HEAD", f"/{MODEL}/resolve/main/config.json") in server.requests
    assert "hf_mine" not in done.stderr + done.stdout
    assert json.loads(launch("runs", "--json", code=0).stdout) == {"runs": []}


def test_a_token_that_cannot_publish_is_found_before_the_paid_run(launch, server) -> None:
    auth = {"accessToken": {"role": "read"}}
    server.accounts["hf_reader"] = {"name": "me", "auth": auth}
    done = launch(*RENTED, "--yes", "--hub", "me/new", code=2, HF_TOKEN="hf_reader")
    assert "push: HF_TOKEN may only read; make one of role write on" in done.stderr
    assert json.loads(launch("runs", "--json", code=0).stdout) == {"runs": []}


def test_a_gated_model_is_bad_input(launch, server) -> None:
    server.models[MODEL].gated_to = "hf_another"
    done = launch(*RENTED, "--yes", code=2, HF_TOKEN="hf_mine")
    assert f"error: model: {MODEL} is gated, and not open to you" in done.stderr
    assert len(done.stderr[done.stderr.index("error: ") :].strip().splitlines()) <= 3


def test_a_dry_run_asks_nobody(launch, server) -> None:
    launch(*RENTED, "--dry-run", code=0)
    assert server.requests == []
