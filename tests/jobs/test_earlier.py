"""What several exports into one folder leave there is told by the last one's result."""

import hashlib

import msgspec

from jobs import layout
from jobs.shipping.earlier import set_aside, together
from jobs.spec import ExportResult, GateResult, Measured, encode

PASSED = GateResult(metric="exact_match", min=0.5, max=None, value=1.0, passed=True)
FAILED = GateResult(metric="exact_match", min=1.01, max=None, value=1.0, passed=False)


def measured(folder, quantization, content="", gate=PASSED, **changes):
    """A file as an export leaves it in its folder."""
    name = f"m-{quantization}.gguf"
    content = content or quantization
    rejected = name + layout.REJECTED_SUFFIX
    for stale in (name, rejected):
        (folder / stale).unlink(missing_ok=True)
    (folder / (name if gate.passed else rejected)).write_text(content)
    found = Measured(
        quantization=quantization, file=name if gate.passed else rejected, size_bytes=1,
        sha256=hashlib.sha256(content.encode()).hexdigest(), perplexity=1.0, perplexity_change=0.0,
        metrics={}, prompt_tokens_per_second=1.0, generated_tokens_per_second=1.0,
        prompt_speed_ratio=1.0, generated_speed_ratio=1.0, gates=(gate,), asked=True,
        shipped=gate.passed,
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def exported(folder, *files, lineage="l", **more):
    """An export of run `r` that made these: its result, left in the folder as such."""
    before = set_aside(folder)
    files = tuple(make(folder) for make in files)
    now = ExportResult(run_id="r", lineage_sha256=lineage, files=files, **more)
    result = together(before, now, folder)
    (folder / layout.EXPORT_RESULT).write_bytes(encode(result))
    return result


def q(name, *arguments, **changes):
    return lambda folder: measured(folder, name, *arguments, **changes)


def served(folder, name):
    (folder / layout.MODELFILE).write_text(f"FROM ./m-{name}.gguf\nPARAMETER temperature 0\n")
    return {"modelfile": layout.MODELFILE, "ollama_model": "m"}


def names(result):
    return [file.file for file in result.files]


def test_what_an_earlier_export_shipped_is_listed_still(tmp_path):
    (tmp_path / layout.MERGED).mkdir()
    exported(tmp_path, q("q4_k_m"), q("q8_0"), merged=layout.MERGED)
    second = exported(tmp_path, q("q4_k_m"), **served(tmp_path, "q4_k_m"))
    assert names(second) == ["m-q4_k_m.gguf", "m-q8_0.gguf"]
    assert (second.merged, second.modelfile) == (layout.MERGED, layout.MODELFILE)
    third = exported(tmp_path, q("q5_k_m"))
    assert names(third) == ["m-q5_k_m.gguf", "m-q4_k_m.gguf", "m-q8_0.gguf"]
    assert (third.modelfile, third.ollama_model) == (layout.MODELFILE, "m")


def test_no_modelfile_names_what_is_rejected_now(tmp_path):
    exported(tmp_path, q("q4_k_m"), q("q8_0"), **served(tmp_path, "q4_k_m"))
    result = exported(tmp_path, q("q4_k_m", gate=FAILED))
    assert names(result) == ["m-q4_k_m.gguf.rejected", "m-q8_0.gguf"]
    assert result.modelfile is None
    assert not (tmp_path / layout.MODELFILE).exists()
    (said,) = result.warnings
    assert said == (
        "Modelfile is removed: m-q4_k_m.gguf is not what it was made for; "
        "Ollama has the model still, as m"
    )
    assert [file.file for file in result.rejected] == ["m-q4_k_m.gguf.rejected"]
    assert not exported(
        tmp_path, q("q5_k_m")
    ).rejected  # another export's failure is not this one's


def test_nor_what_is_replaced(tmp_path):
    exported(tmp_path, q("q4_k_m"), **served(tmp_path, "q4_k_m"))
    assert exported(tmp_path, q("q4_k_m", "other")).modelfile is None
    assert not (tmp_path / layout.MODELFILE).exists()


def test_a_file_that_changed_or_went_is_not_listed(tmp_path):
    exported(tmp_path, q("q4_k_m"), q("q8_0"), q("q5_k_m"))
    (tmp_path / "m-q8_0.gguf").write_text("torn")
    (tmp_path / "m-q5_k_m.gguf").unlink()
    assert names(exported(tmp_path)) == ["m-q4_k_m.gguf"]


def test_an_export_that_fails_or_is_killed_forgets_nothing(tmp_path):
    exported(tmp_path, q("q8_0"), **served(tmp_path, "q8_0"))
    assert set_aside(tmp_path) is not None  # and is killed
    failed = together(set_aside(tmp_path), ExportResult(folder=str(tmp_path)), tmp_path)
    assert (failed.run_id, names(failed)) == ("r", ["m-q8_0.gguf"])
    assert failed.modelfile == layout.MODELFILE


def test_other_weights_are_said_and_not_listed(tmp_path):
    exported(tmp_path, q("q8_0"), q("q4_k_m"), **served(tmp_path, "q4_k_m"))
    result = exported(tmp_path, q("q4_k_m", "other"), lineage="another")
    assert names(result) == ["m-q4_k_m.gguf"]
    first, second = result.warnings
    assert first.startswith("m-q8_0.gguf: of an earlier export of other weights")
    assert second.startswith("Modelfile is removed: m-q4_k_m.gguf")


def test_f16_is_told_once_and_first(tmp_path):
    (tmp_path / layout.EXPORT_WORK).mkdir()
    exported(tmp_path, q("f16"), q("q8_0"))
    on_the_way = q("f16")(tmp_path)
    on_the_way = msgspec.structs.replace(on_the_way, asked=False, shipped=False, file="work/f16")
    result = exported(tmp_path, q("q4_k_m"), lambda folder: on_the_way)
    assert names(result) == ["m-f16.gguf", "m-q4_k_m.gguf", "m-q8_0.gguf"]
