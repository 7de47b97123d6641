"""The trainer's logs to a tracker too, by transformers' own integration, which can do no harm here.

A tracker has a thread of its own: training hands it each log and goes on. Where it fails, that is
said once and nothing more is handed to it; at the end it is waited for END_SECONDS at most. What is
tracked is the training: neither the base's evaluation before it nor the answers after it.
"""

import copy
import os
import queue
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from jobs import layout
from jobs.spec import ResolvedSpec, Tracked, Tracker

END_SECONDS = 20.0  # to send what is left, of a job's last minutes. Assumption
_THREAD = "tracker"
WANDB = "https://api.wandb.ai"  # its own default


class Tracking(TrainerCallback):
    """Hands what the trainer logs to a tracker's thread."""

    def __init__(self, tracker: Tracker, folder: Path) -> None:
        self._tracker = tracker
        self._where = _where(tracker, folder)
        self._calls: queue.SimpleQueue[tuple[str, Any, dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=_THREAD, daemon=True)
        self._logs = 0
        self._problem = ""
        self._ended = False

    def ended(self) -> Tracked:
        """What came of it, when nothing more is to be sent: a training may have broken off."""
        self._end()
        return Tracked(
            tracker=self._tracker, where=self._where, logs=self._logs, problem=self._problem
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.is_world_process_zero and not self._thread.is_alive():
            self._hand("on_train_begin", (args, state, control), {"model": more.get("model")})
            self._thread.start()

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._thread.is_alive() and not self._ended:
            logs = dict(more.get("logs") or {})
            self._hand("on_log", (args, state, control), {"logs": logs, "model": more.get("model")})

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._thread.is_alive() and not self._ended:
            self._hand("on_train_end", (args, state, control), {"model": more.get("model")})
            self._end()

    def _end(self) -> None:
        """Returns when all is sent, or time is up."""
        if self._ended or not self._thread.is_alive():
            return
        self._ended = True
        self._calls.put(None)
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._say(f"not everything was sent in {END_SECONDS:g} s")

    def _hand(self, event: str, positional: tuple[Any, Any, Any], named: dict[str, Any]) -> None:
        args, state, control = positional
        if not self._problem:
            self._calls.put((event, (args, copy.copy(state), control), named))

    def _work(self) -> None:
        try:
            inner = INTEGRATION_TO_CALLBACK[self._tracker]()
            while (call := self._calls.get()) is not None:
                event, positional, named = call
                getattr(inner, event)(*positional, **named)
                self._logs += event == "on_log"
            if self._tracker == "wandb":  # the others end with on_train_end
                import wandb

                wandb.finish()
        except BaseException as error:  # whatever a tracker raises: the training is what is paid
            self._say(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _say(self, problem: str) -> None:
        problem = re.sub(r"//[^/@\s]+@", "//", problem)  # a name and a password before a host
        if not self._problem:
            self._problem = problem
            print(f"--track {self._tracker}: {problem}; the training goes on", flush=True)


def set_environment(job: ResolvedSpec, folder: Path) -> None:
    """Before the tracker is imported: into the run's folder, but for what the variables name.

    Curves alone: what is saved goes where the run goes.
    """
    place = folder / layout.TRACKING
    place.mkdir(exist_ok=True)
    if job.track == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(place)
    elif job.track == "trackio":
        _default(TRACKIO_DIR=str(place), DO_NOT_TRACK="true")
    elif job.track == "mlflow":
        os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "FALSE"
        _default(
            MLFLOW_TRACKING_URI=(place / "mlruns").as_uri(),
            MLFLOW_ALLOW_FILE_STORE="true",  # 3.17 wants to be told so for a folder
            MLFLOW_EXPERIMENT_NAME=job.name,
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",  # a password in it would be in the log
            # a server that is down: said after seconds, not after minutes
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="2",
            MLFLOW_HTTP_REQUEST_TIMEOUT="10",
        )
    elif job.track == "wandb":
        os.environ.update(WANDB_LOG_MODEL="false", WANDB_WATCH="false")
        if not _may_wandb():
            os.environ["WANDB_MODE"] = "offline"  # it would ask at a prompt
        _default(
            WANDB_DIR=str(place),
            WANDB_PROJECT=job.name,
            WANDB_RUN_ID=job.run_id,  # a later attempt goes on with the same curve
            WANDB_RESUME="allow",
            WANDB_SILENT="true",
            WANDB_CONSOLE="off",
            WANDB_DISABLE_GIT="true",
            WANDB_DISABLE_CODE="true",
        )


def _default(**variables: str) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _may_wandb() -> bool:
    """Whether it has a key: in its variable, or where `wandb login` keeps it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB)).hostname or ""
    return netrc.is_file() and host in netrc.read_text(errors="replace")


def _where(tracker: Tracker, folder: Path) -> str:
    """For people: the run's own folder, or an address without what it may hold of a password."""
    own = folder / layout.TRACKING
    named = str(own)
    if tracker == "trackio":
        named = os.environ.get("TRACKIO_SPACE_ID") or os.environ["TRACKIO_DIR"]
    elif tracker == "mlflow":
        named = os.environ["MLFLOW_TRACKING_URI"]
    elif tracker == "wandb":
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
        named = os.environ["WANDB_DIR"] if offline else os.environ.get("WANDB_BASE_URL", WANDB)
    for place in (str(own), own.as_uri()):
        if named.startswith(place):
            return f"{layout.TRACKING}{named.removeprefix(place)}/"
    address = urlsplit(named)
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def is_stuck() -> bool:
    """Whether a tracker is still at it: what it has registered for the process's end may hang."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
