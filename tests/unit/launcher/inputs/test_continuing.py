"""What the launcher holds against a parent, before anything starts."""

import json
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import (
    BaseModel,
    Lineage,
    Lora,
    Quantization,
    config_sha256,
    encode,
    template_sha256,
)
from launcher.errors import BadInput
from launcher.inputs import continuing
from tests.unit.launcher.plans import JOB, TEN, cloud, planned

TEMPLATE = "{{ messages }}"
LINEAGE = Lineage(
    run_id="run-1",
    task="sft",
    base=BaseModel(
        id="a/b-7b",
        revision=None,
        config_sha256="c" * 64,
        weights_sha256="w" * 64,
        tokenizer_sha256="t" * 64,
        chat_template_sha256=template_sha256(TEMPLATE),
    ),
    quantization=Quantization(),
    dtype="bf16",
    lora=Lora(),
    seed=17,
)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A collected run's folder, as far as the launcher looks at it."""
    adapter = tmp_path / "run-1" / layout.ADAPTER
    adapter.mkdir(parents=True)
    settings = {"r": 16, "lora_alpha": 32, "task_type": "CAUSAL_LM", "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / layout.LINEAGE).write_bytes(encode(LINEAGE))
    return adapter.parent


def plan_of(parent: Path, **changes):
    job = msgspec.structs.replace(JOB, resume_from=str(parent), **changes)
    return planned([cloud("RTX4090", 0.74)], TEN, job=job)


def test_a_job_like_its_parent_goes_on(parent: Path) -> None:
    made = plan_of(parent)
    assert made.chosen is not None
    continuing.require_continuable(made)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": Lora(r=8)}, "lora.r: the parent has 16, this run 8"),
        ({"lora": Lora(alpha=16)}, "lora.alpha: the parent has 32, this run 16"),
        ({"lora": Lora(targets=("q_proj",))}, "lora.targets: the parent has down_proj, gate"),
        ({"strategy": "lora"}, "the parent has nf4, double quantisation, this run not quantised"),
        (
            {"model": msgspec.structs.replace(JOB.model, id="a/other-7b")},
            "model.id: the parent has a/b-7b, this run a/other-7b",
        ),
    ],
)
def test_a_mismatch_names_both_values(parent: Path, changes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        continuing.require_continuable(plan_of(parent, **changes))
    assert said in str(caught.value)


def test_another_template_or_base_in_a_folder_is_seen(parent: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2", "transformers_version": "5"}')
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "other"}))
    job = {"model": msgspec.structs.replace(JOB.model, id=str(model))}
    with pytest.raises(BadInput) as caught:
        continuing.require_continuable(plan_of(parent, **job))
    assert "base config: the parent has cccccccccccc" in str(caught.value)
    assert "chat template: the parent has " in str(caught.value)

    (model / "chat_template.jinja").write_text(TEMPLATE)
    same = msgspec.structs.replace(
        LINEAGE.base, config_sha256=config_sha256(b'{"model_type": "qwen2"}')
    )
    (parent / layout.ADAPTER / layout.LINEAGE).write_bytes(
        encode(msgspec.structs.replace(LINEAGE, base=same))
    )
    continuing.require_continuable(plan_of(parent, **job))


def test_a_bare_adapter_is_held_to_its_settings(parent: Path) -> None:
    adapter = parent / layout.ADAPTER
    (adapter / layout.LINEAGE).unlink()
    with pytest.raises(BadInput, match=r"lora\.r: the parent has 16, this run 4"):
        continuing.require_continuable(plan_of(adapter, lora=Lora(r=4)))


def test_auto_takes_the_parent_s_strategy(parent: Path) -> None:
    job = msgspec.structs.replace(JOB, resume_from=str(parent), strategy="auto")
    assert continuing.settled(job).strategy == "qlora"


@pytest.mark.parametrize("name", ["no-such-run", "./no/where", "some/adapter"])
def test_what_is_nowhere_is_said(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="--resume-from"):
        continuing.settled(msgspec.structs.replace(JOB, resume_from=name))


def test_hub_adapters_are_left_to_the_job() -> None:
    job = msgspec.structs.replace(JOB, resume_from="hub:me/adapter@abc")
    assert continuing.settled(job) == job
