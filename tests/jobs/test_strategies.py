import pytest

from jobs.spec import named_parameters

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("HuggingFaceTB/SmolLM2-135M", 135e6),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("google/gemma-2b", 2e9),
        ("/models/tiny_0.5b", 0.5e9),
        ("sample/model", None),
        ("microsoft/phi-4", None),
        ("some/model-4bit", None),
    ],
)
def test_the_size_that_a_name_claims(name, named):
    assert named_parameters(name) == named


def test_a_name_that_misleads_is_warned_of():
    from jobs.strategies import name_warning

    assert name_warning("org/model-7B", 494_000_000) is not None
    assert name_warning("Qwen/Qwen2.5-7B", 7_615_616_512) is None
    assert name_warning("meta-llama/Llama-3.2-1B", 1_235_814_400) is None
    assert name_warning("sample", 1) is None


def test_training_after_an_evaluation_has_its_gradients_on_every_cpu(monkeypatch):
    """What passes through a frozen 4-bit layer, as on a CPU whose features make it repack."""
    import torch
    from bitsandbytes.nn import Linear4bit, modules

    from jobs.strategies import keep_gradients

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    torch.manual_seed(0)
    layer = Linear4bit(128, 64, bias=True, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    keep_gradients(layer)
    with torch.no_grad():
        evaluated = layer.eval()(torch.ones(3, 128))
    rows = torch.ones(3, 128, requires_grad=True)
    trained = layer.train()(rows)
    trained.sum().backward()
    assert torch.equal(trained, evaluated)
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0
