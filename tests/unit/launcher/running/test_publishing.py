"""What is said of a run that cannot be published, before any token is asked for."""

from pathlib import Path

import pytest

from jobs import layout
from jobs.spec import GateResult, Result, encode
from launcher.errors import BadInput, GateFailed
from launcher.running.publishing import PublishFlags, publish
from launcher.types import Budget
from tests.unit.launcher.plans import local, planned
from tests.unit.launcher.renting import Rented, first, runner

__all__ = ["runner"]  # the fixture


def test_an_unknown_run_is_said_before_a_token_is_asked_for(runner: Rented) -> None:
    with pytest.raises(BadInput, match="no run nothing"):
        publish("nothing", "me/new", PublishFlags())


def test_a_run_under_way_is_too(runner: Rented) -> None:
    first()
    with pytest.raises(BadInput, match=r"run climb is .*; collect it when it has ended"):
        publish("climb", "me/new", PublishFlags())


@pytest.mark.usefixtures("apart")
def test_and_failed_gates_are(tmp_path: Path) -> None:
    chosen = planned([local("RTX4090", 23)], Budget()).chosen
    assert chosen is not None
    assert chosen.spec is not None
    (tmp_path / layout.SPEC).write_bytes(encode(chosen.spec))
    gate = GateResult(metric="loss", min=None, max=0.1, value=2.0, passed=False)
    result = Result(run_id="r", status="success", gates=(gate,))
    (tmp_path / layout.RESULT).write_bytes(encode(result))
    with pytest.raises(GateFailed, match="is not published: FAIL: loss"):
        publish(str(tmp_path), "me/new", PublishFlags())
    with pytest.raises(BadInput, match="needs HF_TOKEN, which is not set"):
        publish(str(tmp_path), "me/new", PublishFlags(force=True))
