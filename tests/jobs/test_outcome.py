import msgspec
import pytest
import torch

from jobs.aside import write_aside
from jobs.gates import judge
from jobs.outcome import (
    BadInput,
    Diverged,
    Outcome,
    Stopped,
    failure_of,
    reason_of,
    require_finite,
)
from jobs.spec import Gate, Interval, Result, encode

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.cuda.OutOfMemoryError("out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: str(e)[:20])
def test_every_shape_of_memory_running_out_is_told(error):
    failure = failure_of(error)
    assert failure.reason == "OUT_OF_MEMORY"
    assert "\n" not in failure.message


def test_torch_really_says_it_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert reason_of(caught.value) == "OUT_OF_MEMORY"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadInput("train.jsonl:3: broken"), "BAD_INPUT"),
        (Stopped("DEADLINE", "late"), "DEADLINE"),
        (Stopped("CANCELLED", "stopped by SIGTERM"), "CANCELLED"),
        (KeyboardInterrupt(), "CANCELLED"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "ERROR"),
        (ValueError("out of memory"), "ERROR"),
    ],
)
def test_reasons(error, reason):
    assert reason_of(error) == reason


def test_a_traceback_is_kept_for_what_nobody_foresaw():
    with pytest.raises(KeyError) as caught:
        raise KeyError("lost")
    assert "test_a_traceback" in failure_of(caught.value).traceback
    assert failure_of(BadInput("known")).traceback == ""


def test_a_result_is_whole_whenever_the_job_ends(tmp_path):
    outcome = Outcome(run_id="r-1", warnings=["a size that the name does not say"])
    path = tmp_path / "result.json"
    write_aside(path, encode(outcome.result(failure_of(MemoryError()))))
    result = msgspec.json.decode(path.read_bytes(), type=Result)
    assert result.status == "error"
    assert result.warnings == ("a size that the name does not say",)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_figure_that_is_not_finite_does_not_cost_the_result():
    figures = {"loss": 0.5, "tilt": float("inf")}
    near = {
        "loss": Interval(low=0.25, high=1.0, n=9, method="bootstrap"),
        "tilt": Interval(low=0.0, high=float("inf"), n=9, method="bootstrap"),
    }
    gates = judge([Gate(metric=name, max=1.0) for name in figures], figures, near)
    gates += judge([Gate(metric="loss", max=1.0)], {"loss": 0.5}, {"loss": near["tilt"]})
    outcome = Outcome(
        run_id="r-1", metrics={"tuned": figures}, intervals={"tuned": near}, gates=gates
    )
    found = outcome.result(None)
    assert msgspec.json.decode(encode(found), type=Result) == found
    assert found.metrics == {"tuned": {"loss": 0.5}}
    assert set(found.intervals["tuned"]) == {"loss"}
    assert [(gate.value, gate.passed) for gate in gates] == [
        (0.5, True),
        (None, False),
        (0.5, True),
    ]
    assert found.warnings == ("tuned.tilt is inf: left out",)


def test_a_loss_that_is_no_number_ends_the_job():
    assert require_finite(0.5, "the loss") == 0.5
    for loss in (float("nan"), float("inf")):
        with pytest.raises(Diverged, match=r"the loss at step 3 is .*learning_rate") as caught:
            require_finite(loss, "the loss at step 3")
        assert failure_of(caught.value).reason == "ERROR"


def test_a_wish_to_stop_is_not_swallowed_with_other_exceptions():
    def library():
        try:
            raise Stopped("DEADLINE", "now")
        except Exception:
            return "went on"

    with pytest.raises(Stopped):
        library()
