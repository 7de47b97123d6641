"""One row of data: a JSON object in one of the shapes that are recognised."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jobs.spec.job import Regression, Task


class Message(Struct, frozen=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class MessagesRow(Struct, frozen=True):
    """A chat; every assistant turn is supervised."""

    messages: Annotated[list[Message], Meta(min_length=1)]


class PromptCompletionRow(Struct, frozen=True):
    """A prompt and the completion to learn."""

    prompt: str
    completion: str


class TextRow(Struct, frozen=True):
    """Plain text, supervised throughout."""

    text: str


class ScoresRow(Struct, frozen=True):
    """A text and what an oracle gave it, by dimension."""

    text: str
    scores: dict[str, float]


Row = MessagesRow | PromptCompletionRow | TextRow | ScoresRow


class _Keys(Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_KEYS = msgspec.json.Decoder(_Keys)
_MESSAGES = msgspec.json.Decoder(MessagesRow)
_PROMPT = msgspec.json.Decoder(PromptCompletionRow)
_TEXT = msgspec.json.Decoder(TextRow)
_SCORES = msgspec.json.Decoder(ScoresRow)


def parse_row(line: bytes, task: Task = "sft") -> Row:
    """Read one JSON line as a data row of the task; extra keys are ignored.

    Raises `msgspec.DecodeError` (not JSON, or a wrong type: `msgspec.ValidationError`) with the
    path of the key, and `ValueError` when no known shape fits.
    """
    if task == "regression":
        return _SCORES.decode(line)
    keys = _KEYS.decode(line)
    if keys.messages is not msgspec.UNSET:
        return _MESSAGES.decode(line)
    if keys.prompt is not msgspec.UNSET:
        return _PROMPT.decode(line)
    if keys.text is not msgspec.UNSET:
        return _TEXT.decode(line)
    raise ValueError("expected `messages`, `prompt` and `completion`, or `text`")


def scores_of(row: ScoresRow, asked: Regression) -> list[float]:
    """The row's scores in the order of the dimensions; others are ignored.

    Raises `ValueError` where one is missing, no number, or out of range.
    """
    missing = [name for name in asked.dimensions if name not in row.scores]
    if missing:
        raise ValueError(f"no score for {', '.join(missing)}")
    found = [row.scores[name] for name in asked.dimensions]
    for name, value in zip(asked.dimensions, found, strict=True):
        if not asked.low <= value <= asked.high:
            raise ValueError(f"{name} is {value:g}, outside {asked.low:g} to {asked.high:g}")
    return found


def supervised_text(row: Row) -> str:
    """The text that carries loss; empty when the row can teach nothing."""
    if isinstance(row, MessagesRow):
        return "".join(m.content for m in row.messages if m.role == "assistant")
    if isinstance(row, PromptCompletionRow):
        return row.completion
    return row.text


def full_text(row: Row) -> str:
    """All text of the row, without the chat template's own tokens."""
    if isinstance(row, MessagesRow):
        return "".join(m.content for m in row.messages)
    if isinstance(row, PromptCompletionRow):
        return row.prompt + row.completion
    return row.text
