"""What a GGUF file is asked after a run that was."""

import msgspec
import pytest
from transformers import AutoTokenizer

from jobs import layout
from jobs.encode import IGNORED
from jobs.shipping.golden import golden
from jobs.sources import read_wire
from jobs.spec import ExportSpec, ResolvedSpec
from tests.jobs.short_job import SAMPLE, write_job

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE / "model")


def asked(folder, tokenizer, rows=None, **changes):
    job = msgspec.structs.replace(read_wire(folder / layout.SPEC, ResolvedSpec), **changes)
    spec = ExportSpec(
        run=str(folder), out=str(folder), tools_python="p", name="m", gguf=("q8_0",), rows=rows
    )
    return golden(spec, job, tokenizer)


@pytest.fixture
def run(tmp_path):
    """A run's folder: 8 validation rows, and a golden set of 3."""
    settings = {"golden": "golden.jsonl", "max_new_tokens": 8, "batch": 4}
    folder = write_job(tmp_path / "run", eval=settings)
    lines = (SAMPLE / "validation.jsonl").read_text().splitlines(keepends=True)
    (folder / "golden.jsonl").write_text("".join(lines[-3:]))
    return folder


def test_loss_is_taken_on_the_run_s_rows_and_answers_on_the_golden_set(run, tokenizer):
    found = asked(run, tokenizer)
    assert (len(found.request.rows), len(found.request.prompts)) == (8, 3)
    assert found.warnings == ()
    found = asked(run, tokenizer, rows=str(run / "golden.jsonl"))
    assert (len(found.request.rows), len(found.request.prompts)) == (3, 3)


def test_rows_that_are_gone_are_warned_of_and_the_golden_set_is_asked(run, tokenizer):
    (run / "train.jsonl").unlink()
    found = asked(run, tokenizer)
    assert (len(found.request.rows), len(found.request.prompts)) == (0, 3)
    (warning,) = found.warnings
    assert "the run's gates on them are left out" in warning


def test_a_system_prompt_of_the_recipe_leaves_the_context_without_labels(run, tokenizer):
    turns = [{"role": role, "content": text} for role, text in
             (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]  # fmt: skip
    row = {"prompt": turns[:3], "completion": turns[3:]}
    (run / "other.jsonl").write_bytes(msgspec.json.encode(row))
    serve = msgspec.structs.replace(
        read_wire(run / layout.SPEC, ResolvedSpec).serve, system="be brief"
    )
    found = asked(run, tokenizer, rows=str(run / "other.jsonl"), serve=serve)
    (shown,) = found.request.rows
    assert tokenizer.decode(shown.ids).startswith("<|im_start|>system\nbe brief")
    learnt = [label for label in shown.labels if label != IGNORED]
    assert tokenizer.decode(learnt).strip() == "d<|im_end|>"
