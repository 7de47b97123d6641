"""The parts of jobs.label that need no endpoint: times are given, nothing is waited for."""

import asyncio
import email.utils
import time
from decimal import Decimal

import msgspec
import pytest

from jobs.oracle.admission import Admission, Cost, End, Meter, Spending
from jobs.oracle.endpoint import hide, in_the_clear, retry_after_seconds
from jobs.oracle.journal import Answer, Failed, Journal, Sent
from jobs.oracle.question import Form, read_template, scores_schema
from jobs.oracle.scores import Unusable, read_scores
from jobs.oracle.summary import describe
from jobs.oracle.texts import Row, draw, prefilter
from jobs.outcome import BadInput
from jobs.spec.label import Dimension, LabelSpec, Limits, Prices, Texts

DIMENSIONS = {"joy": Dimension(), "count": Dimension(min=-1, max=5, type="integer")}


def spec(**changes) -> LabelSpec:
    fields = {
        "texts": {"file": "in.jsonl"},
        "endpoint": {"base_url": "https://localhost/v1", "model": "m"},
        "prompt": "prompt.txt",
        "dimensions": {"joy": {}},
        "limits": {"max_tokens": 10},
    }
    return msgspec.convert(fields | changes, LabelSpec)


# --- the pace --------------------------------------------------------------------------------


def test_a_meter_never_lets_more_through_than_a_minute_allows():
    meter, moment, sent = Meter(120), 1000.0, []
    while len(sent) < 500:
        moment += meter.wait_seconds(moment)
        sent.append(moment)
        meter.take(moment, 1)
    for start in sent:
        assert sum(start <= at < start + 60 for at in sent) <= 120
    assert sent[-1] - sent[0] == pytest.approx(499 / 2)  # and no less either


def test_a_meter_forgets_time_that_was_not_used_and_takes_back_what_was_not():
    meter = Meter(60)
    meter.take(0.0, 10)
    assert meter.wait_seconds(4.0) == 6.0
    meter.give_back(8)
    assert meter.wait_seconds(4.0) == 0.0
    meter.take(100.0, 1)
    assert meter.wait_seconds(100.0) == 1.0
    free = Meter(None)
    free.take(0.0, 10**9)
    assert free.wait_seconds(0.0) == 0.0


# --- limits ----------------------------------------------------------------------------------


def test_what_is_in_flight_counts_at_its_most():
    spending = Spending(Limits(max_tokens=100, max_usd=Decimal("0.001")))
    spending.reserve(Cost(60, 600))
    assert spending.refusal(Cost(40, 400)) is None
    assert spending.refusal(Cost(41, 0)) == "limits.max_tokens"
    assert spending.refusal(Cost(0, 401)) == "limits.max_usd"
    spending.settle(Cost(60, 600), Cost(10, 100))
    assert spending.refusal(Cost(90, 900)) is None
    spending.reserve(Cost(60, 600))
    spending.settle(Cost(60, 600), None)  # whether it was billed is not known
    assert spending.refusal(Cost(31, 0)) == "limits.max_tokens"


def admission(max_tokens: int) -> Admission:
    return Admission(Spending(Limits(max_tokens=max_tokens)), Meter(None), Meter(None))


def test_a_request_that_does_not_fit_waits_for_those_in_flight():
    async def go() -> None:
        door = admission(100)
        assert await door.enter(Cost(80))
        second = asyncio.create_task(door.enter(Cost(80)))
        await asyncio.sleep(0)
        assert not second.done()
        door.leave(Cost(80), Cost(20))
        assert await second
        third = asyncio.create_task(door.enter(Cost(80)))
        await asyncio.sleep(0)
        door.leave(Cost(80), Cost(20))
        assert not await third  # 40 spent, none in flight: it never will
        assert door.end is not None
        assert door.end.kind == "limit"
        assert not await door.enter(Cost(1))

    asyncio.run(go())


def test_an_end_wakes_everyone_who_waits():
    async def go() -> None:
        door = admission(100)
        assert await door.enter(Cost(100))
        waiting = [asyncio.create_task(door.enter(Cost(1))) for _ in range(5)]
        pausing = asyncio.create_task(door.pause(3600))
        await asyncio.sleep(0)
        door.stop(End("signal", "told to"))
        door.stop(End("limit", "later"))
        assert await asyncio.gather(*waiting) == [False] * 5
        await pausing
        assert door.end == End("signal", "told to")

    asyncio.run(go())


def test_prices_are_exact_and_round_up():
    prices = msgspec.json.decode(
        b'{"usd_per_million_input": 0.0375, "usd_per_million_output": "0.15"}', type=Prices
    )
    assert prices.microusd(0, 0) == 0
    assert prices.microusd(1, 0) == 1
    assert prices.microusd(2_000_000, 1_000_000) == 225_000
    seven = Prices(usd_per_million_input=Decimal("0.07"), usd_per_million_output=Decimal(0))
    assert seven.microusd(100, 0) == 7  # in floats 7.000000000000001, which rounds up to 8
    assert Limits(max_usd=Decimal("0.0000019")).max_microusd == 1


# --- answers ---------------------------------------------------------------------------------


def test_scores_keep_their_order_and_their_values():
    assert list(read_scores('{"count": -1, "x": 1, "joy": 9.25}', DIMENSIONS).items()) == [
        ("joy", 9.25),
        ("count", -1.0),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ('{"joy": NaN, "count": 1}', "not JSON"),
        ('```json\n{"joy": 1, "count": 1}\n```', "not JSON"),
        ('{"joy": 1, "count": 1} and more', "not JSON"),
        ("7", "not a JSON object"),
        ('{"joy": true, "count": 1}', "`joy` is no number"),
        ('{"joy": null, "count": 1}', "`joy` is no number"),
        ('{"joy": 10.001, "count": 1}', "`joy` is not in 0 to 10"),
        ('{"joy": 1, "count": -2}', "`count` is not in -1 to 5"),
        ('{"joy": 1, "count": 1.5}', "`count` is no integer"),
        ('{"joy": 1}', "no `count`"),
    ],
)
def test_what_is_no_score_is_never_made_one(content, reason):
    with pytest.raises(Unusable) as caught:
        read_scores(content, DIMENSIONS)
    assert str(caught.value) == reason


def test_histogram():
    found = describe([0.0, 0.99, 1.0, 5.0, 10.0], Dimension())
    assert found.histogram == (2, 1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert (found.min, found.max, found.mean) == (0.0, 10.0, pytest.approx(3.398))


# --- questions -------------------------------------------------------------------------------


def test_the_key_is_of_what_shapes_the_answer():
    row = Row("a", "some text")
    base = Form(spec(), "score {text}")
    same = Form(spec(endpoint={"base_url": "https://localhost:1/v1", "model": "m",
                               "max_output_tokens": 9}), "score {text}")  # fmt: skip
    assert base.question(row).key == same.question(Row("b", "some text")).key
    others = [
        Form(spec(), "grade {text}").question(row),
        base.question(Row("a", "some text ")),
        Form(spec(dimensions={"joy": {"max": 5}}), "score {text}").question(row),
        *(
            Form(spec(endpoint={"base_url": "https://localhost/v1", **change}), "score {text}")
            .question(row)
            for change in ({"model": "n"}, {"model": "m", "temperature": 1.0},
                           {"model": "m", "answer": "text"})
        ),
    ]  # fmt: skip
    assert len({q.key for q in [base.question(row), *others]}) == 7


def test_a_text_cannot_fill_placeholders_and_braces_stand(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text('like {"joy": 1, "n": {}}: {text}')
    body = Form(spec(), read_template(path)).body(r"{text} \1 {joy}")
    assert body["messages"][0]["content"] == r'like {"joy": 1, "n": {}}: {text} \1 {joy}'
    path.write_bytes(b"\xff{text}")
    with pytest.raises(BadInput, match="utf-8"):
        read_template(path)


def test_the_schema_wants_every_dimension_and_nothing_else():
    schema = scores_schema({"joy": Dimension(description="how glad"), **DIMENSIONS})
    assert schema["required"] == ["joy", "count"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["count"] == {"type": "integer", "minimum": -1, "maximum": 5}


# --- texts -----------------------------------------------------------------------------------


def test_the_first_rule_that_applies_takes_a_row():
    rows = [Row(i, t) for i, t in enumerate(["", "ab", "abc", "abcd ad", "abcde", "abcdefgh"])]
    wanted = Texts(file="x", min_characters=3, max_characters=7, include="^abcd", exclude=r"\bad\b")
    kept, taken = prefilter(rows, wanted)
    assert [row.text for row in kept] == ["abcde"]
    assert taken == {"min_characters": 2, "include": 1, "exclude": 1, "max_characters": 1}


def test_a_sample_is_the_seeds_and_keeps_the_order():
    rows = [Row(i, str(i)) for i in range(1000)]
    drawn = draw(rows, 100, 5)
    assert drawn == draw(rows, 100, 5) != draw(rows, 100, 6)
    assert [r.id for r in drawn] == sorted({r.id for r in drawn})
    assert 400 < sum(int(r.id) for r in drawn) / 100 < 600  # over all of the file
    assert draw(rows, 2000, 5) == rows


# --- journal ---------------------------------------------------------------------------------


def sent(request: int, microusd: int | None = 7) -> Sent:
    return Sent(at="t", request=request, key=f"k{request}", tokens_in_at_most=10,
                tokens_out_at_most=5, microusd_at_most=microusd)  # fmt: skip


def answer(request: int, tokens: int | None, microusd: int | None = 3) -> Answer:
    return Answer(at="t", request=request, key=f"k{request}", id=1, raw="{}", model=None,
                  finish_reason="stop", tokens_in=tokens, tokens_out=tokens, microusd=microusd,
                  scores={"joy": 1.0}, unusable=None)  # fmt: skip


def test_what_an_earlier_start_left_open_counts_as_spent(tmp_path):
    journal = Journal(tmp_path / "answers.jsonl")
    for request in range(1, 7):
        journal.write(sent(request, None if request == 6 else 7))
    journal.write(answer(1, tokens=4))
    journal.write(answer(2, tokens=None, microusd=None))
    for request, billed in ((3, True), (4, False)):
        journal.write(Failed(at="t", request=request, key="k", id=1, error="e", status=None,
                             billed=billed))  # fmt: skip
    with pytest.raises(BadInput, match="another process"):
        Journal(tmp_path / "answers.jsonl")
    journal.close()
    again = Journal(tmp_path / "answers.jsonl")
    again.close()
    past = again.past
    assert sorted(past.open) == [2, 3, 5, 6]
    assert past.requests == 6
    assert past.scores.keys() == {"k1", "k2"}
    price = Prices(usd_per_million_input=Decimal(1), usd_per_million_output=Decimal(2))
    spending = Spending.since(past, Limits(max_tokens=1), price)
    assert spending.reported == Cost(8, 3)
    assert spending.unreported == Cost(60, 7 * 3 + 20)  # the last one at the present prices


# --- the endpoint ----------------------------------------------------------------------------


def test_retry_after():
    assert retry_after_seconds("2.5") == 2.5
    assert retry_after_seconds("-1") == 0.0
    later = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 90 < retry_after_seconds(later) <= 100
    for nothing in (None, "", "soon", email.utils.formatdate(0, usegmt=True)):
        assert retry_after_seconds(nothing) == 0.0


def test_a_key_is_hidden_and_a_placeholder_is_not():
    assert hide("sk-123456", "Bearer sk-123456!") == "Bearer [key]!"
    assert hide("none", "none of it") == "none of it"


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("https://api.example.com/v1", False),
        ("http://localhost:1/v1", False),
        ("http://127.0.0.1:8080/v1", False),
        ("http://[::1]:8080/v1", False),
        ("http://10.0.0.5/v1", True),
        ("http://api.example.com/v1", True),
    ],
)
def test_a_key_in_the_clear(url, clear):
    assert in_the_clear(url) is clear
