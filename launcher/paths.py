"""Where the launcher keeps things: fixed XDG places, so that any terminal finds every run."""

import os
from pathlib import Path

APPLICATION = "loralift"


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if os.path.isabs(value) else Path.home() / default  # relative: ignored
    return base / APPLICATION


def is_remote(store: str) -> bool:
    """Whether a `--store` is an address, and no folder of this machine."""
    return "://" in store


def ledger_file() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state") / "ledger.sqlite3"


def work_folder(run_id: str) -> Path:
    """The private folder a local job works in until its run is collected."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "work" / run_id


def climb_lock(run_id: str) -> Path:
    """Held by who sees the climb through that begins with this run."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "climbs" / f"{run_id}.lock"


def climb_log(run_id: str) -> Path:
    """What a launcher says that the guard started to go on with the climb."""
    return climb_lock(run_id).with_suffix(".log")


def environments_folder() -> Path:
    """Training environments, one for each content of the lock."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "envs"


def write_aside(path: Path, content: bytes) -> None:
    """Write a whole file or none, whoever else writes it at the same time. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(path)


def token_counts_folder() -> Path:
    """What the models' tokenizers counted, by tokenizer and data."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "tokens"


def images_folder() -> Path:
    """What registries said of images, by reference."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "images"


def hub_data_folder(data_set: str, commit: str) -> Path:
    """Where a commit of a Hub data set is kept."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "data" / data_set.replace("/", "--") / commit


def catalog_folder() -> Path:
    """SkyPilot's catalogs as they were last read, and which providers were enabled when."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "catalog"


def skypilot_catalogs() -> Path:
    """Where SkyPilot 0.14.1 keeps its catalogs: below SKY_RUNTIME_DIR if set, else the home."""
    root = Path(os.environ.get("SKY_RUNTIME_DIR", "~")).expanduser()
    return root / ".sky" / "catalogs" / "v8"  # its CATALOG_SCHEMA_VERSION


def skypilot_folder() -> Path:
    """Where SkyPilot is run: made here, empty, and never removed.

    Python looks for modules there first: nothing of ours, nor the user's. And a server that
    SkyPilot starts by the way stays in it: in a folder that is gone it can start no worker.
    """
    folder = _xdg("XDG_STATE_HOME", ".local/state") / "skypilot"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def packaged(name: str) -> Path:
    """A data folder of the project (`sky`, `images`): beside the packages in a checkout, below
    `launcher/_<name>` in an installed wheel."""
    here = Path(__file__).resolve().parent
    installed = here / f"_{name}"
    return installed if installed.is_dir() else here.parent / name


def recipes() -> dict[str, Path]:
    """The recipes that come with the project, by name."""
    folder = Path(__file__).resolve().parent.parent / "jobs" / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def sample_recipe() -> Path:
    return recipes()["sample"]


def job_code() -> Path:
    """The `jobs` package, copied to wherever a job runs."""
    return Path(__file__).resolve().parent.parent / "jobs"
