"""What is left on this machine of a container."""

import fcntl
from pathlib import Path

import pytest

from jobs import layout
from launcher.executors.container import DockerExecutor
from launcher.executors.engines import EngineFailed, State


@pytest.mark.parametrize(
    ("state", "at_work", "kept"),
    [
        (None, False, False),  # `docker rm` by hand
        (EngineFailed("no daemon"), False, False),
        (State(running=True, exit_code=0), False, True),  # about to take the lock
        (None, True, True),
    ],
)
def test_a_token_goes_with_its_container_whoever_took_that_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: State | EngineFailed | None,
    at_work: bool,
    kept: bool,
) -> None:
    work, token = tmp_path / "run-1", tmp_path / ".run-1.token"
    work.mkdir()
    token.write_text("hf_secret")
    (work / layout.PID).write_text("1\n")

    def told(_: object, name: str) -> State | None:
        if isinstance(state, EngineFailed):
            raise state
        return state

    monkeypatch.setattr("launcher.executors.engines.Engine.state", told)
    with (work / layout.LOCK).open("a") as lock:
        if at_work:
            fcntl.flock(lock, fcntl.LOCK_EX)
        DockerExecutor().look(f"docker:{work}")
    assert token.exists() == kept
