"""What a GGUF file is asked: the rows and questions that the run itself was evaluated on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.data import Line, read_data, read_lines
from jobs.encode import Encoder, Question
from jobs.outcome import BadInput
from jobs.samples import Sample
from jobs.shipping.wire import MeasureRequest, Prompt, SupervisedRow
from jobs.spec import ExportSpec, Message, MessagesRow, ResolvedSpec


@dataclass(frozen=True)
class Golden:
    request: MeasureRequest
    references: list[str]
    trained: list[str] | None  # the tuned model's answers as the run wrote them down


def golden(spec: ExportSpec, job: ResolvedSpec, tokenizer: Any) -> Golden:
    """Rows and questions, rendered as they will be served: with the recipe's system prompt.

    Raises `BadInput` where the run's data is not there any more.
    """
    run = Path(spec.run)
    lines = [_as_served(line, job.serve.system) for line in _lines(spec, job, run)]
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    rows = [encoder.encode(line) for line in lines]
    asked = [q for line in lines if (q := encoder.question(line)) is not None]
    questions = asked[: spec.limit or job.eval.limit] if job.eval.generate else []
    request = MeasureRequest(
        rows=[SupervisedRow(row["input_ids"], row["labels"]) for row in rows],
        prompts=[_prompt(tokenizer, question) for question in questions],
        max_new_tokens=job.eval.max_new_tokens,
    )
    return Golden(
        request=request,
        references=[question.reference for question in questions],
        trained=_trained(run / layout.SAMPLES, questions) if job.serve.system is None else None,
    )


def _lines(spec: ExportSpec, job: ResolvedSpec, run: Path) -> list[Line]:
    if spec.rows is not None:
        return read_lines(Path(spec.rows))
    try:
        return read_data(job, run).judged
    except BadInput as error:
        raise BadInput(f"{error}; --rows FILE names other rows to measure on") from None


def _as_served(line: Line, system: str | None) -> Line:
    row = line.row
    if system is None or not isinstance(row, MessagesRow) or row.messages[0].role == "system":
        return line
    messages = [Message(role="system", content=system), *row.messages]
    return Line(MessagesRow(messages), line.path, line.number)


def _prompt(tokenizer: Any, question: Question) -> Prompt:
    ids = tokenizer(question.prompt, add_special_tokens=not question.templated)["input_ids"]
    return Prompt(question.prompt, ids, question.templated)


def _trained(samples: Path, questions: list[Question]) -> list[str] | None:
    """The run's own answers to these very questions, None where it answered others."""
    if not samples.is_file():
        return None
    found = [msgspec.json.decode(line, type=Sample) for line in samples.read_bytes().splitlines()]
    kept = found[: len(questions)]
    same = [s.question for s in kept] == [q.text for q in questions]
    return [s.tuned for s in kept] if same and questions else None
