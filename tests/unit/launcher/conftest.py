"""A small plan that needs neither catalog nor estimator; a machine that has and knows nothing."""

from pathlib import Path

import msgspec
import pytest

from jobs.spec import (
    Data,
    JobSpec,
    Model,
    Quantization,
    ResolvedEvaluation,
    ResolvedSpec,
    ResolvedTrain,
)
from launcher.types import (
    GIB,
    Budget,
    Candidate,
    Device,
    Estimate,
    MemoryTerm,
    ModelFacts,
    Offer,
    Plan,
    TimeTerm,
)
from tests.unit.launcher.plans import DATA


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment, no SkyPilot, no token, and nobody listens where the Hub would be."""
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    for variable in ("LORALIFT_SKYPILOT_PYTHON", "LORALIFT_TRAIN_PYTHON", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")


@pytest.fixture
def offer() -> Offer:
    device = Device(kind="cuda", name="RTX4090", usable_bytes=23 * GIB, total_bytes=24 * GIB)
    return Offer(
        provider="runpod",
        instance="1x_RTX4090_SECURE",
        region="",
        device=device,
        count=1,
        microusd_per_hour=740_000,
        spot=False,
        as_of="2026-09-25",
        source="test",
        executor="process",
    )


@pytest.fixture
def small_plan(offer: Offer) -> Plan:
    job = JobSpec(model=Model(id="a/b"), data=Data(train="/rows.jsonl"))
    fields = {f: getattr(job, f) for f in JobSpec.__struct_fields__}
    fields |= {"dtype": "bf16", "device": "cuda", "run_id": "run-1", "train": ResolvedTrain()}
    fields["eval"] = ResolvedEvaluation()
    spec = ResolvedSpec(**fields, quantization=Quantization())
    estimate = Estimate(
        memory=(MemoryTerm(name="base weights", bytes=5 * GIB, why="nf4"),),
        memory_expected_bytes=5 * GIB,
        memory_upper_bytes=6 * GIB,
        host_ram_bytes=GIB,
        disk_bytes=20 * GIB,
        time=(
            TimeTerm(name="training", low_hours=0.5, expected_hours=1.0, high_hours=2.0, why="t"),
        ),
        train_tokens=1000,
        parameters_total=7_000_000_000,
        parameters_trainable=40_000_000,
        assumptions=(),
    )
    chosen = Candidate(
        offer=offer,
        spec=spec,
        estimate=estimate,
        expected_microusd=740_000,
        worst_microusd=1_480_000,
        verdict="chosen",
        reason="cheapest",
    )
    return Plan(
        run_id="run-1",
        created_at="2026-11-21T00:00:00.000+00:00",
        recipe="r.yaml",
        job=job,
        budget=Budget(max_cost_microusd=10_000_000),
        model=ModelFacts(
            id="a/b",
            architecture="qwen2",
            parameters=7_000_000_000,
            named_parameters=None,
            source="embedded",
        ),
        data=DATA,
        candidates=(chosen, msgspec.structs.replace(chosen, verdict="rejected", reason="dearer")),
        settings=(),
        warnings=(),
    )
