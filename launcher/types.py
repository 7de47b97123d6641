"""What flows inside the launcher. Frozen, serialisable; no behaviour beyond small properties.

Money is integer micro-dollars (`*_microusd`), memory is bytes, durations are hours where a plan
is made and seconds where something was measured. Dates are ISO 8601.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from jobs.spec import DeviceKind, JobSpec, Record, ResolvedSpec, Result, Strategy

MICROUSD = 1_000_000
GIB = 1024**3
MIB = 1024**2
# How long a rented machine waits for its results to be fetched before it goes by itself; a
# launcher that is there fetches them at once and ends it.
COLLECT_MINUTES = 5
TOKENS_PER_CHARACTER = 0.25  # where no tokenizer was asked. Assumption, of English text
DATA_FILES = (
    "train",
    "validation",
    "test",
    "replay",
)  # the keys of a recipe's `data:` that name files


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one run. Only a deadline derived from them enters a training environment."""

    max_cost_microusd: int | None = None
    max_hours: float = 8.0
    local_microusd_per_hour: int = 0  # of this machine at work: its electricity, as its owner says
    spot: bool = False
    providers: tuple[str, ...] = ()  # empty: any
    gpu: str | None = None  # NAME or NAME:COUNT
    collect_minutes: int = COLLECT_MINUTES
    to_bucket: bool = False  # the run goes to an s3:// store while it is made: egress
    image: str = ""  # that rented machines are started from, where their provider runs one


class Device(Struct, frozen=True, kw_only=True):
    """One accelerator, or the CPU with its RAM, as a plan sees it."""

    kind: DeviceKind
    name: str
    usable_bytes: int  # free where it is this machine's, else what the driver leaves of the card
    total_bytes: int
    compute_capability: tuple[int, int] | None = None
    dense_16bit_tflops: float = 0.0  # peak, without sparsity
    bandwidth_gb_s: float = 0.0
    cores: int = 0  # CPU only: physical or allotted cores


class Offer(Struct, frozen=True, kw_only=True):
    """Something that can be had for a price: this machine, or an instance of a provider."""

    provider: str
    instance: str
    region: str
    device: Device
    count: int
    microusd_per_hour: int  # of the whole instance
    spot: bool
    as_of: str  # ISO date of the price
    source: str
    executor: str | None  # None: no executor of ours can provision it; shown, never chosen
    capabilities: tuple[str, ...] = ()  # launcher.catalog.providers.Capability
    billing_seconds: int = 1  # granularity
    billing_minimum_seconds: int = 0
    microusd_per_gib_disk_hour: int = 0
    microusd_per_gib_egress: int = 0
    provision_seconds: tuple[float, float, float] = (
        0.0,
        0.0,
        0.0,
    )  # low, expected, high
    download_mb_s: tuple[float, float, float] = (
        100.0,
        50.0,
        12.5,
    )  # fast, expected, slow
    note: str = ""
    # Spot: how often a machine is taken back, (low, expected, high); None: nobody has said.
    interruptions_per_hour: tuple[float, float, float] | None = None
    accelerator: str = ""  # the GPU's name in SkyPilot's catalog; "": as providers.py has it
    regions: tuple[str, ...] = ()  # where the price holds when the region is `any`; (): not known
    architecture: str = "x86_64"  # of the host
    minimum_driver: str = ""  # the first NVIDIA driver that knows the card; "": not known
    origin: str = ""  # this machine, snapshot or SkyPilot: whose list the price is from
    enabled: bool | None = None  # whether SkyPilot may rent there; None: not known
    enabled_as_of: str = ""  # ISO date of that check
    image: str = ""  # the one asked for, where the provider runs one


class DataFacts(Struct, frozen=True, kw_only=True):
    """What the launcher knows of the data without a tokenizer."""

    train_path: str
    validation_path: str | None
    train_rows: int
    validation_rows: int
    train_characters: int  # all text of the training rows, template not counted
    longest_characters: int  # of one row
    longest_judged_characters: int = 0  # of one row that is asked or measured, not trained on
    # Mean characters of the training rows in groups of as many, the shortest first; empty: not
    # known. Of n rows in g groups the i-th ends at row n * (i + 1) // g.
    row_characters: tuple[float, ...] = ()
    validation_characters: int
    sha256: str  # of the training file
    validation_sha256: str | None = None
    test_rows: int = 0
    test_characters: int = 0
    test_sha256: str | None = None
    shapes: dict[str, int] = {}  # rows of all sets by the shape they were recognised as
    repeated_rows: int = 0  # whose question stands earlier in their set too; they stay
    left_out_rows: int = 0  # whose question stands in a set that judges theirs
    warnings: tuple[str, ...] = ()
    golden_rows: int = 0  # of eval.golden, asked instead of the held-out rows
    golden_sha256: str | None = None
    schema_sha256: str | None = None
    metrics_sha256: dict[str, str] = {}  # file of eval.metrics → its digest
    replay_rows: int = 0  # of train_rows: drawn from the old file, at most
    replay_sha256: str | None = None
    tokens_per_character: float = TOKENS_PER_CHARACTER
    template_tokens_per_row: float = 12.0  # assumption
    tokenizer_rows: int = 0  # that the model's tokenizer counted for these two; 0: assumed


Seen = Literal["allocated", "reserved", "process"]


class MemoryTerm(Struct, frozen=True, kw_only=True):
    """One part of the peak, and which counter sees it.

    allocated: tensors, torch's max_memory_allocated. reserved: what its allocator holds on top.
    process: what is there beside both, and only nvidia-smi, or the resident set on a CPU, counts.
    """

    name: str
    bytes: int
    why: str
    seen: Seen = "allocated"


class DiskTerm(Struct, frozen=True):
    """One part of what stands on disk at the same time."""

    name: str
    bytes: int
    why: str


class TimeTerm(Struct, frozen=True, kw_only=True):
    name: str
    low_hours: float
    expected_hours: float
    high_hours: float
    why: str


# The name of the terms that finished runs add, of memory and of time: the others are what was
# estimated without them.
CALIBRATION = "calibration"


AROUND_THE_WORK = (
    "provision",
    "image pull",
    "set up",
    "model download",
    "upload",
    "teardown",
    "interruptions",
)


class Estimate(Struct, frozen=True, kw_only=True):
    """VRAM (RAM on a CPU), disk and time of one job on one device, every term visible."""

    memory: tuple[MemoryTerm, ...]
    memory_expected_bytes: int
    memory_upper_bytes: int
    host_ram_bytes: int
    disk_bytes: int  # of all terms of `disk`
    disk: tuple[DiskTerm, ...] = ()
    mirrored_bytes: int = 0  # all checkpoints of a run, each once, for a run kept in a bucket
    export: tuple[DiskTerm, ...] = ()  # what `launch export` adds to the disk
    export_ram_bytes: int = 0
    time: tuple[TimeTerm, ...]
    train_tokens: int
    parameters_total: int
    parameters_trainable: int
    speed: str = ""  # what is known of the device's: measured, foreign data or unmeasured
    assumptions: tuple[str, ...]
    calibrated_on: int = 0  # finished runs of this strategy on this card

    @property
    def memory_allocated_bytes(self) -> int:
        """What torch counts as allocated at the expected peak."""
        return sum(t.bytes for t in self.memory if t.seen == "allocated")

    @property
    def memory_reserved_bytes(self) -> int:
        """What torch's allocator holds then, the allocated in it."""
        return sum(t.bytes for t in self.memory if t.seen != "process")

    @property
    def export_bytes(self) -> int:
        """What `launch export` adds to the disk."""
        return sum(t.bytes for t in self.export)

    @property
    def hours_at_work(self) -> float:
        """Expected hours of what the card decides: not those that the offer adds around it."""
        return sum(t.expected_hours for t in self.time if t.name not in AROUND_THE_WORK)

    @property
    def hours_low(self) -> float:
        return sum(t.low_hours for t in self.time)

    @property
    def hours_expected(self) -> float:
        return sum(t.expected_hours for t in self.time)

    @property
    def hours_high(self) -> float:
        return sum(t.high_hours for t in self.time)


class Measurement(Struct, frozen=True, kw_only=True):
    """What one attempt took, each figure beside what was estimated for it without calibration.

    None where nothing comparable was measured.
    """

    card: str  # as estimate.calibration.card_name has it
    device: DeviceKind
    strategy: Strategy
    model: str
    memory_metric: str  # the counter of both figures
    memory_bytes: int | None
    memory_estimated_bytes: int | None
    training_tokens: int | None  # of the steps that were timed
    training_seconds: float | None
    training_estimated_seconds: float | None  # for as many tokens


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
    """What failed gates may lead to; the first rung is the plan's own choice."""

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
    ladder: Ladder | None = None  # None: no gate can fail, or nothing is chosen
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


RunState = Literal["PENDING", "PROVISIONING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
MachineState = Literal["REQUESTED", "UP", "ENDING", "GONE", "UNKNOWN"]
# Why a run ended as it did. A run that SUCCEEDED has a reason only when a gate failed.
Reason = Literal[
    "OUT_OF_MEMORY",
    "BUDGET_EXCEEDED",  # the deadline derived from --max-cost or --max-hours
    "PREEMPTED",
    "GATE_FAILED",
    "NO_CAPACITY",
    "STALLED",
    "LOST",  # ended without leaving a result: killed, or the machine is gone
    "SETUP_FAILED",
    "BAD_INPUT",
    "PILOT_FAILED",  # a few steps showed that the whole run would be hopeless
    "CANCELLED",
    "ERROR",
]
ENDED: tuple[RunState, ...] = ("SUCCEEDED", "FAILED", "CANCELLED")


class Terms(Struct, frozen=True, kw_only=True):
    """What a machine's provider bills for it."""

    microusd_per_hour: int  # of the whole machine, its disk included
    billing_seconds: int = 1  # granularity
    billing_minimum_seconds: int = 0
    egress_microusd: int = 0  # of what leaves it, once


class Attempt(Terms, frozen=True, kw_only=True):
    attempt: int
    started_at: str
    executor: str
    handle: str
    provider: str
    instance: str
    machine: MachineState
    gone_at: str | None
    candidate: int = 0  # which of the plan's it is
    account_microusd: int | None = None  # what the provisioner reckons that it cost
    price_as_of: str = ""  # ISO date of its price; "": as in the plan

    def seconds(self, now: datetime) -> float:
        """How long its machine was held: from the request until it was gone, or to `now`."""
        end = datetime.fromisoformat(self.gone_at) if self.gone_at else now
        return max(0.0, (end - datetime.fromisoformat(self.started_at)).total_seconds())


class Run(Struct, frozen=True, kw_only=True):
    run_id: str
    created_at: str
    store: str
    state: RunState
    reason: Reason | None
    message: str | None
    ended_at: str | None
    folder: str | None
    bucket: str  # s3://…, where it is kept as well; "": nowhere
    attempts: tuple[Attempt, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class View(Struct, frozen=True, kw_only=True):
    """A run as it stands."""

    run: Run
    plan: Plan
    last: Record | None  # the newest line of its metrics
    result: Result | None
    log_tail: str
    spent_microusd: int
    folder: str  # where its files are now
    unseen: str = ""  # why its job could not be looked at
