"""How many tokens the data have, counted by the model's own tokenizer where that is at hand.

At hand means: the model is a folder, or lies in the Hub's cache, and the training environment is
made, which has the tokenizers. The count is kept by what it was made of, so it is made once; so is
the reason why there is none, for a day.
"""

import hashlib
import os
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobs.spec import JobSpec
from launcher import paths
from launcher.errors import OutsideFailed
from launcher.executors import environment
from launcher.executors.foreground import run_module
from launcher.types import DataFacts

ROWS_COUNTED = 256
A_FAILURE_LASTS = timedelta(days=1)
_OF_A_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
                   "merges.txt", "chat_template.jinja")  # fmt: skip


class _Answer(Struct, frozen=True):
    """What the training environment said: rows, or why there are none, and when."""

    rows: list[tuple[int, int]] = []  # characters, tokens
    failed: str = ""
    at: Annotated[datetime, Meta(tz=True)] | None = None


def counted(job: JobSpec, data: DataFacts, now: datetime) -> DataFacts:
    """`data` with the tokenizer's own tokens per character and per row, if it is at hand.

    Where it is but cannot count, the warnings say why, and it is asked again a day later, or when
    the model's files or the training environment have changed.
    """
    identity = _tokenizer(job)
    if identity is None or not environment.is_ready():
        return data
    made_of = f"{identity} {environment.folder().name} {data.sha256} {job.regression}"
    key = hashlib.sha256(made_of.encode()).hexdigest()[:32]
    kept = paths.token_counts_folder() / f"{key}.json"
    try:
        found = _kept(kept, now) or _asked(job, kept, now)
    except OSError:  # no place to count in: the plan does without
        return data
    if found.failed:
        warning = f"the tokenizer cannot count the rows, tokens are assumed: {found.failed}"
        return msgspec.structs.replace(data, warnings=(*data.warnings, warning))
    slope, intercept = fitted(found.rows)
    return msgspec.structs.replace(
        data,
        tokens_per_character=slope,
        template_tokens_per_row=intercept,
        tokenizer_rows=len(found.rows),
    )


def fitted(rows: list[tuple[int, int]]) -> tuple[float, float]:
    """Tokens a character, and tokens a row on top: least squares over (characters, tokens)."""
    mean_x = sum(x for x, _ in rows) / len(rows)
    mean_y = sum(y for _, y in rows) / len(rows)
    spread = sum((x - mean_x) ** 2 for x, _ in rows)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in rows) / spread if spread else 0.0
    intercept = mean_y - slope * mean_x
    if slope <= 0 or intercept < 0:  # too alike, or too few, to tell the two apart
        return mean_y / max(mean_x, 1.0), 0.0
    return slope, intercept


def _tokenizer(job: JobSpec) -> str | None:
    """What makes this tokenizer this one; None where it is not at hand."""
    folder = Path(job.model.id)
    if not folder.is_absolute():
        found = _cached(job.model.id, job.model.revision)
        if found is None:
            return None
        folder = found
    if not any((folder / name).is_file() for name in _OF_A_TOKENIZER):
        return None
    digest = hashlib.sha256()
    # All files: config.json and the model's own code decide, too, what is loaded.
    for file in sorted(f for f in folder.iterdir() if f.is_file()):
        seen = file.stat()
        digest.update(f"{file.name} {seen.st_size} {seen.st_mtime_ns} ".encode())
    return digest.hexdigest()


def _cached(model_id: str, revision: str | None) -> Path | None:
    """The snapshot in the Hub's cache (huggingface_hub's guide "Understand caching")."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    model = hub / f"models--{model_id.replace('/', '--')}"
    reference = model / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision or ""
    snapshot = model / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def _read(file: Path) -> _Answer | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Answer)
    except (OSError, msgspec.DecodeError):
        return None


def _kept(file: Path, now: datetime) -> _Answer | None:
    found = _read(file)
    if found is None or found.rows:
        return found
    lasts = found.at is not None and abs(now - found.at) < A_FAILURE_LASTS
    return found if found.failed and lasts else None


def _asked(job: JobSpec, kept: Path, now: datetime) -> _Answer:
    """The training environment's answer, kept. Raises OSError where there is no place for it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as place:
        found = _count(job, Path(place))
        if isinstance(found, str):
            found = _Answer(failed=found, at=now)
    paths.write_aside(kept, msgspec.json.encode(found))
    return found


def _count(job: JobSpec, place: Path) -> _Answer | str:
    """What was counted, or in one line why nothing was."""
    python = environment.folder() / "bin" / "python"
    asked, answer, said = (place / name for name in ("job.json", "answer.json", "errors"))
    asked.write_bytes(msgspec.json.encode(job))
    arguments = ("jobs.count_tokens", str(asked), str(ROWS_COUNTED))
    try:
        with open(answer, "wb") as out, open(said, "wb") as errors:
            code = run_module(python, *arguments, folder=place, stdout=out, stderr=errors.fileno())
    except OutsideFailed as error:
        return str(error)
    found = _read(answer) if code == 0 else None
    if found is not None and found.rows:
        return found
    last = said.read_text(errors="replace").strip().rpartition("\n")[2]
    return last[:200] or f"jobs.count_tokens ended with {code}"
