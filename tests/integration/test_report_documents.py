"""What a report holds for each kind of run, and that both formats hold it."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Failure, PilotResult, Result
from results.report.curves import loss_figure
from results.report.documents import documents
from results.report.drawing import _WHITE, _canvas
from results.report.page import Table, Text
from results.report.run_page import Told
from tests.unit.results.report.runs import (
    CURVE,
    RECEIPT,
    SFT,
    STUDENT,
    a_run,
    step,
    validation,
    with_samples,
)

TOLD = Told(
    plan=(
        Table(caption="Rejected", head=("verdict", "why"), rows=(("rejected", "$12 > cap $10"),)),
    ),
    ladder=Table(caption="Next", head=("rung", "at worst"), rows=(("lora", "$2"),)),
    attempts=Table(caption="Attempts", head=("attempt", "why"), rows=(("1", "PREEMPTED"),)),
)
FAILED = Result(
    run_id="run-1",
    status="error",
    failure=Failure(reason="PILOT_FAILED", message="the loss is no number"),
    pilot=PilotResult(
        examples=10, steps=20, loss_before=2.0, loss_after=None, metrics={}, seconds=9.0,
        seconds_per_step=0.4, train_seconds=3600.0, seconds_left=1800.0,
    ),
)  # fmt: skip
CANCELLED = Result(
    run_id="run-1", status="error", failure=Failure(reason="CANCELLED", message="as asked")
)
# Elements that have no end of their own (HTML 13.1.2).
VOID = ("meta", "link", "br")
PLANTED = "<script>alert(1)</script> ![x](http://e.example/p.png) `a|b`\n# head <img src=x>"


class Structure(HTMLParser):
    """Elements, attributes and text; raises where an end tag closes another element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def both(folder: Path, told: Told = TOLD, **receipt: object) -> tuple[str, Structure]:
    changed = msgspec.structs.replace(RECEIPT, **receipt)
    made = documents(folder, changed, told)
    return made[layout.REPORT].decode(), Structure(made[layout.REPORT_PAGE].decode())


@pytest.mark.parametrize(
    ("result", "state", "sections"),
    [
        (SFT, "SUCCEEDED", ("Gates", "Quality", "Overfitting", "Training", "Samples")),
        (STUDENT, "SUCCEEDED", ("Gates", "Quality", "Overfitting", "Training", "Samples")),
        (FAILED, "FAILED", ("Gates", "Training")),
        (CANCELLED, "CANCELLED", ("Training",)),
        (None, "FAILED", ("Training",)),
    ],
    ids=["sft", "student", "failed", "cancelled", "no-result"],
)
def test_both_formats_have_the_runs_sections(
    tmp_path: Path, result: Result | None, state: str, sections: tuple[str, ...]
) -> None:
    folder = with_samples(a_run(tmp_path, result), {"question": "q", "tuned": "a"})
    text, page = both(folder, state=state)
    assert text.startswith(f"# Run run-1: {state}\n")
    for title in (*sections, "Receipt", "Attempts", "Plan", "When a gate fails"):
        assert f"\n## {title}" in text
        assert title in page.text
    for said in ("$12 > cap $10", "PREEMPTED", "3.00 GiB", "of a cap of $10.00 on local cpu"):
        assert said in text
        assert said in page.text
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(headings))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (SFT, "The one gate passed."),
        (STUDENT, "The one gate failed: mae."),
        (None, "The job left no result; its log is beside this page."),
    ],
)
def test_the_verdict_stands_on_top(tmp_path: Path, result: Result | None, said: str) -> None:
    text, page = both(a_run(tmp_path, result))
    assert text.splitlines()[2] == said
    assert said in page.text[: page.text.index("Receipt")]


def test_a_failure_is_told_with_its_figures(tmp_path: Path) -> None:
    text, page = both(a_run(tmp_path, FAILED))
    assert text.splitlines()[2] == "**PILOT_FAILED**: the loss is no number"
    assert "no number in 20 steps" in text
    assert "PILOT_FAILED: the loss is no number" in page.text


def test_text_of_a_model_stays_text_in_both(tmp_path: Path) -> None:
    folder = with_samples(a_run(tmp_path, SFT), {"question": PLANTED, "tuned": PLANTED})
    planted = Table(caption=PLANTED, head=(PLANTED,), rows=((PLANTED,),))
    text, page = both(folder, Told(plan=(planted, Text(text=PLANTED))), reason=PLANTED)
    for started in ("<script", "<img", "![x](", "`a|b`", "\n# head"):
        assert started not in text.replace("&lt;", "")
    assert not page.all("script")
    assert not page.all("img")
    assert "<script>alert(1)</script>" in page.text


def test_the_page_fetches_nothing_and_says_so(tmp_path: Path) -> None:
    page = both(a_run(tmp_path, STUDENT))[1]
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action") and value is not None
    ]
    assert all(a.startswith(("#", "data:")) for a in addresses)
    policy = next(m for m in page.all("meta") if m.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]


def test_figures_and_tables_can_be_heard(tmp_path: Path) -> None:
    page = both(a_run(tmp_path, STUDENT))[1]
    drawings = page.all("svg")
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(drawings) == 4
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set((drawing["aria-labelledby"] or "").split()) <= set(ids)
    assert len(ids) == len(set(ids))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert page.text.count("Numbers of this figure") == len(drawings)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = with_samples(a_run(tmp_path, STUDENT), {"question": "q", "tuned": "a"})
    assert documents(folder, RECEIPT, TOLD) == documents(folder, RECEIPT, TOLD)


def test_pictures_are_there_where_there_is_something_to_draw(tmp_path: Path) -> None:
    def pictures(result: Result | None, seen=CURVE) -> set[str]:
        made = documents(a_run(tmp_path, result, seen), RECEIPT, TOLD)
        found = {name: content for name, content in made.items() if name.endswith(".png")}
        assert all(content.startswith(b"\x89PNG") for content in found.values())
        return set(found)

    assert pictures(None, ()) == set()
    assert pictures(SFT) == {layout.LOSS_PICTURE, layout.OVERALL_PICTURE}
    assert pictures(STUDENT) == set(layout.PICTURES)


def drawn_lines(figure) -> list[tuple[str, str]]:
    (axes,) = _canvas((figure.chart,), _WHITE).axes
    assert all(tick == int(tick) for tick in axes.get_xticks())
    return [(line.get_linestyle(), line.get_marker()) for line in axes.lines]


def test_a_line_is_drawn_through_what_was_measured_and_steps_are_whole() -> None:
    few = (step(1, 3.0), step(2, 2.0), validation(1, 3.5), validation(2, 2.5))
    assert drawn_lines(loss_figure(few, "")) == [("None", "o"), ("None", "o")]
    many = (*CURVE, validation(6, 3.0))
    assert drawn_lines(loss_figure(many, "")) == [("-", ""), ("--", "o")]


@pytest.mark.parametrize("name", ["price_$_per_$unit", "$\\nothing$", "US$ or A$"])
def test_a_dimension_may_have_a_dollar_in_its_name(tmp_path: Path, name: str) -> None:
    metrics = {"mae": 0.5, f"mae/{name}": 0.4, "mae/depth": 0.6}
    student = msgspec.structs.replace(STUDENT, metrics={"tuned": metrics})
    made = documents(a_run(tmp_path, student), RECEIPT, TOLD)
    assert layout.DIMENSIONS_PICTURE in made
    assert f">{name}</text>" in made[layout.REPORT_PAGE].decode()


def test_the_history_is_the_metrics_by_epoch(tmp_path: Path) -> None:
    made = documents(a_run(tmp_path, STUDENT), RECEIPT, TOLD)
    history = json.loads(made[layout.HISTORY])
    written = [json.loads(line) for line in (tmp_path / layout.METRICS).read_text().splitlines()]
    assert history["steps"] == [r for r in written if r["event"] == "step"]
    assert history["validations"] == [r for r in written if r["event"] == "eval"]
    assert [(e["epoch"], e["last_step"], e["train_loss"]) for e in history["epochs"]] == [
        (1, 4, 3.375),
        (2, 8, 2.375),
    ]
    assert [e["validation_loss"] for e in history["epochs"]] == [3.5, 2.5]
    metadata = json.loads(made[layout.METADATA])
    assert metadata["run_id"] == "run-1"
    assert metadata["metrics"] == STUDENT.metrics
    assert metadata["fit"]["gap"] == 0.696


def test_a_step_done_again_after_a_restart_counts_once(tmp_path: Path) -> None:
    seen = (step(1, 4.0), step(2, 3.9), validation(2, 3.0), step(2, 3.8), validation(2, 2.9))
    made = documents(a_run(tmp_path, SFT, seen), RECEIPT, TOLD)
    history = json.loads(made[layout.HISTORY])
    assert [(s["step"], s["loss"]) for s in history["steps"]] == [(1, 4.0), (2, 3.8)]
    assert [v["loss"] for v in history["validations"]] == [2.9]


def test_a_loss_of_the_kept_weights_is_none_of_the_last_step(tmp_path: Path) -> None:
    kept = msgspec.structs.replace(validation(8, 2.0), epoch=None)
    made = documents(a_run(tmp_path, SFT, (*CURVE, kept)), RECEIPT, TOLD)
    assert [v["loss"] for v in json.loads(made[layout.HISTORY])["validations"]] == [3.5, 2.5]


def test_an_exports_files_stand_in_a_table(tmp_path: Path) -> None:
    home, export = tmp_path / "run-1", tmp_path / "run-1.export"
    home.mkdir()
    export.mkdir()
    made = {
        "quantization": "q4_k_m", "file": "m.gguf", "size_bytes": 100 << 20, "sha256": "0",
        "perplexity": 1.5, "perplexity_change": 0.02, "metrics": {}, "asked": True, "shipped": True,
        "prompt_tokens_per_second": 80.0, "generated_tokens_per_second": 40.0,
        "prompt_speed_ratio": 1.0, "generated_speed_ratio": 2.5, "gates": [],
    }  # fmt: skip
    (export / layout.QUANTISATION).write_text(json.dumps({"files": [made]}))
    text = documents(a_run(home, SFT), RECEIPT, TOLD, export)[layout.REPORT].decode()
    row = next(line for line in text.splitlines() if line.startswith("| q4_k_m"))
    for cell in ("105 MB", "1.500", "+2.0%", "40 tokens/s", "2.50×", "none set", "shipped"):
        assert cell in row
    head = next(line for line in text.splitlines() if line.startswith("| file type"))
    assert "perplexity against f16 | " in head
    assert "speed against f16 | " in head
    assert "## Quantisation" not in documents(home, RECEIPT, TOLD)[layout.REPORT].decode()
