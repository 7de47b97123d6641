from pathlib import Path

import pytest

from jobs.spec import Data, JobSpec, Model
from launcher.errors import BadInput
from launcher.preflight import scan_data

GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ab"}]}\n'


def write(tmp_path: Path, text: str) -> JobSpec:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    return JobSpec(model=Model(id="a/b"), data=Data(train=str(path)))


def test_counts_rows_and_characters(tmp_path: Path) -> None:
    facts = scan_data(write(tmp_path, GOOD * 20))
    assert (facts.train_rows, facts.validation_rows, facts.test_rows) == (16, 2, 2)
    assert facts.train_characters + facts.validation_characters + facts.test_characters == 60
    assert facts.longest_characters == 3


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert scan_data(write(tmp_path, GOOD * 5 + "\n" + GOOD * 5)).train_rows == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + '{"messages": [\n', "line 2: not JSON"),
        (GOOD + '{"messages": [{"role": "user"}]}\n', "line 2: object missing required field"),
        (GOOD + '{"question": "a"}\n', "line 2: expected `messages`"),
        (GOOD + '{"prompt": "a", "completion": " "}\n', "line 2: no text to learn from"),
        ('{"messages": [{"role": "user", "content": "q"}]}\n', "line 1: no text to learn from"),
        ("", "the data set is empty"),
        (GOOD, "cannot be both trained on and held out"),
    ],
)
def test_what_is_wrong_with_which_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        scan_data(write(tmp_path, text))
    assert expected in str(caught.value)
    assert "rows.jsonl" in str(caught.value)


def test_replayed_rows_are_planned_for(tmp_path: Path) -> None:
    job = write(tmp_path, GOOD * 20)
    (tmp_path / "old.jsonl").write_text(GOOD * 30)
    data = Data(train=job.data.train, replay=str(tmp_path / "old.jsonl"), replay_share=0.2)
    facts = scan_data(JobSpec(model=job.model, data=data))
    assert (facts.train_rows, facts.replay_rows) == (20, 4)  # 4 of 20 is the share
    assert facts.replay_sha256 is not None
