"""What planning costs: CPU seconds over growing catalogs, and beside others' dry runs.

    .venv/bin/python -m benchmarks.planner [--offers N ...] [--skypilot PYTHON] [--fitcheck PYTHON]

The catalog is made up from the embedded one: its cards and providers at drawn prices in drawn
regions. `--skypilot` and `--fitcheck` name interpreters of environments with skypilot==0.14.1 and
fitcheck-llm==0.3.1; planner_peers.py says what they are asked. Ends with 1 when 200,000 offers take
more than 0.5 s of CPU, or grow worse than linearly.
"""

import argparse
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import planner_peers as peers
from jobs.spec import Data, JobSpec, Model
from launcher import planner
from launcher.catalog.offers import embedded_offers
from launcher.estimate.shapes import shape_of
from launcher.types import MICROUSD, Budget, DataFacts, ModelFacts, Offer

SIZES = (12_500, 50_000, 200_000)
LIMIT_SECONDS = 0.5
ROUNDS = 5


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


def side_by_side(skypilot: str | None, fitcheck: str | None) -> None:
    """The whole commands, each as often as ours."""
    with tempfile.TemporaryDirectory() as place:
        home = peers.seeded(Path(place))
        ours = peers.ours_seconds(home)
        print(f"launch --dry-run, the whole command: {ours:.3f} s of CPU")
        if skypilot is not None:
            client, server = peers.skypilot_seconds(skypilot, home)
            _compared("sky launch --dryrun, client", client, ours)
            _compared("  its warm server's share", server, ours)
            _compared("  both", client + server, ours)
            _compared("SkyPilot's optimizer alone", peers.optimizer_seconds(skypilot, home), ours)
        if fitcheck is not None:
            _compared("fitcheck, one card", peers.fitcheck_seconds(fitcheck, home), ours)


def _compared(what: str, seconds: float, ours: float) -> None:
    print(f"{what}: {seconds:.3f} s of CPU, {seconds / ours:.1f} times ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--offers", type=int, nargs="+", default=SIZES)
    parser.add_argument("--skypilot", metavar="PYTHON")
    parser.add_argument("--fitcheck", metavar="PYTHON")
    args = parser.parse_args()
    took = {}
    for size in args.offers:
        took[size] = planning_seconds(catalog(size))
        print(
            f"{size:9,d} offers: {took[size]:.3f} s of CPU, {took[size] / size * 1e6:.2f} us each"
        )
    side_by_side(args.skypilot, args.fitcheck)
    smallest, largest = min(took), max(took)
    growth = (took[largest] / took[smallest]) / (largest / smallest)
    print(f"growth: {growth:.2f} of linear")
    slow = took[largest] > LIMIT_SECONDS * largest / 200_000
    sys.exit(1 if slow or growth > 1.2 else 0)


if __name__ == "__main__":
    main()
