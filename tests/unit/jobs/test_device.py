from jobs.device import PRETEND_VARIABLE, pretended
from jobs.spec import Data, Model, ResolvedSpec, ResolvedTrain

PLANNED = ResolvedSpec(
    run_id="r",
    model=Model(id="a/b"),
    data=Data(train="x"),
    strategy="lora",
    dtype="bf16",
    device="cuda",
    quantization=None,
    processes=4,
    sharding="full",
    train=ResolvedTrain(optimizer="adamw_torch_fused", tf32=True),
)


def test_a_pretended_gpu_is_the_processor():
    job = pretended(PLANNED, {PRETEND_VARIABLE: "1"})
    assert (job.device, job.dtype, job.processes, job.sharding) == ("cpu", "fp32", 1, "none")
    assert (job.train.optimizer, job.train.tf32) == ("adamw_torch", False)


def test_elsewhere_the_job_is_as_planned():
    assert pretended(PLANNED, {}) is PLANNED
    assert pretended(PLANNED, {PRETEND_VARIABLE: "0"}) is PLANNED
