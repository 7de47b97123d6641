"""YAML recipe + flags → JobSpec + Budget, saying which value won.

A recipe has JobSpec's keys plus `budget:` and `escalation:`; `model:` and `data:` may be a bare
string. Paths are relative to the recipe's folder, those of flags to the working folder. A `.json`
file is a saved ResolvedSpec, rerun exactly.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, Struct

from jobs.spec import JobSpec, ResolvedSpec, Train
from launcher import paths
from launcher.errors import BadInput
from launcher.inputs import dated, hub_data, images, located, metrics
from launcher.inputs.validate import convert, get
from launcher.inputs.yaml_tree import Tree, leaves, put, read_tree, value_of
from launcher.types import (
    COLLECT_MINUTES,
    DATA_FILES,
    MICROUSD,
    MOST_USD,
    Budget,
    Escalation,
    Setting,
)

WORKING_FOLDER_RECIPE = "launch.yaml"

# What `--task regression` means where no recipe names the scores: as many as a content filter has.
EIGHT_SCORES = tuple(f"score_{number}" for number in range(1, 9))


class RecipeBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe's `budget:`, in the units people write."""

    max_cost: Annotated[float, Meta(ge=0.0, le=MOST_USD)] | None = None  # US dollars, the whole run
    max_hours: Annotated[float, Meta(gt=0.0, le=10_000.0)] = 8.0
    # This machine at work, watts at the wall / 1000 x dollars for a kWh; 0: not counted
    local_usd_per_hour: Annotated[float, Meta(ge=0.0, le=1000.0)] = 0.0
    spot: bool = False
    providers: tuple[str, ...] = ()
    gpu: str | None = None
    collect_minutes: Annotated[int, Meta(ge=1, le=120)] = COLLECT_MINUTES


class Recipe(JobSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All keys a recipe may hold."""

    budget: RecipeBudget = RecipeBudget()
    escalation: Escalation = Escalation()
    image: str | None = None  # that rented machines are started from: NAME[:TAG][@DIGEST]


class Flags(Struct, frozen=True, kw_only=True):
    """What the command line adds. None or empty: not given."""

    strategy: str | None = None
    model: str | None = None
    data: str | None = None
    resume_from: str | None = None
    max_cost: float | None = None
    max_hours: float | None = None
    providers: tuple[str, ...] = ()
    gpu: str | None = None
    spot: bool | None = None
    sets: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()  # one combination of --sweep, as assignments
    seq_len: int | None = None
    micro_batch: int | None = None
    rank: int | None = None
    pilot: int | None = None
    image: str | None = None
    track: str | None = None
    task: str | None = None
    rows: int | None = None  # of full length, assumed where no data is given: estimates alone
    rows_given: bool = False  # and not the default

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self != Flags()

    @property
    def change_the_job(self) -> bool:
        """Whether any of them changes what is trained, rather than where or for how much."""
        changing = (self.strategy, self.model, self.data, self.sets, self.pilot, self.resume_from)
        numbers = (self.seq_len, self.micro_batch, self.rank)  # 0 is no number of theirs, but given
        return any((*changing, self.swept, self.task, self.track)) or numbers != (None,) * 3


class Request(Struct, frozen=True, kw_only=True):
    """What is to be planned."""

    job: JobSpec
    budget: Budget
    recipe: str  # a path, or what stands in for one
    settings: tuple[Setting, ...]
    escalation: Escalation = Escalation()
    exact: ResolvedSpec | None = None  # a saved spec: nothing of it may change
    assumed_rows: int | None = None  # there is no data, but that many rows of full length


def load(recipe: str | None, flags: Flags, today: str | None = None) -> Request:
    """Read a recipe (or launch.yaml, or the sample) and lay the flags over it.

    `today` is the ISO date that data files are named by, without it this machine's.
    Raises BadInput with file or flag, the key's path, what was expected and the nearest name.
    """
    if recipe is not None and recipe.endswith(".json"):
        return _saved_spec(Path(recipe), flags)
    path, label = _choose(recipe, flags)
    tree = read_tree(path)
    if label != str(path):  # only the data and gates of the sample, see _choose: both or neither
        kept = () if flags.data or flags.rows is not None else ("data", "gates")
        tree = {key: tree[key] for key in kept if key in tree}
    _expand_shorthands(tree)
    located.in_recipe(tree, path.parent)
    sources = {key: label for key, _ in leaves(tree)}
    settings = [*_against_defaults(tree, label), *_lay_flags(tree, flags, sources)]
    located.files_of(tree, Path.cwd())  # those of --set; the recipe's are absolute already
    data = tree.get("data", {})
    given = not isinstance(data, dict) or "train" in data
    assumed = None if given else flags.rows
    if given and flags.rows_given:
        raise BadInput("--rows stands in for data that is not there yet, and here there is some")
    if assumed is not None:
        tree["data"] = {**data, "train": f"{assumed} assumed rows"}
    latest = {setting.key: setting for setting in settings}  # one line a key: who won, over whom
    parsed = convert(tree, Recipe, sources, label)
    files, said = dated.todays(parsed.data, sources, today or date.today().isoformat())
    parsed = msgspec.structs.replace(parsed, data=files)
    latest |= {setting.key: setting for setting in said}
    if assumed is None:
        _require_files(parsed, sources)
    _require_reference(parsed.image, sources, label)
    _require_whole_passes(parsed.train, sources, label)
    job = msgspec.convert(parsed, JobSpec, from_attributes=True)
    _require_metrics(job, sources.get("gates", label), sources.get("train.select_by", label))
    return Request(
        job=job,
        budget=_budget(parsed.budget, parsed.image),
        recipe=label,
        settings=tuple(latest.values()),
        escalation=parsed.escalation,
        assumed_rows=assumed,
    )


def _choose(recipe: str | None, flags: Flags) -> tuple[Path, str]:
    """The file to read and what to call it."""
    if recipe is not None:
        path, shipped = Path(recipe), paths.recipes()
        if not path.is_file() and recipe not in shipped:
            raise BadInput(
                f"recipe {recipe} not found; give a YAML file, one of {', '.join(shipped)}, "
                "or none for the sample"
            )
        found = (path if path.is_file() else shipped[recipe]).resolve()
        return found, str(found)
    here = Path(WORKING_FOLDER_RECIPE)
    if here.is_file():
        return here.resolve(), str(here.resolve())
    sample = paths.sample_recipe()
    if flags.model or flags.data or flags.task:
        # The sample's settings are made for its tiny model; another model gets the defaults.
        without = flags.data or flags.rows is not None
        return sample, "strategy defaults" + ("" if without else " with the sample data")
    return sample, str(sample)


def _saved_spec(path: Path, flags: Flags) -> Request:
    if flags.change_the_job:
        raise BadInput(
            f"{path} is a saved spec and is rerun exactly; drop --strategy, --model, --data, "
            "--resume-from, --pilot, --track, --set and --sweep, or start from a YAML recipe"
        )
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=ResolvedSpec)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give a spec.json of an earlier run") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: not a saved spec: {error}") from None
    job = msgspec.convert(spec, JobSpec, from_attributes=True)
    _require_metrics(job, str(path), str(path))
    tree: Tree = {}
    settings = _lay_flags(tree, flags, {})
    budget = convert(tree.get("budget", {}), RecipeBudget, {}, "flags")
    _require_reference(flags.image, {}, "--image")
    return Request(
        job=job,
        budget=_budget(budget, flags.image),
        recipe=str(path),
        settings=tuple(settings),
        exact=spec,
    )


# --- reading --------------------------------------------------------------------------------


def _expand_shorthands(tree: Tree) -> None:
    if isinstance(tree.get("model"), str):
        tree["model"] = {"id": tree["model"]}
    if isinstance(tree.get("data"), str):
        tree["data"] = {"train": tree["data"]}


def _require_files(recipe: Recipe, sources: Mapping[str, str]) -> None:
    data = {f"data.{name}": getattr(recipe.data, name) for name in DATA_FILES}
    for key, path in (
        *((key, path) for key, path in data.items() if path is None or not hub_data.is_id(path)),
        ("eval.golden", recipe.eval.golden),
        ("eval.schema", recipe.eval.schema),
        *(("eval.metrics", entry.rpartition(":")[0]) for entry in recipe.eval.metrics),
    ):
        if path is not None and not os.path.isfile(path):
            raise BadInput(f"{sources.get(key, 'flags')}: {key}: no file {path}")
    if recipe.model.id.startswith("/") and not os.path.isdir(recipe.model.id):
        raise BadInput(
            f"{sources.get('model.id', 'flags')}: model.id: no folder {recipe.model.id}; give a "
            "folder with config.json, or a Hub id such as Qwen/Qwen2.5-1.5B"
        )


def _require_metrics(job: JobSpec, gated: str, chosen: str) -> None:
    """`gated` and `chosen`: who set the gates, and train.select_by."""
    mistakes = ((gated, metrics.mistake_in_gates(job)), (chosen, metrics.mistake_in_choice(job)))
    for source, mistake in mistakes:
        if mistake is not None:
            raise BadInput(f"{source}: {mistake}")


def _require_reference(image: str | None, sources: Mapping[str, str], label: str) -> None:
    mistake = images.mistake_in(image) if image is not None else None
    if mistake is not None:
        raise BadInput(f"{sources.get('image', label)}: image: {mistake}, got {image!r}")


def _require_whole_passes(train: Train, sources: Mapping[str, str], label: str) -> None:
    """A step is so many passes of `micro_batch` rows on any machine, see jobs/arguments.py."""
    rows, micro = train.effective_batch, train.micro_batch
    if micro == "auto" or rows % min(micro, rows) == 0:
        return
    nearest = next(fewer for fewer in range(micro, 0, -1) if rows % fewer == 0)
    keys = ("train.micro_batch", "train.effective_batch")
    said_by = [sources.get(key, label) for key in keys]
    where = next((source for source in said_by if source.startswith("--")), said_by[0])
    raise BadInput(
        f"{where}: train.micro_batch {micro} does not divide train.effective_batch {rows}; "
        f"{nearest} does, and `auto` takes one that does"
    )


# --- flags over recipe ----------------------------------------------------------------------


def _flag_values(flags: Flags) -> Iterator[tuple[str, Any, str]]:
    """(key, value, flag) in the order in which later ones win."""
    here = Path.cwd()
    # Those that replace a whole section come before --set, which may say more of the new one.
    if flags.model is not None:
        yield "model.id", located.path_or_name(flags.model, here), "--model"
    if flags.data is not None:
        yield "data.train", located.data_source(flags.data, here), "--data"
    for assignment in flags.sets:
        yield _assigned(assignment, "--set")
    for assignment in flags.swept:
        yield _assigned(assignment, "--sweep")
    for key, number, flag in (
        ("train.seq_len", flags.seq_len, "--seq-len"),
        ("train.micro_batch", flags.micro_batch, "--micro-batch"),
        ("lora.r", flags.rank, "--rank"),
    ):
        if number is not None:
            yield key, number, flag
    if flags.strategy is not None:
        yield "strategy", flags.strategy, "--strategy"
    if flags.task is not None:
        yield "task", flags.task, "--task"
    if flags.pilot is not None:
        yield "pilot.examples", flags.pilot, "--pilot"
    if flags.resume_from is not None:
        yield "resume_from", located.path_or_name(flags.resume_from, here), "--resume-from"
    if flags.track is not None:
        yield "track", flags.track, "--track"
    if flags.image is not None:
        yield "image", flags.image, "--image"
    for name in ("max_cost", "max_hours", "gpu", "spot"):
        value = getattr(flags, name)
        if value is not None:
            yield f"budget.{name}", value, "--" + name.replace("_", "-")
    if flags.providers:
        yield "budget.providers", list(flags.providers), "--on"


def _assigned(assignment: str, flag: str) -> tuple[str, Any, str]:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise BadInput(f"{flag} {assignment}: expected KEY=VALUE, as in {flag} lora.r=8")
    try:
        return key.strip(), value_of(text), f"{flag} {assignment}"
    except yaml.YAMLError:
        raise BadInput(f"{flag} {assignment}: the value is not YAML") from None


# Another model or data set leaves nothing of the old one behind.
_REPLACES = {"--model": "model", "--data": "data"}


def _lay_flags(tree: Tree, flags: Flags, sources: dict[str, str]) -> list[Setting]:
    settings = []
    for key, value, flag in _flag_values(flags):
        old = get(tree, key)
        if flag in _REPLACES:
            tree.pop(_REPLACES[flag], None)
        put(tree, key, value)
        instead = f"{_show(old)} ({sources.get(key)})" if old is not None else "the default"
        sources[key] = flag
        settings.append(Setting(key=key, value=_show(value), source=flag, instead_of=instead))
    if flags.task == "regression":
        tree.setdefault("regression", {"dimensions": list(EIGHT_SCORES)})
    return settings


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_SAID_ELSEWHERE = ("model", "data", "name", "gates", "budget", "escalation")


def _against_defaults(tree: Tree, label: str) -> list[Setting]:
    """The recipe's values that differ from the strategy's defaults: the output says them."""
    defaults = msgspec.to_builtins(
        {f.name: f.default for f in msgspec.structs.fields(JobSpec) if not f.required}
    )
    settings = []
    for key, value in leaves(tree):
        default = get(defaults, key)
        if key.split(".")[0] not in _SAID_ELSEWHERE and default is not None and value != default:
            settings.append(
                Setting(key=key, value=_show(value), source=label, instead_of=_show(default))
            )
    return settings


def _budget(limits: RecipeBudget, image: str | None) -> Budget:
    cost = limits.max_cost
    return Budget(
        max_cost_microusd=None if cost is None else round(cost * MICROUSD),
        max_hours=limits.max_hours,
        local_microusd_per_hour=round(limits.local_usd_per_hour * MICROUSD),
        spot=limits.spot,
        providers=limits.providers,
        gpu=limits.gpu,
        collect_minutes=limits.collect_minutes,
        image=image or "",
    )
