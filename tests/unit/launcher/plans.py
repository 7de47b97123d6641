"""A stub estimator and small offers, jobs and budgets for the planner's tests: the need and the
hours of a job are given, not computed."""

from collections.abc import Callable

import msgspec

from jobs.spec import Data, JobSpec, Model, ResolvedSpec
from launcher.catalog.priced import device as card
from launcher.estimate.shapes import ModelShape, from_config
from launcher.planner import plan
from launcher.types import (
    GIB,
    MICROUSD,
    Budget,
    DataFacts,
    Device,
    Estimate,
    ModelFacts,
    Offer,
    Plan,
    TimeTerm,
)

JOB = JobSpec(model=Model(id="a/b-7b"), data=Data(train="/rows.jsonl"))
DATA = DataFacts(
    train_path="/rows.jsonl",
    validation_path=None,
    train_rows=90,
    validation_rows=10,
    train_characters=900,
    longest_characters=20,
    validation_characters=100,
    sha256="0" * 64,
)
TEN = Budget(max_cost_microusd=10 * MICROUSD)

MODEL = ModelFacts(
    id="a/b-7b", architecture="qwen2", parameters=7, named_parameters=None, source="embedded"
)
SHAPE = from_config({
    "model_type": "qwen2", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": True,
})  # fmt: skip


def an_estimate(need_gib: float, hours: tuple[float, float, float]) -> Estimate:
    low, expected, high = hours
    return Estimate(
        memory=(),
        memory_expected_bytes=int(need_gib * GIB * 0.9),
        memory_upper_bytes=int(need_gib * GIB),
        host_ram_bytes=GIB,
        disk_bytes=20 * GIB,
        time=(
            TimeTerm(
                name="all", low_hours=low, expected_hours=expected, high_hours=high, why="given"
            ),
        ),
        train_tokens=1000,
        parameters_total=7,
        parameters_trainable=10_000_000,
        assumptions=(),
    )


def estimator(
    need_gib: dict[str, float], tflop_hours: float, spread: float = 2.0
) -> Callable[[ResolvedSpec, ModelShape, DataFacts, Offer], Estimate]:
    """Need by strategy; hours fall with the card's rate, a CPU counts as half a TFLOP/s."""

    def of(spec: ResolvedSpec, shape: ModelShape, data: DataFacts, offer: Offer) -> Estimate:
        hours = tflop_hours / (offer.device.dense_16bit_tflops or 0.5)
        return an_estimate(need_gib[spec.strategy], (hours / spread, hours, hours * spread))

    return of


def cloud(name: str, usd_per_hour: float, provider: str = "runpod", **changes: object) -> Offer:
    offer = Offer(
        provider=provider,
        instance=f"1x_{name}_SECURE",
        region="any",
        device=card(name),
        count=1,
        microusd_per_hour=round(usd_per_hour * MICROUSD),
        spot=False,
        as_of="2026-11-21",
        source="test",
        executor="skypilot",
    )
    if changes.get("spot"):
        changes = {"interruptions_per_hour": (1e-4, 4e-3, 0.1), **changes}
    return msgspec.structs.replace(offer, **changes)


def local(name: str, free_gib: float) -> Offer:
    """This machine: a card of the table, or `cpu`."""
    if name == "cpu":
        device = Device(
            kind="cpu", name="A Chip", usable_bytes=int(free_gib * GIB), total_bytes=24 * GIB,
            cores=2,
        )  # fmt: skip
        base = cloud("T4", 0)
    else:
        base = cloud(name, 0)
        device = msgspec.structs.replace(base.device, usable_bytes=int(free_gib * GIB))
    return msgspec.structs.replace(
        base, provider="local", instance=name, device=device, executor="process"
    )


SEVEN_B = estimator({"qlora": 9.0, "lora": 20.0, "full": 145.0}, tflop_hours=165.0)


def planned(
    offers: list[Offer],
    budget: Budget,
    job: JobSpec = JOB,
    shape: ModelShape = SHAPE,
    **changes: object,
) -> Plan:
    arguments = {"estimator": SEVEN_B, "settings": (), **changes}
    return plan(
        job,
        budget,
        shape,
        MODEL,
        DATA,
        offers,
        run_id="run-1",
        created_at="2026-11-21T00:00:00.000+00:00",
        recipe="strategy defaults",
        warnings=(),
        **arguments,
    )


def dollars(amount: float) -> int:
    return round(amount * MICROUSD)


def reasons(made: Plan) -> dict[str, str]:
    return {c.offer.instance: f"{c.verdict}: {c.reason}" for c in made.candidates}
