"""One row of data: a JSON object in one of the shapes that are recognised."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct


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


Row = MessagesRow | PromptCompletionRow | TextRow


class _Keys(Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_KEYS = msgspec.json.Decoder(_Keys)
_MESSAGES = msgspec.json.Decoder(MessagesRow)
_PROMPT = msgspec.json.Decoder(PromptCompletionRow)
_TEXT = msgspec.json.Decoder(TextRow)


def parse_row(line: bytes) -> Row:
    """Read one JSON line as a data row; extra keys are ignored.

    Raises `msgspec.DecodeError` (not JSON, or a wrong type: `msgspec.ValidationError`) with the
    path of the key, and `ValueError` when no known shape fits.
    """
    keys = _KEYS.decode(line)
    if keys.messages is not msgspec.UNSET:
        return _MESSAGES.decode(line)
    if keys.prompt is not msgspec.UNSET:
        return _PROMPT.decode(line)
    if keys.text is not msgspec.UNSET:
        return _TEXT.decode(line)
    raise ValueError("expected `messages`, `prompt` and `completion`, or `text`")


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
