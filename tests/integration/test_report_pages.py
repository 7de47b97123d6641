"""Pages of several runs, with their pictures."""

from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import Data, Gate, GateResult, Model, ResolvedSpec, Result, encode
from jobs.spec.provenance import Provenance
from results.report import html, markdown
from results.report.compare import Compared, compare_page
from results.report.overview import Entry, Spend, overview_page
from results.report.page import Table
from results.report.run_page import read
from tests.unit.results.report.runs import RECEIPT, SFT, a_run

SPEC = ResolvedSpec(
    model=Model(id="a/b"), data=Data(train="/rows.jsonl"), run_id="run-1", strategy="qlora",
    dtype="bf16", device="cuda", quantization=None, train_sha256="1" * 64,
)  # fmt: skip


def compared(folder: Path, run_id: str, spec: ResolvedSpec, result: Result) -> Compared:
    folder.mkdir()
    (a_run(folder, result) / layout.SPEC).write_bytes(encode(spec))
    receipt = msgspec.structs.replace(RECEIPT, run_id=run_id)
    return Compared(files=read(folder), receipt=receipt, gpu="RTX4090")


def test_runs_side_by_side(tmp_path: Path) -> None:
    other = msgspec.structs.replace(
        SPEC, run_id="run-2", lora=msgspec.structs.replace(SPEC.lora, r=64)
    )
    missed = msgspec.structs.replace(
        SFT,
        metrics={"tuned": {"exact_match": 0.5}},
        intervals={},
        gates=(GateResult(metric="exact_match", min=0.9, max=None, value=0.5, passed=False),),
    )
    page = compare_page(
        [
            compared(tmp_path / "a", "run-1", SPEC, SFT),
            compared(tmp_path / "b", "run-2", other, missed),
        ]
    )
    tables = {b.caption: b for s in page.sections for b in s.blocks if isinstance(b, Table)}
    settings = next(t for c, t in tables.items() if c.startswith("By the recipe"))
    assert settings.rows == (("lora.r", "16", "64"),)
    shown = next(t for c, t in tables.items() if c.startswith("The fine-tuned model of each run"))
    metrics = {row[0]: row[1:] for row in shown.rows}
    assert metrics["exact_match"] == ("0.97 (0.8 to 0.99)", "0.5")
    ended = {row[0]: row[1:] for row in tables["How each run ended"].rows}
    assert ended["GPU"] == ("RTX4090", "RTX4090")
    assert ended["gates"] == (
        "pass: exact_match 0.970, at least 0.9",
        "FAIL: exact_match 0.500, at least 0.9",
    )
    assert "not judged on the same data" not in markdown.render(page)
    assert "<h1><span>2 runs compared</span>" in html.render(page)


def test_settings_are_told_in_words_and_what_a_run_was_started_from_is_none(tmp_path: Path) -> None:
    gated = msgspec.structs.replace(
        SPEC,
        gates=(Gate(metric="loss", max=2.0), Gate(metric="f1", min=0.5, max=0.9)),
        provenance=Provenance(plan_sha256="3" * 64, version="1"),
    )
    page = compare_page(
        [
            compared(tmp_path / "a", "run-1", SPEC, SFT),
            compared(tmp_path / "b", "run-2", gated, SFT),
        ]
    )
    settings = page.sections[-1].blocks[0]
    assert isinstance(settings, Table)
    assert settings.rows == (("gates", "", "loss at most 2, f1 at least 0.5 and at most 0.9"),)


def test_runs_on_other_rows_do_not_compare(tmp_path: Path) -> None:
    other = msgspec.structs.replace(SPEC, train_sha256="2" * 64)
    page = compare_page(
        [
            compared(tmp_path / "a", "run-1", SPEC, SFT),
            compared(tmp_path / "b", "run-2", other, SFT),
        ]
    )
    assert "not judged on the same data" in markdown.render(page)


def entry(
    run_id: str, *spent: tuple[str, int], page: str = "", state: str = "SUCCEEDED", reason: str = ""
) -> Entry:
    return Entry(
        run_id=run_id, state=state, reason=reason, started="2026-11-20T10:00:00+00:00", model="b",
        strategy="qlora", where="runpod RTX4090", gates="1 of 1 passed",
        spent=tuple(Spend(at=at, microusd=cost) for at, cost in spent), page=page,
    )  # fmt: skip


def test_all_runs_with_the_spend_of_each_week() -> None:
    page = overview_page(
        [
            entry("new", ("2026-11-16T00:00:00+00:00", 1_500_000), page="a b/report.html"),
            entry("old", ("2026-11-15T23:59:59+00:00", 250_000), ("2026-11-01T12:00:00Z", 100_000)),
        ]
    )
    weeks = page.figures[0].data.rows
    assert weeks == (
        ("2026-11-16", "1", "$1.50"),
        ("2026-11-09", "1", "$0.25"),
        ("2026-11-02", "0", "$0.00"),
        ("2026-10-26", "1", "$0.10"),
    )
    assert dict(page.facts)["Spent in all"] == "$1.85"
    assert '<a href="a b/report.html">new</a>' in html.render(page)
    assert "[new](<a b/report.html>)" in markdown.render(page)
    assert "No runs yet" in markdown.render(overview_page([]))


def test_money_stands_before_what_may_be_cut_off() -> None:
    page = overview_page([entry("a", ("2026-11-16T00:00:00+00:00", 1_500_000))])
    table = next(b for s in page.sections for b in s.blocks if isinstance(b, Table))
    assert table.head[:3] == ("run", "state", "spent")
    assert table.rows[0][2] == "$1.50"


def test_what_succeeded_is_counted_as_the_table_says() -> None:
    runs = [entry("a"), entry("b", reason="GATE_FAILED"), entry("c", state="FAILED", reason="OOM")]
    page = overview_page(runs)
    assert dict(page.facts)["Succeeded"] == "2, 1 of them with a failed gate"
    assert dict(overview_page(runs[:1]).facts)["Succeeded"] == "1"
    assert "| SUCCEEDED (GATE_FAILED) |" in markdown.render(page)
