"""Rows to tokens and labels, so that what carries loss is known for every line of the file.

The labels are made here rather than by the trainer: TRL drops a row that truncation left without
labels, and cannot say which line it was. Templates, masks and end tokens follow TRL's own
preparation (`SFTTrainer._prepare_dataset`, trl 1.16); a test holds the two against each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobs.citations import Source
from jobs.data import Line
from jobs.outcome import BadInput
from jobs.spec import MessagesRow, PromptCompletionRow
from jobs.spec.check import TemplateUse
from jobs.spec.rows import asked_of

IGNORED = -100  # torch.nn.CrossEntropyLoss's default ignore_index
_ANSWER = "@answer@"  # stands for an answer, to see what a template writes before any


@dataclass(frozen=True)
class Question:
    """What is asked in evaluation: the prompt as the model sees it, and the expected answer."""

    text: str
    prompt: str
    reference: str
    templated: bool  # the prompt holds its special tokens already
    sources: tuple[Source, ...] | None = None  # what may be cited, where the row says so
    doubt: str = ""  # why what is asked, or expected, is not what training shows and users get


class Encoder:
    """Turns rows into token ids and labels for one tokenizer."""

    def __init__(self, tokenizer: Any, seq_len: int, assistant_only: bool) -> None:
        self._tokenizer = tokenizer
        self._seq_len = seq_len
        self._assistant_only = assistant_only
        self._template, self._has_marks = training_template(tokenizer)

    @property
    def template_use(self) -> TemplateUse:
        """How the answers are found in a conversation."""
        if self._tokenizer.chat_template is None:
            return "none"
        if not self._has_marks:
            return "spans"
        return "marked" if self._template is None else "copied"

    def encode(self, line: Line) -> dict[str, list[int]]:
        """`input_ids` and `labels`, both cut to the sequence length.

        Raises `BadInput` when no label is left, so that the row would teach nothing.
        """
        return self.cut(line, *self.whole(line))

    def whole(self, line: Line) -> tuple[list[int], list[int]]:
        """Token ids and labels of all of the row, however long."""
        row = line.row
        if isinstance(row, MessagesRow):
            return self._chat(line, row)
        if isinstance(row, PromptCompletionRow):
            return self._completion(row)
        ids = self._ids(row.text + self._end_after(row.text))
        return ids, list(ids)

    def cut(self, line: Line, ids: list[int], labels: list[int]) -> dict[str, list[int]]:
        """What is left of them at the sequence length. Raises `BadInput` as `encode` does."""
        kept = labels[: self._seq_len]
        # The first token is never predicted, so a label there is none.
        if all(label == IGNORED for label in kept[1:]):
            cut = any(label != IGNORED for label in labels[1:])
            why = f"after cutting {len(ids)} tokens to seq_len {self._seq_len}" if cut else ""
            raise BadInput(f"{line}: no supervised tokens {why}".rstrip())
        return {"input_ids": ids[: self._seq_len], "labels": kept}

    def question(self, line: Line) -> Question | None:
        """What to ask of this row, or None where there is nothing to answer."""
        row, pair = line.row, asked_of(line.row)
        if pair is None:
            return None
        if not isinstance(row, MessagesRow):
            return Question(pair[0], pair[0], pair[1], templated=False)
        try:
            prompt, doubt = opened(self._tokenizer, msgspec.to_builtins(row.messages))
        except Exception as error:  # templates raise errors of their own kinds
            raise self._refused(line, error) from error
        return Question(pair[0], prompt, pair[1], templated=True, doubt=doubt)

    def _chat(self, line: Line, row: MessagesRow) -> tuple[list[int], list[int]]:
        messages = msgspec.to_builtins(row.messages)
        ids, labels = self._turns(line, messages)
        if row.context:
            asked = self._render(line, messages[: row.context], add_generation_prompt=True)
            same = _common(self._ids(asked, special=False), ids)
            labels = [IGNORED] * same + labels[same:]
        return ids, labels

    def _turns(self, line: Line, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        text = self._render(line, messages)
        if not self._assistant_only:
            ids = self._ids(text, special=False)
            return ids, list(ids)
        if not self._has_marks:
            return self._by_spans(text, self._assistant_spans(line, messages, text))
        encoded = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids, mask = encoded["input_ids"], encoded["assistant_masks"]
        return ids, [i if m else IGNORED for i, m in zip(ids, mask, strict=True)]

    def _by_spans(self, text: str, spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        inside = [
            any(start >= a and end <= b for a, b in spans)
            for start, end in encoded["offset_mapping"]
        ]
        return ids, [i if hit else IGNORED for i, hit in zip(ids, inside, strict=True)]

    def _assistant_spans(
        self, line: Line, messages: list[dict[str, str]], text: str
    ) -> list[tuple[int, int]]:
        """Where the assistant's turns stand in the text, end token included.

        For a template without marks that TRL has no marked copy of: a turn is what rendering one
        message more adds to the generation prompt.
        """
        spans = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(line, messages[:i], add_generation_prompt=True)
            after = self._render(line, messages[: i + 1])
            if not (after.startswith(before) and text.startswith(after)):
                raise BadInput(
                    f"{line}: the chat template does not show where the assistant's turn stands; "
                    "set train.assistant_only_loss: false, or use prompt and completion"
                )
            spans.append((len(before), len(after)))
        return spans

    def _completion(self, row: PromptCompletionRow) -> tuple[list[int], list[int]]:
        prompt = self._ids(row.prompt)
        ids = self._ids(row.prompt + row.completion + self._end_after(row.completion))
        same = _common(prompt, ids)
        return ids, [IGNORED] * same + ids[same:]

    def _end_after(self, text: str) -> str:
        end: str = self._tokenizer.eos_token
        return "" if text.endswith(end) else end

    def _ids(self, text: str, special: bool = True) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def _render(self, line: Line, messages: list[dict[str, str]], **options: bool) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except Exception as error:  # templates raise errors of their own kinds
            raise self._refused(line, error) from error
        return text

    def _refused(self, line: Line, error: Exception) -> BadInput:
        if self._tokenizer.chat_template is None:
            return BadInput(
                f"{line}: the model has no chat template; use rows with prompt and completion"
            )
        return BadInput(f"{line}: the chat template refuses this row: {error}")


def _common(prompt: list[int], ids: list[int]) -> int:
    """How many tokens of the prompt begin `ids`: one may merge across the border to the answer."""
    return next(
        (i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b),
        min(len(prompt), len(ids)),
    )


def opened(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[str, str]:
    """All that the model's own template writes before the last message's text, an answer; and why
    that may not do, "" where nothing is against it.

    The generation prompt alone is not enough: some templates write more there, an empty block of
    thoughts or the channel, which training shows and a trained model would say first. The row's
    earlier turns are as they are served, not as TRL's copy of the template has them.
    Raises what the template raises, and ValueError where it leaves the answer out.
    """

    def render(*turns: dict[str, str], prompt: bool = False) -> str:
        text: str = tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=prompt
        )
        return text

    *before, last = messages
    asked, whole = render(*before, prompt=True), render(*messages)
    shown, there, _ = render(*before, last | {"content": _ANSWER}).rpartition(_ANSWER)
    if not there:
        raise ValueError("it leaves the answer out")
    answer = last["content"].strip()
    if not whole.startswith(shown):  # thoughts in the answer stand where there are none otherwise
        shown = whole[: whole.rfind(answer)] if answer in whole else asked
    doubt = ""
    if not whole.startswith(asked):
        doubt = (
            "the model's own chat template opens an answer with "
            f"{asked.removeprefix(render(*before))!r}, which training does not show: serve the "
            "tuned model otherwise (thinking off), as it is judged"
        )
    elif not whole[len(shown) :].lstrip().startswith(answer):
        doubt = "the chat template changes the expected answer, so that none can be equal to it"
    # Blanks go to the answer, as in training: a token often begins with one.
    blank = shown.startswith(asked) and not shown[len(asked) :].strip()
    return asked if blank else shown.rstrip(" "), doubt


def doubts_of(questions: Iterable[Question]) -> list[str]:
    """A warning for each doubt, with the number of questions that have it."""
    counts = Counter(question.doubt for question in questions if question.doubt)
    return [f"{count} questions: {doubt}" for doubt, count in counts.items()]


def training_template(tokenizer: Any) -> tuple[str | None, bool]:
    """The template to train with (None: the tokenizer's own), and whether it marks the answers."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    own = tokenizer.chat_template
    if own is None or has_generation_markers(own):
        return None, own is not None
    try:
        return get_training_chat_template(tokenizer), True
    except ValueError:  # TRL knows no marked copy of this template
        return None, False


def answers_of(lines: Sequence[Line]) -> list[str]:
    """The answers that training shows, for the best constant one."""
    return [pair[1] for line in lines if (pair := asked_of(line.row)) is not None]


def dataset(encoder: Encoder, lines: Sequence[Line]) -> Any:
    """A `datasets.Dataset` with `input_ids` and `labels`, which TRL packs and batches as it is."""
    from datasets import Dataset

    return Dataset.from_list([encoder.encode(line) for line in lines])
