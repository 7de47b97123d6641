"""What a GGUF file is worth, by what it said."""

from dataclasses import dataclass
from pathlib import Path

from jobs import metrics
from jobs.gates import judge as hold
from jobs.losses import LARGEST_EXPONENT, perplexity
from jobs.shipping.golden import Golden
from jobs.shipping.wire import Answers, Speed
from jobs.spec import ExportSpec, Gate, GgufType, Measured, ResolvedSpec
from jobs.spec.metrics import LOSSES


@dataclass(frozen=True)
class File:
    quantization: GgufType
    path: Path
    sha256: str
    said: Answers
    speed: Speed


def judge(
    spec: ExportSpec, job: ResolvedSpec, questions: Golden, file: File, f16: File
) -> Measured:
    """Metrics of one file, and its gates: the run's own, and those of this export.

    Beside the run's metrics a gate may name `perplexity`, `perplexity_change` (against f16) and
    `agreement`: the share of answers that are the tuned model's own, as the run wrote them down.
    A file whose loss is no number fails, whatever gates there are. Where there were no rows to take
    it on, the run's gates on it are left out.
    """
    said = file.said
    measured = questions.rules.measure(questions.questions, said.answers)
    found = dict(measured.values)
    own = [gate for gate in job.gates if said.supervised_tokens or gate.metric not in LOSSES]
    gates = (*own, *spec.gates)
    raised = change = None
    if said.loss is None and said.supervised_tokens:
        gates = (*gates, Gate(metric="loss", max=LARGEST_EXPONENT))
    if said.loss is not None:
        raised = perplexity(said.loss)
        found = {"loss": said.loss, "perplexity": raised} | found
    if said.loss is not None and f16.said.loss is not None:
        change = perplexity(said.loss - f16.said.loss) - 1
    if questions.trained is not None:
        found["agreement"] = metrics.score(said.answers, questions.trained)["exact_match"]
    return Measured(
        quantization=file.quantization,
        file=str(file.path.relative_to(spec.out)),
        size_bytes=file.path.stat().st_size,
        sha256=file.sha256,
        perplexity=raised,
        perplexity_change=change,
        metrics=found,
        prompt_tokens_per_second=file.speed.prompt,
        generated_tokens_per_second=file.speed.generated,
        prompt_speed_ratio=file.speed.prompt / f16.speed.prompt,
        generated_speed_ratio=file.speed.generated / f16.speed.generated,
        gates=hold(
            gates,
            found | ({} if change is None else {"perplexity_change": change}),
            measured.intervals,
        ),
        asked=file.quantization in spec.gguf,
        shipped=False,
    )
