"""What a recipe judges by, checked before anything is started: golden set, schema, own metrics."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobs.spec import JobSpec, full_text, supervised_text
from jobs.spec.reading import read_rows
from jobs.spec.tables import BadTable, unit_of
from launcher.errors import BadInput
from launcher.inputs.answerable import judged, require_answerable, require_choosable, shown
from launcher.types import DataFacts, Judged
from results.sums import sha256_of

if TYPE_CHECKING:
    import ast


def scan_judging(job: JobSpec, data: DataFacts) -> DataFacts:
    """`data` with the golden set's rows and the digest of every file that answers are judged by.

    Raises BadInput for a broken golden row, a schema that is no JSON, a function that its file
    does not define, a gate on a metric that the judged rows cannot give, and a choice of the epoch
    by one that the validation rows cannot give. Nothing of the user's is run here.
    """
    settings = job.eval
    rows, longest, golden, asked = 0, 0, None, data.judged
    if settings.golden is not None:
        rows, longest, golden, asked = _golden(settings.golden, settings.limit)
    found = msgspec.structs.replace(
        data,
        golden_rows=rows,
        longest_judged_characters=max(data.longest_judged_characters, longest),
        golden_sha256=golden,
        schema_sha256=_schema(settings.schema) if settings.schema is not None else None,
        metrics_sha256=_own_metrics(settings.metrics),
        judged=asked,
    )
    if asked is not None:
        require_answerable(job, asked)
    if data.choosing is not None:
        require_choosable(job, data.choosing)
    return found


def _golden(path: str, limit: int | None) -> tuple[int, int, str, Judged]:
    """Rows, characters of the longest, the file's digest, and what its answers show."""
    rows = longest = sourced = 0
    answers = []
    try:
        for found in read_rows(path):
            if not supervised_text(found.row).strip():
                why = "the answer is empty or missing"
                raise BadTable(why, found.number, unit_of(path))
            rows += 1
            longest = max(longest, len(full_text(found.row)))
            sourced += any(found.fields.get(key) is not None for key in ("source", "sources"))
            answers.append(shown(found.row))
    except BadTable as error:
        raise BadInput(f"{path}{error.place}: {error.why}") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    return rows, longest, sha256_of(_read(path)), judged("golden", answers, limit, sourced)


def _schema(path: str) -> str:
    content = _read(path)
    try:
        msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: eval.schema is not JSON: {error}") from None
    return sha256_of(content)


def _own_metrics(entries: tuple[str, ...]) -> dict[str, str]:
    if not entries:
        return {}
    import ast  # few recipes have metrics of their own

    found = {}
    for entry in entries:
        path, _, function = entry.rpartition(":")
        content = _read(path)
        try:
            defined = _defined(ast.parse(content, path))
        except (SyntaxError, ValueError) as error:
            raise BadInput(f"eval.metrics: {path}: {error}") from None
        if function not in defined:
            raise BadInput(
                f"eval.metrics: {path} defines no {function}; it has {', '.join(defined) or 'none'}"
            )
        found[path] = sha256_of(content)
    return found


def _defined(module: "ast.Module") -> list[str]:
    """Names that the file's top level binds: functions, and what is assigned or imported."""
    import ast

    names: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
