"""How far the bound of the memory lies above what is expected, by what is known of such a job."""

import re

import msgspec
import pytest

from jobs.spec import Lora, ResolvedSpec
from launcher.estimate import estimate, vram
from launcher.estimate.calibration import MEMORY
from launcher.estimate.tensors import ModelShape
from launcher.types import Device
from tests.unit.launcher.estimate.test_estimate import (
    CPU,
    FACTS,
    QWEN_7B,
    RTX_4090,
    offer_for,
    shape_for,
    spec_for,
)

MAC = msgspec.structs.replace(RTX_4090, kind="mps", name="Apple GPU", compute_capability=None)
LLAMA = shape_for(QWEN_7B)


def share(shape: ModelShape, spec: ResolvedSpec, device: Device = RTX_4090) -> float:
    need = vram.memory(shape, spec, device)
    return need.upper_bytes / need.expected_bytes - 1


def job(strategy: str, model: str = QWEN_7B, **changes: object) -> ResolvedSpec:
    return msgspec.structs.replace(spec_for(model, strategy), **changes)


@pytest.mark.parametrize(
    ("spec", "device", "margin"),
    [
        (job("qlora"), RTX_4090, 0.25),
        (job("lora"), RTX_4090, 0.25),
        (job("full"), RTX_4090, 0.37),
        (job("lora", processes=2), RTX_4090, 0.37),
        (job("lora", device="cpu"), CPU, 0.30),
        (job("full", device="cpu"), CPU, 0.37),
        (job("lora", device="mps"), MAC, 0.37),
    ],
)
def test_it_is_wider_where_no_row_is_of_such_a_job(spec, device, margin) -> None:
    assert share(LLAMA, spec, device) == pytest.approx(margin, abs=1e-6)


def test_two_deviations_of_a_new_group_of_rows() -> None:
    scatter = (MEMORY.within**2 + MEMORY.between**2) ** 0.5
    assert 2.718281828 ** (2 * scatter) - 1 == pytest.approx(vram.UNSEEN_MARGIN, abs=0.005)


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        ("google/gemma-2-9b", ("q_proj", "v_proj")),
        ("tiiuae/falcon-7b", ("query_key_value",)),
        ("mistralai/Mixtral-8x7B-v0.1", ("q_proj", "v_proj")),
    ],
)
def test_layers_unlike_llamas_widen_it_by_their_activations(model, targets) -> None:
    spec, shape = job("lora", model, lora=Lora(targets=targets)), shape_for(model)
    terms = vram.memory(shape, spec, RTX_4090).terms
    after = [t.name for t in terms].index("saved activations")
    passing = sum(t.bytes for t in terms[after:] if t.name != "CUDA context")
    expected = sum(t.bytes for t in terms)
    assert share(shape, spec) == pytest.approx(0.25 + 0.37 * passing / expected, abs=1e-6)
    train = msgspec.structs.replace(spec.train, activation_checkpointing=False)
    assert share(shape, msgspec.structs.replace(spec, train=train)) > 0.25


def test_what_it_rests_on_is_said() -> None:
    for spec, said in ((job("lora"), r"\+25%, published"), (job("full"), r"\+37%, no row is of")):
        found = estimate(spec, LLAMA, FACTS, offer_for(RTX_4090)).assumptions
        assert any(re.search(said, one) for one in found), found


def test_a_mac_holds_process_and_tensors_in_one_memory() -> None:
    model = "Qwen/Qwen2.5-0.5B"
    spec = msgspec.structs.replace(spec_for(model, "lora"), device="mps", dtype="fp32")
    found = estimate(spec, shape_for(model), FACTS, offer_for(MAC, "local"))
    (process,) = (t for t in found.memory if t.name == "process")
    assert process.bytes == vram.PROCESS_BYTES
    assert found.memory_expected_bytes == sum(t.bytes for t in found.memory)
    assert found.host_ram_bytes == found.memory_upper_bytes
    said = "; ".join(found.assumptions)
    assert "rated as an M1" in said
    assert "one memory for the process and the GPU" in said
    assert "CUDA context" not in said
