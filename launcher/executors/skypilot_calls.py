"""SkyPilot's calls from the launcher: a child process in SkyPilot's own environment.

A process of its own, because SkyPilot cannot share an environment with everything else, takes 5 s
to import, and may hang: a call that does not answer in time ends the child, not the launcher.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from launcher import paths
from launcher.catalog.refresh import skypilot_python
from launcher.errors import OutsideFailed

PROGRAM = Path(__file__).with_name("skypilot_program.py")
# The first call imports SkyPilot (5 s) and may start its API server (13 to 28 s; measured,
# November 2026, 2 cores); on a busy machine three times that.
TIMEOUT_SECONDS = 180.0
NO_ANSWER = ("NoAnswer",)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # SkyPilot's messages are made for terminals


class CallFailed(Exception):
    """SkyPilot raised; `kinds` are the names of its exception's classes, the nearest first."""

    def __init__(self, kinds: tuple[str, ...], message: str) -> None:
        super().__init__(" ".join(_COLOURS.sub("", message).split()))
        self.kinds = kinds


class Calls:
    """One child at a time, started at the first call and again after it was lost."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._one_at_a_time = threading.Lock()
        self._kept: tuple[int, ...] = ()

    def __call__(self, call: str, *, seconds: float = TIMEOUT_SECONDS, **arguments: Any) -> Any:
        """The answer. Raises CallFailed, with kind NoAnswer where none came in `seconds`;
        OutsideFailed where SkyPilot is not installed."""
        with self._one_at_a_time:
            try:
                line = self._line(call, arguments, seconds)
            except BaseException:  # an answer still to come must not be taken for the next one's
                self._end()
                raise
        said = json.loads(line)
        if "error" in said:
            raise CallFailed(tuple(said["error"]["kinds"]), said["error"]["message"])
        return said["answer"]

    def _line(self, call: str, arguments: dict[str, Any], seconds: float) -> str:
        """What the child answers. Whatever is raised, nobody may read what comes after it."""
        child = self._started()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
            child.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except Empty:
            raise CallFailed(NO_ANSWER, f"no answer to `{call}` in {seconds:.0f} s") from None
        except OSError as error:
            said = f"its process is gone ({error}): {self._last_words()}"
            raise CallFailed(NO_ANSWER, said) from None
        if not line:
            raise CallFailed(NO_ANSWER, f"its process ended: {self._last_words()}")
        return line

    @contextlib.contextmanager
    def keeping_open(self, file: int) -> Iterator[None]:
        """Meanwhile the child has this file open, too: a lock on it lives as long as its call
        does, whatever becomes of this process."""
        self._end()
        self._kept = (file,)
        try:
            yield
        finally:
            self._kept = ()
            self._end()

    def _started(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        python = skypilot_python()
        self._folder = tempfile.TemporaryDirectory()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
        with open(self._log, "w") as log:
            try:
                child = subprocess.Popen(
                    [python, "-c", PROGRAM.read_text()],
                    cwd=paths.skypilot_folder(),
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    pass_fds=self._kept,
                    start_new_session=True,  # Ctrl-C in the launcher's terminal is not for it
                )
            except OSError as error:
                raise OutsideFailed(f"cannot start {python}: {error.strerror}") from None
        self._child = child
        answers: SimpleQueue[str] = SimpleQueue()
        self._answers = answers

        def read() -> None:
            assert child.stdout is not None
            with child.stdout:
                for line in child.stdout:
                    answers.put(line)
            answers.put("")

        threading.Thread(target=read, daemon=True).start()
        return child

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "stderr"

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it printed nothing"
        return "it left no log"

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            assert self._child.stdin is not None
            with contextlib.suppress(OSError):  # what it did not read any more
                self._child.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._child = self._folder = None
