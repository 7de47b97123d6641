"""What a Hub is asked when something is published, as huggingface_hub 2.4.0 asks it.

Each route names the file and function of the client that calls it. What that client never sends
(another key, another type, a token to storage) is refused with 400 and noted in `Hub.odd`.
"""

import base64
import binascii
import json
import re
from collections.abc import Set
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import yaml

from tests.servers.hub_repositories import (
    Hub,
    Refused,
    Repository,
    git_blob,
    is_large,
    pointer,
    sha256,
)

if TYPE_CHECKING:
    from tests.servers.hub import Answer

MAY_WRITE = ("admin", "write", "contributor")
# Some of what the Hub takes as `license:` (huggingface.co/docs/hub/repositories-licenses).
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "llama3.1", "gemma", "openrail", "other")
LFS_JSON = "application/vnd.git-lfs+json"


def create(answer: "Answer") -> None:
    """POST /api/repos/create: hf_api.py, HfApi.create_repo."""
    asked = _json(answer, {"name", "organization", "visibility"}, {"type"})
    _require(answer, asked["visibility"] in ("private", "public"), f"visibility {asked}")
    _require(answer, asked.get("type", "model") == "model", f"type {asked}")
    account = _account(answer)
    owner = asked["organization"] or account["name"]
    if not _may_make(account, owner):
        raise Refused(403, "", f"You don't have the rights to create a model under {owner}")
    name = f"{owner}/{asked['name']}"
    url = f"{answer.hub.url}/{name}"
    if name in answer.hub.models:
        answer.send_json(409, {"error": "You already created this model repo", "url": url})
        return
    token = answer.token
    private = token if asked["visibility"] == "private" else None
    made = answer.hub.models[name] = Repository(private_to=private, written_by=(token,))
    made.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
    answer.send_json(200, {"url": url, "name": name, "private": private is not None})


def validate_yaml(answer: "Answer") -> None:
    """POST /api/validate-yaml: hf_api.py, HfApi._validate_yaml."""
    asked = _json(answer, {"content", "repoType"})
    errors = [{"message": message} for message in _wrong_in(asked["content"])]
    warnings: list[dict[str, str]] = []
    answer.send_json(400 if errors else 200, {"errors": errors, "warnings": warnings})


def _wrong_in(readme: str) -> list[str]:
    match = re.match(r"---\n(.*?\n)---\n", readme, re.DOTALL)
    if match is None:
        return []
    front = yaml.safe_load(match[1])
    if not isinstance(front, dict):
        return ["the front matter is no mapping"]
    wrong = []
    if "license" in front and front["license"] not in LICENCES:
        wrong.append(f'"license" must be one of [{", ".join(LICENCES)}]')
    base = front.get("base_model", "a/b")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(base)):
        wrong.append('"base_model" with value "…" is not valid. Use a model id')
    for model in front.get("model-index", []):
        for result in model["results"]:
            if (
                not {"type"} <= result["task"].keys()
                or not {"type", "name"} <= result["dataset"].keys()
            ):
                wrong.append('"model-index[0].results" misses a task or a data set')
            if not all({"type", "value"} <= metric.keys() for metric in result["metrics"]):
                wrong.append('"model-index[0].results[0].metrics" misses type or value')
    return wrong


def preupload(answer: "Answer", name: str, revision: str) -> None:
    """POST /api/models/ID/preupload/REVISION: _commit_api.py, _fetch_upload_modes."""
    there = _writable(answer, name, revision)
    files = []
    for file in _json(answer, {"files"})["files"]:
        _require(answer, set(file) == {"path", "sample", "size"}, f"a file with {sorted(file)}")
        base64.b64decode(file["sample"], validate=True)
        path, found = file["path"], there.get(file["path"])
        large = is_large(path, file["size"])
        oid = None
        if found is not None:
            oid = sha256(found) if is_large(path, len(found)) else git_blob(found)
        mode = "lfs" if large else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    answer.send_json(200, {"files": files})


def batch(answer: "Answer", name: str) -> None:
    """POST /ID.git/info/lfs/objects/batch: lfs.py, post_lfs_batch_info."""
    _writable(answer, name, "main")
    _require(answer, answer.headers["Accept"] == LFS_JSON, f"Accept {answer.headers['Accept']}")
    asked = _json(answer, {"operation", "transfers", "objects", "hash_algo"}, {"ref"})
    _require(answer, asked["operation"] == "upload", f"operation {asked['operation']}")
    _require(answer, asked["hash_algo"] == "sha256", f"hash_algo {asked['hash_algo']}")
    objects = [_actions(answer.hub, one["oid"], one["size"]) for one in asked["objects"]]
    answer.send_json(200, {"transfer": asked["transfers"][0], "objects": objects})


def _actions(hub: Hub, oid: str, size: int) -> dict[str, Any]:
    known: dict[str, Any] = {"oid": oid, "size": size}
    if oid in hub.large:
        return known
    storage = storage_url(hub)
    upload: dict[str, Any] = {"href": f"{storage}/upload/{oid}"}
    if hub.part_bytes is not None and size > hub.part_bytes:
        count = ceil(size / hub.part_bytes)
        parts = {str(n): f"{storage}/part/{oid}/{n}" for n in range(1, count + 1)}
        upload = {
            "href": f"{storage}/complete/{oid}",
            "header": {"chunk_size": str(hub.part_bytes), **parts},
        }
    verify = {"href": f"{hub.url}/lfs/verify"}
    return known | {"actions": {"upload": upload, "verify": verify}}


def storage_url(hub: Hub) -> str:
    """Another host name than the Hub's, as large files have: the token must not go there."""
    return hub.url.replace("127.0.0.1", "localhost") + "/storage"


def upload(answer: "Answer", oid: str) -> None:
    """PUT of a large file whole: lfs.py, _upload_single_part."""
    content = _to_storage(answer)
    _keep(answer, oid, content)
    answer.send(200, b"", {})


def part(answer: "Answer", oid: str, number: str) -> None:
    """PUT of a part: lfs.py, _upload_parts_iteratively."""
    content = _to_storage(answer)
    answer.hub.parts[oid, int(number)] = content
    answer.send(200, b"", {"ETag": f'"{sha256(content)}"'})


def complete(answer: "Answer", oid: str) -> None:
    """POST that joins the parts: lfs.py, _upload_multi_part."""
    asked = _json(answer, {"oid", "parts"})
    parts = [answer.hub.parts.pop((oid, one["partNumber"])) for one in asked["parts"]]
    etags = [f'"{sha256(content)}"' for content in parts]
    _require(answer, [one["etag"] for one in asked["parts"]] == etags, "other parts than it has")
    _keep(answer, oid, b"".join(parts))
    answer.send_json(200, {})


def verify(answer: "Answer") -> None:
    """POST /lfs/verify, as `batch` names it: lfs.py, lfs_upload."""
    asked = _json(answer, {"oid", "size"})
    _account(answer)
    found = answer.hub.large.get(asked["oid"])
    if found is None or len(found) != asked["size"]:
        raise Refused(404, "EntryNotFound", "no such object")
    answer.send_json(200, {})


def commit(answer: "Answer", name: str, revision: str) -> None:
    """POST /api/models/ID/commit/REVISION: _commit_api.py, _send_commit."""
    repository, files = answer.hub.models.get(name), dict(_writable(answer, name, revision))
    assert repository is not None
    kind = answer.headers["Content-Type"]
    _require(answer, kind == "application/x-ndjson", f"Content-Type {kind}")
    head, *changes = [json.loads(line) for line in answer.body().splitlines()]
    _require(answer, head["key"] == "header", "no header first")
    known = {"summary", "description", "parentCommit"}
    _require(answer, set(head["value"]) <= known, f"a header with {sorted(head['value'])}")
    if answer.hub.overtaken:
        answer.hub.overtaken = False
        repository.commit({**files, "notes.md": b"somebody else's\n"})
    parent = head["value"].get("parentCommit")
    if parent is not None and parent != repository.revisions["main"]:
        raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
    for change in changes:
        _change(answer, files, change["key"], change["value"])
    for damaged in answer.hub.damages & files.keys():
        files[damaged] = bytes([files[damaged][0] ^ 1]) + files[damaged][1:]
    oid = repository.commit(files)
    repository.messages.append(head["value"]["summary"])
    url = f"{answer.hub.url}/{name}/commit/{oid}"
    answer.send_json(200, {"success": True, "commitOid": oid, "commitUrl": url})


def _change(answer: "Answer", files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
    if key == "file":
        _require(answer, set(value) == {"content", "path", "encoding"}, f"{key} {sorted(value)}")
        content = base64.b64decode(value["content"], validate=True)
        _require(answer, not is_large(value["path"], len(content)), f"{value['path']} not as lfs")
        files[value["path"]] = content
    elif key == "lfsFile":
        _require(answer, set(value) == {"path", "algo", "oid", "size"}, f"{key} {sorted(value)}")
        if value["oid"] not in answer.hub.large:
            raise Refused(422, "", f"LFS pointer pointed to a file that does not exist: {value}")
        files[value["path"]] = answer.hub.large[value["oid"]]
    elif key == "deletedFile":
        if value["path"] not in files:
            raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
        del files[value["path"]]
    else:
        _require(answer, False, f"a change of kind {key}")


def paths_info(answer: "Answer", name: str, revision: str) -> None:
    """POST /api/models/ID/paths-info/REVISION: hf_api.py, HfApi.get_paths_info."""
    asked = parse_qs(answer.body().decode(), strict_parsing=True, keep_blank_values=True)
    _require(answer, set(asked) <= {"paths", "expand"}, f"form with {sorted(asked)}")
    _, files = answer.commit_of("models", name, revision)
    found = [entry(path, files[path]) for path in asked.get("paths", []) if path in files]
    answer.send_json(200, found)


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as paths-info and tree tell of it (hf_api.py, RepoFile)."""
    told = {"type": "file", "path": path, "size": len(content), "oid": git_blob(content)}
    if not is_large(path, len(content)):
        return told
    held = pointer(content)
    lfs = {"oid": sha256(content), "size": len(content), "pointerSize": len(held)}
    return told | {"oid": git_blob(held), "lfs": lfs}


# --- what all of them need ------------------------------------------------------------------


def _json(answer: "Answer", keys: set[str], more: Set[str] = frozenset()) -> dict[str, Any]:
    try:
        asked = json.loads(answer.body())
    except ValueError:
        asked = None
    known = isinstance(asked, dict) and keys <= set(asked) <= keys | more
    _require(answer, known, f"expected {sorted(keys)}, got {asked!r:.200}")
    return asked


def _require(answer: "Answer", holds: bool, what: str) -> None:
    if not holds:
        answer.hub.odd.append(f"{answer.command} {answer.path}: {what}")
        raise Refused(400, "", what)


def _account(answer: "Answer") -> dict[str, Any]:
    account = answer.hub.accounts.get(answer.token)
    if account is None:
        raise Refused(401, "", "Invalid username or password.")
    return account


def _may_make(account: dict[str, Any], owner: str) -> bool:
    if account["auth"]["accessToken"]["role"] == "read":
        return False
    roles = {org["name"]: org["roleInOrg"] for org in account["orgs"]}
    return owner == account["name"] or roles.get(owner) in MAY_WRITE


def _writable(answer: "Answer", name: str, revision: str) -> dict[str, bytes]:
    """The newest files of a repository that the token may write to."""
    _account(answer)
    _require(answer, revision == "main", f"revision {revision}")
    if answer.token not in answer.repository("models", name).written_by:
        raise Refused(403, "", "You have no write access to this repo")
    return answer.commit_of("models", name, revision)[1]


def _to_storage(answer: "Answer") -> bytes:
    _require(answer, answer.token == "", "a token where files lie")
    return answer.body()


def _keep(answer: "Answer", oid: str, content: bytes) -> None:
    """Storage takes only what has the hash it was announced with."""
    try:
        binascii.unhexlify(oid)
    except ValueError:
        _require(answer, False, f"oid {oid}")
    if sha256(content) != oid:
        raise Refused(400, "", "the content has another SHA-256")
    answer.hub.large[oid] = content


_ID = r"(?P<name>[\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", r"/api/repos/create", create),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("POST", rf"/api/models/{_ID}/preupload/(?P<revision>[^/]+)", preupload),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/storage/upload/(?P<oid>\w+)", upload),
    ("PUT", r"/storage/part/(?P<oid>\w+)/(?P<number>\d+)", part),
    ("POST", r"/storage/complete/(?P<oid>\w+)", complete),
    ("POST", r"/lfs/verify", verify),
    ("POST", rf"/api/models/{_ID}/commit/(?P<revision>[^/]+)", commit),
    ("POST", rf"/api/models/{_ID}/paths-info/(?P<revision>[^/]+)", paths_info),
)
