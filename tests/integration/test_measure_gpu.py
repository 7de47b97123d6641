"""The harness that measures cards, its way proved on a CPU: its figures mean nothing there."""

import csv
import subprocess
import sys
from pathlib import Path

from benchmarks.measure_gpu import CASES, KEY
from tests.integration.command import ROOT

# One case without checkpointing and packing, one with both: the others differ in sizes alone.
KINDS = slice(2, 4)
SOME = f"from benchmarks import measure_gpu as m; m.CASES = m.CASES[{KINDS!r}]; m.main()"


def test_it_measures_every_case_once_and_goes_on(train_python: str, tmp_path: Path) -> None:
    def measure() -> tuple[int, str, list[dict[str, str]]]:
        command = [sys.executable, "-c", SOME, train_python, "--device", "cpu"]
        limits = ["--models", "sample", "--minutes", "0", "--out", str(tmp_path)]
        done = subprocess.run([*command, *limits], cwd=ROOT, capture_output=True, text=True)
        with (tmp_path / "cpu.csv").open(newline="") as rows:
            return done.returncode, done.stderr, list(csv.DictReader(rows))

    cases = CASES[KINDS]
    assert {case[2:4] for case in cases} == {(False, False), (True, True)}
    code, said, first = measure()
    assert code == 1
    assert "minutes are over: the same command goes on" in said
    assert len(first) == len(cases)
    assert {(row["strategy"], row["outcome"]) for row in first} == {("qlora", "ok")}
    _, _, both = measure()
    assert both[: len(first)] == first
    assert {row["strategy"] for row in both[len(first) :]} == {"lora"}
    assert len({tuple(row[k] for k in KEY) for row in both}) == len(both) == 2 * len(cases)
    assert all(float(row["step_seconds"]) > 0 for row in both)
