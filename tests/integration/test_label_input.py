"""What jobs.label refuses, before anything is sent; and that `openai` is needed only there."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tests.integration.labelling import KEY, VARIABLE, Labelling

NOBODY = "http://127.0.0.1:1/v1"


@pytest.fixture
def label(tmp_path: Path, label_python: str) -> Labelling:
    task = Labelling(tmp_path, label_python, NOBODY)
    task.texts(["one", "two"])
    return task


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"texts": {"file": "none.jsonl"}}, "none.jsonl: No such file"),
        ({"texts": {"text_field": "body"}}, "in.jsonl:1: no string `body` (texts.text_field"),
        ({"texts": {"id_field": "url"}}, "in.jsonl:1: no string or integer `url`"),
        ({"texts": {"include": "("}}, "`include` is no regular expression"),
        ({"texts": {"include": "three"}}, "the prefilter took out all 2 rows: {'include': 2}"),
        ({"texts": {"min_characters": 5, "max_characters": 4}}, "is below `min_characters`"),
        ({"limits": {}}, "set `max_tokens` or `max_usd`"),
        ({"limits": {"max_usd": 1}}, "`limits.max_usd` needs `prices`"),
        ({"limits": {"max_usd": -1}}, "`max_usd` is no amount of dollars"),
        ({"dimensions": {}}, "$.dimensions"),
        ({"dimensions": {"a": {"min": 5, "max": 5}}}, "`min` 5 is not below `max` 5"),
        ({"dimensions": {"a": {"min": 0.5, "type": "integer"}}}, "needs a whole `min`"),
        ({"endpoint": {"key_variable": "LABEL_TEST_NO_KEY"}}, "LABEL_TEST_NO_KEY is not set"),
        ({"endpoint": {"api_key": KEY}}, "unknown field `api_key`"),
        ({"endpoint": {"key_variable": KEY}}, "$.endpoint.key_variable"),
        ({"endpoint": {"base_url": f"http://u:{KEY}@127.0.0.1/v1"}}, "$.endpoint.base_url"),
        ({"prompt": "none.txt"}, "none.txt"),
        ({"modle": "x"}, "unknown field `modle`"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_2(label: Labelling, changes, said: str) -> None:
    label.spec(**changes)
    printed = label(code=2)
    assert said in printed
    assert len(printed.strip().splitlines()) == 1
    assert KEY not in printed
    assert not label.output.exists()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Score it.", "no {text}"),
        ("Score {text} by {criteria} and {scale}", "nothing fills {criteria}, {scale}"),
    ],
)
def test_a_prompt_that_cannot_be_filled(label: Labelling, prompt: str, said: str) -> None:
    (label.folder / "prompt.txt").write_text(prompt)
    label.spec()
    assert said in label(code=2)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"id": 1, "text": "a"}', '{"id": '], "in.jsonl:2: "),
        (['{"id": 1, "text": "a"}', '{"id": 1, "text": "b"}'], "id 1 has another text on line 1"),
        (["", ""], "in.jsonl: no rows"),
        (['{"id": true, "text": "a"}'], "in.jsonl:1: no string or integer `id`"),
        (["[]"], "in.jsonl:1: "),
    ],
)
def test_rows_that_cannot_be_read(label: Labelling, lines: list[str], said: str) -> None:
    (label.folder / "in.jsonl").write_text("\n".join(lines))
    label.spec()
    assert said in label(code=2)


def test_openai_is_asked_for_where_it_is_missing(label: Labelling) -> None:
    assert importlib.util.find_spec("openai") is None  # the launcher's environment has none
    label.spec()
    printed = label(code=2, python=sys.executable)
    assert "pip install 'loralift[label]'" in printed
    assert not label.output.exists()


def test_a_key_in_the_clear_is_warned_of(label: Labelling) -> None:
    # .invalid never resolves (RFC 2606)
    label.spec(endpoint={"base_url": "http://oracle.invalid/v1"}, retries={"errors": 0})
    printed = label(code=1)
    assert "the key crosses a network unencrypted" in printed
    assert "unencrypted" in json.dumps(label.summary()["warnings"])
    assert VARIABLE not in printed
