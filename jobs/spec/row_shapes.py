"""The shapes of data that people have, recognised row by row; a file may mix them.

| name | keys | becomes |
|---|---|---|
| messages | `messages`, or `conversations` of `role` and `content` | a chat |
| sharegpt | `conversations` of `from` (human, gpt, ...) and `value` | a chat |
| alpaca | `instruction`, `output`, perhaps `input` | a chat of two turns |
| chat prompt/completion | `prompt` and `completion`, lists of messages (as in TRL) | a chat |
| prompt/completion | `prompt` and `completion`, strings | as it is |
| text | `text` | as it is |

Alpaca's becomes a chat rather than a prompt with headings of its own, so that the model's own chat
template asks the question, in training as later in use. Other keys are ignored, but tools, and
calls of them, are refused: a chat without its own would teach to answer with nothing. A list or an
object may be JSON in a string, as in a CSV cell; null is as good as absent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from jobs.spec.job import Regression
from jobs.spec.rows import (
    Message,
    MessagesRow,
    PromptCompletionRow,
    Row,
    ScoresRow,
    TextRow,
    scores_of,
)
from jobs.spec.tables import Fields


class Shape(NamedTuple):
    """A shape of SFT rows: which rows have it, and what they become."""

    name: str
    fits: Callable[[Fields], bool]
    read: Callable[[Fields], Row]


# Who speaks in ShareGPT's files (`human` and `gpt`), and what others have written there since.
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


def row_of(fields: Fields, asked: Regression | None = None) -> tuple[str, Row]:
    """The name of the row's shape, and the row; `asked` is what a regression task wants scored.

    Raises `ValueError` or `msgspec.ValidationError` with what was expected.
    """
    if None in fields.values():
        fields = {key: value for key, value in fields.items() if value is not None}
    if asked is not None:
        return _scores(fields, asked)
    for shape in SHAPES:
        if shape.fits(fields):
            return shape.name, shape.read(fields)
    raise ValueError(
        "expected `messages`, `conversations`, `instruction` and `output`, `prompt` and "
        f"`completion`, or `text`; found {_names(fields)}"
    )


def _names(fields: Fields) -> str:
    return ", ".join(f"`{key}`" for key in list(fields)[:8]) or "nothing"


def _parsed(fields: Fields, key: str) -> Any:
    """The value, read from JSON where it stands as text."""
    value = fields[key]
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"`{key}`: not JSON: {error}") from None


# As OpenAI's files name them, today's and earlier ones, in a row or in a message.
_TOOLS = ("tools", "tool_calls", "functions", "function_call")
_NOTHING: tuple[object, ...] = (None, [], {}, "", "[]", "{}", "null")


def _turns(fields: Fields, key: str) -> Any:
    """A chat's turns as they are written. Raises `ValueError` for tools and calls of them."""
    turns = _parsed(fields, key)
    messages = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    for place in (fields, *messages):
        for name in _TOOLS:
            if place.get(name) not in _NOTHING:
                raise ValueError(
                    f"`{name}`: tools and calls of them are not trained on; leave the row out, or "
                    "write them into `content`, as the model is to read and say them"
                )
    return turns


def _sharegpt_turns(fields: Fields) -> bool:
    if "conversations" not in fields:
        return False
    turns = _parsed(fields, "conversations")
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and "from" in first


def _messages(fields: Fields) -> MessagesRow:
    key = "messages" if "messages" in fields else "conversations"
    return msgspec.convert({"messages": _turns(fields, key)}, MessagesRow)


class _Turn(msgspec.Struct, rename={"speaker": "from"}):
    speaker: str
    value: str


def _sharegpt(fields: Fields) -> MessagesRow:
    turns = msgspec.convert(_turns(fields, "conversations"), list[_Turn])
    unknown = [turn.speaker for turn in turns if turn.speaker not in SHAREGPT_ROLES]
    if unknown:
        known = ", ".join(SHAREGPT_ROLES)
        raise ValueError(f"`conversations`: from {unknown[0]!r}: not one of {known}")
    messages = [{"role": SHAREGPT_ROLES[t.speaker], "content": t.value} for t in turns]
    return msgspec.convert({"messages": messages}, MessagesRow)


class _Alpaca(msgspec.Struct):
    instruction: str
    output: str
    input: str = ""


def _alpaca(fields: Fields) -> MessagesRow:
    row = msgspec.convert(fields, _Alpaca)
    question = f"{row.instruction}\n\n{row.input}" if row.input.strip() else row.instruction
    return MessagesRow([Message("user", question), Message("assistant", row.output)])


def _in_turns(fields: Fields) -> bool:
    """Whether prompt and completion are lists of messages; in a CSV file they are JSON."""
    prompt, completion = fields.get("prompt"), fields.get("completion")
    if isinstance(prompt, list):
        return True
    return all(
        isinstance(text, str) and text.lstrip().startswith("[{") for text in (prompt, completion)
    )


def _chat_completion(fields: Fields) -> MessagesRow:
    if "completion" not in fields:
        raise ValueError("expected `completion` beside `prompt`")
    parts = [
        msgspec.convert(_turns(fields, key), list[Message]) for key in ("prompt", "completion")
    ]
    if not parts[0] or not parts[1]:
        raise ValueError("`prompt` and `completion`: expected at least one message in each")
    return MessagesRow([*parts[0], *parts[1]], context=len(parts[0]))


SHAPES = (
    Shape("sharegpt", _sharegpt_turns, _sharegpt),
    Shape("messages", lambda f: "messages" in f or "conversations" in f, _messages),
    Shape("alpaca", lambda f: "instruction" in f, _alpaca),
    Shape("chat prompt/completion", _in_turns, _chat_completion),
    Shape("prompt/completion", lambda f: "prompt" in f, lambda f: msgspec.convert(
        f, PromptCompletionRow)),
    Shape("text", lambda f: "text" in f, lambda f: msgspec.convert(f, TextRow)),
)  # fmt: skip


# --- regression -------------------------------------------------------------------------------


class _Text(msgspec.Struct):
    """`text` or `content`, a title in front where there is one."""

    text: str | None = None
    content: str | None = None
    title: str = ""


def text_of(fields: Fields) -> tuple[str, str]:
    """The keys that hold a text to score, and the text as the student reads it.

    Raises `ValueError` where there is none.
    """
    found = msgspec.convert(fields, _Text)
    body = found.text if found.text is not None else found.content
    if body is None:
        raise ValueError(f"expected `text` or `content`; found {_names(fields)}")
    titled = bool(found.title.strip())
    name = ("title+" if titled else "") + ("text" if found.text is not None else "content")
    return name, f"{found.title}\n\n{body}" if titled else body


def _scores(fields: Fields, asked: Regression) -> tuple[str, ScoresRow]:
    """Text and scores: `scores` by name, `labels` in the order of the dimensions or of the row's
    own `dimension_names`, or a column a dimension."""
    name, text = text_of(fields)
    given, scores = _given(fields, asked)
    row = ScoresRow(text, scores)
    scores_of(row, asked)
    return f"{name}+{given}", row


def _given(fields: Fields, asked: Regression) -> tuple[str, dict[str, float]]:
    if "scores" in fields:
        scores = _parsed(fields, "scores")
        if isinstance(scores, dict):  # a Parquet file has a null for what a row lacks
            scores = {key: value for key, value in scores.items() if value is not None}
        return "scores", msgspec.convert(scores, dict[str, float])
    if "labels" in fields:
        return "labels", _labels(fields, asked)
    columns = {name: fields[name] for name in asked.dimensions if name in fields}
    if not columns:
        raise ValueError("expected `scores`, `labels`, or a column for each dimension")
    return "columns", msgspec.convert(columns, dict[str, float], strict=False)


def _labels(fields: Fields, asked: Regression) -> dict[str, float]:
    labels = msgspec.convert(_parsed(fields, "labels"), list[float])
    names = list(asked.dimensions)
    if "dimension_names" in fields:
        names = msgspec.convert(_parsed(fields, "dimension_names"), list[str])
        if set(names) != set(asked.dimensions):
            raise ValueError(
                f"dimension_names: {', '.join(names)}: regression.dimensions says "
                f"{', '.join(asked.dimensions)}"
            )
    if len(labels) != len(names):
        raise ValueError(f"{len(labels)} labels for {len(names)} dimensions")
    return dict(zip(names, labels, strict=True))
