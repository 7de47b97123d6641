"""What a check found, and many asked at once: for `launch doctor` and before a paid second."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from launcher.errors import LaunchError, one_line

# missing: optional, or made when first needed · skipped: there is nothing to look at, or no means
# here · unknown: it was asked, and did not answer
State = Literal["ok", "failed", "skipped", "unknown", "missing"]


class Check(Struct, frozen=True, kw_only=True):
    name: str
    state: State
    found: str
    next: str = ""  # what to do about it
    outside: bool = False  # failed: a system outside this program, not what was given to it

    @property
    def line(self) -> str:
        return f"{self.name}: {self.found}" + (f"; {self.next}" if self.next else "")


class Question(NamedTuple):
    """A check that takes time: `ask` answers it, and is not waited for beyond `seconds`."""

    name: str
    seconds: float
    ask: Callable[[], Check]


def asked(questions: Sequence[Question]) -> list[Check]:
    """All questions at once, the answers in their order.

    What does not answer in its time, or breaks off, is unknown. Such a thread is left behind: it
    does not hold up the end of the program.
    """
    answers: dict[str, Check] = {}

    def ask(question: Question) -> None:
        try:
            answers[question.name] = question.ask()
        except LaunchError as error:
            answers[question.name] = _unknown(question, one_line(error))
        except Exception as error:
            answers[question.name] = _unknown(question, f"{type(error).__name__}: {error}")

    begun = time.monotonic()
    threads = [threading.Thread(target=ask, args=(q,), daemon=True) for q in questions]
    for thread in threads:
        thread.start()
    for question, thread in zip(questions, threads, strict=True):
        thread.join(max(0.0, begun + question.seconds - time.monotonic()))
    late = {q.name: _unknown(q, f"no answer in {q.seconds:g} s") for q in questions}
    return [answers.get(question.name, late[question.name]) for question in questions]


def _unknown(question: Question, why: str) -> Check:
    return Check(name=question.name, state="unknown", found=why)
