from collections.abc import Callable

import msgspec
import pytest

from jobs.spec import (
    Data,
    Dtype,
    Evaluation,
    Lora,
    Model,
    Pilot,
    Quantization,
    Regression,
    ResolvedEvaluation,
    ResolvedSpec,
    ResolvedTrain,
)
from launcher.catalog import priced
from launcher.errors import BadInput
from launcher.estimate import estimate, hours, inference, passes, renting, vram, weights
from launcher.estimate.batch import batch_of
from launcher.estimate.evidence import PUBLISHED
from launcher.estimate.shapes import embedded_config, from_config, shape_of
from launcher.estimate.spans import Span
from launcher.estimate.tensors import ModelShape, Tensor, Window
from launcher.estimate.work import work_of
from launcher.types import GIB, DataFacts, Device, MemoryTerm, Offer

CPU = Device(kind="cpu", name="CPU", usable_bytes=20 * GIB, total_bytes=24 * GIB, cores=2)
RTX_4090 = Device(
    kind="cuda",
    name="RTX4090",
    usable_bytes=int(23.5 * GIB),
    total_bytes=24 * GIB,
    compute_capability=(8, 9),
    dense_16bit_tflops=165.2,
    bandwidth_gb_s=1008.0,
)
FACTS = DataFacts(
    train_path="train.jsonl",
    validation_path="validation.jsonl",
    train_rows=1000,
    validation_rows=100,
    train_characters=1_000_000,
    longest_characters=2_000,
    validation_characters=100_000,
    sha256="0",
)


def spec_for(
    model_id: str, strategy: str = "qlora", dtype: str = "bf16", **train: object
) -> ResolvedSpec:
    settings = {"seq_len": 2048, **train}
    return ResolvedSpec(
        run_id="r",
        model=Model(id=model_id),
        data=Data(train="train.jsonl"),
        strategy=msgspec.convert(strategy, type=ResolvedSpec.__annotations__["strategy"]),
        dtype="fp32" if dtype == "fp32" else "bf16",
        device="cpu" if dtype == "fp32" else "cuda",
        quantization=Quantization() if strategy == "qlora" else None,
        train=msgspec.convert(settings, type=ResolvedTrain),
    )


def shape_for(model_id: str) -> ModelShape:
    return shape_of(Model(id=model_id))[0]


def offer_for(device: Device, provider: str = "runpod") -> Offer:
    return Offer(
        provider=provider,
        instance="one",
        region="here",
        device=device,
        count=1,
        microusd_per_hour=690_000,
        spot=False,
        as_of="2026-11-21",
        source="test",
        executor="skypilot",
        provision_seconds=(60.0, 120.0, 300.0),
    )


def terms_of(need: vram.Memory) -> dict[str, int]:
    return {t.name: t.bytes for t in need.terms}


QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"


def test_qlora_on_7b_needs_what_practice_says() -> None:
    need = vram.memory(shape_for(QWEN_7B), spec_for(QWEN_7B), RTX_4090, prompt_tokens=500)
    assert 7 * GIB < need.expected_bytes < need.upper_bytes < 11.5 * GIB


def test_training_lora_on_7b_fits_a_24_gb_card() -> None:
    spec = spec_for(QWEN_7B, "lora", seq_len=1024)
    need = vram.memory(shape_for(QWEN_7B), spec, RTX_4090)
    assert 15 * GIB < need.expected_bytes < need.upper_bytes < 22.4 * GIB


def test_sixteen_questions_at_once_need_more_than_training_one_row() -> None:
    spec = spec_for(QWEN_7B, "lora", seq_len=1024)
    four = msgspec.structs.replace(spec, eval=Evaluation(batch=4))
    many, few, none = (
        vram.memory(shape_for(QWEN_7B), s, RTX_4090, prompt_tokens=tokens)
        for s, tokens in ((spec, 500), (four, 500), (spec, None))
    )
    assert terms_of(many)["prompts"] > 2 * GIB
    assert terms_of(many)["one layer at work"] == 0
    assert many.expected_bytes > few.expected_bytes == none.expected_bytes


def test_fp32_weights_of_1_5b() -> None:
    model_id = "Qwen/Qwen2.5-1.5B"
    need = vram.memory(shape_for(model_id), spec_for(model_id, "lora", "fp32"), CPU)
    assert terms_of(need)["base weights"] / GIB == pytest.approx(5.75, abs=0.01)


def test_half_a_billion_on_cpu_is_what_was_measured() -> None:
    model_id = "Qwen/Qwen2.5-0.5B"
    spec = spec_for(model_id, "lora", "fp32", seq_len=256, packing=False, optimizer="adamw_torch")
    spec = msgspec.structs.replace(spec, lora=Lora(r=4), model=Model(id=model_id, init="random"))
    need = vram.memory(shape_for(model_id), spec, CPU)
    assert need.expected_bytes / GIB == pytest.approx(3.30, rel=0.1)
    assert need.upper_bytes / GIB > 3.31


def test_terms_add_up_and_are_never_negative() -> None:
    for strategy in ("qlora", "lora", "full"):
        need = vram.memory(
            shape_for(QWEN_7B), spec_for(QWEN_7B, strategy), RTX_4090, prompt_tokens=9
        )
        assert sum(t.bytes for t in need.terms) == need.expected_bytes
        assert all(t.bytes >= 0 and t.why for t in need.terms)


def test_memory_grows_with_batch_length_and_without_checkpointing() -> None:
    def need(**train: object) -> int:
        return vram.memory(shape_for(QWEN_7B), spec_for(QWEN_7B, **train), RTX_4090).expected_bytes

    base = need()
    assert need(micro_batch=2) > base
    assert need(seq_len=4096) > base
    assert need(activation_checkpointing=False) > base
    assert need(packing=False) < base


def test_nf4_packs_two_values_a_byte_and_a_scale_a_block() -> None:
    tensor = Tensor("a.b.weight", (64, 512), "linear", 1, False)
    assert weights.nf4_bytes(tensor, double=False) == (16_384, 512 * 4 + 64)
    assert weights.nf4_bytes(tensor, double=True) == (16_384, 512 + 2 * 4 + 64 + 4)


def test_optimizer_state_by_size_and_kind() -> None:
    assert weights.optimizer_bytes(8192, "adamw_torch", 4) == 8192 * 8
    assert weights.optimizer_bytes(8192, "adamw_torch", 2) == 8192 * 4
    assert weights.optimizer_bytes(8192, "paged_adamw_8bit", 2) == 8192 * 2 + 2 * 4 * 32
    assert weights.optimizer_bytes(4095, "adamw_8bit", 2) == 4095 * 8


def test_no_matching_target_is_bad_input_naming_the_layers() -> None:
    model_id = "microsoft/phi-4"
    spec = msgspec.structs.replace(spec_for(model_id), lora=Lora(targets=("q_proj",)))
    with pytest.raises(BadInput, match="qkv_proj"):
        vram.memory(shape_for(model_id), spec, RTX_4090)


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        ("EleutherAI/pythia-1b", "query_key_value, dense, dense_h_to_4h, dense_4h_to_h"),
        ("tiiuae/falcon-7b", "query_key_value, dense, dense_h_to_4h, dense_4h_to_h"),
    ],
)
def test_other_names_than_llama_s_are_said(model_id: str, said: str) -> None:
    with pytest.raises(BadInput, match=rf"lora\.targets: none of q_proj.*\nits layers: {said}$"):
        vram.memory(shape_for(model_id), spec_for(model_id, "lora"), RTX_4090)


EXPERTS = "Qwen/Qwen3-30B-A3B"


def test_adapters_on_experts_take_no_dropout_and_both_halves_of_a_tensor() -> None:
    spec, shape = spec_for(EXPERTS), shape_for(EXPERTS)
    with pytest.raises(
        BadInput, match=r"lora\.dropout: 0\.05.*down_proj\)\nset .*: q_proj, k_proj"
    ):
        vram.memory(shape, spec, RTX_4090)
    half = Lora(dropout=0.0, targets=("q_proj", "gate_proj"))
    with pytest.raises(BadInput, match=r"lora\.targets: gate_proj needs up_proj"):
        vram.memory(shape, msgspec.structs.replace(spec, lora=half), RTX_4090)


def on_attention(spec: ResolvedSpec, **lora: object) -> ResolvedSpec:
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    return msgspec.structs.replace(spec, lora=Lora(targets=targets, **lora))


def test_stacked_experts_stay_in_16_bits() -> None:
    shape = shape_for(EXPERTS)
    spec = on_attention(spec_for(EXPERTS))
    found = terms_of(vram.memory(shape, spec, RTX_4090))
    assert found["unquantised parts"] > 2 * shape.parameters_of("experts") > 50 * GIB
    attention = shape.parameters_of("linear")
    assert found["base weights"] == attention // 2
    said = estimate(spec, shape, FACTS, offer_for(RTX_4090)).assumptions
    assert any("97% of the parameters stay in bf16" in a for a in said)


def test_experts_that_are_not_passed_take_memory_and_no_time() -> None:
    shape = shape_for(EXPERTS)
    spec = on_attention(spec_for(EXPERTS, "lora"))
    alike = msgspec.structs.replace(shape, experts_per_token=shape.experts)
    flops = [passes.flops_per_token(s, spec, seen=0) for s in (shape, alike)]
    work = 6 * (shape.active_parameters + shape.head_parameters)
    assert flops[0] == pytest.approx(work, rel=0.02)
    assert flops[1] > 8 * flops[0]
    kept = [terms_of(vram.memory(s, spec, RTX_4090))["base weights"] for s in (shape, alike)]
    assert kept[0] == kept[1] == 2 * shape.parameters


def test_adapters_on_experts_are_merged_at_every_step() -> None:
    shape = shape_for(EXPERTS)
    plain = on_attention(spec_for(EXPERTS, "lora"), dropout=0.0)
    merged = msgspec.structs.replace(plain, lora=Lora(dropout=0.0))
    assert passes.merge_flops(shape, plain) == 0
    # twice the whole stacks' product of rank 16 (down) and 32 (gate and up), four times over
    up, down = (t.parameters for t in shape.tensors() if t.kind == "experts")
    assert passes.merge_flops(shape, merged) == 4 * 2 * 16 * (2 * up + down)
    works = [
        terms_of(vram.memory(shape, s, RTX_4090))["one layer at work"] for s in (plain, merged)
    ]
    one_layer = 2 * (up + down) / 48
    assert works[1] - works[0] > one_layer


def test_attention_without_a_kernel_grows_with_the_square_of_the_length() -> None:
    def work(model_id: str, length: int) -> int:
        spec = spec_for(model_id, "lora", seq_len=length, packing=False)
        if model_id.startswith("tiiuae"):
            spec = msgspec.structs.replace(spec, lora=Lora(targets=("dense",)))
        return terms_of(vram.memory(shape_for(model_id), spec, RTX_4090))["one layer at work"]

    for model_id in ("google/gemma-2-9b", "tiiuae/falcon-7b"):
        assert work(model_id, 8192) > 3.5 * work(model_id, 4096)
    assert work("google/gemma-7b", 8192) < 2.1 * work("google/gemma-7b", 4096)
    spec = spec_for("google/gemma-2-9b", "lora", packing=False)
    fused = msgspec.structs.replace(shape_for("google/gemma-2-9b"), attention="fused")
    slow, fast = (
        passes.step_seconds(s, spec, RTX_4090, 2048).expected
        for s in (shape_for("google/gemma-2-9b"), fused)
    )
    assert slow > 1.1 * fast


@pytest.mark.parametrize(
    ("model_id", "card"),
    [("google/gemma-2-9b-it", RTX_4090), (QWEN_7B, RTX_4090), (QWEN_7B, CPU)],
)
def test_unpacked_rows_see_themselves_alone(model_id: str, card: Device) -> None:
    rows = {"packing": False, "micro_batch": 8, "effective_batch": 8}
    dtype = "fp32" if card.kind == "cpu" else "bf16"
    short, long = (
        passes.step_seconds(
            shape_for(model_id),
            spec_for(model_id, "lora", dtype, seq_len=seq_len, **rows),
            card,
            8 * 512,
        )
        for seq_len in (512, 4096)
    )
    assert short == long


def test_padding_s_mask_lets_no_kernel_skip_the_future() -> None:
    shape = shape_for(QWEN_7B)
    alone, beside = (
        spec_for(QWEN_7B, "lora", packing=False, micro_batch=rows, effective_batch=8)
        for rows in (1, 8)
    )
    assert passes.micro_batch(shape, alone, 512).seen == 256
    assert passes.micro_batch(shape, beside, 8 * 512).seen == 512
    assert passes.micro_batch(shape, beside, 8 * 512, padded=False).seen == 256
    assert passes.micro_batch(shape, spec_for(QWEN_7B), 2048).seen == 2048  # packed
    gemma = shape_for("google/gemma-2-9b-it")
    assert passes.micro_batch(gemma, alone, 512).seen == 512


def test_the_new_falcon_caches_keys_for_all_heads() -> None:
    shape = shape_for("tiiuae/falcon-40b")
    assert (shape.heads, shape.kv_heads) == (128, 8)
    widths = weights.widths_of(spec_for("tiiuae/falcon-40b", "lora"))
    assert inference.kv_cache_per_token(shape, widths) == 2 * 60 * 128 * 64 * 2


def test_partly_matching_targets_are_said() -> None:
    model_id = "microsoft/phi-4"
    found = estimate(spec_for(model_id), shape_for(model_id), FACTS, offer_for(RTX_4090))
    assert any("q_proj" in a and "o_proj, down_proj" in a for a in found.assumptions)


def test_tokens_are_characters_template_and_truncation() -> None:
    work = work_of(spec_for(QWEN_7B, epochs=2.0), FACTS)
    assert work.train_tokens == 2 * (250_000 + 12 * 1000)
    assert work.validation_tokens == 25_000 + 12 * 100
    assert work.micro_steps == 2 * -(-262_000 // 2048)
    short = work_of(spec_for(QWEN_7B, seq_len=64, epochs=1.0, packing=False), FACTS)
    assert short.train_tokens == 64 * 1000
    assert short.micro_steps == 1000


def a_student(model_id: str, dimensions: int) -> ResolvedSpec:
    asked = Regression(dimensions=tuple(f"d{i}" for i in range(dimensions)))
    return msgspec.structs.replace(
        spec_for(model_id, packing=False), task="regression", regression=asked
    )


def test_a_student_trains_its_head_and_has_no_vocabulary_to_score() -> None:
    language = estimate(spec_for(QWEN_7B), shape_for(QWEN_7B), FACTS, offer_for(RTX_4090))
    student = estimate(a_student(QWEN_7B, 8), shape_for(QWEN_7B), FACTS, offer_for(RTX_4090))
    head = 152_064 * 3584
    assert student.parameters_total == language.parameters_total - head + 8 * 3584
    assert student.parameters_trainable == language.parameters_trainable + 8 * 3584
    # less the head, more for adapters that stay fp32
    assert student.memory_expected_bytes < language.memory_expected_bytes - 1.5 * head


def test_packed_rows_are_one_and_only_a_single_unpacked_row_needs_no_mask() -> None:
    packed = batch_of(spec_for(QWEN_7B, seq_len=512, micro_batch=4))
    assert (packed.rows, packed.length, packed.masked) == (1, 2048, True)
    alone = batch_of(spec_for(QWEN_7B, seq_len=512, packing=False))
    assert (alone.rows, alone.length, alone.masked) == (1, 512, False)
    several = batch_of(spec_for(QWEN_7B, seq_len=512, packing=False, micro_batch=4))
    assert (several.rows, several.length, several.masked) == (4, 512, True)
    student = msgspec.structs.replace(
        a_student(QWEN_7B, 8), train=ResolvedTrain(seq_len=512, packing=True, micro_batch=4)
    )
    assert batch_of(student) == several


def test_a_row_longer_than_the_window_needs_a_mask_and_caches_the_window_alone() -> None:
    config = {**(embedded_config("google/gemma-3-1b-pt") or {}), "layer_types": None}
    shape = from_config(config)
    assert shape.window == Window(tokens=512, layers=22)  # of 26, every sixth sees all
    spec = spec_for("google/gemma-3-1b-pt", "lora", seq_len=512, packing=False)
    assert batch_of(spec, shape.window).masked
    shorter = spec_for("google/gemma-3-1b-pt", "lora", seq_len=511, packing=False)
    assert not batch_of(shorter, shape.window).masked
    w, asked = weights.widths_of(spec), inference.Asked(False, cached=True, adapters=True)
    sees_all = msgspec.structs.replace(shape, window=None)

    def last(shape: ModelShape, tokens: int) -> int:
        return inference.last_token(shape, w, spec.lora.targets, 64, tokens, asked)

    assert last(shape, 400) >= last(sees_all, 400)
    assert last(shape, 4000) < 0.4 * last(sees_all, 4000)


@pytest.mark.parametrize(
    ("model_id", "window"),
    [
        ("mistralai/Mistral-7B-v0.1", Window(tokens=4096, layers=32)),
        ("mistralai/Mistral-7B-v0.3", None),
        ("microsoft/Phi-3-mini-4k-instruct", Window(tokens=2047, layers=32)),
        ("google/gemma-3-27b-it", Window(tokens=1024, layers=52)),
        (QWEN_7B, None),
    ],
)
def test_windows_are_those_of_the_published_configs(model_id: str, window: Window | None) -> None:
    assert shape_for(model_id).window == window


def test_qwen_slides_only_where_its_config_says_so() -> None:
    config = {**(embedded_config(QWEN_7B) or {}), "sliding_window": 4096, "max_window_layers": 20}
    assert from_config(config).window is None
    on = from_config({**config, "use_sliding_window": True})
    assert on.window == Window(tokens=4096, layers=8)


@pytest.mark.parametrize(
    ("capability", "mib", "why"),
    [
        ((8, 0), 501, "8.0"),
        ((7, 5), 135, "7.5"),
        ((9, 0), 595, "assumption"),
        (None, 595, "largest"),
    ],
)
def test_a_context_is_the_architecture_s_or_the_largest_known(
    capability: tuple[int, int] | None, mib: int, why: str
) -> None:
    card = msgspec.structs.replace(RTX_4090, compute_capability=capability)
    need = vram.memory(shape_for(QWEN_7B), spec_for(QWEN_7B), card)
    (found,) = (t for t in need.terms if t.name == "CUDA context")
    assert found.bytes == mib * 1024**2
    assert why in found.why


def test_a_question_longer_than_a_training_row_is_asked_whole() -> None:
    def prompts(characters: int, spec: ResolvedSpec) -> MemoryTerm:
        facts = msgspec.structs.replace(FACTS, longest_characters=characters)
        found = estimate(spec, shape_for(QWEN_7B), facts, offer_for(RTX_4090)).memory
        return next(t for t in found if t.name in ("prompts", "fitting the head"))

    assert "10012 tokens" in prompts(40_000, spec_for(QWEN_7B, "lora")).why
    assert "2048 tokens" in prompts(40_000, a_student(QWEN_7B, 3)).why


def test_a_full_model_is_saved_through_host_ram() -> None:
    shape = shape_for(QWEN_7B)
    lora, full = (vram.host_bytes(shape, spec_for(QWEN_7B, s), 0) for s in ("lora", "full"))
    assert lora == vram.HOST_PROCESS_BYTES + vram.WEIGHT_FILE_BYTES
    assert full == vram.HOST_PROCESS_BYTES + 4 * shape.parameters


def test_each_gpu_has_a_process_in_host_ram_and_the_weight_file_is_there_once() -> None:
    def host(strategy: str, **more: object) -> int:
        spec = msgspec.structs.replace(spec_for(QWEN_7B, strategy), **more)
        return vram.host_bytes(shape_for(QWEN_7B), spec, 0)

    process, file = vram.HOST_PROCESS_BYTES, vram.WEIGHT_FILE_BYTES
    assert host("lora", processes=8) == 8 * process + file
    assert host("lora", processes=16, nodes=2) == 8 * process + file
    assert host("full", processes=8) == 8 * process + 4 * shape_for(QWEN_7B).parameters
    one = host("lora", processes=8, sharding="full") - 8 * process
    assert one == 2 * shape_for(QWEN_7B).parameters  # rank 0 loads for all
    in_4_bits = [host("qlora", processes=n, sharding="full") - n * process for n in (4, 8)]
    assert in_4_bits[1] == 2 * in_4_bits[0]  # every rank loads


@pytest.mark.parametrize(
    ("model_id", "name", "why"),
    [
        (QWEN_7B, "embed_tokens", "saved with the whole embedding"),
        (QWEN_7B, "model.embed_tokens", "saved with the whole embedding"),
        ("EleutherAI/pythia-1b", "embed_in", "saved with the whole embedding"),
        ("tiiuae/falcon-7b", "word_embeddings", "saved with the whole embedding"),
        (QWEN_7B, "lm_head", "the loss reads its weight directly"),
        ("EleutherAI/pythia-1b", "lm_head", "the loss reads its weight directly"),
    ],
)
def test_no_adapter_goes_on_embedding_or_head(model_id: str, name: str, why: str) -> None:
    shape = shape_for(model_id)
    targets = (*shape.target_names, name)
    spec = msgspec.structs.replace(spec_for(model_id), lora=Lora(targets=targets))
    with pytest.raises(BadInput, match=f"lora.targets: {name} is no layer: .*{why}"):
        vram.memory(shape, spec, RTX_4090)


def test_a_student_has_no_head_of_the_language_model_to_refuse() -> None:
    spec = msgspec.structs.replace(a_student(QWEN_7B, 3), lora=Lora(targets=("q_proj", "lm_head")))
    found = estimate(spec, shape_for(QWEN_7B), FACTS, offer_for(RTX_4090))
    assert any("lm_head match nothing" in line for line in found.assumptions)


def test_gradients_stand_at_the_loss_only_from_the_second_micro_batch_on() -> None:
    shape = shape_for(QWEN_7B)
    at_the_loss = [
        vram.timeline(shape, spec_for(QWEN_7B, "full", effective_batch=rows), RTX_4090).moments[0]
        for rows in (1, 2)
    ]
    assert [moment.name for moment in at_the_loss] == ["loss", "loss"]
    assert [moment.gradients for moment in at_the_loss] == [0, 4 * shape.parameters]


def test_rows_for_the_test_are_judged_and_choosing_an_epoch_costs_time() -> None:
    facts = msgspec.structs.replace(FACTS, test_rows=40, test_characters=8_000)
    assert work_of(spec_for(QWEN_7B), facts).judged_rows == 40
    plain, chosen = (
        hours.evaluation(shape_for(QWEN_7B), spec, RTX_4090, work_of(spec, facts))[0].expected
        for spec in (spec_for(QWEN_7B), spec_for(QWEN_7B, select_by="loss"))
    )
    assert chosen > plain


@pytest.mark.parametrize("card", [RTX_4090, CPU])
@pytest.mark.parametrize(
    "model_id", [QWEN_7B, "google/gemma-2-9b-it", "mistralai/Mixtral-8x7B-v0.1"]
)
def test_a_forward_pass_takes_as_long_with_checkpoints_as_without(
    model_id: str, card: Device
) -> None:
    shape, dtype = shape_for(model_id), "fp32" if card.kind == "cpu" else "bf16"
    for strategy in ("qlora", "lora", "full"):
        with_, without = (
            spec_for(model_id, strategy, dtype, activation_checkpointing=on) for on in (True, False)
        )
        work = work_of(with_, FACTS)
        forward = hours.evaluation(shape, with_, card, work)[0]
        assert forward == hours.evaluation(shape, without, card, work)[0]


def test_a_forward_pass_is_two_flops_a_weight() -> None:
    shape = shape_for(QWEN_7B)
    spec = msgspec.structs.replace(spec_for(QWEN_7B, "lora"), lora=Lora(r=1, targets=("k_proj",)))
    flops = passes.forward_flops_per_token(shape, spec, seen=0)
    assert flops == pytest.approx(2 * (shape.parameters - 152_064 * 3584), rel=1e-3)


def test_a_forward_pass_is_the_rest_of_a_step_without_its_gradients() -> None:
    shape = shape_for(QWEN_7B)
    for packing in (True, False):
        spec = spec_for(QWEN_7B, packing=packing)
        rows = passes.micro_batch(shape, spec, 2048)
        forward = passes.forward_seconds(shape, spec, RTX_4090, rows).expected
        step = passes.step_seconds(shape, spec, RTX_4090, 2048).expected
        assert 0.3 * step < forward < 0.35 * step  # two of six, with checkpoints


@pytest.mark.parametrize("golden", [0, 400])
def test_long_questions_take_at_least_their_forward_pass(golden: int) -> None:
    spec = msgspec.structs.replace(spec_for(QWEN_7B, "lora"), eval=ResolvedEvaluation(batch=8))
    shape, card = shape_for(QWEN_7B), priced.device("A100-80GB")

    def took(characters: int) -> Span:
        facts = msgspec.structs.replace(
            FACTS, validation_characters=100 * characters, golden_rows=golden
        )
        return hours.evaluation(shape, spec, card, work_of(spec, facts))[0]

    asked = golden or 100
    tokens = 16_000 * FACTS.tokens_per_character
    flops = 2 * shape.active_parameters * tokens * asked
    at_least = 2 * flops / passes.peak_flops(spec, card)  # base and tuned
    short, long = took(8_000), took(24_000)  # both are cut for the loss
    assert all(more - less > at_least for less, more in zip(short, long, strict=True))


def test_a_word_takes_longer_behind_a_long_question() -> None:
    shape, card = shape_for(QWEN_7B), priced.device("A100-80GB")
    spec = spec_for(QWEN_7B, "lora")
    cache = 2 * 28 * 4 * 128 * 2 * 32_768  # layers, heads, their width, bytes, tokens
    none, long = (
        passes.answer_seconds(shape, spec, card, 16, context).high for context in (0, 32_768)
    )
    assert long - none > 16 * cache / (card.bandwidth_gb_s * 1e9)


def test_layers_that_slide_cache_their_window_alone() -> None:
    shape, card = shape_for("google/gemma-3-12b-it"), priced.device("A100-80GB")
    spec = spec_for("google/gemma-3-12b-it", "lora")
    whole = msgspec.structs.replace(shape, window=None)
    slides, sees_all = (
        passes.answer_seconds(s, spec, card, 16, 32_768).high for s in (shape, whole)
    )
    assert slides < sees_all


def test_fitting_the_head_passes_training_rows_forward() -> None:
    def took(head: str, rows: int) -> float:
        spec = spec_for(QWEN_7B, "lora", seq_len=512, packing=False)
        regression = msgspec.convert({"dimensions": ["a"], "head": head}, type=Regression)
        spec = msgspec.structs.replace(spec, task="regression", regression=regression)
        facts = msgspec.structs.replace(FACTS, train_rows=rows, train_characters=1000 * rows)
        work = work_of(spec, facts)
        return hours.evaluation(shape_for(QWEN_7B), spec, RTX_4090, work)[0].expected

    few, many = (
        took("fitted", 1000) - took("random", 1000),
        took("fitted", 9000) - took("random", 9000),
    )
    assert few > 0
    assert many == pytest.approx(few, rel=0.01)  # of a thousand rows at most


def test_frozen_flops_are_six_per_weight_with_checkpointing() -> None:
    shape = shape_for(QWEN_7B)
    spec = msgspec.structs.replace(spec_for(QWEN_7B, "lora"), lora=Lora(r=1, targets=("k_proj",)))
    flops = passes.flops_per_token(shape, spec, seen=0)
    assert flops == pytest.approx(6 * (shape.parameters - 152_064 * 3584), rel=1e-3)


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        (lambda d: d, lambda d: msgspec.structs.replace(d, dense_16bit_tflops=989.0)),
        (lambda d: msgspec.structs.replace(d, bandwidth_gb_s=100.0), lambda d: d),
    ],
)
def test_a_better_card_takes_less_time(
    slower: Callable[[Device], Device], faster: Callable[[Device], Device]
) -> None:
    spec, shape = spec_for(QWEN_7B), shape_for(QWEN_7B)
    times = [
        estimate(spec, shape, FACTS, offer_for(change(RTX_4090))).hours_expected
        for change in (slower, faster)
    ]
    assert times[0] > times[1]


def lora_step(card: str, dtype: str, **train: object) -> float:
    spec = spec_for(QWEN_7B, "lora", **train)
    spec = msgspec.structs.replace(spec, dtype=msgspec.convert(dtype, Dtype))
    return passes.step_seconds(shape_for(QWEN_7B), spec, priced.device(card), 2048).expected


@pytest.mark.parametrize(
    ("card", "least"),
    [("T4", 7), ("RTX4090", 1.9), ("A40", 3.8), ("A100-80GB", 6), ("H100-SXM", 6), ("B200", 6)],
)
def test_fp32_is_slower_by_what_the_card_s_rates_say(card: str, least: float) -> None:
    assert lora_step(card, "fp32") >= least * lora_step(card, "fp16")


def test_tf32_lies_between_fp32_and_16_bits() -> None:
    narrow, tf32, wide = (
        lora_step("A100-80GB", "bf16"),
        lora_step("A100-80GB", "fp32", tf32=True),
        lora_step("A100-80GB", "fp32"),
    )
    assert 1.5 * narrow < tf32 < wide / 4
    assert lora_step("A100-80GB", "bf16", tf32=True) == narrow


def test_a_card_of_unknown_fp32_rate_is_not_taken_for_a_fast_one() -> None:
    spec = msgspec.structs.replace(spec_for(QWEN_7B, "lora"), dtype="fp32")
    known = priced.device("A100-80GB")
    unknown = msgspec.structs.replace(known, fp32_tflops=0.0)
    steps = [passes.step_seconds(shape_for(QWEN_7B), spec, d, 2048).low for d in (known, unknown)]
    assert steps[1] > steps[0]


def test_wider_weights_take_longer_to_read_for_each_word() -> None:
    def word(strategy: str, dtype: str) -> float:
        spec = spec_for(QWEN_7B, strategy)
        spec = msgspec.structs.replace(spec, dtype=msgspec.convert(dtype, Dtype))
        return passes.answer_seconds(shape_for(QWEN_7B), spec, priced.device("L4"), 1).expected

    narrow, wide, full = word("lora", "bf16"), word("lora", "fp32"), word("full", "bf16")
    assert wide == full == pytest.approx(2 * narrow, rel=0.01)


def test_nf4_costs_time_on_both_kinds_of_device() -> None:
    for device, dtype in ((RTX_4090, "bf16"), (CPU, "fp32")):
        spec = spec_for("Qwen/Qwen2.5-1.5B", dtype=dtype)
        plain = msgspec.structs.replace(spec, strategy="lora", quantization=None)
        shape = shape_for("Qwen/Qwen2.5-1.5B")
        quantised, whole = (passes.step_seconds(shape, s, device, 512) for s in (spec, plain))
        assert quantised.expected > whole.expected


def test_small_models_wait_for_their_launches() -> None:
    shape = shape_for("HuggingFaceTB/SmolLM2-135M")
    spec = spec_for("HuggingFaceTB/SmolLM2-135M", "lora")
    one, two = (passes.step_seconds(shape, spec, RTX_4090, n).expected for n in (32, 64))
    assert one == two == pytest.approx(30 * PUBLISHED.launch_seconds_per_layer.expected)


def test_times_are_ordered_and_complete() -> None:
    offer = msgspec.structs.replace(offer_for(RTX_4090), image="me/train:1")
    found = estimate(spec_for(QWEN_7B), shape_for(QWEN_7B), FACTS, offer)
    assert [t.name for t in found.time] == [
        "provision",
        "image pull",
        "set up",
        "model download",
        "load",
        "evaluation",
        "training",
        "upload",
        "teardown",
    ]
    assert all(0 <= t.low_hours <= t.expected_hours <= t.high_hours for t in found.time)
    assert all(t.why for t in found.time)
    assert found.hours_low < found.hours_expected < found.hours_high


def test_the_longest_batch_is_passed_twice_a_step_where_gradients_accumulate() -> None:
    def load(effective: int) -> float:
        train = msgspec.structs.replace(base.train, micro_batch=4, effective_batch=effective)
        spec = msgspec.structs.replace(base, train=train)
        found = estimate(spec, shape, FACTS, offer_for(RTX_4090))
        return next(t.expected_hours for t in found.time if t.name == "load") * 3600

    base, shape = spec_for(QWEN_7B), shape_for(QWEN_7B)
    one = passes.step_seconds(shape, base, RTX_4090, 4 * base.train.seq_len).expected
    assert load(8) - load(4) == pytest.approx(2 * one, rel=1e-6)
    assert load(16) == load(8)


def test_an_image_is_pulled_and_spares_the_installation() -> None:
    without = renting.until_ready(offer_for(RTX_4090))
    image = msgspec.structs.replace(offer_for(RTX_4090), image="me/train:1")
    with_it = renting.until_ready(image)
    assert [t.name for t in without] == ["provision", "set up"]
    assert [t.name for t in with_it] == ["provision", "image pull", "set up"]
    assert "size of me/train:1 not known" in with_it[1].why
    assert sum(t.expected_hours for t in with_it) < sum(t.expected_hours for t in without)
    # Nobody has looked into it: at worst set-up installs all the same.
    assert with_it[2].high_hours == without[1].high_hours
    known = msgspec.structs.replace(image, image_bytes=4 * 10**9)
    pull = renting.until_ready(known)[1]
    rates = zip(
        offer_for(RTX_4090).download_mb_s,
        (pull.low_hours, pull.expected_hours, pull.high_hours),
        strict=True,
    )
    assert [hours * 3600 * rate for rate, hours in rates] == pytest.approx([4000] * 3)


def test_this_machine_is_not_provisioned() -> None:
    found = estimate(spec_for(QWEN_7B), shape_for(QWEN_7B), FACTS, offer_for(CPU, "local"))
    assert {t.name for t in found.time} == {"model download", "load", "evaluation", "training"}


def test_a_folder_is_not_downloaded() -> None:
    spec = msgspec.structs.replace(spec_for(QWEN_7B), model=Model(id="./base"))
    found = estimate(spec, shape_for(QWEN_7B), FACTS, offer_for(CPU, "local"))
    assert "model download" not in {t.name for t in found.time}


def test_counts_in_the_estimate_are_the_shape_s() -> None:
    shape = shape_for(QWEN_7B)
    found = estimate(spec_for(QWEN_7B), shape, FACTS, offer_for(RTX_4090))
    assert found.parameters_total == 7_615_616_512
    assert found.parameters_trainable == shape.lora_parameters(16, Lora().targets) == 40_370_176
    full = estimate(spec_for(QWEN_7B, "full"), shape, FACTS, offer_for(RTX_4090))
    assert full.parameters_trainable == 7_615_616_512
    assert full.memory_expected_bytes > 80 * GIB


def test_a_pilot_and_a_golden_set_take_their_time() -> None:
    plain = spec_for(QWEN_7B)
    piloted = msgspec.structs.replace(plain, pilot=Pilot(examples=10, steps=20))
    many = msgspec.structs.replace(FACTS, golden_rows=1600)

    def took(spec: ResolvedSpec, facts: DataFacts = FACTS) -> dict[str, float]:
        found = estimate(spec, shape_for(QWEN_7B), facts, offer_for(RTX_4090))
        return {term.name: term.expected_hours for term in found.time}

    assert "pilot" not in took(plain)
    assert 0 < took(piloted)["pilot"] < took(piloted)["training"]
    assert took(plain, many)["evaluation"] > 5 * took(plain)["evaluation"]
