"""How many tokens the data have, counted by the model's own tokenizer where that is at hand.

At hand means: the model is a folder, or lies in the Hub's cache, and the training environment is
made, which has the tokenizers. The count is kept by what it was made of, so it is made once.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from jobs.spec import JobSpec
from launcher import paths
from launcher.executors import environment
from launcher.executors.foreground import run_module
from launcher.types import DataFacts

ROWS_COUNTED = 256
_OF_A_TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
                   "merges.txt", "chat_template.jinja")  # fmt: skip


class _Counted(Struct, frozen=True):
    rows: list[tuple[int, int]]  # characters, tokens


def counted(job: JobSpec, data: DataFacts) -> DataFacts:
    """`data` with the tokenizer's own tokens per character and per row, if it is at hand."""
    identity = _tokenizer(job)
    if identity is None or not environment.is_ready():
        return data
    key = hashlib.sha256(f"{identity} {data.sha256} {job.regression}".encode()).hexdigest()[:32]
    kept = paths.token_counts_folder() / f"{key}.json"
    try:
        found = _read(kept) or _count(job, kept)
    except OSError:  # no place to count in: the plan does without
        return data
    if found is None:
        return data
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
    files = [folder / name for name in _OF_A_TOKENIZER if (folder / name).is_file()]
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size} ".encode() + file.read_bytes())
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


def _read(kept: Path) -> _Counted | None:
    try:
        found = msgspec.json.decode(kept.read_bytes(), type=_Counted)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.rows else None


def _count(job: JobSpec, kept: Path) -> _Counted | None:
    """Asked of the training environment; None where it cannot: the job itself will say why."""
    python = environment.folder() / "bin" / "python"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as place:
        asked, answer = Path(place) / "job.json", Path(place) / "answer.json"
        asked.write_bytes(msgspec.json.encode(job))
        with open(answer, "wb") as out:
            code = run_module(
                python,
                "jobs.count_tokens",
                str(asked),
                str(ROWS_COUNTED),
                folder=Path(place),
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
        found = _read(answer) if code == 0 else None
        if found is not None:
            answer.replace(kept)
            return found
    return None
