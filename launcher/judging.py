"""What a recipe judges by, checked before anything is started: golden set, schema, own metrics."""

import ast
import hashlib
from pathlib import Path

import msgspec

from jobs.spec import JobSpec, parse_row, supervised_text
from launcher.errors import BadInput
from launcher.types import DataFacts


def scan_judging(job: JobSpec, data: DataFacts) -> DataFacts:
    """`data` with the golden set's rows and the digest of every file that answers are judged by.

    Raises BadInput for a broken golden row, a schema that is no JSON and a function that its file
    does not define. Nothing of the user's is run here.
    """
    settings = job.eval
    rows, golden = _golden(settings.golden) if settings.golden is not None else (0, None)
    return msgspec.structs.replace(
        data,
        golden_rows=rows,
        golden_sha256=golden,
        schema_sha256=_schema(settings.schema) if settings.schema is not None else None,
        metrics_sha256=_own_metrics(settings.metrics),
    )


def _golden(path: str) -> tuple[int, str]:
    rows, content = 0, _read(path)
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            empty = not supervised_text(parse_row(line)).strip()
        except (msgspec.DecodeError, ValueError) as error:
            raise BadInput(f"{path} line {number}: {error}") from None
        if empty:
            raise BadInput(f"{path} line {number}: the answer is empty or missing")
        rows += 1
    if rows == 0:
        raise BadInput(f"{path}: the golden set is empty; expected one JSON object a line")
    return rows, _sha256(content)


def _schema(path: str) -> str:
    content = _read(path)
    try:
        msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: eval.schema is not JSON: {error}") from None
    return _sha256(content)


def _own_metrics(entries: tuple[str, ...]) -> dict[str, str]:
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
        found[path] = _sha256(content)
    return found


def _defined(module: ast.Module) -> list[str]:
    """Names that the file's top level binds: functions, and what is assigned or imported."""
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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
