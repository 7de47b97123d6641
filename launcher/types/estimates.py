"""What a job is estimated to need, and what one measured."""

from typing import Literal

from msgspec import Struct

from jobs.spec import DeviceKind, Strategy

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

    card: str  # and how many, as estimate.calibration.card_name has it
    device: DeviceKind
    strategy: Strategy
    model: str
    memory_metric: str  # the counter of both figures
    memory_bytes: int | None
    memory_estimated_bytes: int | None
    training_tokens: int | None  # of the steps that were timed
    training_seconds: float | None
    training_estimated_seconds: float | None  # for as many tokens
