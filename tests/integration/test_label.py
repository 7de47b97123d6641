"""Labels from an endpoint that answers, fails and lies; the real client, real processes."""

import signal
from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate
from pathlib import Path

import pytest

from jobs import layout
from tests.integration.labelling import KEY, PROMPT, VARIABLE, Labelling
from tests.servers.oracle import Oracle, Reply, scores_of


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    with Oracle(KEY) as server:
        yield server


@pytest.fixture
def label(tmp_path: Path, oracle: Oracle, label_python: str) -> Labelling:
    task = Labelling(tmp_path, label_python, oracle.base_url)
    task.texts(f"text number {i}{'!' * i}" for i in range(6))
    task.spec()
    return task


def test_every_text_once_and_in_order(label: Labelling, oracle: Oracle) -> None:
    texts = ["a calm one", "loud!!!", "a calm one", "x" * 200, "", "skip me", "short"]
    label.texts(texts)
    label.spec(texts={"exclude": "skip", "max_characters": 150})
    label()
    wanted = [(0, "a calm one"), (1, "loud!!!"), (2, "a calm one"), (6, "short")]
    assert label.rows() == [
        {"id": f"t{i}", "text": text, "scores": scores_of("TEXT:" + text)} for i, text in wanted
    ]
    assert sorted(oracle.asked.values()) == [1, 1, 1]
    summary = label.summary()
    assert summary["prefiltered"] == {"max_characters": 1, "min_characters": 1, "exclude": 1}
    counts = [summary[k] for k in ("rows", "sampled", "texts", "asked", "labelled", "requests")]
    assert counts == [7, 4, 3, 3, 3, 3]
    calm = summary["dimensions"]["calm"]
    assert calm["histogram"] == [0, 0, 0, 0, 0, 0, 0, 1, 0, 2]
    assert (calm["min"], calm["max"], calm["mean"]) == (7.0, 10.0, 9.0)
    assert summary["tokens_in"] + summary["tokens_out"] == oracle.tokens
    assert (summary["ended"], summary["microusd"]) == ("done", None)


def test_what_is_sent(label: Labelling, oracle: Oracle) -> None:
    label.texts(["with {text} and {other} in it"])
    label.spec(dimensions={"length": {}, "calm": {"min": 1, "max": 10, "type": "integer"}})
    label()
    (body,) = oracle.bodies
    assert body["messages"][0]["content"].endswith("TEXT:with {text} and {other} in it")
    assert '{"length": 1, "calm": 2}' in body["messages"][0]["content"]
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.0, 40, "oracle-1")
    asked = body["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["properties"]["calm"] == {
        "type": "integer", "minimum": 1, "maximum": 10}  # fmt: skip
    assert asked["schema"]["required"] == ["length", "calm"]
    label.spec(endpoint={"answer": "json_object", "temperature": None,
                         "output_limit": "max_completion_tokens"})  # fmt: skip
    label()
    assert oracle.bodies[1].keys() == {
        "model", "messages", "response_format", "max_completion_tokens"}  # fmt: skip
    assert oracle.bodies[1]["response_format"] == {"type": "json_object"}


def test_the_callers_own_openai_settings_stay_at_home(label: Labelling, oracle: Oracle) -> None:
    label.environment = {
        "OPENAI_CUSTOM_HEADERS": "X-Gateway-Key: private",
        "OPENAI_ORG_ID": "org-private",
        "OPENAI_PROJECT_ID": "private",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OPENAI_API_KEY": "sk-private-of-another-endpoint",
    }
    label()
    assert oracle.requests == 6
    assert all("private" not in value for headers in oracle.headers for value in headers.values())


def test_text_mode_reads_a_fence_and_json_mode_does_not(label: Labelling, oracle: Oracle) -> None:
    label.texts(["fenced"])
    fenced = Reply(content='```json\n{"length": 3, "calm": 4}\n```')
    oracle.say("fenced", *[fenced] * 4)
    label.spec(retries={"invalid": 0})
    label(code=1)
    label.spec(retries={"invalid": 0}, endpoint={"answer": "text"})
    label()
    assert "response_format" not in oracle.bodies[1]
    assert label.rows()[0]["scores"] == {"length": 3.0, "calm": 4.0}


def test_the_key_is_nowhere(label: Labelling, oracle: Oracle) -> None:
    oracle.say("number 0", Reply(content=f"your key is {KEY}"))
    oracle.say("number 1", Reply(status=400, body=f'{{"error": {{"message": "bad {KEY}"}}}}'))
    label.spec(retries={"invalid": 0})
    printed = label(code=1)
    assert oracle.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert label.events("answer")
    oracle.key = "sk-another-that-is-not-ours"  # from here on a 401 that repeats what it was sent
    printed += label(code=1)
    assert "Incorrect API key provided: Bearer [key]" in printed
    label.key = KEY + "\n"  # the HTTP library would print it as an illegal header
    printed += label(code=2)
    assert f"{VARIABLE} holds a space, a line end" in printed
    assert KEY not in printed
    for path in label.folder.rglob("*"):
        assert path.is_dir() or KEY not in path.read_text()


def test_a_refused_key_ends_it_at_once(label: Labelling, oracle: Oracle) -> None:
    label.texts(f"text {i}" for i in range(100))
    label.spec(pace={"concurrency": 3})
    label.key = "sk-wrong-wrong"
    assert "the endpoint refuses" in label(code=1)
    assert oracle.requests <= 3
    assert label.summary()["ended"] == "endpoint"


def test_only_what_is_missing_is_asked_again(label: Labelling, oracle: Oracle) -> None:
    oracle.say("number 4", Reply(status=400))
    assert "1 failed" in label(code=1)
    assert oracle.requests == 6  # a 400 is not tried again
    assert len(label.rows()) == 5
    label()
    assert oracle.requests == 7
    assert [row["id"] for row in label.rows()] == [f"t{i}" for i in range(6)]
    assert (label.summary()["kept"], label.summary()["asked"]) == (5, 1)
    label()
    assert oracle.requests == 7


def test_another_question_is_never_mixed_with_this(label: Labelling, oracle: Oracle) -> None:
    label()
    first = label.rows()
    changes = [
        ("Otherwise.\nTEXT:{text}", {}),
        (PROMPT, {"endpoint": {"model": "oracle-2"}}),
        (PROMPT, {"dimensions": {"length": {"max": 5}, "calm": {"max": 5}}}),
    ]
    for times, (prompt, change) in enumerate(changes, start=1):
        content = f'{{"length": {times}, "calm": {times}}}'
        oracle.say("number", *[Reply(content=content)] * 6)
        (label.folder / "prompt.txt").write_text(prompt)
        label.spec(**change)
        label()
        assert oracle.requests == 6 + 6 * times
        assert [row["scores"] for row in label.rows()] == [{"length": times, "calm": times}] * 6
    label.spec()
    label()
    assert oracle.requests == 24
    assert label.rows() == first


def test_passing_errors_are_tried_again(label: Labelling, oracle: Oracle) -> None:
    oracle.say("number 0", Reply(status=500), Reply(status=503))
    oracle.say("number 1", Reply(drop=True))
    oracle.say("number 2", Reply(hang=True))
    oracle.say("number 3", Reply(status=408))
    oracle.say("number 4", Reply(trickle=True))
    label.spec(endpoint={"timeout_seconds": 8})  # a busy machine takes 2 s to answer at times
    label()
    assert oracle.requests == 6 + 6
    failed = label.events("failed")
    assert sorted(str(e["status"]) for e in failed) == ["408", "500", "503", "None", "None", "None"]
    # whoever hung up or was hung up on may have done the work, and may bill it
    assert {e["status"] for e in failed if e["billed"]} == {None}
    assert label.summary()["unreported_tokens"] == sum(
        s["tokens_in_at_most"] + s["tokens_out_at_most"]
        for s in label.events("sent")
        if s["request"] in [e["request"] for e in failed if e["billed"]]
    )


def test_retry_after_holds_everyone(label: Labelling, oracle: Oracle) -> None:
    label.spec(pace={"concurrency": 2})
    oracle.say("number", Reply(status=429, headers={"Retry-After": "2"}, at_once=True))
    oracle.released.clear()
    process = label.start()
    oracle.wait_for(lambda o: o.requests >= 2)
    label.wait_for_event("failed")  # the other request is still on its way
    oracle.released.set()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert oracle.requests == 7
    assert all(at - oracle.arrivals[0] >= 2 for at in oracle.arrivals[2:])


def test_a_long_retry_after_ends_it(label: Labelling, oracle: Oracle) -> None:
    oracle.say("number", Reply(status=429, headers={"Retry-After": "3600"}))
    label.spec(pace={"concurrency": 1})
    assert "asks for a pause of 3600 s" in label(code=1)
    assert oracle.requests == 1


def test_an_empty_purse_is_not_asked_again(label: Labelling, oracle: Oracle) -> None:
    spent = '{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'
    oracle.say("number", Reply(status=429, body=spent))
    label.spec(pace={"concurrency": 1})
    assert "You exceeded your quota" in label(code=1)
    assert oracle.requests == 1


UNUSABLE = {
    "not JSON": Reply(content="I would say seven."),
    "not a JSON object": Reply(content="[7, 7]"),
    "no `calm`": Reply(content='{"length": 7}'),
    "`calm` is not in 0 to 10": Reply(content='{"length": 7, "calm": 10.5}'),
    "`calm` is no number": Reply(content='{"length": 7, "calm": "7"}'),
    "no chat completion": Reply(body="<html>busy</html>"),
    "cut off at endpoint.max_output_tokens": Reply(content='{"length": 7', finish_reason="length"),
}


def test_answers_that_cannot_be_used(label: Labelling, oracle: Oracle) -> None:
    label.texts(["good", *(f"bad {i};" for i in range(len(UNUSABLE)))])
    for i, reply in enumerate(UNUSABLE.values()):
        oracle.say(f"bad {i};", *[reply] * 3)
    label.spec(retries={"invalid": 1})
    assert "7 invalid" in label(code=1)
    assert label.summary()["invalid_reasons"] == dict.fromkeys(UNUSABLE, 2)
    assert [row["text"] for row in label.rows()] == ["good"]
    kept = [e["raw"] for e in label.events("answer") if e["unusable"]]
    assert sorted(kept) == sorted([r.content or r.body for r in UNUSABLE.values()] * 2)
    label(code=1)  # their tries are used up
    assert oracle.requests == 1 + 2 * 7
    label.spec(retries={"invalid": 3})
    label()
    assert oracle.requests == 1 + 4 * 7
    assert len(label.rows()) == 8


def test_no_more_than_so_many_at_a_time(label: Labelling, oracle: Oracle) -> None:
    label.texts(f"text {i}" for i in range(20))
    label.spec(pace={"concurrency": 5})
    oracle.released.clear()
    process = label.start()
    oracle.wait_for(lambda o: o.in_flight == 5)
    oracle.released.set()
    process.communicate(timeout=60)
    assert process.returncode == 0
    # A request is written down before it goes out, an answer after it came: what is open in the
    # journal is never less than what is in flight.
    open_at = list(accumulate(1 if e["event"] == "sent" else -1 for e in label.events()))
    assert (max(open_at), oracle.most_in_flight, oracle.requests) == (5, 5, 20)


@pytest.mark.parametrize("pace", [{"requests_per_minute": 120}, {"tokens_per_minute": 6000}])
def test_the_pace_is_kept(label: Labelling, oracle: Oracle, pace: dict[str, int]) -> None:
    label.spec(pace={"concurrency": 1, **pace})
    label()
    first, *_, last = (datetime.fromisoformat(s["at"]) for s in label.events("sent"))
    # 6 requests, or 5 answers of 40 tokens and more: 2 seconds at least, and tenths without a pace
    assert (last - first).total_seconds() >= 1.9
    assert oracle.requests == 6


def test_the_token_limit_holds_with_many_in_flight(label: Labelling, oracle: Oracle) -> None:
    label.texts(f"text {i}" for i in range(200))
    label.spec(limits={"max_tokens": 2500}, pace={"concurrency": 50})
    assert "limits.max_tokens" in label(code=1)
    summary = label.summary()
    assert summary["ended"] == "limit"
    assert 0 < oracle.tokens == summary["tokens_in"] + summary["tokens_out"] <= 2500
    assert summary["labelled"] == oracle.requests == len(label.rows())
    assert summary["unasked"] == 200 - oracle.requests
    worst = max(s["tokens_in_at_most"] + s["tokens_out_at_most"] for s in label.events("sent"))
    assert 2500 - oracle.tokens < worst  # and it is used as far as it goes
    before = oracle.requests
    label(code=1)
    assert oracle.requests == before
    label.spec()
    label()
    assert set(oracle.asked.values()) == {1}


def test_dollars(label: Labelling, oracle: Oracle) -> None:
    label.texts(f"text {i}" for i in range(50))
    prices = {"usd_per_million_input": 0.15, "usd_per_million_output": "0.60"}
    label.spec(limits={"max_usd": 0.0005}, prices=prices)
    label(code=1)
    answers = label.events("answer")
    # 15 and 60 hundredths of a micro-dollar a token, rounded up a request
    cost = sum(-(-(a["tokens_in"] * 15 + a["tokens_out"] * 60) // 100) for a in answers)
    assert 0 < cost == label.summary()["microusd"] <= 500
    assert label.summary()["unasked"] == 50 - oracle.requests > 0


def test_no_usage_counts_as_the_most_it_can_be(label: Labelling, oracle: Oracle) -> None:
    oracle.say("number 1", Reply(usage=False))
    label()
    summary = label.summary()
    (answer,) = (a for a in label.events("answer") if a["tokens_in"] is None)
    (sent,) = (s for s in label.events("sent") if s["request"] == answer["request"])
    at_most = sent["tokens_in_at_most"] + sent["tokens_out_at_most"]
    assert summary["unreported_tokens"] == at_most
    assert summary["tokens_in"] + summary["tokens_out"] + at_most >= oracle.tokens


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_what_is_in_flight(label, oracle, number) -> None:
    label.spec(pace={"concurrency": 2})
    oracle.released.clear()
    process = label.start()
    oracle.wait_for(lambda o: o.in_flight == 2)
    process.send_signal(number)
    assert process.stdout is not None
    assert any("waiting for 2 answers" in line for line in iter(process.stdout.readline, ""))
    oracle.released.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "start again to go on" in out
    assert (oracle.requests, len(label.rows())) == (2, 2)
    assert label.summary()["ended"] == "signal"
    label()
    assert oracle.requests == 6


def test_a_second_signal_does_not_wait(label: Labelling, oracle: Oracle) -> None:
    label.spec(pace={"concurrency": 2})
    oracle.released.clear()
    process = label.start()
    oracle.wait_for(lambda o: o.in_flight == 2)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert any("waiting for 2 answers" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "broken off; what is answered is kept: start again to go on\n"
    oracle.released.set()
    label()
    assert oracle.requests == 8
    summary = label.summary()
    assert summary["unreported_tokens"] > 0


def test_a_kill_loses_nothing_that_was_answered(label: Labelling, oracle: Oracle) -> None:
    label.spec(pace={"concurrency": 1})
    oracle.say("number", Reply(), Reply(), Reply(hang=True))
    process = label.start()
    oracle.wait_for(lambda o: o.requests == 3)
    assert "another process is labelling" in label(code=2)
    process.kill()
    process.communicate()
    journal = label.output / layout.ORACLE_ANSWERS
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"event":"answer","at":"20')  # torn in the middle of a line
    label()
    assert journal.read_bytes().startswith(whole)
    assert oracle.requests == 7
    assert len(label.rows()) == 6
    assert len(label.events("sent")) == 7
    sent = label.events("sent")[2]
    summary = label.summary()
    assert summary["unreported_tokens"] == sent["tokens_in_at_most"] + sent["tokens_out_at_most"]
    assert summary["warnings"] == [f"{layout.ORACLE_ANSWERS}: 1 unreadable lines, torn by a crash"]


def test_an_endpoint_that_is_gone_is_given_up(label: Labelling, oracle: Oracle) -> None:
    label.texts(f"text {i}" for i in range(50))
    gone = oracle.base_url.replace("/v1", "/nothing")  # 404: no text would fare better
    label.spec(endpoint={"base_url": gone})
    assert "no such path" in label(code=1)
    label.spec(endpoint={"base_url": "http://127.0.0.1:1/v1"}, pace={"concurrency": 1},
               retries={"errors": 1, "give_up_after": 3})  # fmt: skip
    assert "3 texts one after another got no scores: Connection error." in label(code=1)
    assert label.summary()["unreported_tokens"] == 0
    assert (label.summary()["failed"], label.summary()["unasked"]) == (3, 47)


def test_money_is_not_spent_on_answers_that_are_all_unusable(label, oracle) -> None:
    label.texts(f"text {i}" for i in range(50))
    oracle.say("text", *[Reply(content="seven")] * 100)
    label.spec(pace={"concurrency": 1}, retries={"invalid": 1, "give_up_after": 3})
    assert "3 texts one after another got no scores: not JSON" in label(code=1)
    assert oracle.requests == 6
    assert (label.summary()["invalid"], label.summary()["unasked"]) == (3, 47)
    oracle.replies.clear()
    label(code=1)  # the three have had their tries, and do not count as a bad beginning
    assert oracle.requests == 6 + 47
    assert (label.summary()["invalid"], label.summary()["labelled"]) == (3, 47)
