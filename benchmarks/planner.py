"""What planning costs: CPU seconds over growing catalogs.

    .venv/bin/python -m benchmarks.planner [--offers N ...] [--skypilot PYTHON]

The catalog is made up from the embedded one: its cards and providers at drawn prices in drawn
regions. `--skypilot` names an interpreter that has SkyPilot: its optimizer then chooses among
fourteen resources on the real rows of tests/fixtures, without its server, which `sky launch
--dryrun` would start as well. Ends with 1 when 200,000 offers take more than 0.5 s of CPU, or grow
worse than linearly.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from jobs.spec import Data, JobSpec, Model
from launcher import planner
from launcher.catalog.offers import embedded_offers
from launcher.estimate.shapes import shape_of
from launcher.types import MICROUSD, Budget, DataFacts, ModelFacts, Offer
from tests.integration.skypilot import OPTIMIZE, name_cards
from tests.unit.launcher.catalog import real_rows

SIZES = (12_500, 50_000, 200_000)
LIMIT_SECONDS = 0.5
ROUNDS = 5
# (cloud, accelerator, count, spot) of the fixtures' rows, as SkyPilot names them.
CHOICE = (
    ("aws", "A10G", 4, False), ("aws", "L4", 1, False), ("aws", "L40S", 8, False),
    ("aws", "T4", 1, False), ("azure", "A10", 1, False), ("azure", "A100", 8, False),
    ("azure", "A100-80GB", 2, False), ("azure", "T4", 1, False), ("azure", "V100", 1, False),
    ("lambda", "A6000", 1, False), ("lambda", "V100", 8, False), ("nebius", "H100", 1, False),
    ("runpod", "A100-80GB", 1, False), ("runpod", "A100-80GB", 2, False),
)  # fmt: skip
DRY_RUN = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--strategy", "qlora", "--max-cost", "10",
           "--dry-run", "--json")  # fmt: skip


def catalog(size: int) -> list[Offer]:
    drawn, shipped = random.Random(17), embedded_offers()
    return [
        msgspec.structs.replace(
            drawn.choice(shipped),
            instance=f"i{number}",
            region=f"r{drawn.randrange(60)}",
            microusd_per_hour=drawn.randrange(100_000, 20_000_000),
        )
        for number in range(size)
    ]


def planning_seconds(offers: list[Offer]) -> float:
    """CPU of one plan, the least of several."""
    job = JobSpec(model=Model(id="Qwen/Qwen2.5-7B-Instruct"), data=Data(train="rows.jsonl"))
    shape, source = shape_of(job.model)
    model = ModelFacts(
        id=job.model.id,
        architecture=shape.architecture,
        parameters=shape.parameters,
        named_parameters=None,
        source=source,
    )
    data = DataFacts(
        train_path="rows.jsonl",
        validation_path=None,
        train_rows=10_000,
        validation_rows=1_000,
        train_characters=40_000_000,
        longest_characters=20_000,
        validation_characters=4_000_000,
        sha256="",
    )
    least = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        made = planner.plan(
            job,
            Budget(max_cost_microusd=100 * MICROUSD, max_hours=100),
            shape,
            model,
            data,
            offers,
            run_id="r",
            created_at=datetime.now(UTC).isoformat(),
            recipe="",
            settings=(),
            warnings=(),
        )
        least = min(least, time.process_time() - start)
        assert made.chosen is not None
        assert sum(c.dearer + 1 for c in made.candidates) == len(offers)
    return least


def child_seconds(command: list[str], **variables: str) -> float:
    """CPU of a whole command, user and system, the least of several."""
    least = float("inf")
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | variables
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        least = min(least, spent)
    return least


def skypilot_seconds(python: str) -> float:
    """CPU of SkyPilot to choose the cheapest of CHOICE by the hour, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        home = real_rows.place(Path(place), *sorted({cloud for cloud, *_ in CHOICE}))
        name_cards(home, CHOICE)
        wanted, groups = json.dumps(CHOICE), json.dumps([list(range(len(CHOICE)))])
        return child_seconds(
            [python, "-c", OPTIMIZE, wanted, groups],
            HOME=str(home),
            SKY_RUNTIME_DIR=str(home),
            SKYPILOT_DISABLE_USAGE_COLLECTION="1",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--offers", type=int, nargs="+", default=SIZES)
    parser.add_argument("--skypilot", metavar="PYTHON")
    args = parser.parse_args()
    took = {}
    for size in args.offers:
        took[size] = planning_seconds(catalog(size))
        print(
            f"{size:9,d} offers: {took[size]:.3f} s of CPU, {took[size] / size * 1e6:.2f} us each"
        )
    ours = child_seconds([sys.executable, "-m", "launcher", *DRY_RUN])
    print(f"launch --dry-run, the embedded catalog, the whole command: {ours:.3f} s of CPU")
    if args.skypilot is not None:
        theirs = skypilot_seconds(args.skypilot)
        print(
            f"SkyPilot's optimizer alone, over {len(CHOICE)} resources: {theirs:.3f} s of CPU, ",
            end="",
        )
        print(f"{theirs / ours:.0f} times ours")
    smallest, largest = min(took), max(took)
    growth = (took[largest] / took[smallest]) / (largest / smallest)
    print(f"growth: {growth:.2f} of linear")
    slow = took[largest] > LIMIT_SECONDS * largest / 200_000
    sys.exit(1 if slow or growth > 1.2 else 0)


if __name__ == "__main__":
    main()
