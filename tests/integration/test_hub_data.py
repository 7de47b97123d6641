"""A data set of the Hub, through the real client, from a server on loopback; and Parquet."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import ROOT
from tests.servers import hub

SAMPLE = str(ROOT / "jobs" / "recipes" / "sample.yaml")
TO_PARQUET = """
import json, sys, pyarrow, pyarrow.parquet
rows = json.load(sys.stdin)
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sys.argv[1])
"""


def chats(name: str, count: int) -> list[dict]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{name} {i}?"},
                {"role": "assistant", "content": f"answer {i}"},
            ]
        }
        for i in range(count)
    ]


def lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def server() -> Iterator[hub.Hub]:
    with hub.running() as running:
        yield running


@pytest.fixture
def parquet(hub_python: str, tmp_path: Path):
    def write(rows: list[dict]) -> bytes:
        path = tmp_path / "made.parquet"
        command = [hub_python, "-c", TO_PARQUET, str(path)]
        subprocess.run(command, input=json.dumps(rows), text=True, check=True)
        return path.read_bytes()

    return write


@pytest.fixture
def plan(server: hub.Hub, hub_python: str, tmp_path: Path):
    """`launch --dry-run --json` of the sample with other data, in an environment with the client;
    the plan, or what was said when it exits with `code`."""

    def run(data: str, *arguments: str, code: int = 0, token: str = "", python: str = hub_python):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": server.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(tmp_path / "hf"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            **({"HF_TOKEN": token} if token else {}),
        }
        # the sample's gates are for its own answers
        ungated = ("--set", "gates=[]")
        command = [python, "-m", "launcher", SAMPLE, "--data", data, *ungated, *arguments]
        done = subprocess.run(
            [*command, "--dry-run", "--json"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    return run


def files_of(plan: dict) -> dict[str, bytes]:
    data = plan["job"]["data"]
    return {k: Path(data[k]).read_bytes() for k in ("train", "validation", "test") if data[k]}


def test_its_splits_become_files_bound_by_their_digest(server, plan) -> None:
    rows = {"train": chats("t", 20), "validation": chats("v", 4), "test": chats("e", 3)}
    files = {f"data/{name}.jsonl": lines(found) for name, found in rows.items()}
    repository = server.datasets["org/rows"] = hub.Repository()
    commit = repository.commit({**files, "README.md": b"", "dataset_infos.json": b"{}"})
    made = plan("org/rows")
    assert files_of(made) == {name: lines(found) for name, found in rows.items()}
    facts = made["data"]
    assert (facts["train_rows"], facts["validation_rows"], facts["test_rows"]) == (20, 4, 3)
    assert facts["test_sha256"] == hashlib.sha256(lines(rows["test"])).hexdigest()
    said = {s["key"]: s for s in made["settings"]}["data.train"]
    assert said["source"] == f"the Hub's org/rows at commit {commit[:12]}"
    assert said["value"] == made["job"]["data"]["train"]
    gets = [path for method, path in server.requests if method == "GET" and "/resolve/" in path]
    assert sorted(gets) == [f"/datasets/org/rows/resolve/{commit}/{name}" for name in sorted(files)]
    del server.requests[:]
    assert plan("org/rows")["data"] == facts  # the files are kept: none is fetched again
    assert not [path for _, path in server.requests if "/resolve/" in path]


def test_a_revision_and_a_split_by_name(server, plan) -> None:
    repository = server.datasets["org/rows"] = hub.Repository()
    old = {"train_sft.jsonl": b"", "data/train_sft-00000-of-00001.jsonl": lines(chats("old", 20))}
    repository.commit(old, tag="v1")
    repository.commit({"train.jsonl": lines(chats("new", 30))})
    made = plan("org/rows@v1:train_sft")
    assert files_of(made) == {"train": lines(chats("old", 20))}
    assert made["data"]["train_rows"] == 16
    assert plan("org/rows")["data"]["train_rows"] == 24
    said = plan("org/rows@v1:test_sft", code=2)
    assert "the data set has no split test_sft but train_sft, train" in said
    assert "org/rows@v2" in plan("org/rows@v2", code=2)


def test_shards_of_parquet_become_one_file(server, plan, parquet) -> None:
    rows = chats("p", 30)
    shards = {
        f"data/train-0000{i}-of-00003.parquet": parquet(rows[i * 10 : i * 10 + 10])
        for i in range(3)
    }
    server.datasets["org/rows"] = hub.Repository()
    server.datasets["org/rows"].commit(shards)
    made = plan("org/rows")
    (found,) = files_of(made).values()
    assert [json.loads(line) for line in found.splitlines()] == rows
    assert made["data"]["shapes"] == {"messages": 30}
    assert made["data"]["train_rows"] == 24


def test_a_parquet_file_is_read_where_pyarrow_is(plan, parquet, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet(chats("p", 20)))
    facts = plan("rows.parquet")["data"]
    assert (facts["train_rows"], facts["validation_rows"], facts["test_rows"]) == (16, 2, 2)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    said = plan("rows.parquet", code=2, python=sys.executable)
    assert "needs pyarrow: pip install 'loralift[parquet]'" in said


def test_a_private_data_set_needs_its_token(server, plan) -> None:
    server.datasets["org/rows"] = hub.Repository(private_to="hf_right")
    server.datasets["org/rows"].commit({"rows.csv": b"prompt,completion\n" + b"".join(
        b"q%d,a\n" % i for i in range(20))})  # fmt: skip
    for token in ("", "hf_wrong"):
        said = plan("org/rows", code=2, token=token)
        assert "the Hub has no data set org/rows" in said
        assert "needs HF_TOKEN" in said
    assert plan("org/rows", token="hf_right")["data"]["shapes"] == {"prompt/completion": 20}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b"", "model.bin": b""}, "the data set has no file of rows"),
        ({"en/train.csv": b"", "fr/train.csv": b""}, "its split train lies in 2 folders"),
        ({"test.jsonl": b""}, "the data set has no split train but test; name one, as in org/rows"),
    ],
)
def test_what_cannot_be_chosen_is_said(server, plan, files, said: str) -> None:
    server.datasets["org/rows"] = hub.Repository()
    server.datasets["org/rows"].commit(files)
    assert said in plan("org/rows", code=2)


def test_without_the_client_it_says_how_to_get_it(plan) -> None:
    said = plan("org/rows", code=2, python=sys.executable)
    assert "no file org/rows here" in said
    assert "pip install 'loralift[hub]'" in said


def test_a_hub_that_fails_is_an_outside_system(server, plan, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:1"  # nobody listens there
    assert "fetching org/rows from the Hub failed" in plan("org/rows", code=4)
