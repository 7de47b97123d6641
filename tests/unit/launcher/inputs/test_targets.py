import pytest

from jobs.spec import Gate
from launcher.errors import BadInput
from launcher.inputs.targets import gate, targets


def test_several_targets_each_once():
    found = targets(("gguf:q8_0", "merged", "ollama", "gguf:q4_k_m", "gguf:q8_0"), "q4_k_m")
    assert found.merged
    assert found.gguf == ("q8_0", "q4_k_m")
    assert found.ollama == "q4_k_m"


def test_ollama_takes_the_recipes_type_or_its_own():
    assert targets(("ollama",), "q5_k_m").gguf == ("q5_k_m",)
    assert targets(("ollama:q8_0",), "q5_k_m").ollama == "q8_0"
    assert targets(("gguf:f16",), "q5_k_m").ollama is None


@pytest.mark.parametrize(
    "words",
    [
        ("gguf",),
        ("gguf:",),
        ("gguf:q4",),
        ("merged:q4_k_m",),
        ("ollama:",),
        ("zip",),
        ("GGUF:f16",),
    ],
)
def test_what_is_no_target_is_refused(words):
    with pytest.raises(BadInput, match=r"--to .*(expected merged|unknown type).*q4_k_m"):
        targets(words, "q4_k_m")


def test_two_types_for_ollama_are_refused():
    with pytest.raises(BadInput, match="one type at a time, got q8_0 and q4_k_m"):
        targets(("ollama:q8_0", "ollama"), "q4_k_m")


def test_gates():
    assert gate("perplexity_change<=0.05") == Gate(metric="perplexity_change", max=0.05)
    assert gate(" exact_match >= 1 ") == Gate(metric="exact_match", min=1.0)


@pytest.mark.parametrize(
    "text", ["exact_match", "exact_match=1", "exact_match>=most", "loss<=inf", "f1>=nan", ">=1", ""]
)
def test_what_is_no_gate_is_refused(text):
    with pytest.raises(BadInput, match=r"--gate .*expected METRIC>=NUMBER"):
        gate(text)
