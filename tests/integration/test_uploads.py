"""Large objects to a real S3 server and back, whatever is killed meanwhile."""

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import layout
from results import s3, s3_uploads
from results.collect import collect, verify
from results.stored_run import fetch, push, state
from results.stores import Store, StoreError, Taken, Unseen, open_store, sha256_of
from tests.fixtures.working_folder import begin, finish
from tests.integration.buckets import BIG, big_file, client_python, server, store, url
from tests.integration.command import ROOT
from tests.integration.waiting import PATIENCE
from tests.servers.seaweedfs import BUCKET, SeaweedFS

__all__ = ["client_python", "server", "store", "url"]  # the fixtures

WEIGHTS = 60 << 20  # eight parts
WEIGHTS_NAME = f"{layout.ADAPTER}/adapter_model.safetensors"


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the most of eight parts is still to come when something is killed."""
    monkeypatch.setattr(s3, "AT_ONCE", 2)
    monkeypatch.setattr(s3, "ATTEMPTS", 2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A collected run, its adapter large."""
    work = begin(tmp_path / "work")
    finish(work, size=WEIGHTS)
    return collect(work, tmp_path / "home", "run-1", {})


class Seen(Unseen):
    """What a bar would be told."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    def moved(self, size_bytes: int) -> None:
        self.parts.append(size_bytes)


def test_a_big_file_goes_in_parts(
    store: Store, server: SeaweedFS, url: str, tmp_path: Path
) -> None:
    made = big_file(tmp_path)
    put = store.put("run/big", made, None)
    assert put == store.find("run/big")
    assert put.version.endswith('-3"')
    assert put.sha256 == sha256_of(made)
    store.get("run/big", tmp_path / "brought")
    assert sha256_of(tmp_path / "brought") == put.sha256
    with pytest.raises(Taken):
        store.put("run/big", made, None)
    assert store.find("run/big") == put
    assert list(begun(server, url)) == []


def test_other_content_s_last_part_alone_is_no_beginning(
    store: Store, server: SeaweedFS, url: str, tmp_path: Path
) -> None:
    """Parts go several at once, so the last and shortest may be the only one that arrived."""
    one, other = big_file(tmp_path).read_bytes(), big_file(tmp_path)
    client, key = server.client(), f"{url.removeprefix(f's3://{BUCKET}/')}/run/big"
    at = {"Bucket": BUCKET, "Key": key}
    digest = sha256_of(one)
    at["UploadId"] = client.create_multipart_upload(
        **at, ChecksumAlgorithm="SHA256", Metadata={"sha256": digest}
    )["UploadId"]
    last = s3_uploads.parts_of(len(one), digest)[-1]
    body = one[last.start : last.end]
    client.upload_part(**at, PartNumber=last.number, Body=body, ChecksumAlgorithm="SHA256")
    put = store.put("run/big", other, None)
    assert put.sha256 == sha256_of(other) != digest
    assert store.find("run/big") == put


def test_an_upload_goes_on_where_it_was_interrupted(
    store: Store, server: SeaweedFS, url: str, tmp_path: Path
) -> None:
    made = big_file(tmp_path)
    client, key = server.client(), f"{url.removeprefix(f's3://{BUCKET}/')}/run/big"
    content = made.read_bytes()
    begun = client.create_multipart_upload(
        Bucket=BUCKET,
        Key=key,
        ChecksumAlgorithm="SHA256",
        Metadata={"sha256": sha256_of(made)},
    )["UploadId"]
    first = s3_uploads.parts_of(len(content), sha256_of(made))[0]
    client.upload_part(
        Bucket=BUCKET,
        Key=key,
        UploadId=begun,
        PartNumber=1,
        Body=content[: first.end],
        ChecksumAlgorithm="SHA256",
    )
    sent: list[int] = []
    assert isinstance(store, s3.S3Store)
    store._client.meta.events.register(
        "provide-client-params.s3.UploadPart",
        lambda params, **_: sent.append(params["PartNumber"]),
    )
    put = store.put("run/big", made, None)
    assert sorted(sent) == [2, 3]
    store.get("run/big", tmp_path / "brought", put.sha256)

    other = big_file(tmp_path)
    begun = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    client.upload_part(
        Bucket=BUCKET, Key=key, UploadId=begun, PartNumber=1, Body=content[: first.end]
    )
    sent.clear()
    store.put("run/big", other, put)
    assert sorted(sent) == [1, 2, 3]
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET, Prefix=key)


def test_each_part_and_each_object_that_is_sent_is_a_sign_of_life(url: str, tmp_path: Path) -> None:
    seen = Seen()
    store = open_store(url, seen)
    store.put("run/small", b"content", None)
    assert seen.parts == [7]
    store.put("run/big", big_file(tmp_path), None)
    assert len(seen.parts) == 1 + 3
    store.get("run/big", tmp_path / "brought")
    assert sum(seen.parts) == 7 + 2 * BIG


def test_a_big_object_that_changes_while_it_is_read_is_taken(store: Store, tmp_path: Path) -> None:
    before = store.put("run/big", big_file(tmp_path), None)
    assert isinstance(store, s3.S3Store)
    once = iter([big_file(tmp_path)])  # the parts are read by threads

    def another_is_faster(**_: object) -> None:
        if (other := next(once, None)) is not None:
            store.put("run/big", other, before)

    store._client.meta.events.register("provide-client-params.s3.GetObject", another_is_faster)
    with pytest.raises(Taken, match="somebody else has written it meanwhile"):
        store.get("run/big", tmp_path / "brought", before.sha256)
    assert not (tmp_path / "brought").exists()


def test_a_part_that_breaks_off_is_brought_again(store: Store, tmp_path: Path) -> None:
    put = store.put("run/big", big_file(tmp_path), None)
    assert isinstance(store, s3.S3Store)
    once = itertools.count()

    def break_off(http_response, **_: object) -> None:
        if next(once) == 0:
            http_response.raw.close()

    store._client.meta.events.register("after-call.s3.GetObject", break_off)
    store.get("run/big", tmp_path / "brought")
    assert sha256_of(tmp_path / "brought") == put.sha256
    assert next(once) == 3 + 1


# A process that pushes a run. It says which parts are there, and is killed after so many.
PUSHING = """
import os, signal, sys
from pathlib import Path
from results import s3
from results.stored_run import push
from results.stores import open_store
url, home, kill_after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
s3.AT_ONCE = 2
store, there = open_store(url), []
def arrived(context, **_):
    there.append(context["number"])
    os.write(1, b"%d\\n" % context["number"])  # a line whole, whatever thread it is of
    if 0 < kill_after <= len(there):  # two may have come before either is counted
        os.kill(os.getpid(), signal.SIGKILL)
def sending(params, context, **_):
    context["number"] = params["PartNumber"]
events = store._client.meta.events
events.register("provide-client-params.s3.UploadPart", sending)
events.register("after-call.s3.UploadPart", arrived)
push(store, "run-1", home)
"""


def pushed(python: str, url: str, home: Path, kill_after: int) -> tuple[int, list[int]]:
    """The exit code, and the parts that were sent."""
    done = subprocess.run(
        [python, "-P", "-c", PUSHING, url, str(home), str(kill_after)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, [int(line) for line in done.stdout.split()]


def begun(server: SeaweedFS, url: str) -> Iterator[set[int]]:
    """The parts of each unfinished upload of the test."""
    prefix, client = url.removeprefix(f"s3://{BUCKET}/"), server.client()
    found = client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    for upload in found.get("Uploads", ()):
        named = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
        parts = client.list_parts(Bucket=BUCKET, **named).get("Parts", ())
        yield {part["PartNumber"] for part in parts}


def require_partial(store: Store, folder: Path) -> None:
    assert state(store, "run-1") == "partial"
    assert fetch(store, "run-1", folder) == "partial"
    assert (folder / layout.SPEC).is_file()
    assert not (folder / WEIGHTS_NAME).exists()
    assert verify(folder) == [f"{layout.SUMS} is missing: the collection did not finish"]


def require_complete(store: Store, home: Path, folder: Path) -> None:
    """The folder had what was there of the partial run; nothing stays beside it."""
    assert fetch(store, "run-1", folder) == "complete"
    assert verify(folder) == []
    assert (folder / layout.SUMS).read_bytes() == (home / layout.SUMS).read_bytes()
    assert not list(folder.rglob(f"*{layout.TEMPORARY_SUFFIX}"))


def test_killed_ourselves_another_process_sends_what_lacks(
    store: Store, server: SeaweedFS, client_python: str, url: str, home: Path, tmp_path: Path
) -> None:
    parts = len(s3_uploads.parts_of(WEIGHTS, sha256_of(home / WEIGHTS_NAME)))
    code, there = pushed(client_python, url, home, kill_after=3)
    assert code == -signal.SIGKILL
    assert len(there) >= 3
    require_partial(store, tmp_path / "back")
    (unfinished,) = begun(server, url)
    assert set(there) <= unfinished
    code, sent = pushed(client_python, url, home, kill_after=0)
    assert code == 0
    assert sent, "all was there when it was killed"
    assert not set(sent) & unfinished  # one that was on its way may have arrived after the look
    assert set(sent) < set(range(1, parts + 1))
    assert list(begun(server, url)) == []
    require_complete(store, home, tmp_path / "back")


def test_the_server_killed_amid_an_upload(
    server: SeaweedFS, url: str, home: Path, tmp_path: Path, two_at_once: None
) -> None:
    store, sent = open_store(url), list[int]()
    assert isinstance(store, s3.S3Store)
    fifth = itertools.count(1)

    def sending(params: dict[str, int], **_: object) -> None:
        sent.append(params["PartNumber"])
        if next(fifth) == 5:
            server.kill()

    store._client.meta.events.register("provide-client-params.s3.UploadPart", sending)
    with pytest.raises(StoreError, match=r"cannot write run-1/adapter/.*\n.* up, and"):
        push(store, "run-1", home)
    server.start()
    require_partial(store, tmp_path / "back")
    (there,) = begun(server, url)
    assert there
    sent.clear()
    push(store, "run-1", home)
    parts = len(s3_uploads.parts_of(WEIGHTS, sha256_of(home / WEIGHTS_NAME)))
    assert sorted(sent) == sorted(set(range(1, parts + 1)) - there)
    assert list(begun(server, url)) == []
    require_complete(store, home, tmp_path / "back")


def test_the_server_killed_amid_a_download(
    server: SeaweedFS, url: str, home: Path, tmp_path: Path, two_at_once: None
) -> None:
    store, parts = open_store(url), itertools.count(1)
    assert isinstance(store, s3.S3Store)
    push(store, "run-1", home)

    def asking(params: dict[str, str], **_: object) -> None:
        if params["Key"].endswith(WEIGHTS_NAME) and next(parts) == 4:
            server.kill()

    store._client.meta.events.register("provide-client-params.s3.GetObject", asking)
    with pytest.raises(StoreError, match=r"\n.* up, and"):
        fetch(store, "run-1", tmp_path / "back")
    assert not (tmp_path / "back" / WEIGHTS_NAME).exists()
    server.start()
    require_complete(store, home, tmp_path / "back")
