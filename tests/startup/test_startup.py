"""What starting costs, in CPU time (user + sys) of the whole process: the least of several runs,
with bytecode, as an installation has it. Other work on the machine adds to CPU time too, to half as
much again where it shares the caches: `make test` runs this before its lanes, and what seems too
dear is looked at again, for the other work may be over by then."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command import LAUNCH, Command

SEVEN_B = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--strategy", "qlora", "--max-cost", "10")
HEAVY = ("torch", "transformers", "sky", "boto3", "huggingface_hub", "rich", "matplotlib")


RUNS, AT_MOST = 7, 70


def cpu_ms(
    command: list[str], folder: os.PathLike[str], environment: dict[str, str], limit_ms: int
) -> float:
    environment = {k: v for k, v in environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
    best = float("inf")
    for run in range(AT_MOST):
        if run >= RUNS and best <= limit_ms:
            break
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best, spent * 1000)
    return best


@pytest.fixture
def launch(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "limit_ms"),
    [
        (("--help",), 150),
        ((*SEVEN_B, "--dry-run", "--json"), 250),
        (("estimate", *SEVEN_B), 300),
        (("estimate", "--compare", *SEVEN_B[:2]), 300),
    ],
    ids=["help", "dry-run", "estimate", "compare"],
)
def test_start_up_is_cheap(launch: Command, arguments, limit_ms: int, record_property) -> None:
    spent = cpu_ms([*LAUNCH, *arguments], launch.folder, launch.environment, limit_ms)
    print(f"{' '.join(arguments)}: {spent:.0f} ms of CPU")
    assert spent <= limit_ms


@pytest.mark.parametrize("arguments", [("--help",), (*SEVEN_B, "--dry-run", "--json")])
def test_nothing_heavy_is_imported(launch: Command, arguments) -> None:
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['launch', *{arguments!r}]\n"
        "try:\n    runpy.run_module('launcher', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=launch.folder,
        env=launch.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_json_is_one_object_and_nothing_else(launch: Command) -> None:
    done = launch(*SEVEN_B, "--dry-run", "--json")
    assert done.stderr == ""
    plan = json.loads(done.stdout)
    assert plan["model"]["parameters"] == 7_615_616_512
