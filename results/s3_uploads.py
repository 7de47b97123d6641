"""One large object to a bucket, in parts, each with its checksum; an interrupted upload goes on."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

# S3: parts of 5 MiB to 5 GiB, 10,000 at most (docs.aws.amazon.com, "Amazon S3 multipart upload
# limits"). With what parts_of adds at most s3transfer's own 8 MiB.
PART_BYTES = 7 << 20
PARTS = 10_000


class Part(NamedTuple):
    number: int
    start: int
    end: int


Cut = Callable[[int, int], bytes]  # from start to end
Each = Callable[[Callable[[Part], dict[str, Any]], list[Part]], list[dict[str, Any]]]


def parts_of(size_bytes: int, sha256: str) -> list[Part]:
    """The parts of a file's upload.

    Their length depends on the content: an unfinished upload in parts of that length was begun for
    the same content, but for one chance in a million, and has its SHA-256. Each part is compared by
    its own hash too. Equal lengths, as some stores demand.
    """
    length = max(PART_BYTES, -(-size_bytes // (PARTS - 1))) + int(sha256[:5], 16)
    starts = range(0, size_bytes, length)
    return [Part(n, start, min(start + length, size_bytes)) for n, start in enumerate(starts, 1)]


class Uploads:
    """The multipart uploads of a bucket. All methods raise the client's errors."""

    def __init__(self, client: Any, bucket: str, moved: Callable[[int], None]) -> None:
        self._client = client
        self._bucket = bucket
        self._moved = moved

    def put(
        self, key: str, size: int, sha256: str, cut: Cut, condition: dict[str, str], each: Each
    ) -> str:
        """The whole object's ETag. `each` sends the parts, several at once."""
        from botocore.exceptions import ClientError

        parts = parts_of(size, sha256)
        at = {"Bucket": self._bucket, "Key": key}
        upload, there = self._begun(key, parts)
        if upload is None:
            upload = self._client.create_multipart_upload(
                **at, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256}
            )["UploadId"]
        at["UploadId"] = upload

        def send(part: Part) -> dict[str, Any]:
            body = cut(part.start, part.end)
            checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
            tag = there.get(part.number)
            if tag is None or tag != f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"':
                tag = self._client.upload_part(
                    **at, PartNumber=part.number, Body=body, ChecksumSHA256=checksum
                )["ETag"]
            self._moved(len(body))
            return {"PartNumber": part.number, "ETag": tag, "ChecksumSHA256": checksum}

        sent = each(send, parts)
        try:
            done = self._client.complete_multipart_upload(
                **at, MultipartUpload={"Parts": sent}, **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "PreconditionFailed":  # nobody goes on with it
                self._client.abort_multipart_upload(**at)
            raise
        return str(done["ETag"])

    def clear(self, prefix: str) -> None:
        for upload in self._unfinished(prefix):
            self._abort(upload)

    def _begun(self, key: str, parts: list[Part]) -> tuple[str | None, dict[int, str]]:
        """An unfinished upload of the same content, and the tags of its parts; others go.

        A part's tag is its MD5, but where the bucket encrypts with a key of its own: there no part
        is found again, and all are sent.
        """
        sizes = {part.number: part.end - part.start for part in parts}
        pages = self._client.get_paginator("list_parts")
        for upload in self._unfinished(key):
            if upload["Key"] != key:
                continue
            named = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            found = [
                part
                for page in pages.paginate(Bucket=self._bucket, **named)
                for part in page.get("Parts", ())
            ]
            if found and all(sizes.get(p["PartNumber"]) == p["Size"] for p in found):
                return upload["UploadId"], {p["PartNumber"]: p["ETag"] for p in found}
            self._abort(upload)
        return None, {}

    def _unfinished(self, prefix: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads")
        found = pages.paginate(Bucket=self._bucket, Prefix=prefix)
        return [upload for page in found for upload in page.get("Uploads", ())]

    def _abort(self, upload: dict[str, Any]) -> None:
        self._client.abort_multipart_upload(
            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
