"""What is the same for every job on this machine, in a container or not: its folder is here, its
machine costs nothing, and a lock says that it lives."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from jobs import layout
from jobs.spec import ResolvedSpec, encode
from launcher import paths
from launcher.executors.base import name_of
from launcher.executors.claims import collecting

GRACE_SECONDS = 150.0  # the job gives itself 120 to finish its step and write its result


class LocalExecutor:
    """An executor's part that does not depend on how the job was started."""

    scheme: str

    def handle(self, run_id: str, attempt: int) -> str:
        return f"{self.scheme}:{paths.work_folder(run_id)}"

    def folder(self, handle: str) -> Path:
        return Path(name_of(handle))

    def clear(self, handle: str) -> None:
        for stale in (layout.RESULT, layout.PID):
            (self.folder(handle) / stale).unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, handle: str, seconds: float) -> Iterator[None]:
        with collecting(self.folder(handle), seconds):
            yield

    def bring(self, handle: str, until: datetime) -> None:
        """It is here."""

    def release(self, handle: str) -> None:
        """This machine stays."""

    def account(self, handle: str) -> int | None:
        return None


def lay_out(work: Path, spec: ResolvedSpec) -> None:
    """The spec and the user's own metrics into the working folder."""
    shutil.rmtree(work / layout.OWN_METRICS, ignore_errors=True)
    for path in spec.metrics_sha256:  # each file alone: nothing beside it can be imported
        (work / layout.OWN_METRICS).mkdir(exist_ok=True)
        shutil.copyfile(path, work / layout.OWN_METRICS / Path(path).name)
    (work / layout.SPEC).write_bytes(encode(spec))
