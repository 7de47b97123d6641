"""A real model behind a real OpenAI-compatible server: llama.cpp's own, with a pretrained model."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.labelling import KEY, Labelling
from tests.integration.pretrained import smollm2_gguf

SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 2048
params.n_parallel = 2
params.cpuparams.n_threads = 1
params.api_keys = [sys.argv[2]]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
TEXTS = [
    "The sun is out and everyone laughs.",
    "He slammed the door, shouted and broke the window.",
    "The committee met on Tuesday and adjourned at noon.",
    "We won! We won! The whole street is dancing!",
]


@pytest.fixture(scope="module")
def llama(label_python: str) -> Iterator[str]:
    """The address of llama.cpp's server, which ends with its standard input."""
    server = subprocess.Popen(
        [label_python, "-c", SERVER, str(smollm2_gguf()), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), "llama.cpp's server did not start"
    yield f"{address}/v1"
    server.kill()
    server.communicate()


@pytest.fixture
def label(tmp_path: Path, label_python: str, llama: str) -> Labelling:
    task = Labelling(tmp_path, label_python, llama)
    task.texts(TEXTS)
    (tmp_path / "prompt.txt").write_text(
        "How much joy and how much anger is in this text, from 0 to 10? Answer in JSON.\n\n{text}"
    )
    return task


def test_llama_cpp_fills_the_schema(label: Labelling) -> None:
    whole = {"type": "integer"}  # llama.cpp's grammar holds an integer's range
    label.spec(dimensions={"joy": whole, "anger": whole}, pace={"concurrency": 2})
    label()
    assert [row["text"] for row in label.rows()] == TEXTS
    for row in label.rows():
        assert list(row["scores"]) == ["joy", "anger"]
        assert all(0 <= score <= 10 for score in row["scores"].values())
    summary = label.summary()
    assert summary["requests"] == 4
    for answer in label.events("answer"):
        (sent,) = (s for s in label.events("sent") if s["request"] == answer["request"])
        assert 0 < answer["tokens_in"] <= sent["tokens_in_at_most"]
        assert 0 < answer["tokens_out"] <= 40
    label()
    assert label.summary()["requests"] == 0


def test_llama_cpp_refuses_another_key(label: Labelling) -> None:
    label.spec(dimensions={"joy": {}})
    label.key = "sk-not-the-servers"
    printed = label(code=1)
    assert "401" in printed
    assert {event["status"] for event in label.events("failed")} == {401}


def test_without_a_schema_a_small_model_is_told_apart_from_a_good_one(label: Labelling) -> None:
    label.texts(TEXTS[:1])
    (label.folder / "prompt.txt").write_text("Tell me a story that begins so: {text}")
    label.spec(endpoint={"answer": "text"}, retries={"invalid": 0})
    label(code=1)
    (answer,) = label.events("answer")
    assert answer["raw"]
    assert label.summary()["invalid_reasons"] == {"cut off at endpoint.max_output_tokens": 1}
    assert (label.output / layout.LABELLED).read_text() == ""
