"""Adapters of real short jobs, and what can go wrong with them on the way to another machine."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import adapters, layout
from jobs.load_check import base_of, load_base, main
from jobs.outcome import BadInput
from tests.jobs.short_job import ROOT, SAMPLE, finish, write_job

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def answering(runs):
    """A language model's adapter, of a quantised base."""
    folder = write_job(runs / "answering", train_rows=16, eval={"generate": False})
    assert finish(folder)[0] == 0, (folder / layout.LOG).read_text()
    return folder


@pytest.fixture(scope="module")
def scoring(runs):
    """A regression student's: its head was trained whole."""
    folder = write_job(
        runs / "scoring",
        task="regression",
        regression={"dimensions": ["length", "vowels"]},
        data={"train": "texts.jsonl"},
        strategy="lora",
        quantization=None,
        gates=[],
        train={"effective_batch": 4, "micro_batch": 4, "seq_len": 32, "epochs": 2,
               "learning_rate": 4e-3, "optimizer": "adamw_torch"},
    )  # fmt: skip
    words = ["a", "bee", "sea urchin", "ooze", "strengths"]
    texts = [words[i % 5] * (1 + i // 5) for i in range(40)]
    rows = [
        {"text": t, "scores": {"length": len(t) / 8, "vowels": sum(c in "aeiou" for c in t) / 8}}
        for t in texts
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert finish(folder)[0] == 0, (folder / layout.LOG).read_text()
    return folder


@pytest.fixture
def copy(answering, tmp_path):
    """The adapter in another folder, to be spoilt."""
    return shutil.copytree(answering / layout.ADAPTER, tmp_path / "copy")


@pytest.fixture
def load_check(capsys, monkeypatch):
    def run(*arguments, cwd=None):
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capsys.readouterr()
        code = main([str(word) for word in arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def rewrite(folder, change):
    """The adapter's tensors as `change` makes them of the old ones."""
    tensors = change(load_file(folder / adapters.WEIGHTS))
    save_file({key: t.contiguous() for key, t in tensors.items()}, folder / adapters.WEIGHTS)


def failed(said):
    return [line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith("FAIL")]


def test_a_fresh_adapter_of_each_task_holds_every_check(load_check, answering, scoring):
    for folder, tensors in ((answering, 42), (scoring, 43)):
        code, said = load_check(folder)  # the run's folder will do
        assert (code, failed(said)) == (0, []), said
        assert f"keys: {tensors} tensors have a place" in said
        assert said.splitlines()[-1].startswith("ok   output: ")


def _named(tensors):
    return {k.replace(".weight", ".default.weight"): t for k, t in tensors.items()}


def _bare(tensors):
    return {k.removeprefix(adapters.PREFIX): t for k, t in tensors.items()}


@pytest.mark.parametrize("change", [_named, _bare, lambda t: _bare(_named(t))])
def test_every_form_of_keys_gives_the_same_model(answering, copy, change):
    rewrite(copy, change)
    as_it_was, renamed = (loaded(folder) for folder in (answering / layout.ADAPTER, copy))
    for name, parameter in adapters.adapter_parameters(as_it_was).items():
        assert torch.equal(parameter, adapters.adapter_parameters(renamed)[name])


def loaded(folder):
    adapter = adapters.open_adapter(adapters.adapter_folder(folder))
    return adapters.load(load_base(adapter, base_of(adapter, None), None), adapter)


def test_a_head_saved_under_its_wrapper_s_name_arrives(scoring, tmp_path):
    folder = shutil.copytree(scoring / layout.ADAPTER, tmp_path / "old")
    head = "base_model.model.score.weight"
    wrapped = "base_model.model.score.modules_to_save.default.weight"
    rewrite(folder, lambda t: {wrapped if k == head else k: v for k, v in t.items()})
    wanted = load_file(scoring / layout.ADAPTER / adapters.WEIGHTS)[head]
    assert torch.equal(adapters.adapter_parameters(loaded(folder))["score.weight"], wanted)


def _without_one(tensors):
    gone = next(key for key in tensors if "lora_A" in key)
    return {key: t for key, t in tensors.items() if key != gone}


def _zeroed(tensors):
    one = next(key for key in tensors if "lora_B" in key)
    return tensors | {one: torch.zeros_like(tensors[one])}


def _misnamed(tensors):
    return {key.replace("layers.0.", "blocks.0."): t for key, t in tensors.items()}


def _not_a_number(tensors):
    one = next(iter(tensors))
    return tensors | {one: tensors[one] / 0}


def _twice(tensors):
    one = next(iter(tensors))
    return tensors | {one.removeprefix(adapters.PREFIX): tensors[one].clone()}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (_without_one, ["given"]),
        (_zeroed, ["trained"]),
        (_misnamed, ["keys", "given"]),
        (_not_a_number, ["finite", "output"]),
        (_twice, ["once"]),
    ],
)
def test_a_spoilt_adapter_is_found_out(load_check, copy, change, check):
    rewrite(copy, change)
    code, said = load_check(copy)
    assert code == 1, said
    assert failed(said) == check, said


def test_a_wrong_rank_names_both_shapes(load_check, copy):
    settings(copy, r=8)
    code, said = load_check(copy)
    assert (code, failed(said)) == (1, ["shapes"]), said
    assert "is 16x256, the model has 8x256" in said


def settings(folder, drop=(), **changes):
    file = folder / adapters.CONFIG
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in found.items() if k not in drop}))


def test_settings_of_another_version_are_dropped_and_named(load_check, copy):
    settings(copy, drop=["use_rslora", "bias", "peft_version"], use_novelty={"depth": 3})
    code, said = load_check(copy)
    assert code == 0, said
    assert 'drops: use_novelty: {"depth": 3}' in said


def test_a_pickle_is_refused_with_a_way_out_that_works(load_check, answering, copy):
    tensors = load_file(copy / adapters.WEIGHTS)
    torch.save(tensors, copy / adapters.PICKLED)
    (copy / adapters.WEIGHTS).unlink()
    code, said = load_check(copy)
    assert code == 2
    command = said[said.index("python -c") :].strip()
    with_ours = command.replace("python", sys.executable, 1)
    subprocess.run(with_ours, shell=True, check=True, timeout=600)
    found = load_file(copy / adapters.WEIGHTS)
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_relative_paths_are_only_looked_for_on_disk(load_check, answering, runs):
    code, said = load_check(f"{answering.name}/{layout.ADAPTER}", cwd=runs)
    assert code == 0, said
    code, said = load_check("some/adapter", cwd=runs)
    assert code == 2
    assert f"no folder {runs}/some/adapter" in said


def test_the_base_may_lie_elsewhere_but_must_be_the_same(load_check, answering, copy, tmp_path):
    base = shutil.copytree(answering / layout.BASE, tmp_path / "base")
    settings(copy, base_model_name_or_path="/gone/base")
    assert load_check(copy)[0] == 2
    code, said = load_check(copy, "--base", base)
    assert code == 0, said


def test_other_tuners_and_torn_files_are_bad_input(copy):
    settings(copy, peft_type="IA3")
    with pytest.raises(BadInput, match="IA3"):
        adapters.open_adapter(copy)
    settings(copy, peft_type="LORA")
    weights = copy / adapters.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BadInput, match="cannot be read"):
        adapters.open_adapter(copy)


def test_a_missing_pad_token_is_made_good(load_check, copy):
    file = copy / "tokenizer_config.json"
    kept = json.loads(file.read_text())
    del kept["pad_token"]
    file.write_text(json.dumps(kept))
    code, said = load_check(copy)
    assert code == 0, said
    assert "ok   pad token: '" in said


def test_the_command_exits_as_it_found(copy):
    """As a process of its own, from another folder."""
    (copy / adapters.CONFIG).unlink()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jobs.load_check", copy],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bad input: {copy} is no adapter")


def test_what_is_no_adapter_is_said(tmp_path):
    for folder, why in ((tmp_path, "no adapter"), (SAMPLE / "none", "no folder")):
        with pytest.raises(BadInput, match=why):
            adapters.adapter_folder(folder)


def test_another_base_of_the_same_shape_is_seen(load_check, answering, tmp_path):
    base = shutil.copytree(answering / layout.BASE, tmp_path / "base")
    weights = base / "model.safetensors"
    tensors = load_file(weights)
    one = next(iter(tensors))
    save_file(tensors | {one: tensors[one] * 1.01}, weights, metadata={"format": "pt"})
    code, said = load_check(answering, "--base", base)
    assert (code, failed(said)) == (1, ["base"]), said
    assert "the adapter was trained on" in said
