import msgspec

from jobs.spec import Evaluation, ExportResult, GateResult, Measured, Pilot, Result, StepRecord
from launcher.display.exports import export_text
from launcher.display.plans import offers_table, plan_text
from launcher.display.runs import list_runs, receipt_text, step_line
from launcher.display.tables import count, table
from launcher.estimate.calibration import Card, Factor, calibrated
from launcher.types import Estimate, Plan, Run
from results.receipt import Receipt, ended_as


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    text = table([["a", "number", "why"], ["long", "1", "because it is"]], right=(1,))
    assert text.splitlines() == [
        "a     number  why",
        "────  ──────  ─────────────",
        "long       1  because it is",
    ]


def test_every_candidate_has_a_line_with_its_reason(small_plan: Plan) -> None:
    lines = offers_table(small_plan).splitlines()
    assert len(lines) == 2 + len(small_plan.candidates)
    assert lines[2].startswith("→  runpod")
    assert "6.0    23.0    26%" in lines[2]
    assert "$0.74" in lines[2]
    assert lines[2].endswith("cheapest")
    assert lines[3].startswith("-")


def test_what_a_flag_left_out_is_only_counted(small_plan: Plan) -> None:
    text = offers_table(msgspec.structs.replace(small_plan, candidates=(), left_out=2))
    assert "2 more left out by --on or --gpu" in text


def test_dearer_offers_of_a_kind_are_a_number(small_plan: Plan) -> None:
    first, *rest = small_plan.candidates
    several = (msgspec.structs.replace(first, dearer=3), *rest)
    text = offers_table(msgspec.structs.replace(small_plan, candidates=several))
    assert "1x_RTX4090_SECURE (+3)" in text
    assert "(+N): as many dearer offers" in text


def test_the_page_says_the_choice_and_its_terms(small_plan: Plan) -> None:
    page = plan_text(small_plan)
    assert "chosen: runpod 1x_RTX4090_SECURE RTX4090: $0.74 expected, $1.48 at worst" in page
    assert "base weights 5.00 = 5.00 GiB, at most 6.00" in page
    assert "limits    $10, 8 h" in page


def test_the_page_says_on_how_many_runs_it_is_calibrated(small_plan: Plan) -> None:
    assert "calibrated" not in plan_text(small_plan)
    chosen = small_plan.chosen
    assert chosen is not None
    shifted = calibrated(
        chosen.estimate,
        Card(runs=3, memory=Factor(runs=3, expected=0.9), training=Factor(runs=2, expected=0.8)),
        chosen.offer.device,
        "qlora",
    )
    page = plan_text(with_estimate(small_plan, shifted))
    assert "calibrated on 3 runs of qlora on RTX4090" in page
    assert "base weights 5.00 + calibration -0.50 = 4.50 GiB" in page
    assert "training 60 m 00 s, calibration -12 m 00 s" in page


def test_a_speed_that_runs_here_measured_is_not_called_unmeasured(small_plan: Plan) -> None:
    estimate = small_plan.candidates[0].estimate
    assert estimate is not None
    plain = msgspec.structs.replace(estimate, speed="unmeasured")
    assert "  unmeasured  " in offers_table(with_estimate(small_plan, plain))
    for count_of_runs, said in ((1, "measured here (1 run)"), (6, "measured here (6 runs)")):
        known = msgspec.structs.replace(plain, calibrated_on=count_of_runs)
        text = offers_table(with_estimate(small_plan, known))
        assert said in text
        assert "unmeasured" not in text.splitlines()[2]


def with_estimate(plan: Plan, estimate: Estimate) -> Plan:
    assert plan.chosen is not None
    chosen = msgspec.structs.replace(plan.chosen, estimate=estimate)
    return msgspec.structs.replace(plan, candidates=(chosen, *plan.candidates[1:]))


def test_the_page_says_what_judges_and_that_a_pilot_comes_first(small_plan: Plan) -> None:
    assert "pilot" not in plan_text(small_plan)
    job = msgspec.structs.replace(
        small_plan.job,
        pilot=Pilot(examples=10, steps=20),
        eval=Evaluation(golden="/g.jsonl", schema="/s.json", metrics=("/own/checks.py:tone",)),
    )
    data = msgspec.structs.replace(small_plan.data, golden_rows=40)
    page = plan_text(msgspec.structs.replace(small_plan, job=job, data=data))
    assert "judged by 40 golden questions, a JSON schema, checks.py:tone" in page
    assert "pilot     20 steps on 10 rows first; a hopeless run ends there" in page


def test_the_receipt_shows_gates_with_their_intervals_and_what_crossing_means() -> None:
    receipt = Receipt(
        run_id="run-1", state="SUCCEEDED", reason=None, provider="local", instance="cpu",
        attempts=1, max_cost_microusd=None, spent_microusd=0, lines=(),
    )  # fmt: skip
    gate = GateResult(
        metric="citation_coverage", min=0.9, max=None, value=0.925, passed=True,
        low=0.801, high=0.974, n=40,
    )  # fmt: skip
    result = Result(run_id="run-1", status="success", gates=(gate,), warnings=("tone is missing",))
    text = receipt_text(receipt, result)
    assert "gate pass: citation_coverage 0.925 (0.80 to 0.97 of 40), at least 0.9: the in" in text
    assert "\na gate passes by its value alone" in text
    assert "warning: tone is missing" in text


def test_a_step_in_one_line() -> None:
    record = StepRecord(
        at="",
        step=3,
        steps_total=10,
        epoch=0.3,
        loss=1.5,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens_per_second=1234.4,
        memory_bytes=1,
        seconds=1.0,
        eta_seconds=70.0,
    )
    line = "step 3/10  loss 1.5000  1,234 tokens/s  70 s left  $0.01"
    assert step_line(record, 12_345) == line


def test_a_models_size_as_people_name_it() -> None:
    assert [count(n) for n in (7_615_616_512, 494_032_768)] == ["7.62 B", "494.0 M"]


def measured(quantization: str, gates: tuple[GateResult, ...] = (), **changes: object) -> Measured:
    fields = {
        "quantization": quantization,
        "file": f"m-{quantization}.gguf",
        "size_bytes": 1_416_416,
        "sha256": "0" * 64,
        "perplexity": 12.3456,
        "perplexity_change": 0.0,
        "metrics": {"loss": 2.513, "perplexity": 12.3456, "exact": 1.0},
        "prompt_tokens_per_second": 100.0,
        "generated_tokens_per_second": 50.0,
        "prompt_speed_ratio": 1.0,
        "generated_speed_ratio": 1.0,
        "gates": gates,
        "asked": True,
        "shipped": True,
    }
    return Measured(**{**fields, **changes})


def test_a_file_that_gives_no_number_is_shown_without_one() -> None:
    file = measured("q8_0", perplexity=None, perplexity_change=None, metrics={"exact": 1.0})
    said = export_text(ExportResult(files=(measured("f16"), file)))
    assert said.splitlines()[-3].split()[:6] == ["m-q8_0.gguf", "1.42", "MB", "n/a", "n/a", "1.000"]


def test_an_exports_table_and_what_is_left_to_do() -> None:
    gate = GateResult(metric="exact", min=0.9, max=None, value=0.5, passed=False)
    passed = GateResult(metric="exact", min=0.9, max=None, value=1.0, passed=True)
    result = ExportResult(
        folder="/runs/m.export",
        files=(
            measured("f16", (passed,), size_bytes=2_500_000_000, file="work/m.gguf", shipped=False),
            measured(
                "q4_k_m",
                (gate,),
                perplexity_change=0.0213,
                metrics={"exact": 0.5},
                shipped=False,
                prompt_speed_ratio=1.756,
            ),
            measured("q8_0", size_bytes=12_300),
        ),
        modelfile="Modelfile",
        next=("ollama create m -f Modelfile",),
        warnings=("no `ollama` is on PATH",),
    )
    assert export_text(result).splitlines() == [
        "WARNING no `ollama` is on PATH",
        "file              size  perplexity  against f16  exact  prompt  answer  gates",
        "─────────────  ───────  ──────────  ───────────  ─────  ──────  ──────  ──────────",
        "work/m.gguf    2.50 GB       12.35       +0.00%  1.000   1.00x   1.00x  pass",
        "m-q4_k_m.gguf  1.42 MB       12.35       +2.13%  0.500   1.76x   1.00x  FAIL exact",
        "m-q8_0.gguf    12.3 kB       12.35       +0.00%  1.000   1.00x   1.00x  none",
        "",
        "in /runs/m.export: m-q8_0.gguf, Modelfile",
        "next: ollama create m -f Modelfile",
    ]


def test_an_export_that_failed_early_has_no_table() -> None:
    assert export_text(ExportResult()) == ""


def test_a_run_that_has_ended_has_no_time_left() -> None:
    record = StepRecord(
        at="", step=3, steps_total=10, epoch=0.3, loss=1.5, learning_rate=1e-3, grad_norm=1.0,
        tokens_per_second=1.0, memory_bytes=1, seconds=1.0, eta_seconds=70.0,
    )  # fmt: skip
    assert "left" not in step_line(record, 0, ended=True)


def test_a_reason_that_is_the_state_is_not_said_twice() -> None:
    assert ended_as("CANCELLED", "CANCELLED") == "CANCELLED"
    assert ended_as("FAILED", "ERROR") == "FAILED (ERROR)"
    assert ended_as("RUNNING", None) == "RUNNING"


def test_a_run_of_a_climb_is_told_by_its_rung() -> None:
    one = Run(
        run_id="own", created_at="2026-11-21T12:00:00Z", store="runs", state="SUCCEEDED",
        reason="GATE_FAILED", message=None, ended_at=None, folder=None, bucket="", climb="own",
        attempts=(),
    )  # fmt: skip
    second = msgspec.structs.replace(one, run_id="own-2", rung=2)
    assert "own-2  own, rung 3" in list_runs([(second, 0), (one, 0)])
    assert "rung 1" not in list_runs([(one, 0)])
