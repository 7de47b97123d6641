from pathlib import Path

import pytest

from jobs.spec import SEVEN_PROJECTIONS, Model, name_disagrees, named_parameters
from launcher.errors import BadInput, OutsideFailed
from launcher.estimate.shapes import (
    embedded_config,
    from_config,
    known_ids,
    shape_of,
)

# As published by the Hub (safetensors metadata) or counted in the models' papers.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Coder-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-2-27b": 27_227_128_320,
    "google/gemma-3-1b-it": 999_885_952,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "google/gemma-2b": 2_506_172_416,
    "google/gemma-7b": 8_537_680_896,
    "google/gemma-3-4b-it": 4_300_079_472,
    "google/gemma-3-12b-it": 12_187_325_040,
    "google/gemma-3-27b-it": 27_432_406_640,
    "microsoft/Phi-3-medium-4k-instruct": 13_960_238_080,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-160m": 162_322_944,
    "EleutherAI/pythia-410m": 405_334_016,
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "EleutherAI/gpt-neox-20b": 20_554_567_680,
    "tiiuae/falcon-7b": 6_921_720_704,  # its files hold the tied head as well
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
}
MIXTURE = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "num_key_value_heads": 2,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "image_size": 56,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_embedded_models_have_the_published_parameter_count(model_id: str) -> None:
    shape, source = shape_of(Model(id=model_id))
    assert (shape.parameters, source) == (PUBLISHED[model_id], "embedded")


def test_ids_are_unique_and_found_in_any_case() -> None:
    lowered = [i.lower() for i in known_ids()]
    assert len(set(lowered)) == len(lowered)
    assert embedded_config("qwen/qwen2.5-7b-instruct") == embedded_config(
        "Qwen/Qwen2.5-7B-Instruct"
    )


def test_no_embedded_name_is_called_a_liar() -> None:
    for model_id in known_ids():
        shape, _ = shape_of(Model(id=model_id))
        assert not name_disagrees(named_parameters(model_id), shape.parameters), model_id


def test_kinds_cover_the_model() -> None:
    shape = from_config({**LLAMA, "attention_bias": True})
    kinds = {t.kind for t in shape.tensors()}
    assert kinds == {"embedding", "linear", "norm", "bias", "head"}
    tied = from_config({**LLAMA, "tie_word_embeddings": True})
    assert "head" not in {t.kind for t in tied.tensors()}


def test_lora_counts_rank_times_in_plus_out() -> None:
    shape = from_config(LLAMA)
    assert shape.lora_parameters(4, ("q_proj",)) == 2 * 4 * (64 + 64)
    assert shape.lora_parameters(4, ("down_proj",)) == 2 * 4 * (64 + 96)
    assert [t.module for t in shape.tensors(("v_proj",)) if t.target] == ["v_proj"]


def test_fused_layers_say_which_targets_match_nothing() -> None:
    shape, _ = shape_of(Model(id="microsoft/phi-4"))
    assert shape.unmatched(SEVEN_PROJECTIONS) == (
        "q_proj",
        "k_proj",
        "v_proj",
        "gate_proj",
        "up_proj",
    )
    assert shape.target_names == ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba2"}, "'mamba2'"),
        ({"model_type": None}, "model_type: expected .* but it is missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"vocab_size": "128"}, "vocab_size"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"intermediate_size": 1.5}, "intermediate_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"head_dim": 0}, "head_dim"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings: expected true or false"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings: expected true or false"),
        ({"attention_bias": 1}, "attention_bias: expected true or false"),
        ({"vocab_size": 10**30}, "vocab_size: expected at most"),
        ({"vocab_size": 2**40, "hidden_size": 2**40}, "its counts make .* parameters"),
        ({"max_position_embeddings": 0}, "max_position_embeddings"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        from_config({**LLAMA, **change})


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        (MIXTURE, {"num_experts_per_tok": 9}, "num_experts_per_tok: 9, but there are 8 experts"),
        (MIXTURE, {"num_experts_per_tok": None}, "num_experts_per_tok"),
        (MIXTURE, {"num_experts": 0}, "num_experts"),
        (MIXTURE, {"moe_intermediate_size": None}, "moe_intermediate_size"),
        (MIXTURE, {"num_key_value_heads": 3}, "num_key_value_heads"),
        (MIXTURE, {"mlp_only_layers": [0]}, "mlp_only_layers"),
        (MIXTURE, {"decoder_sparse_step": 2}, "decoder_sparse_step"),
        ({**MIXTURE, "model_type": "mixtral"}, {"num_experts": None}, "num_experts"),
        (MIXTURE, {"model_type": "mixtral", "num_local_experts": True}, "num_local_experts"),
        (FALCON, {"num_attention_heads": 5}, "num_attention_heads"),
        (FALCON, {"hidden_size": 0}, "hidden_size"),
        (FALCON, {"ffn_hidden_size": -1}, "ffn_hidden_size"),
        (FALCON, {"alibi": "false"}, "alibi: expected true or false"),
        (FALCON, {"num_ln_in_parallel_attn": "2"}, "num_ln_in_parallel_attn"),
        (FALCON, {"new_decoder_architecture": True, "num_kv_heads": 3}, "num_kv_heads"),
        ({**LLAMA, "model_type": "gpt_neox"}, {"num_hidden_layers": 0}, "num_hidden_layers"),
        ({**LLAMA, "model_type": "gpt_neox"}, {"hidden_size": 66}, "num_attention_heads"),
        ({**LLAMA, "model_type": "gpt_neox"}, {"intermediate_size": None}, "intermediate_size"),
        (GEMMA3, {"text_config": None}, "text_config"),
        (GEMMA3, {"text_config": {"hidden_size": 64}}, r"text_config\.intermediate_size"),
        (GEMMA3, {"text_config": {"sliding_window": 0}}, r"text_config\.hidden_size"),
        (GEMMA3, {"vision_config": {}}, "vision_use_head"),
        (GEMMA3, {"vision_config": {"vision_use_head": False}}, r"vision_config\.hidden_size"),
    ],
)
def test_what_makes_no_model_of_a_family_is_refused_by_its_field(
    base: dict[str, object], change: dict[str, object], said: str
) -> None:
    from_config(base)
    with pytest.raises(BadInput, match=said):
        from_config({**base, **change})


MISTRAL = {**LLAMA, "model_type": "mistral", "num_key_value_heads": 2}
QWEN = {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": True}
GEMMA3_TEXT = {**LLAMA, "model_type": "gemma3_text", "sliding_window": 8}


@pytest.mark.parametrize(
    ("base", "change", "layers"),
    [
        (MISTRAL, {"sliding_window": 8}, 2),
        (MISTRAL, {"sliding_window": None}, None),
        (QWEN, {"sliding_window": 8}, None),  # all from the 28th layer on
        (QWEN, {"sliding_window": 8, "max_window_layers": 0}, 2),
        (QWEN, {"sliding_window": 8, "max_window_layers": 1}, 1),
        (QWEN, {"sliding_window": 0, "use_sliding_window": False}, None),
        ({**MIXTURE, "sliding_window": 8}, {"use_sliding_window": True}, 2),
        ({**MIXTURE, "sliding_window": 8}, {}, None),
        (GEMMA3_TEXT, {}, 2),
        (GEMMA3_TEXT, {"sliding_window_pattern": 2}, 1),
        (GEMMA3_TEXT, {"layer_types": ["sliding_attention", "full_attention"]}, 1),
        (GEMMA3_TEXT, {"layer_types": None}, 2),
    ],
)
def test_the_layers_that_slide(
    base: dict[str, object], change: dict[str, object], layers: int | None
) -> None:
    window = from_config({**base, **change}).window
    assert (window.layers if window is not None else None) == layers


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        (MISTRAL, {"sliding_window": 0}, "sliding_window: expected a whole number >= 1, got 0"),
        (MISTRAL, {"sliding_window": -4}, "sliding_window"),
        (MISTRAL, {"sliding_window": "4096"}, "sliding_window"),
        (MISTRAL, {"sliding_window": True}, "sliding_window"),
        (QWEN, {"sliding_window": 8, "max_window_layers": "x"}, "max_window_layers"),
        (QWEN, {"sliding_window": 8, "max_window_layers": None}, "max_window_layers"),
        (QWEN, {"use_sliding_window": "no"}, "use_sliding_window: expected true or false"),
        (GEMMA3_TEXT, {"sliding_window_pattern": 0}, "sliding_window_pattern"),
        (GEMMA3_TEXT, {"sliding_window_pattern": None}, "sliding_window_pattern"),
        (GEMMA3_TEXT, {"layer_types": "sliding_attention"}, "layer_types"),
        (GEMMA3_TEXT, {"layer_types": [1, 2]}, "layer_types"),
    ],
)
def test_a_window_that_is_none_is_refused_by_its_field(
    base: dict[str, object], change: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=f"config.json: {said}"):
        from_config({**base, **change})


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (LLAMA, None),
        ({**LLAMA, "dtype": None}, None),
        ({**LLAMA, "dtype": "float32"}, 4),
        ({**LLAMA, "torch_dtype": "float32"}, 4),
        ({**LLAMA, "torch_dtype": "float16", "dtype": "bfloat16"}, 2),
        ({**GEMMA3, "torch_dtype": "bfloat16"}, 2),
        ({**GEMMA3, "text_config": {**GEMMA3["text_config"], "dtype": "float32"}}, 4),
    ],
)
def test_the_dtype_of_the_files(config: dict[str, object], width: int | None) -> None:
    assert from_config(config).file_width == width


@pytest.mark.parametrize("value", ["float8_e4m3fn", 32, ["float32"]])
def test_a_dtype_that_cannot_be_counted_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match=r"config.json: dtype: expected one of bfloat16"):
        from_config({**LLAMA, "dtype": value})


def test_quantization_config_null_is_none() -> None:
    assert from_config({**LLAMA, "quantization_config": None}) == from_config(LLAMA)


def test_experts_are_counted_whole_and_worked_in_part() -> None:
    shape = from_config(MIXTURE)
    stacks = [t for t in shape.tensors() if t.kind == "experts"]
    assert [t.shape for t in stacks] == [(8, 64, 64), (8, 64, 32)]
    assert not any(t.four_bit for t in stacks)
    others = shape.parameters_of("linear", "router")
    assert shape.active_parameters == others + 2 * 2 * (64 * 64 + 64 * 32)  # layers, experts


def test_an_adapter_on_experts_has_a_rank_for_each_of_them() -> None:
    shape = from_config(MIXTURE)
    assert shape.lora_parameters(4, ("down_proj",)) == 2 * 8 * 4 * (64 + 32)
    both = shape.lora_parameters(4, ("gate_proj", "up_proj"))
    assert both == 2 * 8 * 2 * 4 * (64 + 64)  # gate and up are one tensor, with both their ranks
    assert shape.lora_parameters(4, ("gate_proj",)) == 0
    assert shape.lora_parameters(4, ("gate_up_proj",)) == 0  # PEFT finds no module of that name
    assert shape.lora_parameters(4, ("gate",)) == 2 * 4 * (64 + 8)


def test_falcon_s_flags_choose_its_key_heads() -> None:
    def qkv(**flags: object) -> tuple[int, ...]:
        shape = from_config({**FALCON, **flags})
        return next(t.shape for t in shape.tensors() if "query_key_value" in t.name)

    assert qkv(num_kv_heads=2) == (64 + 2 * 16, 64)  # one key head, whatever the config says
    assert qkv(multi_query=False, num_kv_heads=2) == (3 * 64, 64)
    assert qkv(new_decoder_architecture=True, num_kv_heads=2) == (64 + 2 * 32, 64)


def test_falcon_s_flags_may_be_null() -> None:
    null = {"parallel_attn": None, "multi_query": None, "alibi": None}
    assert from_config({**FALCON, **null}) == from_config({**FALCON, **dict.fromkeys(null, False)})


def test_a_vision_tower_is_counted_and_left_alone() -> None:
    shape = from_config(GEMMA3)
    tower = [t for t in shape.tensors() if "vision_tower" in t.name]
    assert {t.kind for t in tower} == {"vision"}
    assert not any(t.target for t in tower)
    assert shape.heads == 8  # the class's own, which published configs leave out
    text = {**GEMMA3["text_config"], "model_type": "gemma3_text"}
    assert shape.active_parameters == from_config(text).active_parameters


def test_head_dim_may_differ_from_hidden_by_heads() -> None:
    assert from_config({**LLAMA, "hidden_size": 63, "head_dim": 16}).attention_size == 64


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    with pytest.raises(BadInput, match="num_attention_heads"):
        shape_of(Model(id=str(tmp_path)))
    (tmp_path / "config.json").write_text(str(LLAMA).replace("'", '"'))
    assert shape_of(Model(id=str(tmp_path))) == (from_config(LLAMA), "config.json")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_readable_config_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadInput, match=r"config\.json"):
        shape_of(Model(id=str(tmp_path)))


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "a/b/c", "~/nowhere"])
def test_a_missing_folder_is_said_without_asking_the_network(path: str) -> None:
    with pytest.raises(BadInput, match="no folder"):
        shape_of(Model(id=path), download=_never)


def test_an_unknown_id_is_downloaded(tmp_path: Path) -> None:
    asked = []

    def download(model_id: str, revision: str | None) -> Path:
        asked.append((model_id, revision))
        path = tmp_path / "config.json"
        path.write_text(str(LLAMA).replace("'", '"'))
        return path

    shape, source = shape_of(Model(id="someone/else", revision="abc"), download)
    assert (asked, source) == ([("someone/else", "abc")], "hub")
    assert shape == from_config(LLAMA)


def test_a_hub_that_fails_is_no_bad_input() -> None:
    def broken(model_id: str, revision: str | None) -> Path:
        raise OutsideFailed(f"{model_id} {revision}")

    with pytest.raises(OutsideFailed):
        shape_of(Model(id="someone/else"), broken)


def _never(model_id: str, revision: str | None) -> Path:
    raise AssertionError((model_id, revision))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("HuggingFaceTB/SmolLM2-135M", 135e6),
        ("meta-llama/Llama-2-7b-hf", 7e9),
        ("google/gemma-2-2b-it", 2e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7e9),
        ("/models/my_1.5b/", 1.5e9),
        ("mistralai/Mistral-7B-v0.3", 7e9),
        ("unsloth/llama-3-8b-bnb-4bit", 8e9),
        ("microsoft/Phi-3-mini-4k-instruct", None),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("Qwen/Qwen-1_8B-Chat", None),
        ("someone/v0.3", None),
        ("org-7B/plain", None),
    ],
)
def test_the_size_a_name_claims(name: str, parameters: float | None) -> None:
    assert named_parameters(name) == parameters


def test_only_a_name_off_by_a_size_class_disagrees() -> None:
    assert name_disagrees(7e9, 494_032_768)
    assert name_disagrees(0.5e9, 1_543_714_304)
    assert not name_disagrees(2e9, 2_614_341_888)
    assert not name_disagrees(None, 1)
