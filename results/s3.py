"""A store in a bucket: conditional writes, and what comes back in parts, several at once.

Each object carries its SHA-256 as metadata. The server checks what arrives against the SHA-256
sent along; what comes back is checked here. boto3 is imported when the first one is opened, and
its own standard mode repeats what fails for a moment.
"""

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from results.s3_errors import explain, line_of
from results.s3_uploads import PART_BYTES, Cut, Uploads, parts_of
from results.stores import (
    Progress,
    Stored,
    StoreError,
    missing,
    require_sha256,
    taken,
    written_aside,
)
from results.sums import sha256_of

AT_ONCE = 10  # requests with a part of an object, as s3transfer has; each part is in memory
# Of a conditional write: 412, 409 while another is under way, 404 for If-Match on what is gone.
_NOT_AS_NAMED = (
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "NoSuchKey",
    "NoSuchUpload",
)
ATTEMPTS = 5  # of each request, with back-off: botocore's standard mode
CONNECT_SECONDS, READ_SECONDS = 10, 60

T = TypeVar("T")
R = TypeVar("R")


class S3Store:
    def __init__(self, url: str, progress: Progress) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.url = url.rstrip("/")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.progress = progress
        self._seen_bucket = False
        self._turns = threading.Semaphore(AT_ONCE)
        self._client = _client(self.url)
        self._uploads = Uploads(self._client, bucket, progress.moved)

    def find(self, key: str) -> Stored | None:
        with self._said(f"look at {key}"):
            found = self._unless_missing("head_object", Key=self._prefix + key)
            if found is None:
                self._require_bucket()
        return None if found is None else _stored(found)

    def sizes(self, prefix: str) -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._said("list it"):
            found = {
                entry["Key"].removeprefix(self._prefix): entry["Size"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
                for entry in page.get("Contents", ())
                if not entry["Key"].endswith("/")  # a folder's marker, by another tool
            }
        return dict(sorted(found.items()))

    def put(self, key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        condition = {"IfMatch": replacing.version} if replacing else {"IfNoneMatch": "*"}
        with self._said(f"write {key}", key), _opened(source) as (size, sha256, cut):
            if len(parts_of(size, sha256)) > 1:
                place = self._prefix + key
                version = self._uploads.put(place, size, sha256, cut, condition, self._each)
            else:
                with self._turns:
                    version = self._client.put_object(
                        **self._at(key),
                        Body=cut(0, size),
                        ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                        Metadata={"sha256": sha256},
                        **condition,
                    )["ETag"]
                self.progress.moved(size)
            return Stored(size, sha256, version)

    def read(self, key: str) -> tuple[bytes, Stored] | None:
        with self._said(f"read {key}"):
            found = self._unless_missing("get_object", Key=self._prefix + key)
            if found is None:
                return None
            content: bytes = found["Body"].read()
        stored = _stored(found)
        require_sha256(stored.sha256, sha256_of(content), f"{self.url}/{key}")
        return content, stored

    def get(self, key: str, target: Path, sha256: str | None = None) -> None:
        stored = self.find(key)
        if stored is None:
            raise missing(self.url, key)
        with self._said(f"read {key}", key), written_aside(target) as aside:
            aside.write_bytes(b"")
            self._bring_parts(key, stored, aside)
            require_sha256(sha256 or stored.sha256, sha256_of(aside), f"{self.url}/{key}")

    def _bring_parts(self, key: str, stored: Stored, target: Path) -> None:
        """Raises ClientError when it is another object meanwhile."""

        def bring(start: int) -> None:
            end = min(start + PART_BYTES, stored.size_bytes)
            content = self._range(key, stored.version, start, end)
            with target.open("r+b") as file:
                file.seek(start)
                file.write(content)
            self.progress.moved(end - start)

        self._each(bring, range(0, stored.size_bytes, PART_BYTES))

    def _range(self, key: str, version: str, start: int, end: int) -> bytes:
        """Again where the answer breaks off, which the client repeats up to its first byte only."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        left = ATTEMPTS
        while True:
            found = self._client.get_object(
                **self._at(key), IfMatch=version, Range=f"bytes={start}-{end - 1}"
            )
            try:
                content: bytes = found["Body"].read()
                return content
            except (HTTPClientError, IncompleteReadError):
                left -= 1
                if left == 0:
                    raise

    def _each(self, do: Callable[[T], R], parts: Iterable[T]) -> list[R]:
        """Several at once, of all the store's files together no more than AT_ONCE."""

        def in_turn(part: T) -> R:
            with self._turns:
                return do(part)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(in_turn, parts))

    def remove(self, key: str) -> None:
        with self._said(f"remove {key}"):
            self._client.delete_object(**self._at(key))

    def clear(self, prefix: str) -> None:
        with self._said("remove unfinished uploads"):
            self._uploads.clear(self._prefix + prefix)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _unless_missing(self, operation: str, **arguments: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise

    def _require_bucket(self) -> None:
        """A missing object and a missing bucket answer alike: the bucket is asked for once."""
        if not self._seen_bucket:
            self._client.head_bucket(Bucket=self._bucket)
            self._seen_bucket = True

    @contextlib.contextmanager
    def _said(self, what: str, written: str | None = None) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if written is not None and error.response["Error"]["Code"] in _NOT_AS_NAMED:
                raise taken(self.url, written) from None
            raise self._error(what, error) from None
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise self._error(what, error) from None

    def _error(self, what: str, error: Exception) -> StoreError:
        endpoint = str(self._client.meta.endpoint_url)
        return StoreError(f"store {self.url}: {explain(what, error, self._bucket, endpoint)}")


def _client(url: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise StoreError(
            f"store {url}: boto3 is not installed here\ninstall it: pip install 'loralift[s3]'"
        ) from None
    settings = Config(
        retries={"mode": "standard", "max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=2 * AT_ONCE,
    )
    try:
        # a session of its own: boto3's default one keeps the credentials that it saw first
        return boto3.session.Session().client("s3", config=settings)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
        raise StoreError(f"store {url}: {line_of(error)}\nmend the AWS_... settings") from None


def _stored(found: dict[str, Any]) -> Stored:
    sha256 = found.get("Metadata", {}).get("sha256")
    return Stored(found["ContentLength"], sha256, found["ETag"])


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[int, str, Cut]]:
    """Size, SHA-256 and any cut of one open file: a new one in its place changes nothing."""
    if isinstance(source, bytes):
        yield len(source), sha256_of(source), lambda start, end: source[start:end]
        return
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        yield size, sha256, lambda start, end: os.pread(descriptor, end - start, start)
