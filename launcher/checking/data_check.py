"""The rows of a plan as its job would encode them: asked of the training environment."""

import os
import tempfile
from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import ResolvedSpec, encode
from jobs.spec.check import DataCheck
from launcher.checking.checks import Check
from launcher.executors import environment
from launcher.executors.foreground import run_module

# Measured on 2 busy cores: 6 s of CPU until the first row, then 4,300 short rows a second
# (docs/LOG.md, 2026-11-21). Larger sets are not waited for, and said to be unknown. Assumption.
SECONDS = 120.0


def data_check(spec: ResolvedSpec) -> Check:
    """Whether every row leaves the job something to learn. Raises OutsideFailed and BadInput."""
    python = _python()
    if python is None:
        found = "the training environment is not here"
        how = "the first local run makes it, or --python names one"
        return Check(name="data", state="skipped", found=found, next=how)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / layout.SPEC).write_bytes(encode(spec))
        answer, log = folder / "answer.json", folder / layout.LOG
        with open(answer, "wb") as out, open(log, "wb") as err:
            run_module(
                python, "jobs.check", layout.SPEC, folder=folder, stdout=out, stderr=err,
                seconds=SECONDS,
            )  # fmt: skip
        try:
            return told(msgspec.json.decode(answer.read_bytes(), type=DataCheck))
        except msgspec.DecodeError:
            last = (log.read_text(errors="replace").strip() or "no output").splitlines()[-1]
            return Check(name="data", state="unknown", found=f"jobs.check broke off: {last}")


def _python() -> Path | None:
    """The training environment's interpreter; None where there is none yet."""
    named = os.environ.get(environment.PYTHON_VARIABLE)
    if named is not None:
        return environment.training_python(named, lambda line: None)
    return environment.folder() / "bin" / "python" if environment.is_ready() else None


def told(found: DataCheck) -> Check:
    """The answer for people. Pure."""
    if found.skipped:
        return Check(name="data", state="skipped", found=found.skipped)
    if found.problems:
        first = found.problems[0]
        more = f" (and {found.refused - 1} more)" if found.refused > 1 else ""
        how = "raise train.seq_len, or leave the rows out" if "after cutting" in first else ""
        return Check(name="data", state="failed", found=first + more, next=how)
    rows = " + ".join(f"{count:,} {name}" for name, count in found.rows.items())
    cut = f", {found.cut:,} are cut" if found.cut else ""
    said = (
        f"{rows} rows teach something; the longest has {found.longest_tokens:,} of "
        f"{found.seq_len:,} tokens{cut}"
    )
    if found.own_pad_token is None:
        said += f"; no pad token, {found.pad_token} serves"
    return Check(name="data", state="ok", found=said, next="; ".join(found.doubts))
