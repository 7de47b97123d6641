import threading

from launcher.checking.checks import Check, Question, asked
from launcher.errors import OutsideFailed


def ok(name: str) -> Check:
    return Check(name=name, state="ok", found="sound")


def test_answers_stand_in_the_order_of_the_questions() -> None:
    second_done = threading.Event()

    def first() -> Check:
        assert second_done.wait(60)  # so both are asked at once
        return ok("first")

    def second() -> Check:
        second_done.set()
        return ok("second")

    found = asked([Question("first", 60, first), Question("second", 60, second)])
    assert [check.name for check in found] == ["first", "second"]


def test_what_does_not_answer_in_time_is_unknown() -> None:
    never = threading.Event()

    def silent() -> Check:
        never.wait(60)
        return ok("silent")

    found = asked([Question("silent", 0.05, silent), Question("quick", 60, lambda: ok("quick"))])
    never.set()
    assert [(c.state, c.found) for c in found] == [
        ("unknown", "no answer in 0.05 s"),
        ("ok", "sound"),
    ]


def test_what_breaks_off_is_unknown_and_says_why() -> None:
    def broken() -> Check:
        raise KeyError("name")

    def outside() -> Check:
        raise OutsideFailed("it is\nnot there")

    found = asked([Question("broken", 60, broken), Question("outside", 60, outside)])
    assert [(c.name, c.state, c.found) for c in found] == [
        ("broken", "unknown", "KeyError: 'name'"),
        ("outside", "unknown", "it is not there"),
    ]


def test_no_question_no_answer() -> None:
    assert asked([]) == []
