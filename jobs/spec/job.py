"""What a job is: intent (`JobSpec`), and the same made concrete for one offer (`ResolvedSpec`)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from jobs.spec.provenance import Provenance
from jobs.spec.tracking import Tracker

WIRE_VERSION = 2

Task = Literal["sft", "regression"]
Strategy = Literal["qlora", "lora", "full"]
Dtype = Literal["bf16", "fp16", "fp32"]
DeviceKind = Literal["cuda", "mps", "cpu"]
GgufType = Literal["f16", "q8_0", "q5_k_m", "q4_k_m", "q3_k_m"]
Auto = Literal["auto"]
Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]

# Beyond these a figure is a slip of the pen, and what follows from it no estimate. Assumptions, far
# above any job: the longest published context is 10 M tokens, the widest layer has fewer than 2^18.
MOST = 2**40  # of anything that is counted
MOST_TOKENS = 2**24  # of a row
MOST_ROWS = 2**16  # of a step
MOST_RANK = 2**16
MOST_ALPHA = 2**20
MOST_EPOCHS = 1_000_000  # what launcher/planning/canary.py trains, never to its end
MOST_KEPT = 10_000  # checkpoints
# Of any other figure: JSON has no word for infinity. No gradient is as long, so none is clipped.
MOST_FIGURE = 1e9

PositiveInt = Annotated[int, Meta(ge=1, le=MOST)]
Tokens = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
Rows = Annotated[int, Meta(ge=1, le=MOST_ROWS)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
HeldOut = Annotated[float, Meta(gt=0.0, lt=0.5)]
Figure = Annotated[float, Meta(ge=-MOST_FIGURE, le=MOST_FIGURE)]
NotNegative = Annotated[float, Meta(ge=0.0, le=MOST_FIGURE)]
Positive = Annotated[float, Meta(gt=0.0, le=MOST_FIGURE)]

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
    """Training, validation and test rows: files of the kinds in `tables`, shapes of `row_shapes`.

    Validation rows choose the best epoch; test rows are looked at once, at the end. Without
    `validation`, `validation_share` of the training rows is held out by the run's seed; without
    both, `test_share` of them too. No question stands in two of the sets (see `splits`).

    `replay` names a file of old rows, for a run that goes on from an earlier adapter:
    `replay_share` of the rows that are trained on are drawn from it by the run's seed.
    """

    train: Annotated[str, Meta(min_length=1)]
    validation: str | None = None
    test: str | None = None
    validation_share: HeldOut = 0.1
    test_share: HeldOut = 0.1
    replay: Annotated[str, Meta(min_length=1)] | None = None
    replay_share: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.2

    @property
    def held_out_shares(self) -> dict[str, float]:
        """What is kept from the training rows, by set, because no file of its own is given."""
        if self.validation is not None:
            return {}
        both = {"validation": self.validation_share, "test": self.test_share}
        return {name: share for name, share in both.items() if getattr(self, name) is None}


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (Hu et al. 2021): the update is alpha / r × B A on each target."""

    r: Annotated[int, Meta(ge=1, le=MOST_RANK)] = 16
    alpha: Annotated[int, Meta(ge=1, le=MOST_ALPHA)] = 32
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = SEVEN_PROJECTIONS


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the frozen base is stored: 4-bit NormalFloat (Dettmers et al. 2023)."""

    kind: Literal["nf4"] = "nf4"
    double: bool = True


class Train(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training stage. The defaults are the decision record's QLoRA settings."""

    epochs: Annotated[float, Meta(gt=0.0, le=MOST_EPOCHS)] = 2.0
    learning_rate: Annotated[float, Meta(gt=0.0, lt=1.0)] = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_share: Share = 0.03
    warmup_steps: Annotated[int, Meta(ge=0, le=MOST)] | None = None  # wins over warmup_share
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    optimizer: Optimizer = "paged_adamw_8bit"
    seq_len: Annotated[int, Meta(ge=8, le=MOST_TOKENS)] = 2048
    effective_batch: Rows = 16  # rows per optimizer step
    # Rows per forward pass, and whether layers are computed again instead of kept. auto: the plan
    # takes the fastest that fits the card; see launcher/planning/variants.py.
    micro_batch: Rows | Auto = "auto"
    activation_checkpointing: bool | Auto = "auto"
    tf32: bool | None = None  # fp32 products; None: yes on cards that have it, but in fp32 jobs no
    lean_heap: bool = False  # CPU: give freed memory back to the system at once; slower
    packing: bool = True
    assistant_only_loss: bool = True
    log_every_steps: PositiveInt = 1
    checkpoint_every_steps: PositiveInt = 25
    checkpoints_kept: Annotated[int, Meta(ge=1, le=MOST_KEPT)] = 2
    # Evaluate on the validation rows after each epoch and keep the epoch that is best by this
    # metric; None keeps the last. Training ends after `patience` epochs without a better one.
    select_by: Annotated[str, Meta(min_length=1)] | None = None
    patience: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.patience is not None and self.select_by is None:
            raise ValueError("patience needs select_by: the metric that must get better")


class ResolvedTrain(Train, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same with nothing left open."""

    micro_batch: Rows = 1
    activation_checkpointing: bool = True

    @property
    def rows_at_once(self) -> int:
        """Rows per forward pass: no more than a step has."""
        return min(self.micro_batch, self.effective_batch)


class Tier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of texts: those whose overall score is at least `min`, and below the next tier's."""

    name: Annotated[str, Meta(min_length=1)]
    min: Figure


class Regression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A student that scores texts: one output for each named dimension, `low` to `high`.

    The overall score that tiers are cut from is the mean of the dimensions, weighted by `weights`
    (a dimension that is not named there weighs 1).
    """

    dimensions: Annotated[tuple[str, ...], Meta(min_length=1)]
    low: Figure = 0.0
    high: Figure = 10.0
    loss: Literal["l1", "mse", "huber"] = "l1"
    head: Literal["fitted", "random"] = "fitted"  # what it starts from, see jobs/heads.py
    tiers: tuple[Tier, ...] = ()
    weights: dict[str, NotNegative] = {}

    def __post_init__(self) -> None:
        if len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError("dimensions: a name stands twice")
        for name in (*self.dimensions, *(tier.name for tier in self.tiers)):
            if not name.isprintable() or not name or name != name.strip():
                raise ValueError(
                    f"{name!r}: expected a name of printable characters, without spaces around it"
                )
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if set(self.weights) - set(self.dimensions):
            unknown = ", ".join(sorted(set(self.weights) - set(self.dimensions)))
            raise ValueError(f"weights: {unknown}: not among the dimensions")
        if not any(self.weights.get(name, 1.0) for name in self.dimensions):
            raise ValueError("weights: all are 0, so there is no overall score; leave one above 0")
        if list(self.tiers) != sorted(self.tiers, key=lambda tier: tier.min):
            raise ValueError("tiers: expected from the lowest `min` to the highest")


class Evaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base against tuned: loss on the held-out rows, and answers generated greedily.

    The questions are those of the held-out rows, or of `golden`, a file of rows of its own, which
    may say in `source` or `sources` what an answer may cite. `schema` is a JSON schema that each
    answer must hold. `metrics` are functions of Python files, `FILE:FUNCTION`; see
    jobs/own_metrics.py for what they are given and may return.
    """

    golden: str | None = None
    schema: str | None = None
    metrics: tuple[Annotated[str, Meta(pattern=r"^[^:]+:[A-Za-z_]\w*$")], ...] = ()
    generate: bool = True
    max_new_tokens: Tokens = 128
    batch: Rows | Auto = "auto"  # answers at once; auto: up to 16, as many as fit
    limit: PositiveInt | None = None  # rows to generate for; None is all
    compare_base: bool = True

    def __post_init__(self) -> None:
        if not self.generate and self.judges_answers:
            raise ValueError("golden, schema and metrics judge answers: not with generate: false")
        names = [entry.partition(":")[2] for entry in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("metrics: two functions of one name: their values would be mixed up")
        files = {entry.partition(":")[0] for entry in self.metrics}
        if len({path.rpartition("/")[2] for path in files}) < len(files):
            raise ValueError("metrics: two files of one name: they travel into one folder")

    @property
    def judges_answers(self) -> bool:
        """Whether anything is set that needs written answers."""
        return bool(self.golden or self.schema or self.metrics)


class ResolvedEvaluation(Evaluation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same with nothing left open."""

    batch: Rows = 16


class Pilot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train on a few rows first, for cents, and stop where the whole run would be hopeless.

    `max_loss_ratio` is the loss on those rows after the pilot over the loss before: a job that
    cannot even learn ten rows by heart will not learn the rest. All defaults are assumptions.
    """

    examples: PositiveInt = 10  # trained on; as many held-out rows are asked afterwards
    steps: PositiveInt = 20  # optimizer steps, at the run's learning rate, without warm-up
    max_loss_ratio: Positive = 0.95
    # Where a gate judges JSON answers and the references are JSON, at least one must parse.
    answers_must_parse: bool = True


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound that the tuned model's metric must hold: its value, whatever the interval says."""

    metric: Annotated[str, Meta(min_length=1)]
    min: float | None = None
    max: float | None = None


class Serve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an exported model is served: what a Modelfile says. None: left to the server."""

    system: str | None = None
    temperature: NotNegative | None = None
    top_p: Share | None = None
    top_k: PositiveInt | None = None
    repeat_penalty: Positive | None = None
    num_ctx: Tokens | None = None  # tokens
    quantization: GgufType = "q4_k_m"  # of `--to ollama`


class JobSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Intent: what to train. No price, no cloud, nothing of a machine."""

    model: Model
    data: Data
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z")] = "run"
    task: Task = "sft"
    strategy: Literal["auto", "qlora", "lora", "full"] = "qlora"
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    lora: Lora = Lora()
    train: Train = Train()
    regression: Regression | None = None  # for task: regression
    eval: Evaluation = Evaluation()
    gates: tuple[Gate, ...] = ()
    serve: Serve = Serve()
    pilot: Pilot | None = None
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 17  # NumPy takes no greater one
    # Go on from an earlier adapter: a run's folder or an adapter's, or hub:ID[@revision].
    resume_from: Annotated[str, Meta(min_length=1)] | None = None
    track: Tracker | None = None  # the curves go there too, see jobs/tracking.py

    def __post_init__(self) -> None:
        if self.resume_from is not None and self.strategy == "full":
            raise ValueError("resume_from goes on from an adapter; `strategy: full` has none")
        if (self.task == "regression") != (self.regression is not None):
            raise ValueError("`task: regression` and `regression:` go together")
        if self.task == "regression" and self.eval.judges_answers:
            raise ValueError(
                "eval.golden, eval.schema and eval.metrics judge written answers; a regression "
                "student is judged on data.test"
            )


class ResolvedSpec(JobSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The job made concrete for one offer: the only thing that enters a training environment."""

    wire_version: int = WIRE_VERSION
    run_id: str
    strategy: Strategy
    dtype: Dtype
    train: ResolvedTrain = ResolvedTrain()
    eval: ResolvedEvaluation = ResolvedEvaluation()
    device: DeviceKind
    quantization: Quantization | None
    train_sha256: str | None = None  # of the data files as they were planned with
    validation_sha256: str | None = None
    test_sha256: str | None = None
    golden_sha256: str | None = None
    schema_sha256: str | None = None
    metrics_sha256: dict[str, str] = {}  # file of eval.metrics → its digest
    replay_sha256: str | None = None
    processes: PositiveInt = 1  # of the whole job: one a GPU, over all nodes
    nodes: PositiveInt = 1
    sharding: Literal["none", "full"] = "none"  # full: no process holds the whole model (FSDP)
    deadline: str | None = None  # absolute; the job stops itself, checkpoint and result first
    provenance: Provenance | None = None  # set when it is started, for its lineage

    @property
    def packs(self) -> bool:
        """Whether rows share a sequence; each text that is scored has its own."""
        return self.train.packing and self.regression is None
