"""A finished run's adapter, judged again: `python -m jobs.evaluate RUN_FOLDER [--golden FILE]`.

Nothing is trained. Base and tuned model answer the golden set (or the rows that the run was
judged on), and evaluation.json holds metrics, intervals and those gates that judge answers.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import msgspec

from jobs import finished, layout
from jobs.answers import Rules, rules_of
from jobs.aside import write_aside
from jobs.encode import Encoder, Question
from jobs.gates import judge
from jobs.golden import questions_of
from jobs.outcome import BadInput
from jobs.progress import now
from jobs.sources import base_of, set_environment
from jobs.spec import DeviceKind, GateResult, Interval, ResolvedSpec


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """evaluation.json."""

    at: str
    run_id: str
    questions_from: str
    questions_sha256: str
    questions: int
    metrics: dict[str, dict[str, float]]  # of `base` and `tuned`
    intervals: dict[str, dict[str, Interval]]
    gates: tuple[GateResult, ...]
    warnings: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done and all gates passed, 2 bad input, 5 a gate failed."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluate", description=__doc__)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--golden", type=Path, metavar="FILE", help="questions, as training rows")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), help="not the run's own")
    given = parser.parse_args(arguments)
    try:
        found = evaluate(given.run_folder.resolve(), given.golden, given.device)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = msgspec.json.format(msgspec.json.encode(found), indent=2)
    write_aside(given.run_folder / layout.EVALUATION, text + b"\n")
    print(text.decode())
    return 0 if all(gate.passed for gate in found.gates) else 5


def evaluate(folder: Path, golden: Path | None, device: DeviceKind | None) -> Evaluated:
    """Raises `BadInput` for a folder without an SFT run's spec and adapter."""
    job = finished.read_run(folder, "sft")
    file, rows, training_answers, warnings = finished.what_to_ask(job, folder, golden, "--golden")
    rules, warned = rules_of(job, folder, [row.line for row in rows], training_answers)
    set_environment(job, model_is_local=Path(base_of(job, folder)[0]).is_absolute())
    from jobs import evaluate, trainer

    trainer.quiet()
    job = finished.placed(job, device, None)
    model, tokenizer = finished.load(job, folder)
    encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
    asked = questions_of(encoder, rows)[: job.eval.limit]
    answers = {"tuned": evaluate.answers(model, tokenizer, asked, job.eval)}
    if job.eval.compare_base and job.strategy != "full":
        with evaluate.untouched(model):
            answers["base"] = evaluate.answers(model, tokenizer, asked, job.eval)
    return judged(job, file, asked, answers, rules, [*warnings, *warned])


def judged(
    job: ResolvedSpec,
    file: Path,
    asked: list[Question],
    answers: dict[str, list[str]],
    rules: Rules,
    warnings: list[str],
) -> Evaluated:
    found = {subject: rules.measure(asked, given) for subject, given in answers.items()}
    gates = [gate for gate in job.gates if gate.metric not in ("loss", "perplexity")]
    for subject, measured in found.items():
        warnings += [f"{problem} (on the {subject} model's answers)"
                     for problem in measured.problems]  # fmt: skip
    return Evaluated(
        at=now(),
        run_id=job.run_id,
        questions_from=str(file),
        questions_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        questions=len(asked),
        metrics={subject: measured.values for subject, measured in found.items()},
        intervals={subject: measured.intervals for subject, measured in found.items()},
        gates=judge(gates, found["tuned"].values, found["tuned"].intervals),
        warnings=tuple(warnings),
    )
