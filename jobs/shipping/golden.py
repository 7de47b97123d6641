"""What a GGUF file is asked: the rows and questions that the run itself was evaluated on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.answers import Rules, rules_of
from jobs.data import Line, read_data
from jobs.encode import Encoder, Question, answers_of
from jobs.golden import GoldenRow, read_golden
from jobs.outcome import BadInput
from jobs.samples import Sample
from jobs.shipping.wire import MeasureRequest, Prompt, SupervisedRow
from jobs.sources import data_file
from jobs.spec import ExportSpec, Message, MessagesRow, ResolvedSpec


@dataclass(frozen=True)
class Golden:
    request: MeasureRequest
    questions: list[Question]
    rules: Rules
    trained: list[str] | None  # the tuned model's answers as the run wrote them down


def golden(spec: ExportSpec, job: ResolvedSpec, tokenizer: Any) -> Golden:
    """Rows and questions, rendered as they will be served: with the recipe's system prompt.

    Raises `BadInput` where the run's data is not there any more.
    """
    run = Path(spec.run)
    rows = _rows(spec, job, run)
    lines = [_as_served(row.line, job.serve.system) for row in rows]
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    encoded = [encoder.encode(line) for line in lines]
    questions = _questions(encoder, rows, lines) if job.eval.generate else []
    questions = questions[: spec.limit or job.eval.limit]
    rules, _ = rules_of(job, run, lines, _training_answers(job, run))
    request = MeasureRequest(
        rows=[SupervisedRow(row["input_ids"], row["labels"]) for row in encoded],
        prompts=[_prompt(tokenizer, question) for question in questions],
        max_new_tokens=job.eval.max_new_tokens,
    )
    trained = _trained(run / layout.SAMPLES, questions) if job.serve.system is None else None
    return Golden(request, questions, rules, trained)


def _rows(spec: ExportSpec, job: ResolvedSpec, run: Path) -> list[GoldenRow]:
    """What the run's answers were judged on, or what the export names instead."""
    if spec.rows is not None:
        return read_golden(Path(spec.rows))
    try:
        if job.eval.golden is not None:
            return read_golden(data_file(job.eval.golden, "eval.golden", run, job.golden_sha256))
        return [GoldenRow(line, None) for line in read_data(job, run).judged]
    except BadInput as error:
        raise BadInput(f"{error}; --rows FILE names other rows to measure on") from None


def _questions(encoder: Encoder, rows: list[GoldenRow], lines: list[Line]) -> list[Question]:
    asked = ((encoder.question(line), row.sources) for line, row in zip(lines, rows, strict=True))
    return [replace(q, sources=sources) for q, sources in asked if q is not None]


def _training_answers(job: ResolvedSpec, run: Path) -> list[str]:
    """For the ids that they cite; none where the training rows are gone."""
    try:
        return answers_of(read_data(job, run).train)
    except BadInput:
        return []


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
