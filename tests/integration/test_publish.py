"""A real run to a Hub on loopback, through the real client; and what comes back from there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from jobs import layout
from launcher import __version__
from tests.integration.command import ROOT
from tests.servers import hub
from tests.servers.hub_repositories import git_blob, sha256

WRITER, READER, OTHER = "hf_writer", "hf_reader", "hf_other"
# A few steps of the sample job, with few answers or none; the gate is any run's, or none's.
SHORT = ("--set", "train.epochs=0.2", "--set", "eval.limit=4", "--set", "eval.compare_base=false")
SILENT = (*SHORT, "--set", "eval.generate=false")
PASSES = ("--set", "gates=[{metric: loss, max: 100}]")
FAILS = ("--set", "gates=[{metric: loss, max: 0.001}]", "--no-escalate")


def account(name: str, role: str) -> dict[str, object]:
    token = {"displayName": "t", "role": role}
    auth = {"type": "access_token", "accessToken": token}
    return {"name": name, "type": "user", "orgs": [], "auth": auth}


@dataclass
class Launcher:
    """`launch` in an environment with the Hub's client."""

    python: str
    folder: Path
    server: hub.Hub
    token: str = WRITER
    said: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": self.server.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(self.folder / "hf"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "HF_TOKEN": self.token,
        }

    def __call__(self, *arguments: str, code: int = 0, token: str | None = None) -> str:
        """What it says on stdout, or where it fails on stderr."""
        done = subprocess.run(
            [self.python, "-m", "launcher", *arguments],
            cwd=self.folder,
            env=self.environment | ({} if token is None else {"HF_TOKEN": token}),
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stderr
        self.said.append(done.stdout + done.stderr)
        return done.stderr if code else done.stdout

    def publish(self, run: str, to: str, *arguments: str) -> dict:
        return json.loads(self("publish", run, "--hub", to, *arguments, "--json"))


@pytest.fixture(scope="module")
def server() -> Iterator[hub.Hub]:
    with hub.running() as running:
        running.accounts = {
            WRITER: account("me", "write"),
            READER: account("me", "read"),
            OTHER: account("somebody", "write"),
        }
        yield running
        assert running.odd == []


@pytest.fixture(scope="module")
def launch(
    server: hub.Hub, hub_python: str, train_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Launcher:
    """With one run at home, `good`, published by the command that trained it."""
    launcher = Launcher(hub_python, tmp_path_factory.mktemp("publish"), server)
    server.part_bytes = 2 << 20  # the base has 7 MB
    launcher("--run-id", "good", *SHORT, *PASSES, "--hub", "me/first", "--json")
    server.part_bytes = None
    return launcher


@pytest.fixture
def home(launch: Launcher) -> Path:
    return launch.folder / "runs" / "good"


def test_launch_publishes_what_passed_its_gates(launch: Launcher, home: Path) -> None:
    told = launch.said[0]
    published = json.loads(told[: told.index("\n")])["published"]
    repository = launch.server.models["me/first"]
    assert published["commit"] == repository.revisions["main"]
    assert (published["private"], published["committed"]) == (True, True)
    assert repository.private_to == WRITER
    assert repository.messages == ["Loralift run good"]
    there = repository.files
    weights = (home / layout.ADAPTER / "adapter_model.safetensors").read_bytes()
    assert there["adapter_model.safetensors"] == weights
    base = (home / layout.BASE / "model.safetensors").read_bytes()
    assert there["base/model.safetensors"] == base
    parts = [path for _, path in launch.server.requests if f"/part/{sha256(base)}/" in path]
    assert len(parts) == 4
    listed = dict(reversed(line.split("  ")) for line in there["SHA256SUMS"].decode().splitlines())
    assert listed == {n: sha256(c) for n, c in there.items() if n in listed}
    assert set(there) == {*listed, "SHA256SUMS", ".gitattributes"}


def test_its_card_is_what_the_hub_and_people_read(launch: Launcher, home: Path) -> None:
    there = launch.server.models["me/first"].files
    card = there["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "peft"
    assert front["tags"] == ["peft", "trl", "qlora", "loralift"]
    assert "license" not in front
    metrics = front["model-index"][0]["results"][0]["metrics"]
    measured = json.loads((home / layout.RESULT).read_text())["metrics"]["tuned"]
    assert {m["type"]: m["value"] for m in metrics} == measured
    lineage = json.loads((home / layout.LINEAGE).read_text())
    assert lineage["base"]["tokenizer_sha256"] in card
    assert lineage["data_sha256"]["train"] in card
    assert "- pass: loss" in card
    assert "cost: $0.00" in card


def test_nothing_tells_of_this_machine(launch: Launcher) -> None:
    for name, content in launch.server.models["me/first"].files.items():
        for place in (str(launch.folder), str(ROOT), str(Path.home()) + "/"):
            assert place.encode() not in content, name
    config = json.loads(launch.server.models["me/first"].files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "base"


def test_the_adapter_loads_from_there_as_its_card_says(
    launch: Launcher, train_python: str, home: Path, tmp_path: Path
) -> None:
    card = launch.server.models["me/first"].files["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    sample = json.loads((home / layout.SAMPLES).read_text().splitlines()[0])
    ask = """
import sys
chat = [{"role": "user", "content": sys.argv[1]}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt",
                                    return_dict=True)
out = model.generate(**ids, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
"""
    done = subprocess.run(
        [train_python, "-c", code + ask, sample["question"]],
        env=launch.environment | {"HF_HOME": str(tmp_path)},
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == sample["tuned"].strip()


def test_published_again_it_makes_no_commit(launch: Launcher) -> None:
    commits = dict(launch.server.models["me/first"].commits)
    del launch.server.requests[:]
    again = launch.publish("good", "me/first")
    assert again["committed"] is False
    assert launch.server.models["me/first"].commits == commits
    assert again["commit"] == launch.server.models["me/first"].revisions["main"]
    assert {method for method, _ in launch.server.requests} == {"GET", "HEAD", "POST"}
    assert not [p for _, p in launch.server.requests if "/commit/" in p or "/storage/upload" in p]


def test_what_an_earlier_publication_had_goes_and_the_rest_stays(launch: Launcher) -> None:
    repository = launch.server.models["me/first"]
    old = b"an older run's\n"
    sums = repository.files["SHA256SUMS"] + f"{sha256(old)}  old.json\n".encode()
    mine = {"old.json": old, "notes.md": b"mine\n", "SHA256SUMS": sums}
    repository.commit({**repository.files, **mine})
    assert launch.publish("good", "me/first")["committed"] is True
    assert "old.json" not in repository.files
    assert repository.files["notes.md"] == b"mine\n"


def test_public_only_where_it_is_said(launch: Launcher) -> None:
    said = launch.publish("good", "me/open", "--public", "--license", "apache-2.0")
    assert said["private"] is False
    assert launch.server.models["me/open"].private_to is None
    card = launch.server.models["me/open"].files["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"
    refused = launch("publish", "good", "--hub", "me/open", code=2)
    assert "me/open is public, and nothing is published openly unasked" in refused


def test_a_licence_that_the_hub_does_not_know_is_bad_input(launch: Launcher) -> None:
    said = launch("publish", "good", "--hub", "me/free", "--license", "freee", code=2)
    assert 'Invalid metadata in README.md. - "license" must be one of' in said
    assert set(launch.server.models["me/free"].files) == {".gitattributes"}


def test_its_recipe_is_one_that_the_launcher_takes(launch: Launcher, home: Path, tmp_path) -> None:
    card = launch.server.models["me/first"].files["README.md"].decode()
    (text,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    sample = ROOT / "jobs" / "sample"
    shutil.copytree(sample / "model", tmp_path / "model")
    for name in ("train.jsonl", "validation.jsonl"):
        shutil.copy(sample / name, tmp_path)
    (tmp_path / "recipe.yaml").write_text(text)
    plan = json.loads(launch(str(tmp_path / "recipe.yaml"), "--dry-run", "--json"))
    spec = json.loads((home / layout.SPEC).read_text())
    for key in ("task", "strategy", "lora", "train", "eval", "gates", "seed"):
        assert plan["job"][key] == spec[key]
    chosen = plan["candidates"][0]["spec"]
    assert chosen["train_sha256"] == spec["train_sha256"]


@pytest.mark.parametrize(
    ("token", "to", "said"),
    [
        ("", "me/new", "needs HF_TOKEN, which is not set"),
        ("hf_forged", "me/new", "the Hub does not know HF_TOKEN"),
        (READER, "me/new", "HF_TOKEN may only read"),
        (OTHER, "me/new", "somebody, whose HF_TOKEN it is, is not in me"),
        (OTHER, "me/first", "somebody, whose HF_TOKEN it is, is not in me"),
    ],
)
def test_a_token_without_the_right_is_refused(launch, token: str, to: str, said: str) -> None:
    before = {n: dict(r.commits) for n, r in launch.server.models.items()}
    assert said in launch("publish", "good", "--hub", to, code=2, token=token)
    assert {n: dict(r.commits) for n, r in launch.server.models.items()} == before


def test_that_is_found_before_anything_is_trained(launch: Launcher) -> None:
    arguments = ("--run-id", "never", *SHORT, *PASSES, "--hub", "me/never")
    assert "HF_TOKEN may only read" in launch(*arguments, code=2, token=READER)
    said = launch(*arguments, "--license", "freee", code=2)
    assert "licence: --license freee: the Hub knows no such licence" in said
    assert not (launch.folder / "runs" / "never").exists()
    assert "no run never" in launch("status", "never", code=2)


def test_a_right_taken_away_meanwhile_is_said(launch: Launcher, hub_python: str) -> None:
    """The client's own refusal, where the check before it saw none."""
    code = (
        "from results import hub\n"
        "try:\n"
        "    hub.publish('me/first', {'a.txt': b'a'}, public=True, message='m',\n"
        f"                token='{OTHER}')\n"
        "except hub.HubRefused as refused:\n"
        "    print(refused)\n"
    )
    launch.server.models["me/first"].private_to = None
    try:
        done = subprocess.run(
            [hub_python, "-c", code],
            env=launch.environment, cwd=launch.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    finally:
        launch.server.models["me/first"].private_to = WRITER
    assert "HF_TOKEN may not write to me/first (403)" in done.stdout


def test_somebody_elses_commit_is_not_overwritten(launch: Launcher) -> None:
    launch.publish("good", "me/stale")
    repository = launch.server.models["me/stale"]
    repository.commit({"README.md": b"rewritten\n"})
    launch.server.overtaken = True
    said = launch("publish", "good", "--hub", "me/stale", code=4)
    assert "me/stale was changed meanwhile, and nothing was committed to it" in said
    assert set(repository.files) == {"README.md", "notes.md"}
    assert launch.publish("good", "me/stale")["committed"] is True
    assert repository.files["notes.md"] == b"somebody else's\n"


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_what_arrives_damaged_is_not_called_published(launch: Launcher, name: str) -> None:
    to = f"me/damaged-{len(name)}"
    launch.server.damages = {name}
    said = launch("publish", "good", "--hub", to, code=4)
    assert f"{name} did not arrive whole" in said
    launch.server.damages = set()
    assert launch.publish("good", to)["committed"] is True
    good = launch.server.models["me/first"].files[name]
    assert git_blob(launch.server.models[to].files[name]) == git_blob(good)


def test_a_hub_that_goes_away_leaves_everything_here(launch: Launcher, home: Path) -> None:
    before = sorted(p.name for p in home.iterdir())
    launch.server.breaks_off = "/commit/"
    said = launch("publish", "good", "--hub", "me/later", code=4)
    assert f"everything is still in {home}: publish it again later" in said
    launch.server.breaks_off = None
    assert sorted(p.name for p in home.iterdir()) == before
    assert launch.publish("good", "me/later")["committed"] is True


def test_an_upload_cut_off_in_its_middle_is_repeated_or_said(launch: Launcher, home: Path) -> None:
    weights = sha256((home / layout.ADAPTER / "adapter_model.safetensors").read_bytes())
    launch.server.large.clear()
    launch.server.cuts = 1000
    said = launch("publish", "good", "--hub", "me/cut", code=4)
    why, last = said.rstrip().splitlines()[-2:]  # after what the client says of each time it tried
    assert "error: publishing to me/cut failed" in why
    assert last == f"everything is still in {home}: publish it again later"
    repository = launch.server.models["me/cut"]
    assert (set(repository.files), repository.messages) == ({".gitattributes"}, [])
    launch.server.cuts = 2
    del launch.server.requests[:]
    assert launch.publish("good", "me/cut")["committed"] is True
    puts = [path for method, path in launch.server.requests if method == "PUT"]
    assert len(puts) == len(set(puts)) + 2
    assert any(weights in path for path in puts)
    assert repository.messages == ["Loralift run good"]


@pytest.fixture(scope="module")
def failed(launch: Launcher) -> Path:
    """A run that fails its gate: trained, home, and not published though that was asked."""
    said = launch("--run-id", "failed", *SILENT, *FAILS, "--hub", "me/failed", code=5)
    assert said.rstrip().splitlines()[-1] == (
        "not published; launch publish failed --hub me/failed --force would, and say so"
    )
    assert "me/failed" not in launch.server.models
    return launch.folder / "runs" / "failed"


def test_failed_gates_are_refused_unless_forced(launch: Launcher, failed: Path) -> None:
    refused = launch("publish", "failed", "--hub", "me/failed", code=5)
    assert "run failed is not published: FAIL: loss" in refused
    assert "me/failed" not in launch.server.models
    assert launch.publish("failed", "me/failed", "--force")["committed"] is True
    card = launch.server.models["me/failed"].files["README.md"].decode()
    first = card.split("---\n")[2].strip().splitlines()
    assert first[0] == "> **Not good by its own gates; published nevertheless.**"
    assert "FAIL: loss" in first[2]


def test_a_hub_down_after_the_run_names_what_finishes_it(launch: Launcher) -> None:
    launch.server.breaks_off = "/commit/"
    openly = ("--hub", "me/after", "--public", "--license", "mit")
    said = launch("--run-id", "later", *SILENT, *PASSES, *openly, code=4)
    launch.server.breaks_off = None
    last = said.rstrip().splitlines()[-1]
    assert last == f"trained, but not published: launch publish later {' '.join(openly)}"
    assert launch(*last.split(": launch ")[1].split()).startswith("published: ")
    repository = launch.server.models["me/after"]
    assert repository.private_to is None
    assert "\nlicense: mit\n" in repository.files["README.md"].decode()


def test_detached_it_names_what_publishes_it(launch: Launcher) -> None:
    long = ("--set", "train.epochs=500")
    launch("--run-id", "away", *SHORT, *long, *PASSES, "--hub", "me/away", "--detach")
    last = launch.said[-1].rstrip().splitlines()[-1]
    assert last == "to publish it then: launch publish away --hub me/away"
    assert "collect it when it has ended" in launch(*last.split()[5:], code=2)
    launch("cancel", "away")
    assert "run away is not published: CANCELLED" in launch(*last.split()[5:], code=5)


def test_what_an_export_let_pass_is_published_with_its_table(launch: Launcher, home: Path) -> None:
    refused = launch("publish", "good", "--hub", "me/all", "--with-export", code=2)
    assert "`launch export good --to …` makes it" in refused
    launch("export", "good", "--to", "merged", "--to", "gguf:q8_0", "--limit", "2")
    launch.publish("good", "me/all", "--with-export")
    there, made = launch.server.models["me/all"].files, home.with_name("good.export")
    weights = (made / "merged" / "model.safetensors").read_bytes()
    assert there["merged/model.safetensors"] == weights
    assert there["good-q8_0.gguf"] == (made / "good-q8_0.gguf").read_bytes()
    assert not [name for name in there if "f16" in name]  # on the way only, not asked for
    (told,) = json.loads(there[layout.QUANTISATION])["files"]
    card = there["README.md"].decode()
    assert f"| good-q8_0.gguf | {told['size_bytes'] / 1e6:.2f} MB |" in card
    assert "`merged/` is the whole tuned model" in card


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Path:
    return shutil.copytree(home, tmp_path / "good")


def resealed(folder: Path) -> None:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{sha256((folder / n).read_bytes())}  {n}\n" for n in names if n != layout.SUMS]
    (folder / layout.SUMS).write_text("".join(lines))


def test_a_changed_run_or_another_runs_adapter_is_not_published(launch, copied: Path) -> None:
    config = copied / layout.ADAPTER / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 16', '"r": 8'))
    changed = launch("publish", str(copied), "--hub", "me/copy", code=4)
    assert "adapter/adapter_config.json has changed" in changed
    resealed(copied)
    said = launch("publish", str(copied), "--hub", "me/copy", code=2)
    assert "adapter_config.json has another rank, alpha or targets" in said
    assert "me/copy" not in launch.server.models


def flipped(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def of_another_run(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"good"', b'"evil"'))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adapter/adapter_model.safetensors", flipped, "adapter_model.safetensors has changed"),
        ("adapter/chat_template.jinja", flipped, "chat_template.jinja has changed"),
        ("base/model.safetensors", flipped, "base/ is another base"),
        ("plan.json", of_another_run, "plan.json is another"),
        ("receipt.json", of_another_run, "receipt.json is another run's"),
    ],
)
def test_what_its_lineage_does_not_bind_goes_nowhere(
    launch: Launcher, copied: Path, name: str, change: Callable[[Path], None], said: str
) -> None:
    """Swapped and sealed anew: not published, not exported, not gone on with."""
    change(copied / name)
    resealed(copied)
    for arguments in (
        ("publish", str(copied), "--hub", "me/copy"),
        ("export", str(copied), "--to", "merged"),
        ("--resume-from", str(copied), "--dry-run"),
    ):
        assert said in launch(*arguments, code=2), arguments
    assert "me/copy" not in launch.server.models


def test_from_an_adapter_one_finds_its_plan_and_receipt(home: Path) -> None:
    lineage = json.loads((home / layout.ADAPTER / layout.LINEAGE).read_text())
    receipt = json.loads((home / layout.RECEIPT).read_text())
    plan = sha256((home / layout.PLAN).read_bytes())
    assert lineage["provenance"]["plan_sha256"] == receipt["plan_sha256"] == plan
    assert receipt["lineage_sha256"] == sha256((home / layout.LINEAGE).read_bytes())
    assert lineage["provenance"]["version"] == __version__
    assert lineage["run_id"] == receipt["run_id"] == "good"


def test_a_pickle_is_not_published(launch: Launcher, copied: Path) -> None:
    (copied / layout.ADAPTER / "training_args.bin").write_bytes(b"\x80\x04K\x01.")
    resealed(copied)
    said = launch("publish", str(copied), "--hub", "me/copy", code=2)
    assert "training_args.bin is neither safetensors nor text" in said
    assert "me/copy" not in launch.server.models


def test_without_the_client_it_says_how_to_get_it(launch: Launcher) -> None:
    other = Launcher(sys.executable, launch.folder, launch.server)
    assert "pip install 'loralift[hub]'" in other("publish", "good", "--hub", "me/x", code=2)
