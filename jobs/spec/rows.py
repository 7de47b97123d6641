"""What a row of data becomes, whatever shape and file it came in (see `row_shapes`, `tables`)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from jobs.spec.job import Regression


class Message(Struct, frozen=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class MessagesRow(Struct, frozen=True, omit_defaults=True):
    """A chat; every assistant turn is supervised, but for the first `context` messages."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    context: int = 0


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
        answers = row.messages[row.context :]
        return "".join([m.content for m in answers if m.role == "assistant"])
    if isinstance(row, PromptCompletionRow):
        return row.completion
    return row.text


def full_text(row: Row) -> str:
    """All text of the row, without the chat template's own tokens."""
    if isinstance(row, MessagesRow):
        return "".join([m.content for m in row.messages])
    if isinstance(row, PromptCompletionRow):
        return row.prompt + row.completion
    return row.text


def asked_of(row: Row) -> tuple[str, str] | None:
    """A row's question, as people read it, and its answer; None where there is nothing to answer.

    Of a chat that is the last user's turn and the assistant's after it.
    """
    if isinstance(row, PromptCompletionRow):
        return row.prompt, row.completion
    if not isinstance(row, MessagesRow) or row.messages[-1].role != "assistant":
        return None
    turns = reversed(row.messages[:-1])
    return next((m.content for m in turns if m.role == "user"), ""), row.messages[-1].content


def question_text(row: Row) -> str:
    """What the row asks, which shows itself to whoever has seen the row, whatever the answer.

    Of a chat all that stands before the first answer that it teaches, so that a conversation is one
    question however far it was recorded; a greeting before any user's turn is no answer. Of scores
    and plain text it is the text itself. Roles are left out: the same question as a prompt and as a
    chat is one. An empty prompt asks nothing, so there the completion counts.
    """
    if isinstance(row, MessagesRow):
        asked = row.messages[: _first_answer(row)]
        return "\n".join([m.content for m in asked or row.messages])
    if isinstance(row, PromptCompletionRow):
        return row.prompt if row.prompt.strip() else row.completion
    return row.text


def _first_answer(row: MessagesRow) -> int:
    roles = [message.role for message in row.messages]
    user = roles.index("user") if "user" in roles else 0
    start = max(row.context, user)
    return roles.index("assistant", start) if "assistant" in roles[start:] else len(roles)
