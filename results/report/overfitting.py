"""Whether the model learned its rows by heart, in words."""

from collections.abc import Sequence

from jobs.spec import EvalRecord, Fit, Record, Result, StepRecord
from results.report.curves import steps, validations
from results.report.words import fit_line

# Where jobs/scores.py begins to say "high overfitting".
HIGH_GAP = 0.5
# Nats a token. Of two losses that are nearer than this, a share says nothing. Assumption.
LEAST_GAP = 0.05
# A validation loss that rises by less may be chance. Assumption.
RISE = 0.05


def verdict(result: Result | None, seen: Sequence[Record]) -> str:
    """Empty where there is nothing to tell it from."""
    if result is not None and result.fit is not None:
        return _measured(result.fit)
    trained, judged = steps(seen), [r for r in validations(seen) if r.step > 0]
    if not trained or not judged:
        return ""
    return _of_losses(trained, judged, result)


def _measured(fit: Fit) -> str:
    if fit.gap is None:
        return f"{fit_line(fit)}. The model makes no error on rows that it was trained on."
    side = "worse" if fit.gap >= 0 else "better"
    return (
        f"{fit_line(fit)}. The model is {abs(fit.gap):.0%} {side} on rows that it was not "
        "trained on than on rows that it was."
    )


def _of_losses(
    trained: Sequence[StepRecord], judged: Sequence[EvalRecord], result: Result | None
) -> str:
    """From the curves: the loss of the kept step against the training loss around it."""
    best = result.best_step if result is not None else None
    kept = next((r for r in judged if r.step == best), judged[-1])
    around = [r.loss for r in trained if r.step <= kept.step][-max(1, len(trained) // 10) :]
    train = sum(around) / len(around) if around else trained[0].loss
    lowest = min(judged, key=lambda r: r.loss)
    text = f"Training loss {train:.3f}, validation loss {kept.loss:.3f} at step {kept.step}"
    if kept.loss > lowest.loss * (1 + RISE) and kept.loss - lowest.loss > LEAST_GAP:
        return (
            f"{text}: overfitting. The validation loss was lowest at step {lowest.step} "
            f"({lowest.loss:.3f}) and has risen since by {kept.loss / lowest.loss - 1:.0%}."
        )
    gap, nats = kept.loss / train - 1 if train else 0.0, kept.loss - train
    if abs(nats) <= LEAST_GAP:
        return f"{text} ({nats:+.3f}): no sign of overfitting."
    if gap > HIGH_GAP:
        return f"{text}: high overfitting, {gap:.0%} above what it was trained on."
    return f"{text} ({gap:+.0%}): no sign of overfitting."
