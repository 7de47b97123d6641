"""What a card's speed rests on is what lies in the repository."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from benchmarks.published import SHAPES, card_of, expressible, rows, spec_of
from launcher.catalog.gpus import GPUS, find
from launcher.estimate.calibration import TRAINING, Ratio, factor
from launcher.estimate.evidence import FOREIGN, MEASURED, PUBLISHED, evidence
from launcher.estimate.passes import step_seconds
from launcher.estimate.shapes import shape_of
from launcher.types import Device
from tests.unit.launcher.estimate.test_estimate import CPU, QWEN_7B, RTX_4090, spec_for

ROOT = Path(__file__).parents[4]


def card_named(published: str) -> str:
    """The catalog's name of a card as a published row calls it."""
    if published.startswith("A100"):
        return "A100-80GB" if "80GB" in published else "A100-40GB"
    card = find(published.split(" (")[0])
    assert card is not None
    return card.name


def test_foreign_data_is_what_the_residuals_read() -> None:
    counted = Counter(
        card_named(row["gpu"])
        for row in rows("throughput_measured_dev.csv")
        if expressible(row) and row["tokens_per_s"]
    )
    assert {name: int(found.rows.split()[0]) for name, found in FOREIGN.items()} == counted


@pytest.mark.parametrize("name", FOREIGN)
def test_a_card_s_share_follows_from_its_own_rows(name: str) -> None:
    ratios = []
    for row in rows("throughput_measured_dev.csv"):
        if expressible(row) and row["tokens_per_s"] and card_named(row["gpu"]) == name:
            spec, tokens = spec_of(row), spec_of(row).train.micro_batch * int(row["seq_len"])
            seconds = tokens / (float(row["tokens_per_s"]) / int(row["n_gpus"]))
            shape, card = SHAPES[row["model"]], card_of(row)
            ours = step_seconds(shape, spec, card, tokens, PUBLISHED, padded=False).expected
            ratios.append(Ratio(row["model"], seconds / ours))
    towards = factor(ratios, TRAINING)
    assert towards is not None
    share = PUBLISHED.share.expected / towards.expected
    assert FOREIGN[name].share == pytest.approx(share, abs=0.01)


def test_a_card_is_measured_where_its_file_lies() -> None:
    files = {path.stem for path in (ROOT / "docs/measured").glob("*.csv")} - {"oracle"}
    assert set(MEASURED) == files


@pytest.mark.parametrize("card", [card.name for card in GPUS])
def test_every_card_has_a_status(card: str) -> None:
    found = evidence(msgspec.structs.replace(RTX_4090, name=card))
    assert found.status in ("measured", "foreign data", "unmeasured")
    assert found.source


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("AMD EPYC", "measured"),
        ("AMD EPYC 7B13 64-Core Processor", "foreign data"),
        ("AMD EPYC 9654 96-Core Processor", "foreign data"),
        ("Intel(R) Xeon(R) Processor", "unmeasured"),
    ],
)
def test_one_measured_cpu_is_not_all_of_its_family(name: str, status: str) -> None:
    assert evidence(msgspec.structs.replace(CPU, name=name)).status == status


def test_an_unmeasured_card_has_wider_hours() -> None:
    shape, _ = shape_of(spec_for(QWEN_7B).model)

    def spread(card: Device) -> float:
        span = step_seconds(shape, spec_for(QWEN_7B), card, 8192)
        return span.high / span.low

    unknown = msgspec.structs.replace(RTX_4090, name="L4")  # the same rates under another name
    assert spread(unknown) > 1.5 * spread(RTX_4090)
