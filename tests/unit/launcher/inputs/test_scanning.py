import gzip
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from jobs.spec import Data, JobSpec, Model, Regression
from jobs.spec.reading import Found
from launcher.errors import BadInput
from launcher.inputs import scanning
from launcher.inputs.scanning import scan_data

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}]}\n'


def rows(count: int) -> str:
    """Different questions of one character each."""
    return "".join(GOOD.replace('"q"', f'"{chr(ord("A") + i)}"') for i in range(count))


def write(tmp_path: Path, text: str) -> JobSpec:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    return JobSpec(model=Model(id="a/b"), data=Data(train=str(path)))


def test_counts_rows_and_characters(tmp_path: Path) -> None:
    facts = scan_data(write(tmp_path, rows(20)))
    assert (facts.train_rows, facts.validation_rows, facts.test_rows) == (16, 2, 2)
    assert facts.train_characters + facts.validation_characters + facts.test_characters == 60
    assert facts.longest_characters == 3
    assert facts.shapes == {"messages": 20}
    assert (facts.repeated_rows, facts.left_out_rows, facts.warnings) == (0, 0, ())


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert scan_data(write(tmp_path, rows(10).replace("\n", "\n \n", 5))).train_rows == 8


def test_mixed_shapes_are_counted_and_repeats_stay_together(tmp_path: Path) -> None:
    completions = "".join(json.dumps({"prompt": "A", "completion": c}) + "\n" for c in "xyz")
    facts = scan_data(write(tmp_path, rows(10) + completions))
    assert facts.shapes == {"messages": 10, "prompt/completion": 3}
    assert (facts.train_rows + facts.validation_rows + facts.test_rows) == 13
    assert facts.repeated_rows == 3


def test_scores_that_nothing_learns_are_said(tmp_path: Path) -> None:
    scores = {"risk": 1.0, "tone": 2.0}
    scored = "".join(json.dumps({"text": f"t{n}", "scores": scores}) + "\n" for n in range(20))
    job = write(tmp_path, rows(10) + scored)
    (warning,) = scan_data(job).warnings
    assert warning.startswith("20 rows have `scores` beside their `text`, which nothing learns")
    assert "--set task=regression --set 'regression.dimensions=[risk, tone]'" in warning
    path = tmp_path / "rows.jsonl"
    path.write_text(scored)
    asked = JobSpec(
        model=job.model,
        data=job.data,
        task="regression",
        regression=Regression(dimensions=("risk", "tone")),
    )
    assert scan_data(asked).warnings == ()


def test_training_rows_that_judge_are_left_out_and_said(tmp_path: Path) -> None:
    job = write(tmp_path, rows(10))
    held = tmp_path / "held.jsonl"
    held.write_text(rows(2) + rows(12)[-2 * len(GOOD) :].replace("ab", "cd"))
    job = JobSpec(model=job.model, data=Data(train=job.data.train, validation=str(held)))
    facts = scan_data(job)
    assert (facts.train_rows, facts.validation_rows, facts.left_out_rows) == (8, 4, 2)
    (warning,) = facts.warnings
    assert warning.startswith("2 rows of data.train are left out: their questions stand in")
    assert "(2 of them word for word)" in warning


def test_each_file_is_bound_by_its_digest_whatever_its_kind(tmp_path: Path) -> None:
    table = [{"text": f"text {i}", "clear": str(i % 10)} for i in range(12)]
    content = {
        "train.csv": "text,clear\n" + "".join(f"{r['text']},{r['clear']}\n" for r in table),
        "validation.json": json.dumps([{"content": "new", "labels": [3]}]),
    }
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "test.jsonl.gz").write_bytes(
        gzip.compress(b'{"text": "newer", "scores": {"clear": 1}}')
    )
    paths = [str(tmp_path / n) for n in ("train.csv", "validation.json", "test.jsonl.gz")]
    facts = scan_data(
        JobSpec(
            model=Model(id="a/b"),
            task="regression",
            regression=Regression(dimensions=("clear",)),
            data=Data(train=paths[0], validation=paths[1], test=paths[2]),
        )
    )
    assert (facts.train_rows, facts.validation_rows, facts.test_rows) == (12, 1, 1)
    assert facts.shapes == {"text+columns": 12, "content+labels": 1, "text+scores": 1}
    digests = [sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    assert [facts.sha256, facts.validation_sha256, facts.test_sha256] == digests


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + '{"messages": [\n', "line 2: not JSON"),
        (GOOD + '{"messages": [{"role": "user"}]}\n', "line 2: object missing required field"),
        (GOOD + '{"question": "a"}\n', "line 2: expected `messages`"),
        (GOOD + '{"prompt": "a", "completion": " "}\n', "line 2: no text to learn from"),
        ('{"messages": [{"role": "user", "content": "q"}]}\n', "line 1: no text to learn from"),
        ("", "the data set is empty"),
        (GOOD, "1 rows cannot be both trained on and held out"),
        (GOOD * 9, "9 rows with 1 different question(s) cannot be both trained on and held out"),
    ],
)
def test_what_is_wrong_with_which_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        scan_data(write(tmp_path, text))
    assert expected in str(caught.value)
    assert "rows.jsonl" in str(caught.value)


def test_replayed_rows_are_planned_for(tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "{i}?", "completion": "ab"}}\n' for i in range(20))
    job = write(tmp_path, rows)
    (tmp_path / "old.jsonl").write_text(GOOD * 30)
    data = Data(train=job.data.train, replay=str(tmp_path / "old.jsonl"), replay_share=0.2)
    facts = scan_data(JobSpec(model=job.model, data=data))
    assert (facts.train_rows, facts.replay_rows) == (20, 4)  # 4 of 20 is the share
    assert facts.replay_sha256 is not None


def test_the_same_files_are_read_once_and_changed_ones_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = scanning.read_rows

    def counting(path: str, *rest: Regression | None) -> Iterator[Found]:
        read.append(path)
        yield from real(path, *rest)

    monkeypatch.setattr(scanning, "read_rows", counting)
    job = write(tmp_path, rows(20) + "\n")
    first = scan_data(job)
    longer = msgspec.structs.replace(job, train=msgspec.structs.replace(job.train, epochs=9.0))
    assert scan_data(longer) == first
    assert len(read) == 1
    assert scan_data(msgspec.structs.replace(job, seed=7)).sha256 == first.sha256
    assert scan_data(write(tmp_path, rows(21))).train_rows == first.train_rows + 1
    assert len(read) == 3
