"""The processes of one job. Rank 0 speaks and writes; the others only compute.

torchrun (and so `accelerate launch` and jobs/distributed.py) tells each process its place by
environment variables; a process without them is a whole job.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from jobs import layout
from jobs.outcome import BadInput
from jobs.spec import DeviceKind, Failure, FailureReason

T = TypeVar("T")

# How long ranks wait for one another: rank 0 generates the answers alone. Assumption. A rank that
# died is not waited for: whoever started the ranks ends the others.
WAIT_SECONDS = 4 * 3600

# What a rank may tell the others to stop for; the highest wins.
_REASONS: tuple[FailureReason | None, ...] = (
    None,
    "CANCELLED",
    "PREEMPTED",
    "STALLED",
    "DEADLINE",
)


@dataclass(frozen=True)
class Ranks:
    """This process among `count`. Alone, every method returns at once."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def join(self, device: DeviceKind) -> None:
        """Meet the other ranks. Later, accelerate finds the group as it is."""
        if self.count == 1:
            return
        import torch

        if device == "cuda":
            torch.cuda.set_device(self.local_rank)
        torch.distributed.init_process_group(
            "nccl" if device == "cuda" else "gloo", timeout=timedelta(seconds=WAIT_SECONDS)
        )

    def wait(self) -> None:
        """Until every rank is here."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()

    def from_first(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.count == 1:
            return value
        import torch

        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def require_same(self, value: Any, what: str) -> None:
        """Raises `BadInput` on a rank that sees something else than rank 0."""
        firsts = self.from_first(value)
        if firsts != value:
            raise BadInput(
                f"rank {self.rank} sees {what} {value}, rank 0 {firsts}: all nodes must share the "
                "run's folder"
            )

    def gravest(self, reason: FailureReason | None) -> FailureReason | None:
        """What any rank wants to stop for, the same on every rank; None: no rank does."""
        if self.count == 1:
            return reason
        import torch

        on_gpu = torch.distributed.get_backend() == "nccl"
        found = torch.tensor(_REASONS.index(reason), device="cuda" if on_gpu else "cpu")
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        return _REASONS[int(found)]

    @contextlib.contextmanager
    def one_after_first(self) -> Iterator[None]:
        """The first rank of each machine does what is inside before the others do."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def leave(self) -> None:
        """Part from the others, once all are done."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


def ranks() -> Ranks:
    """This process's place, as torchrun says it."""
    rank, count, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    return Ranks(rank, count, local)


def started_by_us() -> bool:
    """Whether jobs/distributed.py started this rank: it holds the lock and is the job's process."""
    return layout.RANKS_VARIABLE in os.environ


def die_with_parent() -> None:
    """Have SIGTERM when the starting process is gone, be it killed: no rank may outlive the job.

    prctl(2), PR_SET_PDEATHSIG; elsewhere than on Linux there is no such thing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def tell_starter(failure: Failure) -> None:
    """Leave the failure where torchrun looks for it (torch.distributed.elastic's error file)."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file is None:
        return
    said = {
        "message": failure.message,
        "extraInfo": {
            "timestamp": str(int(time.time())),
            "py_callstack": failure.traceback,
            "reason": failure.reason,
        },
    }
    with contextlib.suppress(OSError), open(file, "w") as out:
        json.dump({"message": said}, out)
