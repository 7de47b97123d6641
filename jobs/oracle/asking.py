"""Asks about many texts at a time; each request passes the limits, the pace and the journal.

The client's own retries are off for that reason.
"""

import asyncio
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jobs.oracle.admission import Admission, Cost, End
from jobs.oracle.endpoint import COMPLETION, Failure, failure_of, hide
from jobs.oracle.journal import Answer, Failed, Journal, Sent
from jobs.oracle.question import Form, Question
from jobs.oracle.scores import Unusable, read_scores
from jobs.progress import now

REPORT_EVERY = 100  # texts


@dataclass
class Asking:
    """One start's work on the questions."""

    form: Form
    client: Any  # openai.AsyncOpenAI
    key: str
    journal: Journal
    admission: Admission
    say: Callable[[str], None]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # by the question's key
    failed: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    requests: int = 0
    above_worst_case: int = 0
    fruitless_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.spec = self.form.spec

    def tries_left(self, key: str) -> bool:
        """Whether a text without scores may be asked about once more."""
        return len(self.journal.past.unusable.get(key, ())) <= self.spec.retries.invalid

    async def all(self, questions: Iterable[Question]) -> None:
        """Ask until every question is answered, or there is an end to it."""
        waiting = deque(questions)

        async def worker() -> None:
            while waiting and self.admission.end is None:
                await self._one(waiting.popleft())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.spec.pace.concurrency, len(waiting))):
                group.create_task(worker())

    async def _one(self, question: Question) -> None:
        """Ask until there are scores, or no tries are left."""
        retries, errors = self.spec.retries, 0
        while self.tries_left(question.key):
            outcome = await self._send(question)
            if outcome is None:
                return
            if isinstance(outcome, Answer):
                if outcome.scores is not None:
                    self.fruitless_in_a_row = 0
                    self.scores[question.key] = outcome.scores
                    self._report()
                    return
                continue
            errors += 1
            if self._stops(outcome):
                self.failed.add(question.key)
                return
            if not outcome.retried or errors > retries.errors:
                self.failed.add(question.key)
                self._without_scores(question, outcome.error)
                return
            span = min(retries.first_wait_seconds * 2 ** (errors - 1), retries.longest_wait_seconds)
            await self.admission.pause(max(span * random.uniform(0.5, 1), outcome.wait_seconds))
        self._without_scores(question, self.journal.past.unusable[question.key][-1])

    def _report(self) -> None:
        if len(self.scores) % REPORT_EVERY == 0:
            tokens = self.admission.spending.reported.tokens
            self.say(f"{len(self.scores)} labelled, {tokens} tokens so far")

    def _stops(self, failure: Failure) -> bool:
        """Whether no request can be expected to do better; holds the others back where asked."""
        longest = self.spec.retries.longest_retry_after_seconds
        if failure.refused:
            self.admission.stop(End("endpoint", f"the endpoint refuses: {failure.error}"))
            return True
        if failure.wait_seconds > longest:
            message = (
                f"the endpoint asks for a pause of {failure.wait_seconds:.0f} s: start again then"
            )
            self.admission.stop(End("endpoint", message))
            return True
        if failure.wait_seconds:
            self.admission.hold(failure.wait_seconds)
        return False

    def _without_scores(self, question: Question, why: str) -> None:
        self.fruitless_in_a_row += 1
        self.say(f"text {question.id!r} has no scores: {why}")
        if self.fruitless_in_a_row >= self.spec.retries.give_up_after:
            message = f"{self.fruitless_in_a_row} texts one after another got no scores: {why}"
            self.admission.stop(End("endpoint", message))

    async def _send(self, question: Question) -> Answer | Failure | None:
        """One request, from its reservation to its line in the journal; None: no more is asked."""
        tokens_in, tokens_out = question.tokens_in_at_most, self.spec.endpoint.max_output_tokens
        microusd = self._microusd(tokens_in, tokens_out)
        at_most = Cost(tokens_in + tokens_out, microusd or 0)
        if not await self.admission.enter(at_most):
            return None
        real: Cost | None = None
        try:
            self.requests += 1
            self.asked.add(question.key)
            number = self.journal.past.requests + 1
            self._record(
                Sent(at=now(), request=number, key=question.key,
                     tokens_in_at_most=tokens_in, tokens_out_at_most=tokens_out,
                     microusd_at_most=microusd)
            )  # fmt: skip
            outcome = await self._request(question, number)
            if isinstance(outcome, Answer):
                self._record(outcome)
                if outcome.tokens_in is not None and outcome.tokens_out is not None:
                    real = Cost(outcome.tokens_in + outcome.tokens_out, outcome.microusd or 0)
                    self.above_worst_case += real.tokens > at_most.tokens
            else:
                self._record(
                    Failed(at=now(), request=number, key=question.key, id=question.id,
                           error=outcome.error, status=outcome.status, billed=outcome.billed)
                )  # fmt: skip
                real = None if outcome.billed else Cost()
            return outcome
        finally:
            self.admission.leave(at_most, real)

    async def _request(self, question: Question, number: int) -> Answer | Failure:
        endpoint = self.spec.endpoint
        limit = {endpoint.output_limit: endpoint.max_output_tokens}
        try:
            async with asyncio.timeout(endpoint.timeout_seconds):  # a trickle has an end too
                reply = await self.client.chat.completions.with_raw_response.create(
                    **self.form.body(question.text), **limit
                )
        except Exception as error:
            failure = failure_of(error)
            return dataclasses.replace(failure, error=hide(self.key, failure.error))
        text = hide(self.key, reply.http_response.content.decode(errors="replace"))
        return self._answer(text, question, number)

    def _answer(self, body: str, question: Question, number: int) -> Answer:
        """The reply as it is kept, scores read out of it where it holds them."""
        raw, scores, unusable, finish_reason, completion = body, None, None, None, None
        try:
            completion = COMPLETION.decode(body)
            choice = completion.choices[0]
            finish_reason, message = choice.finish_reason, choice.message
            raw = message.content or message.refusal or ""
            if message.refusal:
                raise Unusable("refused to answer")
            fenced = self.spec.endpoint.answer == "text"
            scores = read_scores(raw, self.spec.dimensions, fenced)
        except (msgspec.DecodeError, IndexError):
            unusable = "no chat completion"
        except Unusable as reason:
            cut = finish_reason == "length"
            unusable = "cut off at endpoint.max_output_tokens" if cut else str(reason)
        usage = completion.usage if completion is not None else None
        cost = self._microusd(usage.prompt_tokens, usage.completion_tokens) if usage else None
        return Answer(
            at=now(),
            request=number,
            key=question.key,
            id=question.id,
            raw=raw,
            model=completion.model if completion is not None else None,
            finish_reason=finish_reason,
            tokens_in=usage.prompt_tokens if usage is not None else None,
            tokens_out=usage.completion_tokens if usage is not None else None,
            microusd=cost,
            scores=scores,
            unusable=unusable,
        )

    def _microusd(self, tokens_in: int, tokens_out: int) -> int | None:
        return self.spec.prices.microusd(tokens_in, tokens_out) if self.spec.prices else None

    def _record(self, event: Sent | Answer | Failed) -> None:
        self.journal.write(event)
        self.journal.past.add(event)
