"""What `jobs.label` is told, and what it says at its end. Prices and caps are exact decimals in
JSON and integer micro-dollars from there on."""

import math
import re
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from jobs.spec.job import Figure, Positive, PositiveInt

MICROUSD_PER_USD = 1_000_000

Name = Annotated[str, Meta(min_length=1)]
# Upper case only, so that a key put here by mistake is refused, and not echoed.
VariableName = Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]{0,63}$")]
# A key of the strict schema that endpoints are sent, which take no other names.
DimensionName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")]


def _check_usd(name: str, value: Decimal) -> None:
    if not (value.is_finite() and value >= 0):
        raise ValueError(f"`{name}` is no amount of dollars")


class Texts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """JSON lines, and which of them are scored: the prefilter, then a random sample by the seed.

    `include` and `exclude` are searched for anywhere in the text (Python `re`). Without `id_field`
    a text's id is its line number.
    """

    file: Name
    text_field: Name = "text"
    id_field: Name | None = None
    min_characters: Annotated[int, Meta(ge=0)] = 1
    max_characters: PositiveInt | None = None
    include: str | None = None
    exclude: str | None = None
    sample: PositiveInt | None = None
    seed: Annotated[int, Meta(ge=0)] = 17

    def __post_init__(self) -> None:
        for key, pattern in (("include", self.include), ("exclude", self.exclude)):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"`{key}` is no regular expression: {error}") from None
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError("`max_characters` is below `min_characters`")


class Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible endpoint. `key_variable` names the environment variable with the key;
    null is for an endpoint that wants none.

    `answer` is how the shape is asked for; nothing falls back by itself. `json_schema` sends the
    dimensions as a strict schema; `json_object` and `text` leave it to the prompt to describe the
    JSON, and `text` also reads it out of one Markdown fence. `temperature: null` and `output_limit:
    max_completion_tokens` are what reasoning models accept.
    """

    base_url: Annotated[str, Meta(pattern=r"^https?://[^@\s]+$")]  # no user:password@
    model: Name
    key_variable: VariableName | None = "OPENAI_API_KEY"
    answer: Literal["json_schema", "json_object", "text"] = "json_schema"
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = 0.0
    max_output_tokens: PositiveInt = 256
    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout_seconds: Positive = 120.0


class Dimension(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score's range, both ends included."""

    min: Figure = 0.0
    max: Figure = 10.0
    type: Literal["number", "integer"] = "number"
    description: str | None = None

    def __post_init__(self) -> None:
        if not self.min < self.max:
            raise ValueError(f"`min` {self.min:g} is not below `max` {self.max:g}")
        if self.type == "integer" and (self.min % 1 or self.max % 1):
            raise ValueError("`type: integer` needs a whole `min` and `max`")


class Pace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests at a time, and how many requests and tokens a minute (null: as many as come)."""

    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 4  # 1000 connections: openai's own limit
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None


class Retries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often again, after the first try.

    `errors`: after 408, 409, 429, 5xx, a timeout or a lost connection, at each start; the wait is
    drawn between half and all of `first_wait_seconds` × 2^n, `longest_wait_seconds` at most, and
    never less than the endpoint's Retry-After. `invalid`: after an answer that cannot be used,
    over all starts. `give_up_after`: texts without scores one after another, before the rest is
    left unasked.
    """

    errors: Annotated[int, Meta(ge=0, le=100)] = 5
    invalid: Annotated[int, Meta(ge=0)] = 2
    first_wait_seconds: Positive = 1.0
    longest_wait_seconds: Positive = 60.0
    longest_retry_after_seconds: Positive = 600.0
    give_up_after: PositiveInt = 20


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the output folder's answers may cost in all, over every start. One at least is set."""

    max_tokens: PositiveInt | None = None  # in and out
    max_usd: Decimal | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is None and self.max_usd is None:
            raise ValueError("set `max_tokens` or `max_usd`: asking without a limit has no end")
        if self.max_usd is not None:
            _check_usd("max_usd", self.max_usd)

    @property
    def max_microusd(self) -> int | None:
        return None if self.max_usd is None else int(self.max_usd * MICROUSD_PER_USD)


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars for a million tokens, as the endpoint's price list has them today."""

    usd_per_million_input: Decimal
    usd_per_million_output: Decimal

    def __post_init__(self) -> None:
        _check_usd("usd_per_million_input", self.usd_per_million_input)
        _check_usd("usd_per_million_output", self.usd_per_million_output)

    def microusd(self, tokens_in: int, tokens_out: int) -> int:
        """What a request costs, rounded up. A dollar a million is a micro-dollar a token."""
        cost = tokens_in * self.usd_per_million_input + tokens_out * self.usd_per_million_output
        return math.ceil(cost)


class LabelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One labelling task. Relative paths start at the folder of the spec's own file."""

    texts: Texts
    endpoint: Endpoint
    prompt: Name  # a file that holds {text}
    dimensions: Annotated[dict[DimensionName, Dimension], Meta(min_length=1)]
    limits: Limits
    prices: Prices | None = None
    output: Name = "labels"  # a folder
    pace: Pace = Pace()
    retries: Retries = Retries()

    def __post_init__(self) -> None:
        if self.limits.max_usd is not None and self.prices is None:
            raise ValueError("`limits.max_usd` needs `prices`")


class DimensionSummary(Struct, frozen=True, kw_only=True):
    mean: float
    min: float
    max: float
    histogram: tuple[int, ...]  # texts in equal parts of the range, from its lower end


class LabelSummary(Struct, frozen=True, kw_only=True):
    """How a start ended. Rows are lines of the input; a text that stands on several is asked once.

    Tokens and micro-dollars are those of the output folder over all starts: as the endpoint
    reported them, and apart from that the most that requests without a report can have cost.
    """

    ended: Literal["done", "limit", "signal", "endpoint"]
    message: str
    rows: int
    prefiltered: dict[str, int]  # rows, by the rule that took them out
    sampled: int  # rows
    texts: int  # different ones among the sampled rows
    kept: int  # texts that an earlier start has labelled
    asked: int  # texts that this start sent
    requests: int  # HTTP requests of this start, retries too
    labelled: int  # texts, kept ones too
    invalid: int  # texts with no usable answer in all their tries
    failed: int  # texts that got no answer in this start
    unasked: int  # texts left
    rows_written: int
    tokens_in: int
    tokens_out: int
    microusd: int | None  # None: no prices were given
    unreported_tokens: int
    unreported_microusd: int | None
    dimensions: dict[str, DimensionSummary]
    invalid_reasons: dict[str, int]  # invalid answers, by reason
    warnings: tuple[str, ...] = ()
