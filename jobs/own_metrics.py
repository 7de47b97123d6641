"""The user's own metrics: functions of Python files that travel with the run.

`eval.metrics: ["checks:tone"]` in a recipe is `tone` of `checks.py` beside it:

    def tone(answers: list[str], references: list[str], questions: list[str])
        -> float | dict[str, float] | list[float]

One figure becomes the metric `tone`; a dict `tone/<key>` each; a list has one figure an answer,
in order, and becomes their mean, with a confidence interval. Higher is better, unless a gate
gives the metric a `max` and no `min`.

Only that file is loaded, from its copy in the run's folder: what it imports must be in the
training environment. An error before training is bad input; afterwards the metric is missing and
the result warns, because the training is paid for.
"""

import importlib.util
import math
import numbers
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs import layout
from jobs.intervals import bootstrap, mean, wilson
from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import Interval, ResolvedSpec

# Not the file's bare name: a user's `statistics.py` must not become everybody's `statistics`.
MODULE_PREFIX = "own_metrics_"


@dataclass(frozen=True)
class Measured:
    """Metrics by name, the intervals of those that have one, and what went wrong."""

    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def plus(self, other: "Measured") -> "Measured":
        return Measured(
            self.values | other.values,
            self.intervals | other.intervals,
            (*self.problems, *other.problems),
        )


@dataclass(frozen=True)
class OwnMetric:
    """One function of the user's."""

    name: str
    path: Path
    function: Callable[..., Any]

    def measure(
        self, answers: list[str], references: list[str], questions: list[str], seed: int
    ) -> Measured:
        """Its figures; where it raises or gives something else, the problem and nothing else."""
        try:
            found = self.function(list(answers), list(references), list(questions))
            return self._read(found, len(answers), seed)
        except (Exception, SystemExit) as error:  # whatever a user's function may raise
            return Measured(problems=(f"eval.metrics: {self.name}: {told(error, self.path)}",))

    def _read(self, found: Any, count: int, seed: int) -> Measured:
        if isinstance(found, dict):
            return Measured({f"{self.name}/{key}": _figure(v) for key, v in found.items()})
        if not isinstance(found, (list, tuple, np.ndarray)):
            return Measured({self.name: _figure(found)})
        if len(found) != count:
            raise ValueError(f"gave {len(found)} figures for {count} answers")
        rows = np.array([_figure(value) for value in found])
        if np.isin(rows, (0.0, 1.0)).all():
            near = wilson(int(rows.sum()), count)
        else:
            (near,) = bootstrap(rows[:, None], mean, seed)
        return Measured({self.name: float(rows.mean())}, {self.name: near})


def _figure(value: Any) -> float:
    if not isinstance(value, (numbers.Real, np.generic)):
        raise TypeError(
            f"gave {type(value).__name__}, expected a number, a dict of numbers by name, "
            "or a list of one number an answer"
        )
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"gave {found}")
    return found


def load(job: ResolvedSpec, run_folder: Path) -> list[OwnMetric]:
    """The functions that the spec names. Raises `BadInput` with the user's own line."""
    modules: dict[str, tuple[Path, Any]] = {}
    found = []
    for entry in job.eval.metrics:
        file, _, name = entry.partition(":")
        if file not in modules:
            path = _copy_of(file, job.metrics_sha256.get(file), run_folder)
            modules[file] = path, _import(path)
        path, module = modules[file]
        function = getattr(module, name, None)
        if not callable(function):
            raise BadInput(f"eval.metrics: {path.name} has no function {name}")
        found.append(OwnMetric(name, path, function))
    return found


def _copy_of(file: str, sha256: str | None, run_folder: Path) -> Path:
    """The file as it travelled with the run, else where the spec says it is."""
    travelled = run_folder / layout.OWN_METRICS / Path(file).name
    return data_file(str(travelled if travelled.is_file() else file), "eval.metrics", run_folder,
                     sha256)  # fmt: skip


def _import(path: Path) -> Any:
    name = MODULE_PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"eval.metrics: {path}: no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"eval.metrics: {told(error, path)}") from error
    return module


def told(error: BaseException, path: Path) -> str:
    """An error of the user's file in one line: where in it, what stands there, what was wrong."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{path.name} line {error.lineno}: {what}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(path)]
    if not own:
        return f"{path.name}: {what}"
    return f"{path.name} line {own[-1].lineno}, `{own[-1].line}`: {what}"


def names_after_trial(
    metrics: Sequence[OwnMetric], references: list[str], questions: list[str]
) -> list[str]:
    """Try each on a few rows, the references as answers; the metrics that come of it, by name.

    Raises `BadInput` where one fails: before anything is trained.
    """
    names: list[str] = []
    for metric in metrics:
        tried = metric.measure(references, references, questions, seed=0)
        if tried.problems:
            raise BadInput(f"{tried.problems[0]}; tried on {len(references)} rows before training")
        names += tried.values
    return names
