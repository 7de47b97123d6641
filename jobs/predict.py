"""`python -m jobs.predict RUN FILE`: a student's scores of new texts, as JSON lines.

One line a text, in the file's order: {"id": ..., "scores": {dimension: value}, "overall": value,
"tier": name}; `id` where the row has one, `tier` where the run has tiers. What was measured goes to
stderr and to --summary: texts and tokens a second in batches, and seconds for one text alone at
the 50th and 95th percentile, tokenising included. Exit codes: 0 done, 1 failed, 2 bad input.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from jobs.aside import write_aside
from jobs.data import bad_row
from jobs.finished import read_run
from jobs.memory import peak_memory
from jobs.outcome import BadInput, failure_of
from jobs.sources import base_of, set_environment
from jobs.spec import PredictSummary, Regression, encode
from jobs.spec.row_shapes import text_of
from jobs.spec.tables import BadTable, read_table, unit_of

if TYPE_CHECKING:
    from jobs.student import Student

LATENCY_TEXTS = 50  # asked alone: enough for a 95th percentile, seconds of work on a CPU
WARM_UP_TEXTS = 3  # the first ones pay for lazily loaded kernels


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        predict(options)
    except BaseException as error:
        failure = failure_of(error)
        print(f"error: {failure.message}\n{failure.traceback}".rstrip(), file=sys.stderr)
        return 2 if failure.reason == "BAD_INPUT" else 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m jobs.predict", description=__doc__)
    found.add_argument("run", type=Path, help="folder of a finished regression run")
    found.add_argument("file", type=Path, help="texts, in the formats of training data")
    found.add_argument("--out", type=Path, help="write the lines there instead of stdout")
    found.add_argument("--summary", type=Path, help="write what was measured there, as JSON")
    found.add_argument("--batch", type=int, default=16, help="texts at once")
    found.add_argument("--device", choices=["cuda", "mps", "cpu"], help="default: the run's own")
    found.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="default: the run's own")
    found.add_argument("--latency-texts", type=int, default=LATENCY_TEXTS)
    return found


def predict(options: argparse.Namespace) -> None:
    rows = read_texts(options.file)
    if options.batch < 1:
        raise BadInput("--batch: expected at least 1")
    job = read_run(options.run, "regression")
    set_environment(job, model_is_local=Path(base_of(job, options.run)[0]).is_absolute())
    from jobs.student import Student
    from jobs.trainer import quiet

    quiet()
    student = Student(options.run, options.device, options.dtype)
    began = time.perf_counter()
    scores, tokens = in_batches(student, [row["text"] for row in rows], options.batch)
    seconds = time.perf_counter() - began
    lines = (line_of(row, given, student.asked) for row, given in zip(rows, scores, strict=True))
    put(lines, options.out)
    alone = latencies(student, [row["text"] for row in rows], options.latency_texts)
    p50, p95 = np.percentile(alone, [50, 95]) if alone else (0.0, 0.0)
    memory, metric = peak_memory()
    summary = PredictSummary(
        texts=len(rows),
        tokens=tokens,
        batch=options.batch,
        device=student.job.device,
        dtype=student.job.dtype,
        seconds=seconds,
        texts_per_second=len(rows) / seconds,
        tokens_per_second=tokens / seconds,
        latency_texts=len(alone),
        latency_p50_seconds=float(p50),
        latency_p95_seconds=float(p95),
        peak_memory_bytes=memory,
        memory_metric=metric,
    )
    if options.summary is not None:
        write_aside(options.summary, encode(summary))
    print(said(summary), file=sys.stderr)


def read_texts(path: Path) -> list[dict[str, Any]]:
    """The rows' `id` and `text`, by any of the formats and keys of training data.

    Raises `BadInput` with the line or row that has no text.
    """
    rows = []
    try:
        for number, fields in read_table(str(path)):
            try:
                text = text_of(fields)[1]
            except ValueError as error:
                raise BadTable(str(error), number, unit_of(str(path))) from None
            rows.append({"text": text} | ({"id": fields["id"]} if "id" in fields else {}))
    except BadTable as error:
        raise bad_row(path, error) from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    if not rows:
        raise BadInput(f"{path}: no rows")
    return rows


def in_batches(student: "Student", texts: Sequence[str], batch: int) -> tuple[Any, int]:
    """Scores of shape (texts, dimensions) and how many tokens were read.

    Texts of like length go together, so that little is padding; the order is the caller's.
    """
    counts = student.token_counts(texts)
    order = sorted(range(len(texts)), key=lambda i: -counts[i])
    found = np.empty((len(texts), len(student.asked.dimensions)))
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        found[some] = student.scores([texts[i] for i in some])
    return found, sum(counts)


def latencies(student: "Student", texts: Sequence[str], count: int) -> list[float]:
    """Seconds for each of `count` texts asked alone, spread over the file."""
    chosen = [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]
    found = []
    for text in [*chosen[:WARM_UP_TEXTS], *chosen]:
        began = time.perf_counter()
        student.scores([text])
        found.append(time.perf_counter() - began)
    return found[len(chosen[:WARM_UP_TEXTS]) :]


def line_of(row: dict[str, Any], given: Any, asked: Regression) -> bytes:
    """The student's answer for one row, as a JSON line."""
    from jobs.scores import overall_of, tiers_of

    answer: dict[str, Any] = {"id": row["id"]} if "id" in row else {}
    pairs = zip(asked.dimensions, given, strict=True)
    answer["scores"] = {name: round(float(value), 4) for name, value in pairs}
    answer["overall"] = round(float(overall_of(given[None], asked)[0]), 4)
    if asked.tiers:
        answer["tier"] = asked.tiers[int(tiers_of(given[None], asked)[0])].name
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"


def put(lines: Iterator[bytes], out: Path | None) -> None:
    if out is not None:
        write_aside(out, b"".join(lines))
        return
    stream: IO[bytes] = sys.stdout.buffer
    try:
        for line in lines:
            stream.write(line)
        stream.flush()
    except BrokenPipeError:  # who reads them has enough
        # what is left in the buffer goes nowhere when Python flushes it at the end
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def said(summary: PredictSummary) -> str:
    """The summary in two lines for people."""
    return (
        f"{summary.texts} texts, {summary.tokens:,} tokens on {summary.device} in {summary.dtype}: "
        f"{summary.texts_per_second:.1f} texts/s, {summary.tokens_per_second:,.0f} tokens/s "
        f"in batches of {summary.batch}\n"
        f"one text alone: {summary.latency_p50_seconds * 1000:.0f} ms at p50, "
        f"{summary.latency_p95_seconds * 1000:.0f} ms at p95 of {summary.latency_texts}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
