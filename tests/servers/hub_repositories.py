"""What a Hub holds: repositories of commits, accounts, and large files by their SHA-256."""

import hashlib
import threading
from dataclasses import dataclass, field

# What the Hub keeps outside git: by the .gitattributes that it gives a new repository
# (huggingface.co/docs/hub/repositories-getting-started), and by size.
LARGE = (".safetensors", ".gguf", ".bin", ".parquet")
LARGE_BYTES = 10 << 20


class Refused(Exception):
    """An answer with this status; `message` is for people, `code` for X-Error-Code."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code, self.message = status, code, message or code


@dataclass
class Repository:
    """Commits of files; `main` is the newest."""

    private_to: str | None = None  # the token that opens it
    gated_to: str | None = None  # the token whose owner was let in
    written_by: tuple[str, ...] = ()  # tokens that may push
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)  # of commits that were pushed

    def commit(self, files: dict[str, bytes], tag: str | None = None) -> str:
        """Add a commit with these files and no others; returns its 40 hex digits."""
        digest = hashlib.sha1(repr((sorted(files.items()), len(self.commits))).encode())
        sha = digest.hexdigest()
        self.commits[sha] = dict(files)
        self.revisions |= {"main": sha, **({tag: sha} if tag else {})}
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit names."""
        return revision if revision in self.commits else self.revisions.get(revision)

    @property
    def files(self) -> dict[str, bytes]:
        """Of the newest commit."""
        return self.commits[self.revisions["main"]]


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    url: str = ""
    datasets: dict[str, Repository] = field(default_factory=dict)
    models: dict[str, Repository] = field(default_factory=dict)
    accounts: dict[str, dict[str, object]] = field(default_factory=dict)  # token → whoami-v2
    moved: dict[str, str] = field(default_factory=dict)  # path → Location
    silent: threading.Event | None = None  # while it is not set, nothing is answered
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path, in order
    large: dict[str, bytes] = field(default_factory=dict)  # SHA-256 → content
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)  # of uploads under way
    part_bytes: int | None = None  # from where on a large file is asked for in parts
    damages: set[str] = field(default_factory=set)  # names that a commit writes down wrongly
    cuts: int = 0  # so many uploads to storage end in the middle, without an answer
    breaks_off: str | None = None  # in a path: the connection ends there, without an answer
    overtaken: bool = False  # somebody else commits just before the next commit
    odd: list[str] = field(default_factory=list)  # what no client of ours should have sent


def is_large(name: str, size: int) -> bool:
    return size > 0 and (name.endswith(LARGE) or size > LARGE_BYTES)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(content: bytes) -> bytes:
    """What git holds of a large file (github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    return text.format(sha256(content), len(content)).encode()
