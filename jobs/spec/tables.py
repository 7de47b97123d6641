"""Files of rows: JSON lines, JSON, CSV and Parquet, told apart by their extension.

JSON lines, CSV and Parquet are read piece by piece; a JSON file is held whole.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from gzip import GzipFile

Fields = dict[str, Any]

EXTENSIONS = (
    ".jsonl",
    ".ndjson",
    ".json",
    ".csv",
    ".jsonl.gz",
    ".ndjson.gz",
    ".json.gz",
    ".csv.gz",
    ".parquet",
)
# Rows of a Parquet file held at a time: at 4 KB a row some 4 MB as Python objects. Assumption.
PARQUET_BATCH_ROWS = 1000
# The longest cell of a CSV file, bytes; Python's own limit of 128 KiB is shorter than an article.
CSV_CELL_BYTES = 2**31 - 1
_BOM = b"\xef\xbb\xbf"  # what Windows programs begin UTF-8 text with

_CONVERT = "convert it: iconv -f {} -t UTF-8 FILE > NEW"


class BadTable(ValueError):
    """What is wrong with a file, and with which line or row of it, where it is one."""

    def __init__(self, why: str, number: int | None = None, unit: str = "line") -> None:
        super().__init__(why)
        self.why = why
        self.number = number
        self.unit = unit  # line or row, as people find it in such a file

    @property
    def place(self) -> str:
        """` line 7`, to stand behind the file's name, or nothing."""
        return "" if self.number is None else f" {self.unit} {self.number}"


def extension(path: str) -> str | None:
    """The extension of a file of rows (`.jsonl.gz`), None when it is none that is read."""
    name = os.path.basename(path).lower()
    return next((known for known in EXTENSIONS if name.endswith(known)), None)


def read_table(path: str) -> Iterator[tuple[int, Fields]]:
    """Every row with its number: of the line in JSON lines and CSV, else of the row, from 1.

    Raises `BadTable` for an unknown extension and what cannot be read, `OSError` for no file.
    """
    kind = extension(path)
    if kind is None:
        known = ", ".join(EXTENSIONS[:4])
        raise BadTable(f"expected a name that ends in {known} (or one of them .gz), or .parquet")
    if kind == ".parquet":
        yield from _parquet(path)
        return
    read = _json_lines
    if not kind.startswith((".jsonl", ".ndjson")):
        read = _json if kind.startswith(".json") else _csv
    if not kind.endswith(".gz"):
        with open(path, "rb") as file:
            yield from read(file)
        return
    import gzip
    import zlib

    try:
        with open(path, "rb") as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            yield from read(unpacked)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadTable(f"not a whole .gz file: {error}") from None


def unit_of(path: str) -> str:
    """What rows are counted by: `line` in JSON lines and CSV, else `row`."""
    kind = extension(path) or ""
    return "row" if kind == ".parquet" or kind.removesuffix(".gz") == ".json" else "line"


def _json_lines(file: "BinaryIO | GzipFile") -> Iterator[tuple[int, Fields]]:
    decoder = msgspec.json.Decoder(Fields)
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield number, decoder.decode(text)
        except msgspec.ValidationError as error:
            raise BadTable(str(error), number) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadTable(_not_text(line) or f"not JSON: {error}", number) from None


def _not_text(content: bytes) -> str | None:
    """Why it is no UTF-8 text, and what makes it one; None where it is."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or content[:2].count(0) == 1:
        return f"not UTF-8 text but UTF-16; {_CONVERT.format('UTF-16')}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        found = f"not UTF-8 text: byte 0x{content[error.start]:02x}"
        return f"{found}; if it is Latin-1, {_CONVERT.format('LATIN1')}"
    return None


def _json(file: "BinaryIO | GzipFile") -> Iterator[tuple[int, Fields]]:
    content = file.read()
    try:
        whole = msgspec.json.decode(content.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadTable(_not_text(content) or f"not JSON: {error}") from None
    if isinstance(whole, dict):
        lists = {key: value for key, value in whole.items() if isinstance(value, list)}
        whole = lists.get("data", next(iter(lists.values())) if len(lists) == 1 else None)
    if not isinstance(whole, list):
        raise BadTable("expected a list of objects, or one key that holds such a list")
    for number, fields in enumerate(whole, start=1):
        if not isinstance(fields, dict):
            raise BadTable(f"expected an object, got {fields!r:.40}", number, "row")
        yield number, fields


def _csv(file: "BinaryIO | GzipFile") -> Iterator[tuple[int, Fields]]:
    import csv
    import io

    csv.field_size_limit(CSV_CELL_BYTES)
    start = 1
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            names = next(reader, [])
            if len(set(names)) < len(names):
                raise BadTable("the header names a column twice", 1)
            start = reader.line_num + 1
            for cells in reader:
                if len(cells) not in (0, len(names)):
                    raise BadTable(f"{len(cells)} cells under {len(names)} names", start)
                if cells:
                    yield start, dict(zip(names, cells, strict=True))
                start = reader.line_num + 1
        except csv.Error as error:
            raise BadTable(f"not CSV: {error}", start) from None
        except UnicodeDecodeError as error:  # of a piece of the file: which line, it does not say
            raise BadTable(_not_text(error.object) or "not UTF-8 text") from None


def _parquet(path: str) -> Iterator[tuple[int, Fields]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadTable(
            "reading Parquet here needs pyarrow: pip install 'loralift[parquet]'"
        ) from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    yield number, fields
    except pyarrow.ArrowException as error:
        raise BadTable(f"not a whole Parquet file: {error}") from None
