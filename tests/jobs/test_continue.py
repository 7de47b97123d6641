"""Going on from an earlier adapter: with its weights, on other rows, and never from nothing."""

import json
import shutil

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import adapters, layout
from jobs.checkpoint import last_complete
from jobs.fingerprint import code_sha256, file_sha256
from jobs.spec import Lineage
from tests.jobs.hub_server import Hub
from tests.jobs.short_job import (
    SAMPLE,
    Forked,
    curve,
    finish,
    holding,
    start,
    wait_for_step,
    write_job,
)

pytestmark = pytest.mark.filterwarnings("default")

QUICK = {"compare_base": False, "generate": False}
TRAIN = {"epochs": 6, "learning_rate": 4e-3, "seq_len": 128, "effective_batch": 4,
         "micro_batch": 2, "schedule": "constant", "warmup_share": 0.0,
         "checkpoint_every_steps": 4}  # fmt: skip


def write(folder, rows=slice(0, 24), **changes):
    """A short job on some of the sample's rows."""
    changes = {"eval": QUICK, "gates": [], "train": TRAIN, "run_id": folder.name} | changes
    write_job(folder, **changes)
    lines = (SAMPLE / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[rows]))
    return folder


def log(folder):
    return (folder / layout.LOG).read_text()


def losses(folder):
    return [row[1] for row in curve(folder)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(runs):
    folder = write(runs / "first")
    assert finish(folder)[0] == 0, log(folder)
    return folder


@pytest.fixture(scope="module")
def second(runs, first):
    """Goes on on other rows, a third of the mix being old ones."""
    old = first / "train.jsonl"
    folder = write(
        runs / "second",
        rows=slice(24, 40),
        resume_from=str(first),
        data={"train": "train.jsonl", "validation": "validation.jsonl",
              "replay": str(old), "replay_share": 1 / 3},
    )  # fmt: skip
    assert finish(folder)[0] == 0, log(folder)
    return folder


def lineage(folder):
    return msgspec.json.decode((folder / layout.LINEAGE).read_bytes(), type=Lineage)


def test_it_begins_where_the_first_run_ended(runs, first):
    """On the first run's own rows, whose fresh start is the first run's own first step."""
    folder = write(runs / "again", resume_from=str(first), train=TRAIN | {"epochs": 1})
    assert finish(folder)[0] == 0, log(folder)
    fresh, ended, went_on = losses(first)[0], losses(first)[-1], losses(folder)[0]
    assert ended < fresh / 4
    assert abs(went_on - ended) < (fresh - ended) / 10


def test_old_rows_are_part_of_the_mix(second):
    assert "replay: 8 of 24 old rows beside 16 new ones, 33.3% of the mix" in log(second)
    assert len(curve(second)) > 0


def test_the_lineage_names_the_parent_and_travels(first, second):
    found = lineage(second)
    assert found.parent.run_id == "first"
    weights = first / layout.ADAPTER / adapters.WEIGHTS
    assert found.parent.adapter_sha256 == file_sha256(weights)
    assert found.base == lineage(first).base
    assert set(found.data_sha256) == {"train", "validation", "replay"}
    assert lineage(second / layout.ADAPTER) == found
    assert lineage(first).parent is None


def test_the_lineage_binds_what_was_saved_and_what_ran(first):
    found = lineage(first)
    saved = {path.name for path in (first / layout.ADAPTER).iterdir()}
    assert set(found.files) == saved - {layout.LINEAGE, adapters.CONFIG, "README.md"}
    for name, digest in found.files.items():
        assert file_sha256(first / layout.ADAPTER / name) == digest
    assert found.code_sha256 == code_sha256()
    assert (first / layout.ADAPTER / layout.LINEAGE).read_bytes() == (
        first / layout.LINEAGE
    ).read_bytes()


def test_it_goes_on_from_an_adapter_on_the_hub(runs, first):
    """As from the folder that was uploaded, with the repository's name in its lineage."""
    one = {"train": TRAIN | {"epochs": 1}}
    here = write(runs / "from_here", resume_from=str(first / layout.ADAPTER), **one)
    there = write(runs / "from_hub", resume_from="hub:me/model", **one)
    assert finish(here)[0] == 0, log(here)
    hub = Hub(first / layout.ADAPTER)
    try:
        process = start(there, HF_ENDPOINT=hub.url, HF_HOME=str(runs / "hf"))
        assert process.wait(timeout=600) == 0, log(there)
    finally:
        hub.end()
    assert curve(there) == curve(here)
    assert lineage(there).parent == msgspec.structs.replace(
        lineage(here).parent, source="hub:me/model"
    )


def test_killed_it_goes_on_from_its_own_checkpoint(runs, first, second):
    folder = runs / "killed"
    shutil.copytree(second, folder, ignore=lambda *_: [layout.RESULT, layout.METRICS,
                    layout.CHECKPOINTS, layout.ADAPTER, layout.LINEAGE, layout.LOG])  # fmt: skip
    process = Forked(folder, holding(6))
    wait_for_step(folder, 6, process)
    process.kill()
    process.wait()
    assert last_complete(folder / layout.CHECKPOINTS) is not None
    code, found = finish(folder)
    assert code == 0, log(folder)
    assert found.resumed_from_step >= 4
    assert curve(folder) == curve(second)
    assert lineage(folder).parent == lineage(second).parent


def _corrupt(parent):
    weights = parent / layout.ADAPTER / adapters.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def _empty(parent):
    shutil.rmtree(parent / layout.ADAPTER)


def _untrained(parent):
    weights = parent / layout.ADAPTER / adapters.WEIGHTS
    tensors = load_file(weights)
    save_file({k: torch.zeros_like(t) if "lora_B" in k else t for k, t in tensors.items()}, weights)


def _by(change):
    """Of an adapter that nothing binds: as one from before lineages did, or from elsewhere."""

    def spoil(parent):
        change(parent)
        (parent / layout.LINEAGE).unlink()
        (parent / layout.ADAPTER / layout.LINEAGE).unlink()

    return spoil


def _with_another_template(parent):
    (parent / layout.ADAPTER / "chat_template.jinja").write_text("{{ messages }}")


def _with_rslora(parent):
    file = parent / layout.ADAPTER / adapters.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_rslora": True}))


@pytest.mark.parametrize(
    ("spoil", "changes", "said"),
    [
        (_corrupt, {}, "adapter_model.safetensors has changed"),
        (_with_another_template, {}, "chat_template.jinja has changed"),
        (_by(_corrupt), {}, "the adapter cannot be read"),
        (_empty, {}, "is no adapter"),
        (_by(_untrained), {}, "zero, as if never trained"),
        (_with_rslora, {}, "use_rslora: the parent has True, this run False"),
        (None, {"lora": {"r": 8}}, "lora.r: the parent has 16, this run 8"),
        (None, {"seed": 18}, "base weights: the parent has "),
        (None, {"strategy": "lora", "quantization": None},
         "quantisation: the parent has nf4, double quantisation, this run not quantised"),
        (None, {"resume_from": "no/where"}, "resume_from: no/where: no folder"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_refused_and_nothing_is_trained(
    first, tmp_path, spoil, changes, said
):
    parent = shutil.copytree(first, tmp_path / "parent")
    if spoil is not None:
        spoil(parent)
    folder = write(tmp_path / "child", **({"resume_from": str(parent)} | changes))
    code, found = finish(folder)
    assert (code, found.failure.reason) == (2, "BAD_INPUT"), log(folder)
    assert said in found.failure.message
    assert curve(folder) == []
    assert not (folder / layout.ADAPTER).exists()


def test_an_adapter_without_lineage_is_held_to_its_settings(first, tmp_path):
    """As from elsewhere: its rank is known by its own file, its base is not."""
    bare = shutil.copytree(first / layout.ADAPTER, tmp_path / "bare")
    (bare / layout.LINEAGE).unlink()
    folder = write(tmp_path / "child", resume_from=str(bare), lora={"r": 8})
    code, found = finish(folder)
    assert (code, found.failure.reason) == (2, "BAD_INPUT")
    assert "r: the parent has 16, this run 8" in found.failure.message
    assert any("has no lineage.json" in warning for warning in found.warnings)
