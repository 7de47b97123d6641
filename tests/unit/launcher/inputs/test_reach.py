from typing import Any

import msgspec
import pytest

from jobs.spec import Data, JobSpec, Lora, Model, Train
from launcher.estimate.shapes import embedded_config, from_config
from launcher.inputs.reach import warnings_of

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "vocab_size": 128,
}


def said(job: JobSpec, **config: object) -> tuple[str, ...]:
    return warnings_of(job, from_config({**LLAMA, **config}))


def asking(seq_len: int = 64, strategy: str = "lora", **lora: Any) -> JobSpec:
    job = JobSpec(
        model=Model(id="m"), data=Data(train="d"), train=Train(seq_len=seq_len), lora=Lora(**lora)
    )
    return msgspec.structs.replace(job, strategy=strategy)


def test_a_row_longer_than_the_model_was_made_for_is_said_with_both_numbers() -> None:
    (warning,) = said(asking(100_000), max_position_embeddings=16)
    assert "train.seq_len is 100,000 tokens, and m was made for 16" in warning
    assert said(asking(64), max_position_embeddings=64) == ()
    assert said(asking(100_000)) == ()  # the config does not say


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}},
    ],
)
def test_a_scaled_rope_reaches_further(rope: dict[str, object]) -> None:
    assert said(asking(100_000), max_position_embeddings=16, **rope) == ()


@pytest.mark.parametrize(
    "rope", [None, {"rope_type": "default", "rope_theta": 10000.0}, {"rope_theta": 10000.0}]
)
def test_a_plain_rope_does_not(rope: dict[str, object] | None) -> None:
    assert said(asking(100_000), max_position_embeddings=16, rope_parameters=rope)


def test_embedded_models_are_told_apart_by_how_far_they_read() -> None:
    base, chat = (embedded_config(f"Qwen/Qwen2.5-7B{name}") or {} for name in ("", "-Instruct"))
    assert [c.pop("max_position_embeddings") for c in (dict(base), dict(chat))] == [131072, 32768]


def test_a_rank_above_a_matrix_is_said() -> None:
    (warning,) = said(asking(r=17))
    assert "lora.r is 17, and the smallest side of k_proj is 16" in warning
    assert said(asking(r=16)) == ()
    assert said(asking(r=17, targets=("q_proj",))) == ()
    assert said(asking(r=17, strategy="full")) == ()
    assert said(asking(r=17, targets=("none",))) == ()
