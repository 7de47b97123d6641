"""A store in a bucket: conditional writes, parts with checksums, an upload that can go on.

Each object carries its SHA-256 as metadata. The server checks what arrives against the SHA-256
sent along; what comes back is checked here. boto3 is imported when the first one is opened, and
its own standard mode repeats what fails for a moment.
"""

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from results.s3_errors import explain, line_of
from results.stores import (
    Stored,
    StoreError,
    missing,
    require_sha256,
    taken,
    written_aside,
)
from results.sums import sha256_of

# S3: parts of 5 MiB to 5 GiB, 10,000 at most (docs.aws.amazon.com, "Amazon S3 multipart upload
# limits"). With what parts_of adds at most s3transfer's own 8 MiB, and as many threads as it has.
PART_BYTES = 7 << 20
PARTS = 10_000
THREADS = 10
# Of a conditional write: 412, 409 while another is under way, 404 for If-Match on what is gone.
_NOT_AS_NAMED = (
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "NoSuchKey",
    "NoSuchUpload",
)
ATTEMPTS = 5  # of each request, with back-off: botocore's standard mode
CONNECT_SECONDS, READ_SECONDS = 10, 60


class Part(NamedTuple):
    number: int
    start: int
    end: int


Cut = Callable[[int, int], bytes]  # from start to end


class S3Store:
    def __init__(self, url: str, touch: Callable[[], None]) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise StoreError(f"store {url}: no bucket; write s3://BUCKET/PREFIX")
        self.url = url.rstrip("/")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._touch = touch
        self._seen_bucket = False
        self._client = _client(self.url)

    def find(self, key: str) -> Stored | None:
        with self._said(f"look at {key}"):
            found = self._unless_missing("head_object", Key=self._prefix + key)
            if found is None:
                self._require_bucket()
        return None if found is None else _stored(found)

    def keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._said("list it"):
            found = [
                entry["Key"].removeprefix(self._prefix)
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
                for entry in page.get("Contents", ())
            ]
        return sorted(found)

    def put(self, key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        condition = {"IfMatch": replacing.version} if replacing else {"IfNoneMatch": "*"}
        with self._said(f"write {key}", key), _opened(source) as (size, sha256, cut):
            if size > PART_BYTES:
                version = self._put_parts(key, parts_of(size, sha256), cut, sha256, condition)
            else:
                version = self._client.put_object(
                    **self._at(key),
                    Body=cut(0, size),
                    ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                    Metadata={"sha256": sha256},
                    **condition,
                )["ETag"]
                self._touch()
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
        from s3transfer.exceptions import S3DownloadFailedError

        stored = self.find(key)
        if stored is None:
            raise missing(self.url, key)
        with self._said(f"read {key}"), written_aside(target) as aside:
            try:
                self._client.download_file(self._bucket, self._prefix + key, str(aside))
            except S3DownloadFailedError:  # a part of it has another ETag than the first
                raise taken(self.url, key) from None
            found = sha256_of(aside)
            if sha256 is None and found != stored.sha256 and self.find(key) != stored:
                raise taken(self.url, key)
            require_sha256(sha256 or stored.sha256, found, f"{self.url}/{key}")

    def remove(self, key: str) -> None:
        with self._said(f"remove {key}"):
            self._client.delete_object(**self._at(key))

    def clear(self, prefix: str) -> None:
        with self._said("remove unfinished uploads"):
            for upload in self._uploads(prefix):
                self._abort(upload)

    def _put_parts(
        self, key: str, parts: list[Part], cut: Cut, sha256: str, condition: dict[str, str]
    ) -> str:
        upload, there = self._begun(key, parts)
        if upload is None:
            upload = self._client.create_multipart_upload(
                **self._at(key), ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256}
            )["UploadId"]

        def send(part: Part) -> dict[str, Any]:
            body = cut(part.start, part.end)
            checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
            tag = there.get(part.number)
            if tag is None or tag != f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"':
                tag = self._client.upload_part(
                    **self._at(key),
                    UploadId=upload,
                    PartNumber=part.number,
                    Body=body,
                    ChecksumSHA256=checksum,
                )["ETag"]
                self._touch()
            return {"PartNumber": part.number, "ETag": tag, "ChecksumSHA256": checksum}

        with ThreadPoolExecutor(THREADS) as pool:
            sent = list(pool.map(send, parts))
        done = self._client.complete_multipart_upload(
            **self._at(key), UploadId=upload, MultipartUpload={"Parts": sent}, **condition
        )
        return str(done["ETag"])

    def _begun(self, key: str, parts: list[Part]) -> tuple[str | None, dict[int, str]]:
        """An unfinished upload of the same content, and the tags of its parts; others go.

        A part's tag is its MD5, but where the bucket encrypts with a key of its own: there no part
        is found again, and all are sent.
        """
        length = parts[0].end
        pages = self._client.get_paginator("list_parts")
        for upload in self._uploads(key):
            if upload["Key"] != self._prefix + key:
                continue
            named = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            found = [
                part
                for page in pages.paginate(Bucket=self._bucket, **named)
                for part in page.get("Parts", ())
            ]
            if found and all(p["Size"] == length or p["PartNumber"] == len(parts) for p in found):
                return upload["UploadId"], {p["PartNumber"]: p["ETag"] for p in found}
            self._abort(upload)
        return None, {}

    def _uploads(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads")
        found = pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        return [upload for page in found for upload in page.get("Uploads", ())]

    def _abort(self, upload: dict[str, Any]) -> None:
        self._client.abort_multipart_upload(
            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )

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


def parts_of(size_bytes: int, sha256: str) -> list[Part]:
    """The parts of a file's upload.

    Their length depends on the content: an unfinished upload in parts of that length was begun for
    the same content, but for one chance in a million, and has its SHA-256. Each part is compared by
    its own hash too. Equal lengths, as some stores demand.
    """
    length = max(PART_BYTES, -(-size_bytes // (PARTS - 1))) + int(sha256[:5], 16)
    starts = range(0, size_bytes, length)
    return [Part(n, start, min(start + length, size_bytes)) for n, start in enumerate(starts, 1)]


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
        max_pool_connections=2 * THREADS,
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
