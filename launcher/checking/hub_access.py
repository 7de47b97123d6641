"""What HF_TOKEN may do on the Hub: who it is, which models it reads, where it may push.

Only that variable counts: it is what a rented machine is given, whatever else is kept here. Plain
HTTP on HF_ENDPOINT, as huggingface_hub 2.4 asks: the launcher's environment may be without it.
"""

import importlib.util
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from launcher.checking.checks import Check

ENDPOINT = "https://huggingface.co"
SECONDS = 5.0  # for one answer. Assumption
_TOKENS = "settings/tokens"
_REPOSITORY = r"(?a)[\w.-]+/[\w.-]+"
_MAY_WRITE = ("admin", "write", "contributor")  # roles of an organisation's members


class _Answer(NamedTuple):
    status: int
    code: str  # X-Error-Code
    commit: str  # X-Repo-Commit
    body: bytes


class _Organisation(Struct, frozen=True, rename="camel"):
    name: str
    role_in_org: str = "write"  # an older Hub does not say


class _AccessToken(Struct, frozen=True):
    role: str = ""  # read, write, fineGrained


class _Auth(Struct, frozen=True, rename="camel"):
    access_token: _AccessToken = _AccessToken()


class _Me(Struct, frozen=True):
    """Of what the Hub says of a token's owner, what is asked for here."""

    name: str
    orgs: tuple[_Organisation, ...] = ()
    auth: _Auth = _Auth()

    @property
    def role(self) -> str:
        return self.auth.access_token.role


def token() -> Check:
    """Whether HF_TOKEN is set, and the Hub knows it."""
    if not _token():
        how = "only gated models and publishing need one"
        return Check(name="token", state="missing", found="HF_TOKEN is not set", next=how)
    answer = _asked("GET", "api/whoami-v2")
    if answer.status == 200:
        return Check(name="token", state="ok", found=f"HF_TOKEN is {_me(answer).name}'s")
    if answer.status in (401, 403):
        return Check(
            name="token", state="failed", found="the Hub does not know HF_TOKEN", next=_another()
        )
    return _no_answer("token", answer)


def model(name: str, model_id: str, revision: str | None, file: str) -> Check:
    """Whether the repository's `file` can be read at that revision, which gated ones refuse."""
    where = f"{model_id}@{revision}" if revision else model_id
    answer = _asked("HEAD", f"{model_id}/resolve/{quote(revision or 'main', safe='')}/{file}")
    if answer.status < 400:
        commit = f", commit {answer.commit}" if answer.commit else ""
        return Check(name=name, state="ok", found=f"{where} is readable{commit}")
    if answer.status == 429 or answer.status >= 500:
        return _no_answer(name, answer)
    found, how = _refusal(model_id, revision, file, answer)
    return Check(name=name, state="failed", found=found, next=how)


def _refusal(model_id: str, revision: str | None, file: str, answer: _Answer) -> tuple[str, str]:
    with_token = "" if _token() else " and export HF_TOKEN"
    page = f"{_endpoint()}/{model_id}"
    if answer.code == "GatedRepo":
        return (
            f"{model_id} is gated, and not open to you",
            f"accept its terms on {page}{with_token}",
        )
    if answer.code == "RevisionNotFound":
        return f"{model_id} has no revision {revision or 'main'}", f"see {page}/commits"
    if answer.code == "EntryNotFound":
        return f"{model_id} has no {file}", f"see {page}/tree/{quote(revision or 'main')}"
    if answer.status == 403:
        return f"{model_id} may not be read with this HF_TOKEN", _another()
    return f"the Hub has no {model_id}, or does not show it", f"check the id{with_token}"


def client() -> Check:
    """Whether huggingface_hub is here, which publishes; it is not imported."""
    if importlib.util.find_spec("huggingface_hub") is None:
        found = "--hub needs the Hub's client, which is not installed here"
        how = "pip install 'loralift[hub]'"
        return Check(name="client", state="failed", found=found, next=how)
    return Check(name="client", state="ok", found="huggingface_hub is installed")


def name(repository: str) -> Check:
    """Whether it may be a model's name on the Hub; nobody is asked."""
    if re.fullmatch(_REPOSITORY, repository) is None:
        found = f"--hub {repository} is no ORG/NAME"
        return Check(name="push", state="failed", found=found, next="as in --hub me/my-adapter")
    return Check(name="push", state="ok", found=f"{repository} is a name")


def push(repository: str) -> Check:
    """Whether HF_TOKEN may write to ORG/NAME; nothing is written."""
    named = name(repository)
    if named.state == "failed":
        return named
    if not _token():
        found = f"--hub {repository} needs HF_TOKEN, which is not set"
        return Check(name="push", state="failed", found=found, next=_another())
    answer = _asked("GET", f"api/models/{repository}/auth-check/write")
    if answer.status == 200:
        return Check(name="push", state="ok", found=f"may write to {repository}")
    if answer.status == 404:
        return _create(repository)
    if answer.status in (401, 403):
        found = f"HF_TOKEN may not write to {repository}"
        return Check(name="push", state="failed", found=found, next=_another())
    return _no_answer("push", answer)


def licence(name: str) -> Check:
    """Whether the Hub knows a licence by this id, as it judges a card's front matter."""
    front = f"---\nlicense: {msgspec.json.encode(name).decode()}\n---\n"
    answer = _asked("POST", "api/validate-yaml", {"content": front, "repoType": "model"})
    if answer.status == 200:
        return Check(name="licence", state="ok", found=f"the Hub knows {name}")
    if answer.status != 400:
        return _no_answer("licence", answer)
    found = f"--license {name}: the Hub knows no such licence"
    how = "its ids stand on huggingface.co/docs/hub/repositories-licenses"
    return Check(name="licence", state="failed", found=found, next=how)


def _create(repository: str) -> Check:
    """The repository is not there (or not shown): may the token make it?"""
    answer = _asked("GET", "api/whoami-v2")
    if answer.status in (401, 403):
        found = f"the Hub does not know HF_TOKEN, which is to write to {repository}"
        return Check(name="push", state="failed", found=found, next=_another())
    if answer.status != 200:
        return _no_answer("push", answer)
    me = _me(answer)
    refused = _not_allowed(me, repository.split("/")[0])
    if refused:
        return Check(name="push", state="failed", found=refused, next=_another())
    if me.role == "fineGrained":
        found = f"{repository} is not there, and a fine-grained token does not say what it may make"
        how = f"make it on {_endpoint()}/new, or give a token of role write"
        return Check(name="push", state="unknown", found=found, next=how)
    return Check(name="push", state="ok", found=f"may make {repository}")


def _not_allowed(me: _Me, owner: str) -> str:
    """Why this account may not make a repository of `owner`'s; empty where nothing says so."""
    if me.role == "read":
        return "HF_TOKEN may only read"
    if owner == me.name:
        return ""
    role = next((org.role_in_org for org in me.orgs if org.name == owner), None)
    if role is None:
        return f"{me.name}, whose HF_TOKEN it is, is not in {owner}"
    return "" if role in _MAY_WRITE else f"{me.name} may only {role} in {owner}"


def _me(answer: _Answer) -> _Me:
    """Raises msgspec.MsgspecError where it is no Hub that answered."""
    return msgspec.json.decode(answer.body, type=_Me)


def _another() -> str:
    return f"make one of role write on {_endpoint()}/{_TOKENS}, and export HF_TOKEN"


def _no_answer(name: str, answer: _Answer) -> Check:
    found = f"{_endpoint()} answered {answer.status}"
    return Check(name=name, state="unknown", found=found, next="try again")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def _token() -> str:
    return os.environ.get("HF_TOKEN", "").strip()


class _SameHost(urllib.request.HTTPRedirectHandler):
    """A renamed repository is followed; the token goes to no other host, where files lie, nor from
    TLS to plain text."""

    def redirect_request(self, req: Any, *rest: Any) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(rest[-1])
        if new.netloc != old.netloc or new.scheme not in (old.scheme, "https"):
            return None
        return super().redirect_request(req, *rest)


def _asked(method: str, path: str, body: Mapping[str, str] | None = None) -> _Answer:
    """Raises OSError where the Hub does not answer."""
    content = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(f"{_endpoint()}/{path}", content, method=method)
    if content is not None:
        request.add_header("Content-Type", "application/json")
    if _token():
        request.add_header("Authorization", f"Bearer {_token()}")
    try:
        with urllib.request.build_opener(_SameHost).open(request, timeout=SECONDS) as found:
            return _read(found.status, found.headers, found.read())
    except urllib.error.HTTPError as error:
        with error:
            return _read(error.code, error.headers, error.read())


def _read(status: int, headers: Any, body: bytes) -> _Answer:
    code, commit = headers.get("X-Error-Code") or "", headers.get("X-Repo-Commit") or ""
    return _Answer(status, code, commit[:12], body)
