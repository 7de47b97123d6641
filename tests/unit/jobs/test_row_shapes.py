import msgspec
import pytest

from jobs.spec import (
    Message,
    MessagesRow,
    PromptCompletionRow,
    Regression,
    ScoresRow,
    TextRow,
    full_text,
    supervised_text,
)
from jobs.spec.row_shapes import row_of

ASKED = Regression(dimensions=("clear", "kind"))
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHAT_ROW = MessagesRow([Message("user", "q"), Message("assistant", "a")])
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
PARTS = {"prompt": CHAT[:1], "completion": CHAT[1:]}
JSON_PARTS = {key: msgspec.json.encode(value).decode() for key, value in PARTS.items()}
TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = {"role": "assistant", "content": "", "tool_calls": [TOOL]}
IN_PARTS = MessagesRow(CHAT_ROW.messages, context=1)


@pytest.mark.parametrize(
    ("fields", "name", "row"),
    [
        ({"messages": CHAT, "id": 3}, "messages", CHAT_ROW),
        ({"messages": CHAT, "text": "rendered"}, "messages", CHAT_ROW),
        ({"conversations": CHAT}, "messages", CHAT_ROW),
        ({"messages": msgspec.json.encode(CHAT).decode()}, "messages", CHAT_ROW),
        ({"conversations": TURNS}, "sharegpt", CHAT_ROW),
        ({"conversations": msgspec.json.encode(TURNS).decode()}, "sharegpt", CHAT_ROW),
        ({"instruction": "q", "output": "a"}, "alpaca", CHAT_ROW),
        ({"instruction": "q", "input": " ", "output": "a"}, "alpaca", CHAT_ROW),
        (
            {"instruction": "q", "input": "of this", "output": "a", "text": "### rendered"},
            "alpaca",
            MessagesRow([Message("user", "q\n\nof this"), Message("assistant", "a")]),
        ),
        (PARTS, "chat prompt/completion", IN_PARTS),
        (JSON_PARTS, "chat prompt/completion", IN_PARTS),
        (
            {"prompt": "q", "completion": "a"},
            "prompt/completion",
            PromptCompletionRow("q", "a"),
        ),
        # A prompt that begins like JSON is still a prompt.
        (
            {"prompt": '[{"x": 1}]', "completion": "a"},
            "prompt/completion",
            PromptCompletionRow('[{"x": 1}]', "a"),
        ),
        (
            {"messages": [{**CHAT[0], "tool_calls": []}, CHAT[1]], "tools": "[]"},
            "messages",
            CHAT_ROW,
        ),
        ({"text": "t"}, "text", TextRow("t")),
        ({"text": "t", "messages": None}, "text", TextRow("t")),
    ],
)
def test_recognised(fields, name, row) -> None:
    assert row_of(fields) == (name, row)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"question": "q", "answer": "a"}, "found `question`, `answer`"),
        ({}, "found nothing"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "robot"),
        ({"messages": []}, "length >= 1"),
        ({"messages": "not json"}, "`messages`: not JSON"),
        ({"conversations": [{"from": "narrator", "value": "a"}]}, "'narrator': not one of human"),
        ({"conversations": [{"from": "human"}]}, "missing required field `value`"),
        ({"instruction": "q"}, "missing required field `output`"),
        ({"prompt": "q"}, "missing required field `completion`"),
        ({"prompt": CHAT[:1]}, "expected `completion` beside `prompt`"),
        ({"prompt": CHAT[:1], "completion": []}, "at least one message in each"),
        ({"text": 5}, "Expected `str`, got `int`"),
        ({"messages": [CHAT[0], CALL]}, "`tool_calls`: tools and calls of them are not trained on"),
        ({"messages": [CHAT[0], {**CALL, "content": None}]}, "`tool_calls`: tools and calls"),
        ({"messages": msgspec.json.encode([CALL]).decode()}, "`tool_calls`: tools and calls"),
        ({"messages": CHAT, "tools": [TOOL]}, "`tools`: tools and calls of them"),
        ({"conversations": TURNS, "tools": msgspec.json.encode([TOOL]).decode()}, "`tools`: tools"),
        ({"prompt": CHAT[:1], "completion": [CALL]}, "or write them into `content`"),
        ({"messages": [{**CHAT[1], "function_call": {"name": "f"}}]}, "`function_call`: tools"),
    ],
)
def test_what_is_wrong_is_said(fields, expected: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)) as caught:
        row_of(fields)
    assert expected in str(caught.value)


def test_what_stands_in_the_prompt_carries_no_loss() -> None:
    turns = [*CHAT, {"role": "user", "content": "q2"}]
    _, row = row_of({"prompt": turns, "completion": [{"role": "assistant", "content": "a2"}]})
    assert supervised_text(row) == "a2"
    assert full_text(row) == "qaq2a2"


SCORES = {"clear": 7.0, "kind": 2.0}


@pytest.mark.parametrize(
    ("fields", "name", "text"),
    [
        ({"text": "t", "scores": {**SCORES, "other": 1}}, "text+scores", "t"),
        ({"content": "t", "scores": '{"kind": 2, "clear": 7}'}, "content+scores", "t"),
        ({"title": "T", "content": "t", "scores": SCORES}, "title+content+scores", "T\n\nt"),
        ({"title": None, "text": "t", "labels": [7, 2]}, "text+labels", "t"),
        ({"text": "t", "labels": "[7, 2]"}, "text+labels", "t"),
        (
            {"text": "t", "labels": [2, 7], "dimension_names": ["kind", "clear"]},
            "text+labels",
            "t",
        ),
        ({"text": "t", "clear": "7", "kind": "2.0"}, "text+columns", "t"),
    ],
)
def test_scores_in_every_form(fields, name: str, text: str) -> None:
    found, row = row_of(fields, ASKED)
    assert found == name
    assert isinstance(row, ScoresRow)
    assert row.text == text
    assert {name: row.scores[name] for name in ASKED.dimensions} == SCORES


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"scores": SCORES}, "expected `text` or `content`; found `scores`"),
        ({"text": "t"}, "expected `scores`, `labels`, or a column for each dimension"),
        ({"text": "t", "scores": {"clear": 1}}, "no score for kind"),
        ({"text": "t", "scores": {"clear": 1, "kind": None}}, "no score for kind"),
        ({"text": "t", "clear": "1"}, "no score for kind"),
        ({"text": "t", "scores": {"clear": 1, "kind": 11}}, "kind is 11, outside 0 to 10"),
        ({"text": "t", "clear": "1", "kind": "many"}, "Expected `float`, got `str`"),
        ({"text": "t", "labels": [1, 2, 3]}, "3 labels for 2 dimensions"),
        (
            {"text": "t", "labels": [1, 2], "dimension_names": ["clear", "good"]},
            "dimension_names: clear, good: regression.dimensions says clear, kind",
        ),
    ],
)
def test_wrong_scores_are_said(fields, expected: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)) as caught:
        row_of(fields, ASKED)
    assert expected in str(caught.value)
