"""When the next request may go out: what has been spent, what is in flight, and the pace."""

import asyncio
import math
from dataclasses import dataclass, field

from jobs.oracle.journal import Past
from jobs.spec.label import Limits, Prices


@dataclass(frozen=True)
class Cost:
    tokens: int = 0
    microusd: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.tokens + other.tokens, self.microusd + other.microusd)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.tokens - other.tokens, self.microusd - other.microusd)


@dataclass
class Spending:
    """What the output folder has cost, over all starts, and what is on its way."""

    limits: Limits
    reported: Cost = Cost()
    unreported: Cost = Cost()  # at most: timeouts, crashes, answers without a usage
    in_flight: Cost = Cost()  # at most
    requests_in_flight: int = 0

    @classmethod
    def since(cls, past: Past, limits: Limits, prices: Prices | None) -> "Spending":
        """What earlier starts spent; where they had no prices, at the present ones."""

        def cost(tokens_in: int, tokens_out: int, microusd: int | None) -> Cost:
            if microusd is None:
                microusd = prices.microusd(tokens_in, tokens_out) if prices else 0
            return Cost(tokens_in + tokens_out, microusd)

        spending = cls(limits)
        for answer in past.answers:
            if answer.tokens_in is not None and answer.tokens_out is not None:
                spending.reported += cost(answer.tokens_in, answer.tokens_out, answer.microusd)
        for sent in past.open.values():
            at_most = (sent.tokens_in_at_most, sent.tokens_out_at_most, sent.microusd_at_most)
            spending.unreported += cost(*at_most)
        return spending

    def refusal(self, at_most: Cost) -> str | None:
        """The limit that this much more could break, or None."""
        after = self.reported + self.unreported + self.in_flight + at_most
        if self.limits.max_tokens is not None and after.tokens > self.limits.max_tokens:
            return "limits.max_tokens"
        cap = self.limits.max_microusd
        return "limits.max_usd" if cap is not None and after.microusd > cap else None

    def reserve(self, at_most: Cost) -> None:
        self.in_flight += at_most
        self.requests_in_flight += 1

    def settle(self, at_most: Cost, real: Cost | None) -> None:
        """Close a reservation with its real cost; None: it is not known, so it stays at most."""
        self.in_flight -= at_most
        self.requests_in_flight -= 1
        if real is None:
            self.unreported += at_most
        else:
            self.reported += real


@dataclass
class Meter:
    """So much a minute, evenly: what is taken pushes the next start back by its share of a minute.

    Evenly, because an endpoint may hold a minute's limit by the second. Times are seconds of any
    one clock.
    """

    per_minute: int | None
    free_at: float = -math.inf

    def wait_seconds(self, now: float) -> float:
        return max(0.0, self.free_at - now)

    def take(self, now: float, amount: int) -> None:
        if self.per_minute is not None:
            self.free_at = max(self.free_at, now) + amount * 60 / self.per_minute

    def give_back(self, amount: int) -> None:
        if self.per_minute is not None:
            self.free_at -= amount * 60 / self.per_minute


@dataclass(frozen=True)
class End:
    """Why no more is asked."""

    kind: str  # of LabelSummary.ended
    message: str


@dataclass
class Admission:
    """Lets requests out one by one; asyncio, one thread.

    A request that does not fit the limits waits for those in flight, which may cost less than they
    were counted for; when none is left, that is the end.
    """

    spending: Spending
    requests: Meter
    tokens: Meter
    end: End | None = None
    held_until: float = -math.inf
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def enter(self, at_most: Cost) -> bool:
        """Wait until a request may go out and count it as in flight; False: no more is asked."""
        while self.end is None:
            now = asyncio.get_running_loop().time()
            limit = self.spending.refusal(at_most)
            if limit is None:
                wait = max(self.requests.wait_seconds(now), self.tokens.wait_seconds(now))
                wait = max(wait, self.held_until - now)
                if wait <= 0:
                    self.spending.reserve(at_most)
                    self.requests.take(now, 1)
                    self.tokens.take(now, at_most.tokens)
                    return True
                await self._change(wait)
            elif self.spending.requests_in_flight:
                await self._change(None)
            else:
                self.stop(End("limit", self._limit_message(limit, at_most)))
        return False

    def leave(self, at_most: Cost, real: Cost | None) -> None:
        """A request came back; `real` is None where its cost is unknown."""
        self.spending.settle(at_most, real)
        if real is not None:
            self.tokens.give_back(at_most.tokens - real.tokens)
        self._changed.set()

    def hold(self, seconds: float) -> None:
        """Nothing goes out for so long: the endpoint asked for it."""
        until = asyncio.get_running_loop().time() + seconds
        self.held_until = max(self.held_until, until)

    def stop(self, end: End) -> None:
        """Nothing more goes out; the first reason stays."""
        if self.end is None:
            self.end = end
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        until = asyncio.get_running_loop().time() + seconds
        while self.end is None:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await self._change(left)

    async def _change(self, timeout_seconds: float | None) -> None:
        # One thread: between a caller's look at the state and this line nothing can have changed.
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _limit_message(self, limit: str, at_most: Cost) -> str:
        spent = self.spending.reported + self.spending.unreported
        return (
            f"{limit}: spent {spent.tokens} tokens, ${spent.microusd / 1e6:.6f}; the next request "
            f"may take {at_most.tokens} tokens, ${at_most.microusd / 1e6:.6f}. "
            "Raise it and start again: what is answered stays"
        )
