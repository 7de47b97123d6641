import json
from pathlib import Path

import pytest

from jobs.shipping.converter import splitting_rule

SAMPLE = Path(__file__).parents[2] / "jobs" / "sample" / "model" / "tokenizer.json"


def test_the_sample_splits_as_qwen2_does():
    assert splitting_rule(SAMPLE) == "qwen2"


@pytest.mark.parametrize(
    "change",
    [
        {"Regex": r"\p{N}{1,2}"},
        {"String": " "},
    ],
)
def test_another_rule_has_no_name(tmp_path, change):
    content = json.loads(SAMPLE.read_text())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = change
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert splitting_rule(tmp_path / "tokenizer.json") is None


def test_a_tokenizer_without_a_rule_has_no_name(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"pre_tokenizer": null}')
    assert splitting_rule(tmp_path / "tokenizer.json") is None
