"""metrics.jsonl as numbers to draw and to read: steps, validations, epochs."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from jobs.spec import EvalRecord, Record, StepRecord
from results.report.page import Cell, Figure, Lines, Series, Table
from results.report.words import sparkline


def steps(seen: Sequence[Record]) -> list[StepRecord]:
    """The optimizer steps in order; of one that was done again after a restart, the latest."""
    latest = {r.step: r for r in seen if isinstance(r, StepRecord)}
    return [latest[step] for step in sorted(latest)]


def validations(seen: Sequence[Record]) -> list[EvalRecord]:
    """Losses on the validation rows in order, one a step, the latest.

    What was measured in training wins over what was after it, which is of the kept weights: those
    may be an earlier step's.
    """
    judged = [r for r in seen if isinstance(r, EvalRecord)]
    in_training = {r.step: r for r in judged if r.epoch is not None}
    latest = {r.step: r for r in judged} | in_training
    return [latest[step] for step in sorted(latest)]


def history(seen: Sequence[Record]) -> dict[str, Any]:
    """training_history.json: each epoch, and each step and validation it is made of."""
    trained, judged = steps(seen), validations(seen)
    of_epoch: dict[int, list[StepRecord]] = {}
    for record in trained:
        of_epoch.setdefault(_epoch(record.epoch), []).append(record)
    after = {_epoch(r.epoch): r for r in judged if r.epoch}
    epochs = [
        {
            "epoch": epoch,
            "last_step": found[-1].step,
            "train_loss": sum(r.loss for r in found) / len(found),
            "learning_rate": found[-1].learning_rate,
            "validation_loss": after[epoch].loss if epoch in after else None,
            "validation_metrics": after[epoch].metrics if epoch in after else {},
        }
        for epoch, found in sorted(of_epoch.items())
    ]
    return {
        "epochs": epochs,
        "steps": [msgspec.to_builtins(record) for record in trained],
        "validations": [msgspec.to_builtins(record) for record in judged],
    }


def _epoch(passed: float | None) -> int:
    """The number of the epoch that ends there or goes on: 1.0 is the end of the first."""
    return max(1, math.ceil((passed or 0.0) - 1e-6))


def loss_figure(seen: Sequence[Record], picture: str) -> Figure | None:
    trained, judged = steps(seen), validations(seen)
    if not trained:
        return None
    last = trained[-1]
    text = f"Training loss {_course(trained)} of {last.steps_total}."
    lines = [Series(name="training", points=tuple((r.step, r.loss) for r in trained))]
    if judged:
        best = min(judged, key=lambda r: r.loss)
        lowest = f", lowest {best.loss:.4f} at step {best.step}" if len(judged) > 1 else ""
        text += f" Validation loss {_course(judged)}{lowest}."
        points = tuple((r.step, r.loss) for r in judged)
        lines.append(Series(name="validation", points=points, color=1, marked=True))
    return Figure(
        name="loss",
        title="Loss",
        text=text,
        note=text,
        chart=Lines(series=tuple(lines), x="optimizer step", y="loss"),
        data=_loss_table(trained, judged),
        sparkline=sparkline([r.loss for r in trained]),
        picture=picture,
    )


def _course(found: Sequence[StepRecord] | Sequence[EvalRecord]) -> str:
    """From the first to the last of them, or the one there is."""
    ends = found[:1] if len(found) == 1 else (found[0], found[-1])
    return " → ".join(f"{r.loss:.4f} at step {r.step}" for r in ends)


def _loss_table(trained: Sequence[StepRecord], judged: Sequence[EvalRecord]) -> Table:
    training = {r.step: f"{r.loss:.4f}" for r in trained}
    validation = {r.step: f"{r.loss:.4f}" for r in judged}
    rows: list[tuple[Cell, ...]] = [
        (str(step), training.get(step, ""), validation.get(step, ""))
        for step in sorted({*training, *validation})
    ]
    head = ("step", "training loss", "validation loss")
    return Table(caption="Loss by step", head=head, rows=tuple(rows), right=(0, 1, 2))


def rate_figure(seen: Sequence[Record]) -> Figure | None:
    trained = steps(seen)
    if not trained:
        return None
    highest = max(trained, key=lambda r: r.learning_rate)
    last = trained[-1]
    points = tuple((r.step, r.learning_rate) for r in trained)
    text = (
        f"Highest {highest.learning_rate:.3g} at step {highest.step}, "
        f"{last.learning_rate:.3g} at the last step, {last.step}."
    )
    return Figure(
        name="learning-rate",
        title="Learning rate",
        text=text,
        note=text,
        chart=Lines(
            series=(Series(name="learning rate", points=points),),
            x="optimizer step",
            y="learning rate",
        ),
        data=Table(
            caption="Learning rate by step",
            head=("step", "learning rate"),
            rows=tuple((str(r.step), f"{r.learning_rate:.4g}") for r in trained),
            right=(0, 1),
        ),
    )
