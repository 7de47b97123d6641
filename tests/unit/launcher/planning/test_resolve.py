import msgspec
import pytest

from jobs.spec import Evaluation, Model, Quantization, Train
from launcher.estimate.shapes import shape_of
from launcher.planning.resolve import model_refusal, resolve, strategies
from tests.unit.launcher.plans import JOB, cloud, local

MPS = msgspec.structs.replace(
    local("cpu", 16),
    device=msgspec.structs.replace(local("cpu", 16).device, kind="mps", dense_16bit_tflops=2.6),
)


def test_auto_tries_qlora_then_lora():
    assert strategies(msgspec.structs.replace(JOB, strategy="auto")) == ("qlora", "lora")
    assert strategies(JOB) == ("qlora",)


@pytest.mark.parametrize(
    ("offer", "strategy", "dtype"),
    [
        (cloud("A10G", 1.0), "qlora", "bf16"),
        (cloud("T4", 1.0), "qlora", "fp16"),
        (cloud("T4", 1.0), "lora", "fp16"),
        (local("cpu", 16), "lora", "fp32"),
        (local("cpu", 16), "qlora", "fp32"),
        (local("cpu", 16), "full", "fp32"),
        (MPS, "lora", "fp32"),
    ],
)
def test_dtype_auto_follows_the_device(offer, strategy, dtype):
    spec = resolve(JOB, strategy, offer, "run-1")
    assert spec.dtype == dtype
    assert spec.device == offer.device.kind
    assert spec.quantization == (Quantization() if strategy == "qlora" else None)
    assert spec.run_id == "run-1"
    assert spec.deadline is None


@pytest.mark.parametrize(
    ("offer", "strategy", "dtype", "reason"),
    [
        (cloud("T4", 1.0), "qlora", "bf16", "bf16 needs compute capability 8.0, T4 has 7.5"),
        (
            *(cloud("V100-16GB", 1.0), "lora", "auto"),
            "CUDA 13.0 needs compute capability 7.5, V100-16GB has 7.0",
        ),
        (cloud("MI300X", 1.0), "lora", "auto", "not a CUDA card"),
        (MPS, "qlora", "auto", "no kernels for Metal"),
        (local("cpu", 16), "lora", "fp16", "fp16 needs loss scaling"),
    ],
)
def test_what_a_device_cannot_do_is_refused(offer, strategy, dtype, reason):
    job = msgspec.structs.replace(JOB, dtype=dtype)
    assert reason in resolve(job, strategy, offer, "run-1")


def test_a_card_without_known_speed_is_refused():
    offer = cloud("A10G", 1.0)
    device = msgspec.structs.replace(offer.device, dense_16bit_tflops=0.0, name="A Card")
    offer = msgspec.structs.replace(offer, device=device)
    assert resolve(JOB, "qlora", offer, "r") == "speed of A Card unknown: not in the GPU table"


def test_an_interpreter_of_one_s_own_brings_its_own_cuda():
    """To a card of this machine, which may be too old for 4-bit all the same."""
    offer = local("V100-32GB", 31)
    assert "CUDA 13.0 needs compute capability 7.5" in resolve(JOB, "qlora", offer, "r")
    assert resolve(JOB, "qlora", offer, "r", own_python=True).dtype == "fp16"
    device = msgspec.structs.replace(offer.device, compute_capability=(5, 2))
    older = msgspec.structs.replace(offer, device=device)
    assert "4-bit needs compute capability 6.0" in resolve(JOB, "qlora", older, "r", True)
    assert resolve(JOB, "lora", older, "r", True).dtype == "fp16"
    assert "CUDA 13.0" in resolve(JOB, "lora", cloud("V100-32GB", 1.0), "r", own_python=True)


@pytest.mark.parametrize(
    ("offer", "optimizer"),
    [
        (cloud("A10G", 1.0), "paged_adamw_8bit"),
        (local("cpu", 16), "paged_adamw_8bit"),
        (MPS, "adamw_torch"),
    ],
)
def test_8_bit_adamw_only_where_bitsandbytes_runs(offer, optimizer):
    assert resolve(JOB, "lora", offer, "r").train.optimizer == optimizer


def test_the_recipes_own_optimizer_is_kept():
    job = msgspec.structs.replace(JOB, train=Train(optimizer="adamw_torch_fused"))
    assert resolve(job, "lora", MPS, "r").train.optimizer == "adamw_torch_fused"


def with_train(**changes):
    return msgspec.structs.replace(JOB, train=Train(**changes))


@pytest.mark.parametrize(
    ("offer", "dtype", "tf32"),
    [
        (cloud("A10G", 1.0), "auto", True),
        (cloud("H100-SXM", 1.0), "auto", True),
        (cloud("H100-SXM", 1.0), "fp32", False),  # who asks for fp32 gets all its bits
        (cloud("T4", 1.0), "auto", False),
        (local("cpu", 16), "auto", False),
        (MPS, "auto", False),
    ],
)
def test_tf32_and_the_fused_optimizer_where_a_card_has_them(offer, dtype, tf32):
    job = msgspec.structs.replace(with_train(optimizer="adamw_torch"), dtype=dtype)
    train = resolve(job, "lora", offer, "r").train
    fused = "adamw_torch_fused" if offer.device.kind == "cuda" else "adamw_torch"
    assert (train.tf32, train.optimizer) == (tf32, fused)


def test_what_a_recipe_says_of_tf32_is_kept():
    assert resolve(with_train(tf32=False), "lora", cloud("H100-SXM", 1.0), "r").train.tf32 is False


def test_tf32_is_refused_where_a_card_lacks_it():
    reason = resolve(with_train(tf32=True), "lora", cloud("T4", 1.0), "r")
    assert "TF32 needs compute capability 8.0, T4 has 7.5" in reason


def test_nothing_of_the_intent_changes():
    spec = resolve(JOB, "qlora", cloud("A10G", 1.0), "r")
    chosen = ("tf32", "micro_batch", "activation_checkpointing")  # for the card
    kept = [f for f in Train.__struct_fields__ if f not in chosen]
    assert [getattr(spec.train, f) for f in kept] == [getattr(JOB.train, f) for f in kept]
    kept = [f for f in Evaluation.__struct_fields__ if f != "batch"]
    assert [getattr(spec.eval, f) for f in kept] == [getattr(JOB.eval, f) for f in kept]
    same = [f for f in JOB.__struct_fields__ if f not in ("dtype", "strategy", "train", "eval")]
    assert [getattr(spec, f) for f in same] == [getattr(JOB, f) for f in same]


def test_a_model_that_nothing_quantises_is_no_qlora_job() -> None:
    falcon = shape_of(Model(id="tiiuae/falcon-7b"))[0]
    assert model_refusal("qlora", falcon) == (
        "transformers quantises no layer of falcon; --strategy lora"
    )
    assert model_refusal("lora", falcon) is None
    assert model_refusal("qlora", shape_of(Model(id="EleutherAI/pythia-1b"))[0]) is None
