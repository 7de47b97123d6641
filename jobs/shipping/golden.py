"""What a GGUF file is asked: the rows and questions that the run itself was evaluated on.

Loss and perplexity are taken on the rows that the run's were, answers on the golden set where there
is one.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.answers import Rules, rules_of
from jobs.data import Line, read_data
from jobs.encode import Encoder, Question
from jobs.finished import what_to_ask
from jobs.golden import questions_of
from jobs.outcome import BadInput
from jobs.samples import Sample
from jobs.shipping.wire import MeasureRequest, Prompt, SupervisedRow
from jobs.spec import ExportSpec, Message, MessagesRow, ResolvedSpec


@dataclass(frozen=True)
class Golden:
    request: MeasureRequest
    questions: list[Question]
    rules: Rules
    trained: list[str] | None  # the tuned model's answers as the run wrote them down
    warnings: tuple[str, ...] = ()


def golden(spec: ExportSpec, job: ResolvedSpec, tokenizer: Any) -> Golden:
    """Rows and questions, rendered as they will be served: with the recipe's system prompt.

    Raises `BadInput` where what is asked is not there any more.
    """
    run = Path(spec.run)
    named = Path(spec.rows) if spec.rows is not None else None
    try:
        _, found, training_answers, _ = what_to_ask(job, run, named, "--rows")
    except BadInput as error:
        raise BadInput(f"{error}; --rows FILE names other rows to measure on") from None
    rows = [replace(row, line=_as_served(row.line, job.serve.system)) for row in found]
    lines = [row.line for row in rows]
    judged, warnings = lines, ()
    if named is None and job.eval.golden is not None:
        judged, warnings = _held_out(job, run)
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    encoded = [encoder.encode(line) for line in judged]
    questions = questions_of(encoder, rows) if job.eval.generate else []
    questions = questions[: spec.limit or job.eval.limit]
    rules, _ = rules_of(job, run, lines, training_answers)
    request = MeasureRequest(
        rows=[SupervisedRow(row["input_ids"], row["labels"]) for row in encoded],
        prompts=[_prompt(tokenizer, question) for question in questions],
        max_new_tokens=job.eval.max_new_tokens,
    )
    trained = _trained(run / layout.SAMPLES, questions) if job.serve.system is None else None
    return Golden(request, questions, rules, trained, warnings)


def _held_out(job: ResolvedSpec, run: Path) -> tuple[list[Line], tuple[str, ...]]:
    """The rows that the run's loss was taken on, as served; or none, and a warning."""
    try:
        found = read_data(job, run).judged
    except BadInput as error:
        return [], (
            f"{error}: loss and perplexity are not measured, and the run's gates on them are left "
            "out; --rows FILE names other rows to measure on",
        )
    return [_as_served(line, job.serve.system) for line in found], ()


def _as_served(line: Line, system: str | None) -> Line:
    row = line.row
    if system is None or not isinstance(row, MessagesRow) or row.messages[0].role == "system":
        return line
    messages = [Message(role="system", content=system), *row.messages]
    context = row.context and row.context + 1
    return Line(MessagesRow(messages, context), line.path, line.number)


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
