"""What is the same for every job on this machine, in a container or not: its folder is here, its
machine costs nothing, and a lock says that it lives."""

import shutil
from datetime import datetime
from pathlib import Path

from jobs import layout
from jobs.spec import ResolvedSpec, encode
from launcher import paths
from launcher.executors.base import Executor, name_of


class LocalExecutor(Executor):
    """An executor's part that does not depend on how the job was started."""

    scheme: str

    def handle(self, run_id: str, attempt: int) -> str:
        return f"{self.scheme}:{paths.work_folder(run_id)}"

    def folder(self, handle: str) -> Path:
        return Path(name_of(handle))

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
