"""How written answers are judged: every metric that the job asks for, with its interval. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import metrics, own_metrics
from jobs.citations import cited_anywhere, existing
from jobs.data import Line
from jobs.encode import Question
from jobs.intervals import wilson
from jobs.outcome import BadInput
from jobs.own_metrics import Measured, OwnMetric
from jobs.schema import Schema
from jobs.sources import data_file
from jobs.spec import ResolvedSpec
from jobs.spec.metrics import ANSWERS, LOSSES, SCHEMA
from jobs.spec.replies import read_reply
from jobs.spec.rows import asked_of

# The user's functions are tried on this many rows before training: a spread needs more than one.
ROWS_TRIED = 4


@dataclass(frozen=True)
class Rules:
    """What answers are held against beside their references."""

    schema: Schema | None
    own: list[OwnMetric]
    known: frozenset[str]  # ids that some reference or training answer cites
    seed: int

    def measure(self, questions: Sequence[Question], answers: Sequence[str]) -> Measured:
        """All metrics of the answers, in the questions' order; nothing for no question."""
        if not questions:
            return Measured()
        references = [question.reference for question in questions]
        counted = metrics.hits(answers, references)
        sources = [question.sources for question in questions]
        if "json_parse_rate" in counted or any(given is not None for given in sources):
            there = existing([read_reply(answer) for answer in answers], sources, self.known)
            counted["cited_ids_exist"] = there
            counted["hallucination_rate"] = [not known for known in there]
        if self.schema is not None:
            counted[SCHEMA] = [self.schema.holds(answer) for answer in answers]
        near = {name: wilson(sum(hits), len(hits)) for name, hits in counted.items() if hits}
        found = Measured(metrics.shares(counted), near)
        asked = [question.text for question in questions]
        for metric in self.own:
            found = found.plus(metric.measure(list(answers), references, asked, self.seed))
        return found


def rules_of(
    job: ResolvedSpec, run_folder: Path, lines: Sequence[Line], training_answers: Sequence[str]
) -> tuple[Rules, list[str]]:
    """The rules for answers to the lines, and warnings about them. Costs no import of torch.

    Raises `BadInput` for a schema that is none, a function of the user's that fails on the first
    rows, and a metric to choose or gate by that nothing will give.
    """
    pairs = [pair for line in lines if (pair := asked_of(line.row)) is not None]
    references = [reference for _, reference in pairs]
    schema = None
    warnings = []
    if job.eval.schema is not None:
        path = data_file(job.eval.schema, "eval.schema", run_folder, job.schema_sha256)
        schema = Schema(path)
        wrong = sum(not schema.holds(reference) for reference in references)
        if wrong:
            warnings.append(f"{wrong} of {len(references)} references do not hold eval.schema")
    own = own_metrics.load(job, run_folder)
    if own and not pairs:
        raise BadInput("eval.metrics: no row asks a question, so there is no answer to judge")
    tried = pairs[:ROWS_TRIED]
    names = own_metrics.names_after_trial(own, [r for _, r in tried], [q for q, _ in tried])
    metrics.require_choosable(job, names)
    require_free(names)
    known = cited_anywhere([*references, *training_answers])
    return Rules(schema, own, known, job.seed), warnings


def require_free(own: list[str]) -> None:
    """Raises `BadInput` for a metric of the user's that is called as one of ours."""
    taken = {own_name.partition("/")[0] for own_name in own}
    taken &= {*LOSSES, *ANSWERS, SCHEMA}
    if taken:
        raise BadInput(f"eval.metrics: {', '.join(sorted(taken))}: a metric of that name exists")
