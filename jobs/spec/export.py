"""What an export is asked for and what it leaves: `python -m jobs.export export.json`."""

from msgspec import Struct

from jobs.spec.job import WIRE_VERSION, Gate, GgufType, PositiveInt
from jobs.spec.records import Failure, GateResult


class ExportSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A collected run, and the forms it is to be shipped in. Paths are absolute."""

    wire_version: int = WIRE_VERSION
    run: str  # the run's folder: spec.json, adapter/ or model/, base/ where it was generated
    out: str  # where everything goes; a folder of its own
    tools_python: str  # interpreter of the environment made from images/export.lock
    name: str  # of the files, and of the model in Ollama
    merged: bool = False
    gguf: tuple[GgufType, ...] = ()
    ollama: GgufType | None = None  # one of `gguf`
    gates: tuple[Gate, ...] = ()  # besides the run's own
    rows: str | None = None  # JSON lines to measure on, instead of the run's validation rows
    limit: PositiveInt | None = None  # questions to ask; None: as many as the run's own evaluation


class Measured(Struct, frozen=True, kw_only=True):
    """One GGUF file, run through llama.cpp.

    Perplexity is exp of the mean negative log-likelihood of the validation rows' supervised
    tokens. Speeds are of this machine at that moment: compare them only within one export.
    """

    quantization: GgufType
    file: str  # its name below the export's folder, or where it lies unshipped
    size_bytes: int
    sha256: str
    perplexity: float | None  # None: the loss is no number or not taken, as the next where f16's is
    perplexity_change: float | None  # against f16: 0.02 is 2 % worse
    metrics: dict[str, float]  # the run's metrics by name, `loss` among them; `agreement`: see jobs
    prompt_tokens_per_second: float
    generated_tokens_per_second: float
    prompt_speed_ratio: float  # to f16 in this export
    generated_speed_ratio: float
    gates: tuple[GateResult, ...]
    asked: bool  # False: f16, where it was only made on the way
    shipped: bool


class ExportResult(Struct, frozen=True, kw_only=True):
    """What the export leaves behind, always; with what earlier ones into the same folder shipped,
    as long as that lies there."""

    wire_version: int = WIRE_VERSION
    run_id: str = ""
    failure: Failure | None = None
    folder: str = ""
    lineage_sha256: str = ""  # of the lineage.json that the model had; "": it had none
    merged: str | None = None  # a folder that Transformers loads
    files: tuple[Measured, ...] = ()  # f16 first
    modelfile: str | None = None
    ollama_model: str | None = None  # as `ollama run` knows it; None: not created
    next: tuple[str, ...] = ()  # what is left for people to do, as commands
    warnings: tuple[str, ...] = ()
    seconds_by_step: dict[str, float] = {}

    @property
    def rejected(self) -> tuple[Measured, ...]:
        """Files asked for that failed a gate."""
        failed = (m for m in self.files if not all(gate.passed for gate in m.gates))
        return tuple(m for m in failed if m.asked)
