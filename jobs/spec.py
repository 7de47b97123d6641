"""The wire format between launcher and training environment: ResolvedSpec in, Result out.

Depends on msgspec alone, so that both sides can read it. Humans write YAML recipes that become
a `JobSpec`; the launcher makes it concrete as a `ResolvedSpec`; the job answers with `Record`
lines while it works and one `Result` at the end. Times are UTC ISO 8601, memory is bytes.
"""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

WIRE_VERSION = 1

Task = Literal["sft"]
Strategy = Literal["qlora", "lora", "full"]
Dtype = Literal["bf16", "fp16", "fp32"]
DeviceKind = Literal["cuda", "mps", "cpu"]
Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]

PositiveInt = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]

SEVEN_PROJECTIONS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which base model: a Hub id or a folder, and where its weights come from.

    `init: random` builds the architecture of the folder's config.json with random weights from
    the run's seed: for the sample job, tests and benchmarks, which have no weights to load.
    """

    id: Annotated[str, Meta(min_length=1)]
    revision: str | None = None
    init: Literal["pretrained", "random"] = "pretrained"


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training and validation rows: JSON-lines files, one row each (see `parse_row`).

    Without `validation`, `validation_share` of the training rows is held out by the run's seed.
    """

    train: Annotated[str, Meta(min_length=1)]
    validation: str | None = None
    validation_share: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.1


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (Hu et al. 2021): the update is alpha / r × B A on each target."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.05
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = SEVEN_PROJECTIONS


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the frozen base is stored: 4-bit NormalFloat (Dettmers et al. 2023)."""

    kind: Literal["nf4"] = "nf4"
    double: bool = True


class Train(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training stage. The defaults are the decision record's QLoRA settings."""

    epochs: Annotated[float, Meta(gt=0.0)] = 2.0
    learning_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_share: Share = 0.03
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    optimizer: Optimizer = "paged_adamw_8bit"
    seq_len: Annotated[int, Meta(ge=8)] = 2048
    effective_batch: PositiveInt = 16  # rows per optimizer step
    micro_batch: PositiveInt = 1  # rows per forward pass
    activation_checkpointing: bool = True
    packing: bool = True
    assistant_only_loss: bool = True
    log_every_steps: PositiveInt = 1
    checkpoint_every_steps: PositiveInt = 25
    checkpoints_kept: PositiveInt = 2


class Evaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base against tuned on the validation rows: loss, and answers generated greedily."""

    generate: bool = True
    max_new_tokens: PositiveInt = 128
    batch: PositiveInt = 16
    limit: PositiveInt | None = None  # rows to generate for; None is all
    compare_base: bool = True


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound that the tuned model's metric must hold."""

    metric: Annotated[str, Meta(min_length=1)]
    min: float | None = None
    max: float | None = None


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Intent: what to train. No price, no cloud, nothing of a machine."""

    model: Model
    data: Data
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "run"
    task: Task = "sft"
    strategy: Literal["auto", "qlora", "lora", "full"] = "qlora"
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    lora: Lora = Lora()
    train: Train = Train()
    eval: Evaluation = Evaluation()
    gates: tuple[Gate, ...] = ()
    seed: Annotated[int, Meta(ge=0)] = 17


class ResolvedSpec(JobSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The job made concrete for one offer: the only thing that enters a training environment."""

    wire_version: int = WIRE_VERSION
    run_id: str
    strategy: Strategy
    dtype: Dtype
    device: DeviceKind
    quantization: Quantization | None
    train_sha256: str | None = None  # of the data files as they were planned with
    validation_sha256: str | None = None
    deadline: str | None = None  # absolute; the job stops itself, checkpoint and result first


# --- what both sides must count alike --------------------------------------------------------

# In a name `7B`, not in the middle of a word or number: "A3B" (active parameters of a mixture of
# experts), "8x7B", "v0.3", "4bit" and "1_8B" say nothing safe.
_NAMED = re.compile(r"(?<![A-Za-z0-9.])(?<!\d_)(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")

# Names round: Gemma-2-2b holds 2.61 B (1.31), Llama-3.2-1B 1.24 B, gemma-7b 8.54 B (1.22). A name
# that is off by a size class (7B against 0.5B, 1.5B or 3B) lies far outside. Assumption.
NAME_RATIO_LOW, NAME_RATIO_HIGH = 0.7, 1.45


def named_parameters(model_id: str) -> float | None:
    """Parameters that a name claims ("7B" → 7e9, "135M" → 135e6), None where it says nothing."""
    match = _NAMED.search(model_id.rstrip("/").rsplit("/", 1)[-1])
    if match is None:
        return None
    return float(match[1]) * (1e9 if match[2] in "bB" else 1e6)


def name_disagrees(named: float | None, parameters: int) -> bool:
    """Whether the real count lies outside NAME_RATIO_LOW..HIGH times what the name claims."""
    return named is not None and not NAME_RATIO_LOW <= parameters / named <= NAME_RATIO_HIGH


def held_out_rows(rows: int, share: float) -> int:
    """How many of `rows` are kept from training: at least one, and one is left to train on.

    Raises ValueError for fewer than two rows.
    """
    if rows < 2:
        raise ValueError("one row cannot be both trained on and held out")
    return min(max(1, round(rows * share)), rows - 1)


# --- rows -----------------------------------------------------------------------------------


class Message(Struct, frozen=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class MessagesRow(Struct, frozen=True):
    """A chat; every assistant turn is supervised."""

    messages: Annotated[list[Message], Meta(min_length=1)]


class PromptCompletionRow(Struct, frozen=True):
    """A prompt and the completion to learn."""

    prompt: str
    completion: str


class TextRow(Struct, frozen=True):
    """Plain text, supervised throughout."""

    text: str


Row = MessagesRow | PromptCompletionRow | TextRow


class _Keys(Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_KEYS = msgspec.json.Decoder(_Keys)
_MESSAGES = msgspec.json.Decoder(MessagesRow)
_PROMPT = msgspec.json.Decoder(PromptCompletionRow)
_TEXT = msgspec.json.Decoder(TextRow)


def parse_row(line: bytes) -> Row:
    """Read one JSON line as a data row; extra keys are ignored.

    Raises `msgspec.DecodeError` (not JSON, or a wrong type: `msgspec.ValidationError`) with the
    path of the key, and `ValueError` when no known shape fits.
    """
    keys = _KEYS.decode(line)
    if keys.messages is not msgspec.UNSET:
        return _MESSAGES.decode(line)
    if keys.prompt is not msgspec.UNSET:
        return _PROMPT.decode(line)
    if keys.text is not msgspec.UNSET:
        return _TEXT.decode(line)
    raise ValueError("expected `messages`, `prompt` and `completion`, or `text`")


def supervised_text(row: Row) -> str:
    """The text that carries loss; empty when the row can teach nothing."""
    if isinstance(row, MessagesRow):
        return "".join(m.content for m in row.messages if m.role == "assistant")
    if isinstance(row, PromptCompletionRow):
        return row.completion
    return row.text


def full_text(row: Row) -> str:
    """All text of the row, without the chat template's own tokens."""
    if isinstance(row, MessagesRow):
        return "".join(m.content for m in row.messages)
    if isinstance(row, PromptCompletionRow):
        return row.prompt + row.completion
    return row.text


# --- while the job works --------------------------------------------------------------------


class PhaseRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="phase"):
    """The job enters a phase: load, data, evaluate_base, train, save, evaluate, done."""

    at: str
    phase: str


class StepRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="step"):
    """One optimizer step (or `log_every_steps` of them, averaged)."""

    at: str
    step: int
    steps_total: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float
    memory_bytes: int  # peak so far: CUDA allocated, else resident set
    seconds: float  # training time so far, all attempts
    eta_seconds: float


class EvalRecord(Struct, frozen=True, kw_only=True, tag_field="event", tag="eval"):
    """Loss on the validation rows at a step."""

    at: str
    step: int
    loss: float


Record = PhaseRecord | StepRecord | EvalRecord


# --- when the job ends ----------------------------------------------------------------------

FailureReason = Literal["BAD_INPUT", "OUT_OF_MEMORY", "DEADLINE", "CANCELLED", "ERROR"]


class Failure(Struct, frozen=True, kw_only=True):
    reason: FailureReason
    message: str  # one line for people
    traceback: str = ""


class GateResult(Struct, frozen=True, kw_only=True):
    metric: str
    min: float | None
    max: float | None
    value: float | None  # None: the job did not measure it
    passed: bool


class Result(Struct, frozen=True, kw_only=True):
    """What the job leaves behind, always: written aside and then moved into place.

    `metrics` maps a subject (`base`, `tuned`, `constant`: the best answer that ignores the
    question) to its metrics by name.
    """

    wire_version: int = WIRE_VERSION
    run_id: str
    status: Literal["success", "error"]
    failure: Failure | None = None
    metrics: dict[str, dict[str, float]] = {}
    gates: tuple[GateResult, ...] = ()
    adapter: str | None = None  # folder name below the run's folder
    steps: int = 0
    resumed_from_step: int = 0
    tokens: int = 0  # tokens seen in training by this attempt, padding not counted
    tokens_per_second: float = 0.0
    parameters_total: int = 0  # of the base model as loaded, quantised tensors counted whole
    parameters_trainable: int = 0
    peak_memory_bytes: int = 0
    memory_metric: str = ""  # what the peak means: cuda max_memory_allocated, peak resident set
    seconds_by_phase: dict[str, float] = {}
    versions: dict[str, str] = {}
    warnings: tuple[str, ...] = ()


def encode(value: Struct) -> bytes:
    """Canonical JSON, indented for people, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
