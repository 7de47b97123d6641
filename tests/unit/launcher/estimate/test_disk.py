import msgspec
import pytest

from jobs.spec import GgufType, Model, Serve
from launcher.display.estimates import estimate_text
from launcher.estimate import disk, estimate
from launcher.estimate.work import work_of
from launcher.types import DiskTerm, Estimate, Plan
from tests.unit.launcher.estimate.test_estimate import (
    FACTS,
    QWEN_7B,
    RTX_4090,
    a_student,
    offer_for,
    shape_for,
    spec_for,
)

SMOL = "HuggingFaceTB/SmolLM2-135M"


def sizes(terms: tuple[DiskTerm, ...]) -> dict[str, int]:
    return {t.name: t.bytes for t in terms}


def estimated(model_id: str = QWEN_7B, strategy: str = "qlora", **train: object) -> Estimate:
    spec = spec_for(model_id, strategy, **train)
    return estimate(spec, shape_for(model_id), FACTS, offer_for(RTX_4090))


def test_terms_add_up() -> None:
    found = estimated()
    assert found.disk_bytes == sum(t.bytes for t in found.disk)
    assert found.export_bytes == sum(t.bytes for t in found.export)
    assert all(t.bytes > 0 and t.why for t in (*found.disk, *found.export))


def test_one_checkpoint_more_than_are_kept_and_the_best_one() -> None:
    def checkpoints(**train: object) -> int:
        return sizes(estimated(**train).disk)["checkpoints"]

    one = checkpoints(checkpoints_kept=2) - checkpoints(checkpoints_kept=1)
    assert checkpoints(checkpoints_kept=1) == 2 * one
    assert checkpoints(checkpoints_kept=1, select_by="loss") == 3 * one
    # fp32 weights, and two moments in 8 bits with a scale per 256
    assert one == pytest.approx(40_370_176 * (4 + 2 + 8 / 256), rel=0.01)


def test_every_checkpoint_of_a_run_in_a_bucket_leaves_the_machine_once() -> None:
    def mirrored(**train: object) -> int:
        found = estimated(checkpoints_kept=1, micro_batch=1, effective_batch=1, **train)
        return found.mirrored_bytes // (sizes(found.disk)["checkpoints"] // 2)

    rows = work_of(spec_for(QWEN_7B, "qlora"), FACTS).train_rows
    # by steps, at each epoch's end, and one when the job is stopped
    assert mirrored(packing=False, epochs=1, checkpoint_every_steps=rows) == 1 + 1 + 1
    assert mirrored(packing=False, epochs=2, checkpoint_every_steps=rows // 2) == 4 + 2 + 1


def test_a_model_of_random_weights_is_drawn_in_fp32_and_merged_so() -> None:
    spec = msgspec.structs.replace(spec_for(SMOL), model=Model(id="./base", init="random"))
    shape = shape_for(SMOL)
    assert disk.base(shape, spec, shape.parameters).bytes == 4 * shape.parameters
    assert sizes(disk.export(shape, spec))["merged model"] == 4 * shape.parameters


def test_files_in_fp32_are_downloaded_and_merged_as_large_as_they_are() -> None:
    narrow, wide = shape_for("google/gemma-2-2b-it"), shape_for("google/gemma-2-2b")
    spec = spec_for("google/gemma-2-2b")
    assert narrow.tensors() == wide.tensors()
    terms = [disk.base(shape, spec, shape.parameters) for shape in (narrow, wide)]
    assert [t.bytes for t in terms] == [2 * wide.parameters, 4 * wide.parameters]
    assert [t.why for t in terms] == ["2,614,341,888 × 16 bits", "2,614,341,888 × fp32"]
    assert sizes(disk.export(wide, spec))["merged model"] == 4 * wide.parameters
    one, two = (disk.export_ram_bytes(s, spec) - disk.MERGE_PROCESS_BYTES for s in (narrow, wide))
    assert two == pytest.approx(2 * one, abs=2)
    found = [estimate(spec, s, FACTS, offer_for(RTX_4090)) for s in (narrow, wide)]
    assert found[1].hours_expected > found[0].hours_expected  # the download
    full = spec_for("google/gemma-2-2b", "full")  # which trains fp32 weights from either
    assert disk.weights_merged(narrow, full) == disk.weights_merged(wide, full)


def test_sixteen_bits_are_an_assumption_where_no_dtype_is_known() -> None:
    shape = shape_for(SMOL)
    silent = msgspec.structs.replace(shape, file_width=None)
    assert "assumption" in disk.base(silent, spec_for(SMOL), shape.parameters).why


# What was made and published: SmolLM2-135M here (models/test_pretrained.py, 2026-11-21);
# Llama 3.1 in llama.cpp's tools/quantize/README.md.
@pytest.mark.parametrize(
    ("model_id", "name", "size_bytes", "off"),
    [
        (SMOL, "f16", 270_885_728, 0.001),
        (SMOL, "q4_k_m", 105_453_920, 0.03),
        ("meta-llama/Llama-3.1-8B", "f16", 14.96 * 2**30, 0.002),
        ("meta-llama/Llama-3.1-8B", "q8_0", 7.95 * 2**30, 0.002),
        ("meta-llama/Llama-3.1-8B", "q5_k_m", 5.33 * 2**30, 0.003),
        ("meta-llama/Llama-3.1-8B", "q4_k_m", 4.58 * 2**30, 0.003),
        ("meta-llama/Llama-3.1-70B", "q4_k_m", 43.1e9, 0.02),
    ],
)
def test_a_gguf_file_is_as_large_as_one_that_was_made(
    model_id: str, name: GgufType, size_bytes: float, off: float
) -> None:
    assert disk.gguf(shape_for(model_id), name).bytes == pytest.approx(size_bytes, rel=off)


def test_a_larger_type_makes_a_larger_file() -> None:
    types: tuple[GgufType, ...] = ("q3_k_m", "q4_k_m", "q5_k_m", "q8_0", "f16")
    for model_id in (SMOL, QWEN_7B):
        made = [disk.gguf(shape_for(model_id), name).bytes for name in types]
        assert made == sorted(made)
        assert len(set(made)) == len(made)


def test_an_export_holds_the_merged_model_f16_and_the_served_type_at_once() -> None:
    found = sizes(estimated().export)
    assert list(found) == ["merged model", "f16 GGUF", "q4_k_m GGUF"]
    served = msgspec.structs.replace(spec_for(QWEN_7B), serve=Serve(quantization="f16"))
    assert list(sizes(disk.export(shape_for(QWEN_7B), served))) == ["merged model", "f16 GGUF"]
    full = spec_for(QWEN_7B, "full")
    assert "merged model" not in sizes(disk.export(shape_for(QWEN_7B), full))


def test_a_student_is_merged_and_has_no_gguf() -> None:
    spec = a_student(QWEN_7B, 3)
    found = estimate(spec, shape_for(QWEN_7B), FACTS, offer_for(RTX_4090))
    assert list(sizes(found.export)) == ["merged model"]
    assert sizes(found.disk)["base model"] == 2 * 7_615_616_512  # the published head is downloaded


def test_merging_takes_what_was_measured() -> None:
    shape = shape_for("Qwen/Qwen2.5-0.5B")
    spec = spec_for("Qwen/Qwen2.5-0.5B")
    assert disk.export_ram_bytes(shape, spec) / 2**20 == pytest.approx(2102, rel=0.07)


def test_the_command_shows_the_disk_and_the_export_apart(small_plan: Plan) -> None:
    candidate = msgspec.structs.replace(small_plan.candidates[0], estimate=estimated())
    text = estimate_text(small_plan, candidate)
    assert "disk 22.5 GiB; export needs 32.7 GiB more, and 30.0 GiB of RAM" in text
    assert "export: f16 GGUF" in text
