import gzip
import json
from pathlib import Path

import pytest

from jobs.spec.reading import read_rows
from jobs.spec.tables import BadTable, extension, read_table

ROWS = [{"text": "one"}, {"text": "two, and\nmore"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'text\none\n"two, and\nmore"\n'


@pytest.mark.parametrize(
    ("name", "content", "numbers"),
    [
        ("a.jsonl", LINES, [1, 2]),
        ("a.ndjson", LINES.replace("\n", "\r\n"), [1, 2]),
        ("a.JSONL", "\n" + LINES.replace("\n", "\n \n", 1), [2, 4]),
        ("a.jsonl", "\ufeff" + LINES, [1, 2]),
        ("a.json", json.dumps(ROWS, indent=1), [1, 2]),
        ("a.json", json.dumps({"version": "1", "rows": ROWS}), [1, 2]),
        ("a.json", json.dumps({"splits": [1], "data": ROWS}), [1, 2]),
        ("a.csv", CSV, [2, 3]),
        ("a.csv", "\ufeff" + CSV.replace("\none", "\n\none"), [3, 4]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_file_holds_the_same(tmp_path: Path, name, content, numbers, packed) -> None:
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert list(read_table(str(path))) == list(zip(numbers, ROWS, strict=True))


def test_a_cell_may_be_longer_than_python_expects(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(next(read_table(str(path)))[1]["text"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "place", "why"),
    [
        ("a.txt", b"x", "", "expected a name that ends in .jsonl, .ndjson, .json, .csv"),
        ("a.jsonl", b'{"text": "a"}\n{"text": [', " line 2", "not JSON: "),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', " line 2", "Expected `object`, got `array`"),
        ("a.jsonl", b'{"text": "\xff"}\n', " line 1", "not UTF-8 text: byte 0xff"),
        ("a.jsonl", b'\n{"txt": "a"}\n', " line 2", "expected `messages`"),
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', " line 1", "object missing required"),
        ("a.jsonl", b"\n", "", "the data set is empty"),
        ("a.json", b'[{"text": "a"}, 5]', " row 2", "expected an object, got 5"),
        ("a.json", b'[{"text": "a"}, {"txt": 5}]', " row 2", "expected `messages`"),
        ("a.json", b'{"a": [], "b": []}', "", "expected a list of objects"),
        ("a.json", b'{"a": 1', "", "not JSON"),
        ("a.json", b"[]", "", "the data set is empty"),
        ("a.csv", b"", "", "the data set is empty"),
        ("a.csv", b"text,text\n", " line 1", "the header names a column twice"),
        ("a.csv", b"text,b\nx\n", " line 2", "1 cells under 2 names"),
        ("a.csv", b'text\n"a\nb"\nx,y\n', " line 4", "2 cells under 1 names"),
        ("a.csv", b'text\nx\n"a"b\n', " line 3", "not CSV"),
        (
            "a.csv",
            "text\ncafé\n".encode("latin-1"),
            "",
            "not UTF-8 text: byte 0xe9; if it is Latin",
        ),
        ("a.csv", "text\nx\n".encode("utf-16"), "", "not UTF-8 text but UTF-16; convert it: iconv"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "café"}\n'.encode("latin-1"),
            " line 2",
            "not UTF-8 text: byte 0xe9; if it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8",
        ),
        ("a.json", '[{"text": "café"}]'.encode("latin-1"), "", "not UTF-8 text: byte 0xe9"),
        *(
            ("a.jsonl", '{"text": "a"}\n'.encode(code), " line 1", "not UTF-8 text but UTF-16; con")
            for code in ("utf-16", "utf-16-le", "utf-16-be")
        ),
        ("a.jsonl", b'{"text": "a"\x00}\n', " line 1", "not JSON: "),
        ("a.csv", b"text;b\nx;y\n", " line 2", "found `text;b`"),
        (
            "a.jsonl.gz",
            gzip.compress(LINES.encode() * 20, mtime=0)[:-12],
            "",
            "not a whole .gz file",
        ),
        ("a.jsonl.gz", b"plain", "", "not a whole .gz file"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name, content, place, why) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadTable) as caught:
        list(read_rows(str(path)))
    assert caught.value.place.startswith(place)
    assert bool(caught.value.place) == bool(place)
    assert caught.value.why.startswith(why) or why in caught.value.why


def test_the_extension_is_the_last_known_one() -> None:
    names = ["rows.2026-11-21.jsonl.gz", "my.rows.CSV", "rows", "a.json/rows.txt"]
    assert [extension(f"/x/{name}") for name in names] == [".jsonl.gz", ".csv", None, None]
