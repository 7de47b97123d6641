"""Stores and their sync against a real S3 server, through the real client."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import checkpoint, layout
from results import s3
from results.collect import verify
from results.restore import restore
from results.stored_run import Refused, StoredRun, add, fetch, state
from results.stores import Damaged, Store, StoreError, open_store
from tests.fixtures.store_contract import StoreContract
from tests.fixtures.working_folder import begin, fail, finish, save_checkpoint
from tests.integration.buckets import BIG, client_python, server, store, url
from tests.integration.command import ROOT
from tests.integration.waiting import PATIENCE, wait_for
from tests.servers.seaweedfs import BUCKET, SeaweedFS

__all__ = ["client_python", "server", "store", "url"]  # the fixtures


class Syncs:
    """`python -m results.sync`, from a copy of nothing but the code that travels."""

    def __init__(self, python: str, code: Path, url: str) -> None:
        self._python, self.code, self._url = python, code, url
        self.started: list[subprocess.Popen[str]] = []
        for package in ("jobs", "results"):
            left_out = shutil.ignore_patterns("__pycache__", "report", "receipt.py", "sample")
            shutil.copytree(ROOT / package, code / package, ignore=left_out)

    def start(self, folder: Path, *more: str, **environment: str) -> "subprocess.Popen[str]":
        command = [self._python, "-P", "-m", "results.sync", "--store", self._url]
        started = subprocess.Popen(
            [*command, "--run", str(folder), "--interval", "0.2", *more],
            env={**os.environ, "PYTHONPATH": str(self.code), **environment},
            cwd=self.code,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(started)
        return started

    def __call__(self, folder: Path, *more: str, **environment: str) -> tuple[int, str]:
        """Exit code and what it said."""
        started = self.start(folder, *more, **environment)
        said = started.communicate(timeout=PATIENCE)[1]
        return started.returncode, said


@pytest.fixture
def sync(client_python: str, url: str, tmp_path: Path) -> Iterator[Syncs]:
    syncs = Syncs(client_python, tmp_path / "code", url)
    yield syncs
    for started in syncs.started:
        started.kill()
        started.communicate()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return begin(tmp_path / "work")


def names(store: Store) -> list[str]:
    return StoredRun(store, "run-1").names()


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, url: str) -> Store:
        return open_store(url)


def test_markers_of_folders_are_no_files(
    store: Store, server: SeaweedFS, work: Path, tmp_path: Path
) -> None:
    """As consoles and other tools make them."""
    store.put(f"run-1/{layout.SPEC}", work / layout.SPEC, None)
    _, _, prefix = store.url.removeprefix("s3://").partition("/")
    for folder in ("", f"{layout.CHECKPOINTS}/", f"{layout.CHECKPOINTS}/checkpoint-10/"):
        server.client().put_object(Bucket=BUCKET, Key=f"{prefix}/run-1/{folder}", Body=b"")
    assert names(store) == [layout.SPEC]
    assert fetch(store, "run-1", tmp_path / "home") == "partial"
    said: list[str] = []
    restore(store, "run-1", work, said.append)
    assert said == ["no checkpoint yet"]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "the secret key does not belong"),
        ("AWS_ACCESS_KEY_ID", "nobody", "the access key is not known there"),
        ("AWS_ACCESS_KEY_ID", "", "no credentials"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", "is http://127.0.0.1:1 up"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(
    url: str, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, said: str
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    monkeypatch.setenv(setting, value)
    if not value:
        monkeypatch.delenv(setting)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=said) as caught:
        open_store(url).put("run/file", b"content", None)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    assert not any(os.environ.get("AWS_SECRET_ACCESS_KEY", "-none-") in line for line in lines)


def test_a_missing_bucket_is_said(url: str) -> None:
    with pytest.raises(StoreError, match="there is no bucket nowhere"):
        state(open_store("s3://nowhere/runs"), "run-1")


def test_a_run_goes_up_while_it_is_made(
    store: Store, sync: Syncs, work: Path, tmp_path: Path
) -> None:
    beside = sync.start(work)
    save_checkpoint(work, 10)
    wait_for(lambda: f"{layout.CHECKPOINTS}/checkpoint-10/{layout.COMPLETE}" in names(store))
    assert state(store, "run-1") == "partial"
    save_checkpoint(work, 20)
    checkpoint.keep_newest(work / layout.CHECKPOINTS, 1)
    wait_for(lambda: not any("checkpoint-10/" in name for name in names(store)))
    finish(work)
    said = beside.communicate(timeout=PATIENCE)[1]
    assert beside.returncode == 0, said
    assert "the run is complete" in said
    assert state(store, "run-1") == "complete"
    assert fetch(store, "run-1", tmp_path / "home") == "complete"
    assert verify(tmp_path / "home") == []
    assert (tmp_path / "home" / layout.LOG).read_bytes() == (work / layout.LOG).read_bytes()
    assert not any(layout.CHECKPOINTS in name for name in names(store))  # nobody goes on from it

    add(store, "run-1", {layout.REPORT: b"# report\n"})
    assert sync(work)[0] == 0
    other = begin(tmp_path / "other")
    finish(other)
    code, said = sync(other)
    assert code == 1
    assert "stays as it is" in said


# As sitecustomize.py: the process is killed when the first part of an object has arrived. From here
# the kill might come when all of them have.
KILLED_AMID_AN_UPLOAD = """
import os, signal
from botocore.client import BaseClient
call = BaseClient._make_api_call
def killed_amid_an_upload(self, operation, arguments):
    answer = call(self, operation, arguments)
    if operation == "UploadPart":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
BaseClient._make_api_call = killed_amid_an_upload
"""


def test_a_killed_sync_leaves_a_partial_run_which_the_next_completes(
    store: Store, server: SeaweedFS, sync: Syncs, work: Path, url: str, tmp_path: Path
) -> None:
    finish(work, size=2 * BIG)
    (sync.code / "sitecustomize.py").write_text(KILLED_AMID_AN_UPLOAD)
    code, said = sync(work)
    assert code == -signal.SIGKILL, said
    (sync.code / "sitecustomize.py").unlink()
    client = server.client()
    assert client.list_multipart_uploads(Bucket=BUCKET, Prefix=tmp_path.name)["Uploads"]
    assert state(store, "run-1") == "partial"
    assert fetch(store, "run-1", tmp_path / "half") == "partial"
    code, said = sync(work)
    assert code == 0, said
    assert state(store, "run-1") == "complete"
    fetch(store, "run-1", tmp_path / "half")
    assert verify(tmp_path / "half") == []
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET, Prefix=tmp_path.name)


def test_a_server_that_is_down_and_back(
    server: SeaweedFS, store: Store, sync: Syncs, work: Path, tmp_path: Path
) -> None:
    beside = sync.start(work)
    wait_for(lambda: layout.METRICS in names(store))
    server.kill()
    with (work / layout.METRICS).open("ab") as metrics:
        metrics.write(b'{"step": 2}\n')
    save_checkpoint(work, 10)
    assert beside.stderr is not None
    assert any("cannot" in line for line in iter(beside.stderr.readline, ""))
    server.start()
    finish(work)
    rest = beside.communicate(timeout=PATIENCE)[1]
    assert beside.returncode == 0, rest
    assert "the store is back" in rest
    fetch(store, "run-1", tmp_path / "home")
    assert (tmp_path / "home" / layout.METRICS).read_bytes().count(b"\n") == 2


def test_a_store_that_stays_down_is_given_up_and_said(sync: Syncs, work: Path) -> None:
    finish(work)
    nowhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    code, said = sync(work, "--linger", "0", **nowhere)
    assert code == 1
    assert f"all is in {work}" in said


def test_the_secret_is_never_said(server: SeaweedFS, sync: Syncs, work: Path) -> None:
    finish(work)
    code, said = sync(work, "--linger", "0", AWS_SECRET_ACCESS_KEY="not-the-secret")
    assert code == 1
    assert "the credentials are wrong" in said or "does not belong" in said
    assert "not-the-secret" not in said
    assert not any(b"not-the-secret" in p.read_bytes() for p in work.rglob("*") if p.is_file())


def test_sigterm_brings_a_last_pass(store: Store, sync: Syncs, work: Path) -> None:
    beside = sync.start(work, "--interval", "3600")
    wait_for(lambda: layout.PILOT in names(store))
    save_checkpoint(work, 10)
    with (work / layout.METRICS).open("ab") as metrics:
        metrics.write(b'{"step": 2}\n')
    beside.terminate()
    said = beside.communicate(timeout=PATIENCE)[1]
    assert beside.returncode == 0, said
    assert f"{layout.CHECKPOINTS}/checkpoint-10/{layout.COMPLETE}" in names(store)
    found = store.read(f"run-1/{layout.METRICS}")
    assert found is not None
    assert found[0].endswith(b'{"step": 2}\n')


def test_of_two_writers_one_is_refused(
    store: Store, sync: Syncs, work: Path, tmp_path: Path
) -> None:
    first = sync.start(work)
    wait_for(lambda: layout.PILOT in names(store))
    other = begin(tmp_path / "other")
    code, said = sync(other)
    assert code == 1
    assert "written from elsewhere" in said
    code, said = sync(other, "--restore")
    assert code == 0, said
    second = sync.start(other)
    said = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode == 1
    assert "written from elsewhere" in said
    finish(other)
    assert second.wait(timeout=PATIENCE) == 0


def test_a_preempted_run_goes_on_elsewhere(
    store: Store, server: SeaweedFS, sync: Syncs, work: Path, url: str, tmp_path: Path
) -> None:
    for step in (10, 20):
        save_checkpoint(work, step)
    fail(work)
    code, said = sync(work)
    assert code == 0, said
    assert "stays open" in said
    new = begin(tmp_path / "new")
    code, said = sync(new, "--restore")
    assert code == 0, said
    last = checkpoint.last_complete(new / layout.CHECKPOINTS)
    assert last is not None
    assert last.name == "checkpoint-20"

    weights = f"run-1/{layout.CHECKPOINTS}/checkpoint-20/adapter_model.safetensors"
    tamper(server, f"{url.removeprefix(f's3://{BUCKET}/')}/{weights}")
    newer = begin(tmp_path / "newer")
    code, said = sync(newer, "--restore")
    assert code == 0, said
    assert "checkpoint-20 cannot be used" in said
    last = checkpoint.last_complete(newer / layout.CHECKPOINTS)
    assert last is not None
    assert last.name == "checkpoint-10"
    other = begin(tmp_path / "other", seed=7)
    with pytest.raises(Refused, match="another job"):
        restore(store, "run-1", other, lambda _: None)


def test_a_tampered_object_is_found(
    store: Store, server: SeaweedFS, sync: Syncs, work: Path, url: str, tmp_path: Path
) -> None:
    finish(work)
    assert sync(work)[0] == 0
    weights = f"run-1/{layout.ADAPTER}/adapter_model.safetensors"
    tamper(server, f"{url.removeprefix(f's3://{BUCKET}/')}/{weights}")
    with pytest.raises(Damaged, match=r"adapter_model\.safetensors is damaged"):
        fetch(store, "run-1", tmp_path / "home")
    with pytest.raises(Damaged):
        store.read(weights)
    assert not (tmp_path / "home" / layout.SUMS).exists()


def tamper(server: SeaweedFS, key: str) -> None:
    """Flip a bit, keep size and metadata: as a bad disk or a bad neighbour would."""
    client = server.client()
    found = client.get_object(Bucket=BUCKET, Key=key)
    content = bytearray(found["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes(content), Metadata=found["Metadata"])
