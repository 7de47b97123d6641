"""What a quantised file is worth where it, or the file it is compared with, gives no number."""

from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from jobs.own_metrics import Measured as Judged
from jobs.shipping.judge import File, judge
from jobs.shipping.wire import Answers, Speed
from jobs.spec import ExportResult, ExportSpec, Gate, encode

QUESTIONS = SimpleNamespace(
    rules=SimpleNamespace(measure=lambda *_: Judged({"exact_match": 1.0})),
    questions=[],
    trained=None,
)


def file(folder, quantization, loss):
    path = folder / quantization
    path.write_bytes(b"GGUF")
    # as jobs.shipping.measure writes it and jobs.export reads it
    said = {"loss": loss, "supervised_tokens": 9, "answers": [], "tokenised_otherwise": 0}
    read = msgspec.json.decode(msgspec.json.encode(said), type=Answers)
    return File(quantization, path, "0" * 64, read, Speed(prompt=9.0, generated=3.0))


@pytest.mark.parametrize(
    ("loss", "f16", "failed", "change"),
    [
        (2.0, 2.0, [], 0.0),
        (float("nan"), 2.0, ["perplexity", "perplexity_change", "loss"], None),
        (2.0, float("nan"), ["perplexity_change"], None),
        (float("inf"), float("inf"), ["perplexity", "perplexity_change", "loss"], None),
        (900.0, 100.0, ["perplexity", "perplexity_change"], pytest.approx(1.0142e304, rel=1e-3)),
    ],
)
def test_one_file_without_a_number_fails_alone(tmp_path, loss, f16, failed, change):
    gates = (Gate(metric="perplexity", max=20.0), Gate(metric="perplexity_change", max=0.1))
    spec = ExportSpec(
        run="/r", out=str(tmp_path), tools_python="p", name="m", gguf=("q8_0",), gates=gates
    )
    files = file(tmp_path, "q8_0", loss), file(tmp_path, "f16", f16)
    found = judge(spec, SimpleNamespace(gates=()), QUESTIONS, *files)
    assert [gate.metric for gate in found.gates if not gate.passed] == failed
    assert found.perplexity_change == change
    result = ExportResult(files=(found,))
    assert msgspec.json.decode(encode(result), type=ExportResult) == result
    assert bool(result.rejected) == bool(failed)


def test_a_loss_that_nothing_was_there_to_take_fails_no_gate_of_the_run_s(tmp_path):
    own = (Gate(metric="loss", max=1.0), Gate(metric="exact_match", min=0.5))
    spec = ExportSpec(
        run="/r", out=str(tmp_path), tools_python="p", name="m", gguf=("q8_0",),
        gates=(Gate(metric="perplexity_change", max=0.1),),
    )  # fmt: skip
    made = [file(tmp_path, name, float("nan")) for name in ("q8_0", "f16")]
    none = [replace(one, said=msgspec.structs.replace(one.said, supervised_tokens=0))
            for one in made]  # fmt: skip
    found = judge(spec, SimpleNamespace(gates=own), QUESTIONS, *none)
    assert [(gate.metric, gate.passed) for gate in found.gates] == [
        ("exact_match", True), ("perplexity_change", False),
    ]  # fmt: skip


def test_no_number_is_rejected_where_no_gate_is_set(tmp_path):
    spec = ExportSpec(run="/r", out=str(tmp_path), tools_python="p", name="m", gguf=("q8_0",))
    files = file(tmp_path, "q8_0", float("nan")), file(tmp_path, "f16", 2.0)
    found = judge(spec, SimpleNamespace(gates=()), QUESTIONS, *files)
    assert [(gate.metric, gate.value, gate.passed) for gate in found.gates] == [
        ("loss", None, False)
    ]
    assert found.metrics == {"exact_match": 1.0}
