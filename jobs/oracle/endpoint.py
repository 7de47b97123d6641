"""The endpoint: its key, the `openai` client, its replies, and what its errors mean."""

import email.utils
import ipaddress
import os
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from jobs.outcome import BadInput
from jobs.spec.label import Endpoint

# What the openai client itself tries again (openai 2.54, _base_client.py, _should_retry).
RETRIED = (408, 409, 429)
# No other text would fare better: key, payment, permission, address or model.
REFUSED = (401, 402, 403, 404)
# Would go to any endpoint that the spec names (openai 2.54, _client.py): only the spec decides.
CLIENT_VARIABLES = ("OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID",
                    "OPENAI_PROJECT_ID", "OPENAI_LOG")  # fmt: skip
# Shorter ones are placeholders of local servers ("none"), and stand in other words too.
SECRET_CHARACTERS = 8


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int


class Completion(Struct):
    """The part of a chat completion that is read."""

    choices: list[_Choice]
    model: str | None = None
    usage: _Usage | None = None


COMPLETION = msgspec.json.Decoder(Completion)


def read_key(variable: str | None) -> str:
    """The key out of the environment; "" where the endpoint wants none. Raises `BadInput`."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise BadInput(f"endpoint.key_variable: {variable} is not set; export it, then start again")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        # Else the HTTP library refuses the header, and its message holds the key.
        raise BadInput(
            f"endpoint.key_variable: {variable} holds a space, a line end or another character "
            "that no key has; export it anew"
        )
    return key


def hide(key: str, text: str) -> str:
    """The text without the key, which an endpoint may repeat in its errors."""
    return text.replace(key, "[key]") if len(key) >= SECRET_CHARACTERS else text


def in_the_clear(base_url: str) -> bool:
    """Whether what is sent there crosses a network unencrypted."""
    url = urlsplit(base_url)
    if url.scheme == "https" or url.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return True


def connect(endpoint: Endpoint, key: str) -> Any:
    """An `openai.AsyncOpenAI` for the endpoint. Raises `BadInput` without the package."""
    try:
        import openai
    except ImportError:
        raise BadInput(
            "the `openai` package is missing here: pip install 'loralift[label]' (or, beside "
            "msgspec, 'openai>=2,<3')"
        ) from None
    for name in CLIENT_VARIABLES:
        os.environ.pop(name, None)
    return openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=key or "none",  # the client insists on one
        max_retries=0,
        timeout=endpoint.timeout_seconds,
    )


def retry_after_seconds(value: str | None) -> float:
    """What a Retry-After header asks for: seconds or an HTTP date (RFC 9110, 10.2.3), else 0."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    parsed = email.utils.parsedate_tz(value)
    return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else 0.0


@dataclass(frozen=True)
class Failure:
    """A request without an answer."""

    error: str
    status: int | None = None
    retried: bool = True
    refused: bool = False  # and so would every other be
    billed: bool = False
    wait_seconds: float = 0.0


def failure_of(error: Exception) -> Failure:
    """What an error of the openai client means. Raises it again when it is none."""
    import httpx
    import openai

    if isinstance(error, openai.APIStatusError):
        # `billed` stays False: assumption, that nobody bills a request answered with an error.
        status, body = error.status_code, error.body
        code = body.get("code") if isinstance(body, dict) else None
        spent = code == "insufficient_quota"  # OpenAI says so with a 429
        return Failure(
            str(error),
            status,
            retried=not spent and (status in RETRIED or status >= 500),
            refused=spent or status in REFUSED,
            wait_seconds=retry_after_seconds(error.response.headers.get("retry-after")),
        )
    if isinstance(error, TimeoutError):
        return Failure("no answer in time", billed=True)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        unsent = isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        return Failure(f"{error} {cause or ''}".strip(), billed=not unsent)
    raise error
