"""What HF_TOKEN may do, asked of a Hub on loopback; and the real client's own view of the same."""

import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from launcher.checking import hub_access
from tests.servers import hub

READER, WRITER, FINE = "hf_reader", "hf_writer", "hf_fine"


def account(role: str, **orgs: str) -> dict[str, object]:
    return {
        "name": "me",
        "type": "user",
        "orgs": [{"name": name, "roleInOrg": its} for name, its in orgs.items()],
        "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": role}},
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    with hub.running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        running.accounts = {
            READER: account("read", team="write"),
            WRITER: account("write", team="contributor", others="read"),
            FINE: account("fineGrained", team="admin"),
        }
        running.models["org/model"] = hub.Repository()
        running.models["org/model"].commit({"config.json": b"{}"}, tag="v1")
        yield running


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch):
    return lambda value: monkeypatch.setenv("HF_TOKEN", value)


def model(model_id: str = "org/model", revision: str | None = None, file: str = "config.json"):
    return hub_access.model("model", model_id, revision, file)


def test_without_a_token_nobody_is_asked(server: hub.Hub) -> None:
    found = hub_access.token()
    assert (found.state, found.found) == ("missing", "HF_TOKEN is not set")
    assert server.requests == []


def test_a_token_is_somebodys_and_stands_in_no_answer(server: hub.Hub, token) -> None:
    token(READER)
    found = hub_access.token()
    assert (found.state, found.found) == ("ok", "HF_TOKEN is me's")
    token("hf_forged")
    found = hub_access.token()
    assert (found.state, found.outside) == ("failed", False)
    assert "does not know HF_TOKEN" in found.found
    assert "hf_forged" not in found.line


def test_a_public_model_is_readable_at_its_commit(server: hub.Hub) -> None:
    commit = server.models["org/model"].revisions["main"]
    found = model()
    assert (found.state, found.found) == ("ok", f"org/model is readable, commit {commit[:12]}")
    assert model(revision="v1").state == "ok"
    assert model(revision=commit).state == "ok"


def test_a_revision_a_file_or_a_model_that_is_not_there(server: hub.Hub, token) -> None:
    found = model(revision="v2")
    assert (found.state, found.found) == ("failed", "org/model has no revision v2")
    assert model(file="adapter_config.json").found == "org/model has no adapter_config.json"
    found = model("org/other")
    assert found.found == "the Hub has no org/other, or does not show it"
    assert found.next == "check the id and export HF_TOKEN"
    token(READER)
    assert model("org/other").next == "check the id"


def test_a_gated_model_is_open_to_one_token_alone(server: hub.Hub, token) -> None:
    server.models["org/gated"] = hub.Repository(gated_to=READER)
    server.models["org/gated"].commit({"config.json": b"{}"})
    found = model("org/gated")
    assert (found.state, found.found) == ("failed", "org/gated is gated, and not open to you")
    assert found.next == f"accept its terms on {server.url}/org/gated and export HF_TOKEN"
    token(WRITER)
    assert model("org/gated").next == f"accept its terms on {server.url}/org/gated"
    token(READER)
    assert model("org/gated").state == "ok"


CLIENT = """
import sys, huggingface_hub
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
try:
    huggingface_hub.hf_hub_download(sys.argv[1], "config.json")
    print("ok")
except (GatedRepoError, RepositoryNotFoundError) as error:
    print(type(error).__name__)
"""


def test_the_real_client_is_refused_the_same(server, token, hub_python: str, tmp_path) -> None:
    server.models["org/gated"] = hub.Repository(gated_to=READER)
    server.models["org/gated"].commit({"config.json": b"{}"})
    for name, who, said in (
        ("org/gated", WRITER, "GatedRepoError"),
        ("org/gated", READER, "ok"),
        ("org/other", READER, "RepositoryNotFoundError"),
    ):
        token(who)
        environment = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [hub_python, "-c", CLIENT, name], capture_output=True, text=True, check=True,
            env=environment | {"HF_HOME": str(tmp_path / who)},
        )  # fmt: skip
        assert done.stdout.strip() == said
        assert (model(name).state == "ok") == (said == "ok")


@pytest.mark.parametrize(
    ("who", "where", "state", "said"),
    [
        ("", "me/new", "failed", "--hub me/new needs HF_TOKEN, which is not set"),
        ("hf_forged", "me/new", "failed", "the Hub does not know HF_TOKEN"),
        (WRITER, "me/new", "ok", "may make me/new"),
        (WRITER, "team/new", "ok", "may make team/new"),
        (WRITER, "others/new", "failed", "me may only read in others"),
        (WRITER, "strangers/new", "failed", "me, whose HF_TOKEN it is, is not in strangers"),
        (READER, "me/new", "failed", "HF_TOKEN may only read"),
        (FINE, "me/new", "unknown", "a fine-grained token does not say what it may make"),
        (FINE, "strangers/new", "failed", "is not in strangers"),
        (WRITER, "org/model", "failed", "HF_TOKEN may not write to org/model"),
        (FINE, "team/old", "ok", "may write to team/old"),
        (WRITER, "no-name", "failed", "--hub no-name is no ORG/NAME"),
    ],
)
def test_who_may_push_where(server: hub.Hub, token, who: str, where, state, said) -> None:
    server.models["team/old"] = hub.Repository(written_by=(FINE,))
    if who:
        token(who)
    found = hub_access.push(where)
    assert (found.state, said in found.found) == (state, True), found
    assert {method for method, _ in server.requests} <= {"GET", "HEAD"}  # nothing is written


def test_a_hub_that_fails_or_is_silent_is_unknown(server: hub.Hub, token, monkeypatch) -> None:
    token(READER)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    with pytest.raises(OSError):
        model()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setattr(hub_access, "SECONDS", 0.2)
    server.silent = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            model()
    finally:
        server.silent.set()


def test_the_token_goes_to_no_other_host(server: hub.Hub, token) -> None:
    token(READER)
    with hub.running() as elsewhere:
        server.moved["/org/large/resolve/main/config.json"] = f"{elsewhere.url}/blob"
        assert model("org/large").state == "ok"
        assert elsewhere.requests == []


def test_a_renamed_model_is_followed_with_the_token(server: hub.Hub, token) -> None:
    server.models["org/gated"] = hub.Repository(gated_to=READER)
    server.models["org/gated"].commit({"config.json": b"{}"})
    server.moved["/org/old/resolve/main/config.json"] = "/org/gated/resolve/main/config.json"
    token(READER)
    assert model("org/old").state == "ok"
    token(WRITER)
    assert model("org/old").found == "org/old is gated, and not open to you"


@pytest.mark.parametrize(
    ("old", "new", "follows"),
    [
        ("https://hub/a", "https://hub/b", True),
        ("http://hub/a", "https://hub/a", True),
        ("https://hub/a", "http://hub/a", False),
        ("https://hub/a", "https://cdn.hub/a", False),
    ],
)
def test_no_redirect_takes_the_token_elsewhere_or_out_of_tls(old, new, follows) -> None:
    asked = urllib.request.Request(old, method="HEAD")
    found = hub_access._SameHost().redirect_request(asked, None, 307, "", {}, new)
    assert (found is not None) == follows


def test_a_licence_is_one_that_the_hub_knows(server: hub.Hub) -> None:
    assert hub_access.licence("apache-2.0").state == "ok"
    wrong = hub_access.licence('apache"\nbase_model: x')
    assert wrong.state == "failed"
    assert "the Hub knows no such licence" in wrong.line
