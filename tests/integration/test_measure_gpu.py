"""The harness that measures cards, its way proved on a CPU: its figures mean nothing there."""

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.measure_gpu import CASES, KEY, SCORES, STRATEGIES
from tests.integration.command import ROOT

# Checkpointing on, off and on again, with packing and without: the others differ in sizes alone.
KINDS = slice(1, 4)
SOME = f"from benchmarks import measure_gpu as m; m.CASES = m.CASES[{KINDS!r}]; m.main()"


def test_it_measures_every_case_once_and_goes_on(train_python: str, tmp_path: Path) -> None:
    def measure(minutes: str) -> tuple[int, str, list[dict[str, str]]]:
        command = [sys.executable, "-c", SOME, train_python, "--device", "cpu"]
        limits = ["--models", "sample", "--minutes", minutes, "--out", str(tmp_path)]
        done = subprocess.run([*command, *limits], cwd=ROOT, capture_output=True, text=True)
        with (tmp_path / "cpu.csv").open(newline="") as rows:
            return done.returncode, done.stdout + done.stderr, list(csv.DictReader(rows))

    cases = CASES[KINDS]
    assert [case[2] for case in cases] == [True, False, True]
    assert {case[3] for case in cases} == {False, True}
    code, said, first = measure("0")
    assert code == 3
    assert "10 cases left: the same command goes on" in said
    assert len(first) == 1
    code, said, every = measure("9")
    assert code == 0, said
    assert every[:1] == first
    assert len({tuple(row[k] for k in KEY) for row in every}) == len(every)
    assert len(every) == len(STRATEGIES) * len(cases) + len(SCORES)
    assert {row["strategy"] for row in every} == set(STRATEGIES)
    assert {row["outcome"] for row in every} == {"ok"}
    assert all(float(row["step_seconds"]) > 0 for row in every)
