"""What went wrong with a bucket, for people: why, and what to do next. Never a secret."""

# Codes of S3's error responses; a HEAD has no more than the status.
_REFUSED = {
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "InvalidAccessKeyId": "the access key is not known there",
    "ExpiredToken": "the session token has expired",
    "AccessDenied": "these credentials may not do that there",
    "403": "the credentials are wrong, or may not do that there",
}
_NO_BUCKET = ("NoSuchBucket", "404")
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE"
)


def explain(what: str, error: Exception, bucket: str, endpoint: str) -> str:
    """At most two lines about a failed request, or about a file of this machine (OSError)."""
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        if code in _REFUSED:
            return f"cannot {what}: {_REFUSED[code]}\n{_CREDENTIALS}"
        if code in _NO_BUCKET:
            return (
                f"there is no bucket {bucket} at {endpoint}\n"
                "create it, or mend --store or AWS_ENDPOINT_URL_S3"
            )
        return f"cannot {what}: {line_of(error)}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"no credentials\n{_CREDENTIALS}"
    if isinstance(error, OSError):
        return f"cannot {what}: {line_of(error)}"
    return f"cannot {what}: {line_of(error)}\nis {endpoint} up, and AWS_ENDPOINT_URL_S3 right?"


def line_of(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
