"""References to container images, as registries take them: NAME[:TAG][@DIGEST]."""

import re

# The grammar of github.com/distribution/reference (regexp.go), without addresses in IPv6.
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"{_HOST}(?:\.{_HOST})*(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(rf"{_NAME}(?::{_TAG})?(?:@(?P<digest>{_DIGEST}))?", re.ASCII)


def mistake_in(reference: str) -> str | None:
    """What is wrong with a reference, or None."""
    if _REFERENCE.fullmatch(reference):
        return None
    expected = "expected NAME[:TAG][@sha256:...], as in registry.example/me/train:1"
    if "://" in reference or reference.startswith("docker:"):
        return f"{expected}, without {reference.partition(':')[0]}:"
    return expected


def is_pinned(reference: str) -> bool:
    """Whether it names one image for good: a tag may come to mean another."""
    return digest_of(reference) is not None


def digest_of(reference: str) -> str | None:
    """The sha256:… that a reference ends with, if it does."""
    found = _REFERENCE.fullmatch(reference)
    return found["digest"] if found is not None else None


def without_tag(reference: str) -> str:
    """The name alone: neither :TAG nor @DIGEST."""
    name = reference.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
