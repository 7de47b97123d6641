"""A plan: what would be trained where, for how much, and what comes after failed gates."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from jobs.spec import JobSpec, ResolvedSpec, Strategy
from launcher.types.data import DataFacts
from launcher.types.estimates import Estimate
from launcher.types.limits import Budget
from launcher.types.offers import Offer


class Candidate(Struct, frozen=True, kw_only=True):
    """The cheapest offer of its kind under one strategy, judged."""

    offer: Offer
    dearer: int = 0  # offers of the same kind: the provider's, the card, the count
    spec: ResolvedSpec | None  # None: the strategy cannot be expressed on that device
    estimate: Estimate | None
    # The least memory the strategy does with there, by the smallest micro-batch and checkpointing
    # that the recipe allows: an upper bound.
    least_bytes: int = 0
    expected_microusd: int
    worst_microusd: int
    verdict: Literal["chosen", "possible", "rejected"]
    reason: str  # one line, with the number that decided


class ModelFacts(Struct, frozen=True, kw_only=True):
    id: str
    architecture: str
    parameters: int
    named_parameters: float | None  # what the name claims, None where it says nothing
    source: str  # embedded, config.json, hub


class Setting(Struct, frozen=True, kw_only=True):
    """A value that did not come from a default, and who set it."""

    key: str
    value: str
    source: str  # a flag, or the recipe's path
    instead_of: str  # what it replaced, and whose that was


class Rung(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to train the job, after another one failed its gates."""

    strategy: Strategy
    set: dict[str, Any] = {}  # dotted keys of the recipe that change
    near_miss_only: bool = False  # left out where a gate was missed by more
    # Starts of it at most, of all its runs: after a preemption, or in less memory. From 16 rows at
    # once down to one, checkpointed, on a larger card: 8.
    attempts: Annotated[int, Meta(ge=1, le=100)] = 8

    @property
    def name(self) -> str:
        """As people read it: qlora, lora.r = 32."""
        return ", ".join([self.strategy, *(f"{key} = {value}" for key, value in self.set.items())])


class Escalation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe's `escalation:`. The default is the strategy decision in use: QLoRA; at 85 to 89 %
    of a target of 90 % rank 32; then 16-bit LoRA."""

    near_miss: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.94  # of a bound: 85 of 90
    rungs: tuple[Rung, ...] = (
        Rung(strategy="qlora"),
        Rung(strategy="qlora", set={"lora.r": 32, "lora.alpha": 64}, near_miss_only=True),
        Rung(strategy="lora"),
    )


class RungPlan(Struct, frozen=True, kw_only=True):
    """What a rung would cost, planned as if nothing had been spent."""

    rung: Rung
    offer: Offer | None  # None: nothing holds every limit
    expected_microusd: int
    worst_microusd: int
    climbed_microusd: int  # at worst, this rung and all before it
    refusal: str = ""  # why it would not be climbed, with the number that decided


class Ladder(Struct, frozen=True, kw_only=True):
    """What failed gates may lead to; the first rung is the plan's own choice, and the only one
    where no gate can fail."""

    near_miss: float
    rungs: tuple[RungPlan, ...]


class Plan(Struct, frozen=True, kw_only=True):
    """All that submit needs, and why."""

    plan_version: int = 1
    run_id: str
    created_at: str
    recipe: str
    job: JobSpec
    budget: Budget
    model: ModelFacts
    data: DataFacts
    candidates: tuple[Candidate, ...]  # chosen first, then possible by cost, then rejected
    left_out: int = 0  # offers that --on and --gpu leave out
    ways_out: tuple[str, ...] = ()  # when nothing is chosen: what would change that
    ladder: Ladder | None = None  # None: nothing is chosen, or it is a later rung
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]

    @property
    def fallbacks(self) -> tuple[Candidate, ...]:
        """Where to go on when the chosen has no capacity, in this order: all hold the limits."""
        cap = self.budget.max_cost_microusd or 0
        found = (c for c in self.candidates if c.verdict == "possible")
        return tuple(c for c in found if c.worst_microusd <= cap)

    @property
    def chosen(self) -> Candidate | None:
        first = self.candidates[0] if self.candidates else None
        return first if first is not None and first.verdict == "chosen" else None
