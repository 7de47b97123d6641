"""A job in a container on this machine, by Docker or Podman.

The container's first process (jobs/contained.py) holds the run's lock, through the one folder that
it can write: whoever looks sees that the job lives, also where the engine's daemon has died under
it. The engine is asked to start it, to signal it, and how it ended.
"""

import contextlib
import hashlib
import os
import signal
from pathlib import Path

from jobs import layout
from jobs.spec import Failure
from launcher.catalog import host
from launcher.errors import NotHere, OutsideFailed
from launcher.executors import image
from launcher.executors.base import GRACE_SECONDS, Order, Say, Sight
from launcher.executors.claims import TO_START_SECONDS, hold, wait
from launcher.executors.confinement import Cell, arguments, needs_network
from launcher.executors.engines import Engine, EngineFailed, State, is_missing
from launcher.executors.local import LocalExecutor, lay_out
from launcher.types import Offer
from results.records import is_at_work, read_result

# For the engine to set a container up, or to take it away, on a slow disk. Assumption.
START_SECONDS = 120.0
LOCK_SECONDS = 60.0  # for its first process to hold the run's lock. Assumption
_TOKEN = "HF_TOKEN"


class ContainerExecutor(LocalExecutor):
    poll_seconds = 0.5

    def __init__(self, engine: str) -> None:
        self.scheme = engine
        self._engine = Engine(engine)

    def require_ready(self) -> None:
        named = image.reference()
        labels = self._engine.labels(named)
        if labels is None:
            raise NotHere(
                f"{self.scheme} has no image {named}: `launch images build` makes it\n"
                "or --executor process"
            )
        mistake = image.mistake_in(labels)
        if mistake is not None:
            raise NotHere(f"{named}: {mistake}; `launch images build` makes it anew")

    def submit(self, handle: str, order: Order, say: Say) -> None:
        work = self.folder(handle)
        work.mkdir(parents=True, exist_ok=True)
        with hold(work, TO_START_SECONDS):
            order.require_wanted()
            self.clear(handle)
            self._remove(work)
            lay_out(work, order.spec)
            self._run(handle, order)
        # It takes the lock over. Whatever ends before that leaves nobody to say why.
        if not wait(lambda: is_at_work(work) or not self._is_running(handle), LOCK_SECONDS):
            raise OutsideFailed(f"the container of {work} does not begin: {self._last_words(work)}")
        if not self.look(handle).started and not wait(
            lambda: self.look(handle).started or not is_at_work(work), LOCK_SECONDS
        ):
            raise OutsideFailed(f"the job in {work} does not begin; see {layout.LOG} there")

    def look(self, handle: str) -> Sight:
        work = self.folder(handle)
        alive = is_at_work(work)  # before the result is read: a job writes it, then ends
        started = (work / layout.PID).exists()
        failed_early = False
        if not alive:
            state = self._state(work, known=started or read_result(work) is not None)
            if state is not None and state.running:
                alive = True  # about to take the lock, or to end
            elif state is not None:
                failed_early = not started and read_result(work) is None
                self._bury(work, state)
            else:  # taken away by other hands, or never there
                _token_file(work).unlink(missing_ok=True)
        result = read_result(work)
        return Sight(
            alive=alive, started=started, result=result, billed=False, setup_failed=failed_early
        )

    def stop(self, handle: str, why: Failure | None = None) -> None:
        self._signal(self.folder(handle), signal.SIGTERM)

    def cancel(self, handle: str) -> None:
        work = self.folder(handle)
        wait(lambda: (work / layout.PID).exists() or not self.look(handle).alive, seconds=10.0)
        for what, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 10.0)):
            self._signal(work, what)
            if wait(lambda: not self.look(handle).alive, seconds):
                return
        raise OutsideFailed(f"container {name_for(work)} does not end; {self.scheme} rm -f ends it")

    def _run(self, handle: str, order: Order) -> None:
        work, spec = self.folder(handle), order.spec
        gpus, uuids = self._gpus(order.offer)
        cell = Cell(
            name=name_for(work),
            image=image.reference(),
            work=work,
            module="jobs.distributed" if spec.processes > 1 else "jobs.train",
            memory_bytes=memory_for(order.offer),
            user=tuple(self._engine.user()),
            gpus=gpus,
            gpu_uuids=uuids,
            token=_put_token(work) if needs_network(spec) else None,
            environment=tuple(os.environ),
        )
        try:
            # Podman's monitor leaves a file `oom` where it was started
            self._engine.ask(*arguments(spec, cell), seconds=START_SECONDS, folder=work)
        except EngineFailed as error:
            self._remove(work)
            if not gpus:
                raise
            raise OutsideFailed(
                f"{self.scheme} cannot hand {order.offer.device.name} to a container: {error}\n"
                "install NVIDIA's container toolkit, or --executor process"
            ) from None

    def _gpus(self, offer: Offer) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The flags that hand over the planned GPU, and its UUID to be found inside."""
        if offer.device.kind != "cuda":
            return (), ()
        from launcher.catalog.local import uuid

        index = offer.instance.removeprefix("gpu")
        found = uuid(int(index))
        return tuple(self._engine.gpu(index, found)), (found,)

    def _state(self, work: Path, known: bool) -> State | None:
        """The container's; nothing where the engine does not answer and the run's folder has said
        enough (`known`): its lock is free, so nobody lives there."""
        try:
            return self._engine.state(name_for(work))
        except EngineFailed:
            if not known:
                raise
            return None

    def _is_running(self, handle: str) -> bool:
        state = self._engine.state(name_for(self.folder(handle)))
        return state is not None and state.running

    def _bury(self, work: Path, state: State) -> None:
        """Its last words to the run's log, where it left no result; then it is removed."""
        if read_result(work) is None:
            with open(work / layout.LOG, "a") as log:
                words = self._last_words(work)
                log.write(f"{words}\nthe container ended with exit code {state.exit_code}\n")
        self._remove(work)

    def _last_words(self, work: Path) -> str:
        with contextlib.suppress(EngineFailed):
            return self._engine.ask("logs", "--tail", "5", name_for(work))
        return ""

    def _remove(self, work: Path) -> None:
        with contextlib.suppress(EngineFailed):
            self._engine.ask("rm", "--force", name_for(work), seconds=START_SECONDS)
        _token_file(work).unlink(missing_ok=True)

    def _signal(self, work: Path, what: signal.Signals) -> None:
        try:
            self._engine.ask("kill", "--signal", what.name, name_for(work))
        except EngineFailed as error:
            if is_at_work(work) and not is_missing(error):
                raise


class DockerExecutor(ContainerExecutor):
    def __init__(self) -> None:
        super().__init__("docker")


class PodmanExecutor(ContainerExecutor):
    def __init__(self) -> None:
        super().__init__("podman")


def name_for(work: Path) -> str:
    """The container's: run ids of two state folders may be the same."""
    return f"loralift-{work.name}-{hashlib.sha256(bytes(work)).hexdigest()[:8]}"


def memory_for(offer: Offer) -> int:
    """Of the host's memory, in bytes: what the plan counted with; beside a GPU, what is free."""
    if offer.device.kind == "cpu":
        return offer.device.usable_bytes
    usable, _ = host.available_bytes(Path("/"))
    return usable


def _put_token(work: Path) -> Path | None:
    """The Hub's token in a file of its own, outside the run's folder, which is collected."""
    token = os.environ.get(_TOKEN)
    if not token:
        return None
    path = _token_file(work)
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "w") as out:
        out.write(token)
    return path


def _token_file(work: Path) -> Path:
    return work.with_name(f".{work.name}.token")
