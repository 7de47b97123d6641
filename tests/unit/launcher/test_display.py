import msgspec

from jobs.spec import StepRecord
from launcher.display import count, offers_table, plan_text, step_line, table
from launcher.types import Plan


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
    budget = msgspec.structs.replace(small_plan.budget, providers=("aws",))
    text = offers_table(msgspec.structs.replace(small_plan, budget=budget))
    assert "runpod" not in text
    assert "2 more left out by --on or --gpu" in text


def test_the_page_says_the_choice_and_its_terms(small_plan: Plan) -> None:
    page = plan_text(small_plan)
    assert "chosen: runpod 1x_RTX4090_SECURE RTX4090: $0.74 expected, $1.48 at worst" in page
    assert "base weights 5.00 = 5.00 GiB, at most 6.00" in page
    assert "limits    $10.00, 8 h" in page


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
