import signal
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from jobs.callbacks import OrderlyStop, Patience
from jobs.outcome import BadInput, Stopped
from jobs.ranks import Ranks
from jobs.stop import Stop


@pytest.fixture
def given_up():
    return []


@pytest.fixture
def stop(given_up):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    stop = Stop(given_up.append)
    yield stop
    stop.end()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_ends_the_job_at_once_outside_training(stop):
    stop.listen()
    with pytest.raises(Stopped, match="SIGTERM") as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.reason == "CANCELLED"


def test_who_sends_the_signal_may_say_why(stop, tmp_path):
    why = tmp_path / "stop.json"
    stop.listen(why)
    why.write_text('{"reason": "STALLED", "message": "no step in 900 s"}')
    with pytest.raises(Stopped, match="no step in 900 s") as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.reason == "STALLED"


@pytest.mark.parametrize("said", ["", '{"reason": "BORED", "message": "x"}'])
def test_a_reason_that_cannot_be_read_is_a_cancellation(stop, tmp_path, said):
    why = tmp_path / "stop.json"
    why.write_text(said)
    stop.listen(why)
    with pytest.raises(Stopped) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.reason == "CANCELLED"


def test_in_training_it_waits_for_the_step(stop):
    stop.listen()
    reached = []

    def train():
        with stop.finishing_steps():
            signal.raise_signal(signal.SIGTERM)
            reached.append(stop.stopped)

    with pytest.raises(Stopped):
        train()
    assert reached[0] is not None


def test_an_error_in_training_is_not_hidden_by_a_stop(stop):
    def train():
        with stop.finishing_steps():
            stop.request("CANCELLED", "cancelled")
            raise MemoryError

    with pytest.raises(MemoryError):
        train()


def test_the_deadline_is_absolute(stop):
    later = datetime.now(UTC) + timedelta(seconds=0.2)

    def work():
        stop.until(later.isoformat())  # raises as well, where it comes late to that
        threading.Event().wait(60)

    with pytest.raises(Stopped) as caught:
        work()
    assert caught.value.reason == "DEADLINE"


def test_a_deadline_that_passed_while_the_machine_slept_ends_training_with_its_step(
    stop, monkeypatch
):
    stop.until((datetime.now(UTC) + timedelta(hours=1)).isoformat())
    orderly = OrderlyStop(stop, Ranks(0, 1, 0))
    went_on = []

    def train():
        with stop.finishing_steps():
            for slept in (0, 3):
                later = datetime.now(UTC) + timedelta(hours=slept)
                monkeypatch.setattr("jobs.stop.datetime", Clock(later))
                control = TrainerControl()
                orderly.on_step_end(None, None, control)
                went_on.append((control.should_save, control.should_training_stop))

    with pytest.raises(Stopped, match=r"the deadline .* has passed") as caught:
        train()
    assert caught.value.reason == "DEADLINE"
    assert went_on == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("evaluated", "best", "count"),
    [([], None, 0), ([3], 3, 0), ([3, 6, 9], 3, 2), ([3, 6, 9], 9, 0), ([3, 6], None, 1)],
    ids=str,
)
def test_patience_goes_on_where_an_earlier_attempt_ended(evaluated, best, count):
    logged = [{"eval_loss": 1.0, "step": step} for step in evaluated]
    state = TrainerState(log_history=[{"loss": 1.0, "step": 9}, *logged], best_global_step=best)
    args = SimpleNamespace(
        load_best_model_at_end=True, metric_for_best_model="loss", eval_strategy="epoch"
    )
    patience, control = Patience(early_stopping_patience=2), TrainerControl()
    patience.on_train_begin(args, state, control)
    assert patience.early_stopping_patience_counter == count
    assert control.should_training_stop == (count == 2)


class Clock:
    """`datetime` at a moment."""

    fromisoformat = datetime.fromisoformat

    def __init__(self, moment):
        self.now = lambda _: moment


def test_a_past_deadline_stops_at_once(stop):
    with pytest.raises(Stopped, match="2020-01-01"):
        stop.until("2020-01-01T00:00:00Z")


@pytest.mark.parametrize("deadline", ["tomorrow", "2030-01-01T00:00:00"])
def test_a_deadline_without_meaning_is_bad_input(stop, deadline):
    with pytest.raises(BadInput):
        stop.until(deadline)


def test_a_thread_ends_what_does_not_react(given_up):
    ended = threading.Event()
    stop = Stop(lambda stopped: (given_up.append(stopped), ended.set()), grace_seconds=0.05)

    def hang():
        with stop.finishing_steps():
            stop.request("CANCELLED", "cancelled")
            assert ended.wait(60)

    with pytest.raises(Stopped):
        hang()
    assert given_up[0].reason == "CANCELLED"


def test_nothing_interrupts_the_writing_of_the_result(stop):
    stop.listen()
    stop.end()
    signal.raise_signal(signal.SIGTERM)
    assert stop.stopped is None
