from pathlib import Path

import msgspec

from jobs import layout
from jobs.spec import PhaseRecord
from results.records import Tail, read_result, records


def test_a_tail_gives_whole_lines_once_and_starts_over_when_cut(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.new() == []
    path.write_bytes(b"one\ntwo\nthr")
    assert tail.new() == [b"one", b"two"]
    assert tail.new() == []
    path.write_bytes(b"one\ntwo\nthree\n")
    assert tail.new() == [b"three"]
    path.write_bytes(b"1\n")
    assert tail.new() == [b"1"]


def test_a_tail_starts_over_in_a_longer_file_that_took_the_place(tmp_path: Path) -> None:
    path, other = tmp_path / "lines", tmp_path / "other"
    path.write_bytes(b"one\n")
    tail = Tail(path)
    assert tail.new() == [b"one"]
    other.write_bytes(b"first\nsecond\n")
    other.replace(path)
    assert tail.new() == [b"first", b"second"]


def test_a_tail_goes_on_in_a_copy(tmp_path: Path) -> None:
    path, copy = tmp_path / "lines", tmp_path / "copy"
    path.write_bytes(b"one\n")
    tail = Tail(path)
    tail.new()
    copy.write_bytes(b"one\ntwo\n")
    tail.move(copy)
    assert tail.new() == [b"two"]


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / layout.METRICS
    known = PhaseRecord(at="2026-11-22", phase="load"), PhaseRecord(at="2026-11-22", phase="train")
    first, second = (msgspec.json.encode(record) for record in known)
    damaged = (b"\0" * 40, b"", b'{"event":"phase","at":"\xff"}', first[:9], b'{"event":"step"}')
    path.write_bytes(b"\n".join((first, *damaged, second, b"")))
    assert records(path) == list(known)


def test_a_result_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None
    (tmp_path / layout.RESULT).write_text('{"run_id": 3}')
    assert read_result(tmp_path) is None
