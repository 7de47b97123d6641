"""The report of a real run, in a real browser: Debian's Chromium, driven by Playwright."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from jobs import layout
from tests.integration.browser import CHROMIUM
from tests.integration.command import ROOT, Command
from tests.integration.environments import kept_environment

PLAYWRIGHT = "playwright==1.65.2"
AA = 4.5  # WCAG 2.2, 1.4.3: the contrast of text
PLANTED = "<script>document.title = 'taken over'</script>"
SETS = {
    "model.init": "random", "strategy": "lora", "train.epochs": "2", "train.seq_len": "128",
    "train.effective_batch": "4", "train.packing": "false", "eval.limit": "4",
    "eval.max_new_tokens": "8", "train.select_by": "loss", "gates": "[{metric: loss, max: 20}]",
}  # fmt: skip
PAGES = ("report", "compared", "all")


def with_sets(**changes: str) -> list[str]:
    return [word for key, value in (SETS | changes).items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, train_python: str) -> tuple[Command, Path]:
    """Two short runs on rows that hold a script; the folder of the first."""
    launch = Command(tmp_path_factory.mktemp("report"))
    rows = ({"prompt": f"{PLANTED} {n}?", "completion": f"{n} {PLANTED}"} for n in range(40))
    (launch.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--data", "rows.jsonl", "--model", str(ROOT / "jobs/sample/model"))
    for run_id, rank in (("first", "16"), ("second", "8")):
        sets = with_sets(**{"lora.r": rank})
        done = launch(*flags, *sets, "--max-cost", "1", "--run-id", run_id, timeout=600)
        assert done.returncode == 0, done.stderr
    return launch, launch.folder / "runs" / "first"


@pytest.fixture(scope="module")
def seen(trained: tuple[Command, Path]) -> dict[str, dict[str, dict]]:
    """What the browser saw of each page in each view."""
    if not Path(CHROMIUM).exists():
        missing = f"{CHROMIUM} is missing: apt-get install chromium"
        assert not os.environ.get("REQUIRE_ALL"), missing
        pytest.skip(missing)
    launch, home = trained
    for arguments in (("first", "second", "--compare", "--out", "compared.html"),
                      ("--all", "--out", "all.html")):  # fmt: skip
        done = launch("report", *arguments)
        assert done.returncode == 0, done.stderr
    pages = [home / layout.REPORT_PAGE, launch.folder / "compared.html", launch.folder / "all.html"]
    browser = Path(__file__).with_name("browser.py")
    command = [kept_environment([PLAYWRIGHT]), str(browser), str(launch.folder), *map(str, pages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_fetched_run_or_complained_about(seen, page: str) -> None:
    for view in seen[page].values():
        assert view["said"] == []
        assert view["refused"] == []
        assert view["scripts"] == 0


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_no_page_sideways(seen, page: str) -> None:
    assert seen[page]["phone"]["width"] == [375, 375]


@pytest.mark.parametrize("page", PAGES)
def test_no_column_lies_beyond_the_edge(seen, page: str) -> None:
    """Every offer of a plan among them: money and what was measured are seen without scrolling."""
    for view in seen[page].values():
        assert view["hidden"] == []


@pytest.mark.parametrize("page", PAGES)
def test_light_and_dark_are_two_legible_pages(seen, page: str) -> None:
    light, dark = seen[page]["light"], seen[page]["dark"]
    assert light["ground"] != dark["ground"]
    for view in (light, dark):
        ratio, text = view["contrasts"][0]
        assert ratio >= AA, text
        image = Image.open(view["shot"]).convert("RGB")
        shades = image.getcolors(maxcolors=1 << 24) or []
        assert len(shades) > 50  # a blank one has one
        count, most = max(shades)
        assert f"rgb{most}" == view["ground"]
        assert count < 0.99 * image.width * image.height


def test_what_a_model_said_stays_text(seen) -> None:
    for view in seen["report"].values():
        assert view["title"] == "Run first: SUCCEEDED"
        assert PLANTED in view["text"]


def test_the_curves_numbers_are_the_metrics(seen, trained) -> None:
    _, home = trained
    written = [json.loads(line) for line in (home / layout.METRICS).read_text().splitlines()]
    steps = [r for r in written if r["event"] == "step"]
    evals = [r for r in written if r["event"] == "eval"]
    in_training = {r["step"]: r["loss"] for r in evals if r["epoch"] is not None}
    judged = {r["step"]: r["loss"] for r in evals} | in_training
    assert len(steps) > 5
    assert len(judged) > 1
    training, validation = {}, {}
    for step, loss, other in seen["report"]["light"]["figures"]["Loss"]:
        training |= {int(step): loss} if loss else {}
        validation |= {int(step): other} if other else {}
    assert training == {r["step"]: f"{r['loss']:.4f}" for r in steps}
    assert validation == {step: f"{loss:.4f}" for step, loss in judged.items()}
    rates = seen["report"]["light"]["figures"]["Learning rate"]
    assert rates == [[str(r["step"]), f"{r['learning_rate']:.4g}"] for r in steps]
    history = json.loads((home / layout.HISTORY).read_text())
    assert history["steps"] == steps


def test_a_screen_reader_finds_headings_and_named_figures(seen) -> None:
    view = seen["report"]["light"]
    assert view["headings"].count("h1") == 1
    assert view["headings"][0] == "h1"
    assert "Loss" in view["images"]
    assert set(view["images"]) == set(view["figures"])


def test_the_run_holds_its_report_whole(trained) -> None:
    launch, home = trained
    sums = (home / layout.SUMS).read_text()
    for name in (layout.REPORT, layout.REPORT_PAGE, layout.LOSS_PICTURE, layout.METADATA,
                 layout.HISTORY):  # fmt: skip
        assert f"  {name}\n" in sums
    check = subprocess.run(["sha256sum", "--check", "--quiet", layout.SUMS], cwd=home)
    assert check.returncode == 0
    shown = launch("report", "first").stdout
    assert shown == (home / layout.REPORT).read_text()
    assert "<script" not in shown.replace("&lt;script", "")


def test_the_report_goes_along_to_another_store(trained) -> None:
    launch, home = trained
    done = launch("collect", "first", "--store", "elsewhere")
    assert done.returncode == 0, done.stderr
    there = launch.folder / "elsewhere" / "first"
    names = [name for name in layout.DOCUMENTS if (home / name).exists()]
    assert layout.REPORT_PAGE in names
    assert all((there / name).read_bytes() == (home / name).read_bytes() for name in names)


def test_runs_side_by_side_and_all_of_them(trained) -> None:
    launch, _ = trained
    compared = launch("report", "first", "second", "--compare").stdout
    row = next(line for line in compared.splitlines() if line.startswith("| lora.r "))
    assert [cell.strip() for cell in row.split("|")[2:4]] == ["16", "8"]
    listed = launch("report", "--all").stdout
    assert "/first/report.html" in listed
    assert "Spend by week" in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one RUN"),
        (("first", "second"), "give one RUN"),
        (("first", "--compare"), "at least two"),
        (("first", "--all"), "takes neither"),
        (("first", "--out", "/proc/no/report.html"), "cannot be written"),
    ],
)
def test_what_cannot_be_reported_says_why(trained, arguments, said: str) -> None:
    launch, _ = trained
    done = launch("report", *arguments)
    assert done.returncode != 0
    assert said in done.stderr
