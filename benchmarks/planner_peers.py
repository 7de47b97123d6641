"""Dry runs for planner.py, ours and others', on the same question and the same price lists.

The question is a QLoRA of Qwen2.5-7B; the price lists are the real rows of tests/fixtures, in a
home of their own. `sky launch --dryrun` asks a server, which is started for it and warm when it
counts: its share is what its processes took beyond what they take when idle. fitcheck-llm prices no
offer; it says whether that model fits one card. Linux: the server's CPU is read from /proc.
"""

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from launcher.estimate.shapes import embedded_config
from tests.integration.skypilot import OPTIMIZE, api_server, name_cards
from tests.unit.launcher.catalog import real_rows

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
MODEL = "Qwen/Qwen2.5-7B-Instruct"
# (cloud, accelerator, count, spot) of the fixtures' rows, as SkyPilot names them. The cheapest is
# Lambda's: a dry run on AWS or Azure goes on to read lists of images, which are not here.
CHOICE = (
    ("aws", "A10G", 4, False), ("aws", "L4", 1, False), ("aws", "L40S", 8, False),
    ("azure", "A10", 1, False), ("azure", "A100", 8, False), ("azure", "A100-80GB", 2, False),
    ("azure", "V100", 1, False), ("lambda", "A6000", 1, False), ("lambda", "V100", 8, False),
    ("nebius", "H100", 1, False), ("runpod", "A100-80GB", 1, False),
    ("runpod", "A100-80GB", 2, False),
)  # fmt: skip
CLOUDS = ("AWS", "Azure", "Lambda", "Nebius", "RunPod")
OURS = ("-m", "launcher", "--model", MODEL, "--strategy", "qlora", "--max-cost", "10",
        "--dry-run", "--json")  # fmt: skip
FITCHECK = (MODEL, "--qlora", "--seq-len", "2048", "--gpu", "4090", "--json")

IDLE_SECONDS = 20.0
SETTLE_SECONDS = 2.0  # a worker goes on for a moment after its answer


def seeded(home: Path) -> Path:
    """A home with the real rows where SkyPilot keeps its catalogs, and the model's config.json."""
    real_rows.place(home, *sorted({cloud for cloud, *_ in CHOICE}))
    name_cards(home, CHOICE)
    model = home / ".cache" / "huggingface" / "hub" / f"models--{MODEL.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "snapshots" / "abc" / "config.json").write_text(json.dumps(embedded_config(MODEL)))
    return home


def _environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(home)}
    return {**kept, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1", **variables}


def ours_seconds(home: Path) -> float:
    """CPU of `launch --dry-run`, the whole command."""
    variables = _environment(home, PYTHONPATH=str(ROOT))
    return min(_seconds([sys.executable, *OURS], home, variables) for _ in range(ROUNDS))


def optimizer_seconds(python: str, home: Path) -> float:
    """CPU of SkyPilot to choose the cheapest of CHOICE by the hour, without client and server."""
    wanted, groups = json.dumps(CHOICE), json.dumps([list(range(len(CHOICE)))])
    command = [python, "-c", OPTIMIZE, wanted, groups]
    return min(_seconds(command, home, _environment(home)) for _ in range(ROUNDS))


def fitcheck_seconds(python: str, home: Path) -> float:
    """CPU of `fitcheck` for one card. It fits: anything but 0 is no answer."""
    command = [str(Path(python).with_name("fitcheck")), *FITCHECK]
    return min(_seconds(command, home, _environment(home)) for _ in range(ROUNDS))


def skypilot_seconds(python: str, home: Path) -> tuple[float, float]:
    """CPU of one `sky launch --dryrun`: the client's, and its warm server's share."""
    task = home / "task.yaml"
    resources = [
        {"infra": cloud, "accelerators": f"{card}:{count}", "use_spot": spot}
        for cloud, card, count, spot in CHOICE
    ]
    task.write_text(json.dumps({"resources": {"any_of": resources}, "run": "true"}))
    sky = str(Path(python).with_name("sky"))
    with api_server(python, home, CLOUDS) as (variables, session):
        served = partial(_session_seconds, session)
        command = [sky, "launch", "--yes", "--dryrun", str(task)]
        _seconds(command, home, variables)  # the first warms the server's workers
        start, before = time.monotonic(), served()
        time.sleep(IDLE_SECONDS)
        idle = (served() - before) / (time.monotonic() - start)
        rounds = []
        for _ in range(ROUNDS):
            start, before = time.monotonic(), served()
            client = _seconds(command, home, variables)
            time.sleep(SETTLE_SECONDS)
            server = served() - before - idle * (time.monotonic() - start)
            rounds.append((client, server))
    return min(rounds, key=sum)


def _seconds(command: list[str], folder: Path, variables: dict[str, str]) -> float:
    """CPU of a command and its children, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(
            f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _session_seconds(session: int) -> float:
    """CPU of all processes of a session, and of their children that ended (proc(5), stat)."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")
