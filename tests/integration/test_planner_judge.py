"""An exhaustive planner as judge of the real one: the same choice on every random catalog.

The judge looks at each offer by itself, at every strategy, micro-batch, checkpointing and number of
answers, and keeps the cheapest job that holds the limits. It shares the cost's arithmetic and the
refusals of a strategy by a device with the planner, and nothing of how that finds its choice.
"""

import itertools
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as some

from jobs.spec import JobSpec, ResolvedSpec
from launcher.planning.costs import aged, bill_microusd, cost_microusd, terms
from launcher.planning.resolve import resolve
from launcher.types import Budget, Candidate, Estimate, Offer
from tests.unit.launcher.plans import JOB, an_estimate, cloud, dollars, local, planned

CARDS = some.sampled_from(["T4", "RTX4060", "RTX4090", "A10G", "A100-80GB", "H100-SXM", "B200"])
PROVIDERS = some.sampled_from(["runpod", "aws", "lambda"])


TODAY = "2026-11-21"  # as tests/unit/launcher/planning.py plans


@some.composite
def offers(draw):
    kind = draw(some.integers(0, 9))
    if kind == 0:
        return local(draw(CARDS), draw(some.floats(1.0, 80.0)))
    return cloud(
        draw(CARDS),
        draw(some.sampled_from([0.0, 0.2, 0.5, 1.0, 1.0, 2.0, 7.0])),
        draw(PROVIDERS),
        region=draw(some.sampled_from("abc")),
        count=draw(some.sampled_from([1, 1, 2, 8])),
        spot=draw(some.sampled_from([False, False, True])),
        executor=draw(some.sampled_from(["skypilot", "skypilot", None])),
        as_of=draw(some.sampled_from(["2026-11-20", "2026-08-01", "2024-01-01"])),
        billing_seconds=draw(some.sampled_from([1, 60, 3600])),
        billing_minimum_seconds=draw(some.sampled_from([0, 0, 36_000])),
    )


class Law(msgspec.Struct, frozen=True):
    """What jobs need and take: made up, but more rows need more and checkpoints need less."""

    fixed_gib: dict[str, float]
    row_gib: float
    answer_gib: float
    checkpoint_share: float
    work: float
    launch: float

    def __call__(self, spec: ResolvedSpec, shape: object, data: object, offer: Offer) -> Estimate:
        train, device = spec.train, offer.device
        kept = self.checkpoint_share if train.activation_checkpointing else 1.0
        step = self.row_gib * train.micro_batch * kept
        need = self.fixed_gib[spec.strategy] + max(step, self.answer_gib * spec.eval.batch)
        again = 4 / 3 if train.activation_checkpointing else 1.0
        rate = device.dense_16bit_tflops or 0.5
        hours = max(self.work * again / rate, self.launch / train.micro_batch) / spec.processes
        hours += 0.3 * self.launch / spec.eval.batch
        surprise = 2 if device.name < "L" else 4  # some cards are known less well
        return an_estimate(need, (hours / 2, hours, hours * surprise))


laws = some.builds(
    Law,
    fixed_gib=some.fixed_dictionaries(
        {"qlora": some.floats(0.5, 60), "lora": some.floats(0.5, 90)}
    ),
    row_gib=some.floats(0.01, 6),
    answer_gib=some.floats(0.01, 2),
    checkpoint_share=some.floats(0.05, 0.9),
    work=some.floats(1.0, 600.0),
    launch=some.floats(0.01, 10.0),
)


@some.composite
def jobs(draw):
    train = msgspec.structs.replace(
        JOB.train,
        effective_batch=draw(some.sampled_from([1, 6, 16])),
        activation_checkpointing=draw(some.sampled_from(["auto", True, False])),
    )
    rows = [n for n in range(1, train.effective_batch + 1) if train.effective_batch % n == 0]
    train = msgspec.structs.replace(train, micro_batch=draw(some.sampled_from(["auto", *rows])))
    batch = draw(some.sampled_from(["auto", 1, 12]))
    return msgspec.structs.replace(
        JOB,
        strategy=draw(some.sampled_from(["auto", "qlora", "lora"])),
        dtype=draw(some.sampled_from(["auto", "bf16"])),
        train=train,
        eval=msgspec.structs.replace(JOB.eval, batch=batch),
    )


def ways(job: JobSpec, spec: ResolvedSpec) -> list[ResolvedSpec]:
    """Every way to run it."""
    train, whole = job.train, job.train.effective_batch // spec.processes
    batches = [n for n in range(1, whole + 1) if whole % n == 0]
    rows = batches if train.micro_batch == "auto" else [train.micro_batch]
    free = train.activation_checkpointing == "auto"
    checkpoints = [True, False] if free else [train.activation_checkpointing]
    answers = [1, 2, 4, 8, 16] if job.eval.batch == "auto" else [job.eval.batch]
    return [
        msgspec.structs.replace(
            spec,
            train=msgspec.structs.replace(spec.train, micro_batch=n, activation_checkpointing=c),
            eval=msgspec.structs.replace(spec.eval, batch=a),
        )
        for n, c, a in itertools.product(rows, checkpoints, answers)
    ]


def judged(found: list[Offer], job: JobSpec, budget: Budget, law: Law) -> tuple | None:
    """(cost, hours, provider, instance, strategy) of the cheapest job, or None."""
    best = []
    for offer, strategy in itertools.product(found, ["qlora", "lora"]):
        spec = resolve(job, strategy, offer, "run-1")
        allowed = job.strategy in (strategy, "auto")
        if not allowed or isinstance(spec, str) or offer.executor is None:
            continue
        if offer.spot and not budget.spot:
            continue
        tried = [(one, law(one, None, None, offer)) for one in ways(job, spec)]
        usable = offer.device.usable_bytes
        fits = [(one, e) for one, e in tried if e.memory_upper_bytes <= usable]
        if not fits:
            continue
        # As many answers at once as fit beside the smallest step; then the fastest within 2 %, the
        # one of least memory.
        answers = max(one.eval.batch for one, _ in fits)
        fits = [(one, e) for one, e in fits if one.eval.batch == answers]
        fastest = min(e.hours_expected for _, e in fits)
        near = [e for _, e in fits if e.hours_expected <= fastest * 1.02]
        estimate = min(near, key=lambda e: e.memory_upper_bytes)
        risen = terms(aged(offer, TODAY), estimate, finished=False)
        worst = bill_microusd(risen, estimate.hours_high * 3600)
        if estimate.hours_high > budget.max_hours or worst > (budget.max_cost_microusd or 0):
            continue
        cost = cost_microusd(offer, estimate, estimate.hours_expected)
        best.append((cost, estimate.hours_expected))
    return min(best, default=None)


def test_the_choice_is_the_judge_s() -> None:
    """On 1,500 random catalogs, jobs and budgets; some refuse all, and some have what to choose."""
    seen: Counter[str] = Counter()

    @settings(max_examples=1500, deadline=None, derandomize=True)
    @given(
        found=some.lists(offers(), min_size=1, max_size=10),
        job=jobs(),
        law=laws,
        cap=some.sampled_from([None, dollars(0.5), *[dollars(usd) for usd in (2, 8, 30, 100)]]),
        hours=some.sampled_from([1.0, 10.0, 100.0]),
        spot=some.booleans(),
    )
    def same(found, job, law, cap, hours, spot) -> None:
        budget = Budget(max_cost_microusd=cap, max_hours=hours, spot=spot)
        made = planned(found, budget, job, estimator=law)
        best = judged(found, job, budget, law)
        seen[verdict(made.chosen)] += 1
        assert (made.chosen is None) == (best is None)
        strategies = 2 if job.strategy == "auto" else 1
        assert sum(c.dearer + 1 for c in made.candidates) == len(found) * strategies
        assert all(c.reason and "\n" not in c.reason for c in made.candidates)
        if made.chosen is None:
            return
        estimate = made.chosen.estimate
        assert estimate is not None
        assert (made.chosen.expected_microusd, estimate.hours_expected) == best
        assert estimate.memory_upper_bytes <= made.chosen.offer.device.usable_bytes
        assert made.chosen.worst_microusd <= (cap or 0)
        assert all(c.worst_microusd <= (cap or 0) for c in made.fallbacks)

    same()
    assert min(seen[kind] for kind in ("nothing", "free", "paid")) >= 100, seen


def verdict(chosen: Candidate | None) -> str:
    if chosen is None:
        return "nothing"
    return "paid" if chosen.worst_microusd else "free"
