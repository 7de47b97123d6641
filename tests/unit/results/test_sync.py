import errno
import os
import shutil
from pathlib import Path

import pytest

from jobs import checkpoint, layout
from jobs.train import hold
from results.collect import verify
from results.restore import restore
from results.stored_run import (
    Refused,
    StoredRun,
    add,
    checkpoints,
    fetch,
    push,
    read_sums,
    require_inside,
    state,
    write_sums,
)
from results.stores import Damaged, Store, Stored, open_store
from results.sync import Sync, is_over, names_of
from tests.fixtures.working_folder import begin, fail, finish, save_checkpoint


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return begin(tmp_path / "work")


class Said(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def said() -> Said:
    return Said()


def sync_of(store: Store, work: Path) -> Sync:
    return Sync(StoredRun(store, "run-1"), work, Said())


def there(store: Store, name: str) -> bytes | None:
    found = store.read(f"run-1/{name}")
    return None if found is None else found[0]


def stored_checkpoints(store: Store) -> list[str]:
    return list(checkpoints(StoredRun(store, "run-1")))


def test_what_grows_goes_up_in_whole_lines(store: Store, work: Path) -> None:
    sync = sync_of(store, work)
    with (work / layout.METRICS).open("ab") as metrics:
        metrics.write(b'{"step": 2}\n{"st')
        metrics.flush()
        sync.once(over=False)
        assert there(store, layout.METRICS) == b'{"step": 1}\n{"step": 2}\n'
        metrics.write(b'ep": 3}\n')
    sync.once(over=False)
    assert there(store, layout.METRICS) == b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    assert state(store, "run-1") == "partial"


def test_a_finished_run_is_complete_as_collect_would_have_it(
    store: Store, work: Path, tmp_path: Path
) -> None:
    sync = sync_of(store, work)
    sync.once(over=False)
    save_checkpoint(work, 10)
    finish(work)
    (work / layout.ADAPTER / "training_args.bin").write_bytes(b"a pickle")
    sync.once(over=True)
    assert state(store, "run-1") == "partial"
    sync.seal()
    assert state(store, "run-1") == "complete"
    assert fetch(store, "run-1", tmp_path / "home") == "complete"
    brought = {p.relative_to(tmp_path / "home").as_posix() for p in (tmp_path / "home").rglob("*")}
    assert brought == {
        layout.SPEC,
        layout.METRICS,
        layout.LOG,
        layout.RESULT,
        layout.SUMS,
        layout.ADAPTER,
        f"{layout.ADAPTER}/adapter_model.safetensors",
    }
    assert verify(tmp_path / "home") == []
    assert there(store, layout.LOG) == (work / layout.LOG).read_bytes()


@pytest.mark.parametrize("during", [False, True])
def test_a_file_that_comes_late_does_not_keep_the_run_open(
    store: Store, work: Path, during: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, once, late = sync_of(store, work), Sync.once, work / layout.ADAPTER / "late.txt"
    finish(work)
    sync.once(over=True)

    def pass_and_write(self: Sync, over: bool) -> None:
        once(self, over)
        late.write_text("late")

    if during:  # after the last pass too
        monkeypatch.setattr(Sync, "once", pass_and_write)
    else:
        late.write_text("late")
    sync.seal()
    assert state(store, "run-1") == "complete"
    sums = read_sums((there(store, layout.SUMS) or b"").decode())
    assert (f"{layout.ADAPTER}/late.txt" in sums) == (not during)


def test_a_finished_run_keeps_nothing_that_only_a_restart_reads(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = sync_of(store, work)
    save_checkpoint(work, 10)
    sync.once(over=False)
    save_checkpoint(work, 20)
    finish(work)
    sent: list[str] = []
    put = store.put

    def noted(key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        sent.append(key)
        return put(key, source, replacing)

    monkeypatch.setattr(store, "put", noted)
    sync.once(over=True)
    sync.seal()
    assert f"run-1/{layout.RESULT}" in sent
    assert not any(layout.CHECKPOINTS in key for key in sent)
    left = StoredRun(store, "run-1").names()
    assert not {layout.PILOT, layout.CHECKPOINTS} & {name.partition("/")[0] for name in left}
    assert layout.SUMS in left


def test_a_failed_run_s_last_checkpoint_goes_up(store: Store, work: Path) -> None:
    save_checkpoint(work, 10)
    fail(work)
    sync_of(store, work).once(over=True)
    assert stored_checkpoints(store) == ["checkpoint-10"]


def test_what_the_job_removes_goes_but_never_the_last_whole_one(store: Store, work: Path) -> None:
    sync = sync_of(store, work)
    for step in (10, 20):
        save_checkpoint(work, step)
    sync.once(over=False)
    assert stored_checkpoints(store) == ["checkpoint-20", "checkpoint-10"]
    save_checkpoint(work, 30)
    checkpoint.keep_newest(work / layout.CHECKPOINTS, 1)
    (work / layout.CHECKPOINTS / "checkpoint-40").mkdir()  # being written
    sync.once(over=False)
    assert stored_checkpoints(store) == ["checkpoint-30"]
    shutil.rmtree(work / layout.CHECKPOINTS)
    sync.once(over=False)
    assert stored_checkpoints(store) == ["checkpoint-30"]


def test_a_checkpoint_that_the_job_removes_meanwhile_arrives_whole(
    store: Store, work: Path, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, put = save_checkpoint(work, 10), store.put

    def job_is_faster(key: str, source: Path | bytes, replacing: Stored | None) -> Stored:
        if "checkpoint-10" in key:
            shutil.rmtree(made, ignore_errors=True)
        return put(key, source, replacing)

    monkeypatch.setattr(store, "put", job_is_faster)
    sync_of(store, work).once(over=False)
    restore(store, "run-1", begin(tmp_path / "new"), said)
    assert said[-1] == "restored checkpoint-10"


def test_a_checkpoint_arrives_where_files_cannot_be_linked(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def not_here(source: Path, target: Path) -> None:
        if work in Path(source).parents:
            raise OSError(errno.EPERM, "Operation not permitted")
        link(source, target)

    save_checkpoint(work, 10)
    monkeypatch.setattr(os, "link", not_here)
    sync_of(store, work).once(over=False)
    assert stored_checkpoints(store) == ["checkpoint-10"]


def test_a_checkpoint_that_goes_while_it_is_set_aside_ends_no_pass(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, link = save_checkpoint(work, 10), os.link

    def job_is_faster(source: Path, target: Path) -> None:
        if work in Path(source).parents:
            shutil.rmtree(made, ignore_errors=True)
        link(source, target)

    monkeypatch.setattr(os, "link", job_is_faster)
    sync_of(store, work).once(over=False)
    assert there(store, layout.METRICS) is not None
    assert stored_checkpoints(store) == []


def test_a_checkpoint_without_its_marker_is_none(store: Store, work: Path) -> None:
    save_checkpoint(work, 10)
    sync_of(store, work).once(over=False)
    store.remove(f"run-1/{layout.CHECKPOINTS}/checkpoint-10/{layout.COMPLETE}")
    assert stored_checkpoints(store) == []


def test_a_step_trained_again_replaces_the_lost_attempt_s(store: Store, work: Path) -> None:
    save_checkpoint(work, 10)
    sync_of(store, work).once(over=False)
    shutil.rmtree(work / layout.CHECKPOINTS)
    made = save_checkpoint(work, 10)
    sync_of(store, work).once(over=False)
    name = f"{layout.CHECKPOINTS}/checkpoint-10/adapter_model.safetensors"
    assert there(store, name) == (made / "adapter_model.safetensors").read_bytes()


def test_a_new_folder_goes_on_from_the_last_whole_checkpoint(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    for step in (10, 20):
        save_checkpoint(work, step)
    sync_of(store, work).once(over=False)
    new = begin(tmp_path / "new", deadline="2026-11-21T10:00:00Z")
    for name in (layout.METRICS, layout.LOG, layout.PILOT):
        (new / name).unlink()
    restore(store, "run-1", new, said)
    last = checkpoint.last_complete(new / layout.CHECKPOINTS)
    assert last is not None
    assert last.name == "checkpoint-20"
    assert [p.name for p in (new / layout.CHECKPOINTS).iterdir()] == ["checkpoint-20"]
    for name in (layout.METRICS, layout.LOG, layout.PILOT):
        assert (new / name).read_bytes() == (work / name).read_bytes()
    assert said[-1] == "restored checkpoint-20"


def test_the_log_goes_on_where_set_up_has_begun_another(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    sync_of(store, work).once(over=False)
    new = begin(tmp_path / "new")
    (new / layout.LOG).write_bytes(b"training environment\n")
    with (new / layout.LOG).open("ab") as tee:
        for _ in range(2):
            restore(store, "run-1", new, said)
        tee.write(b"restored\n")
    assert (new / layout.LOG).read_bytes() == b"loading\ntraining environment\nrestored\n"


def test_the_best_checkpoint_comes_along(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    save_checkpoint(work, 10, best=10)
    save_checkpoint(work, 20, best=10)
    save_checkpoint(work, 30, best=10)
    sync_of(store, work).once(over=False)
    new = begin(tmp_path / "new")
    restore(store, "run-1", new, said)
    brought = sorted(p.name for p in (new / layout.CHECKPOINTS).iterdir())
    assert brought == ["checkpoint-10", "checkpoint-30"]


@pytest.mark.parametrize("how", ["a byte flipped", "a file gone", "its marker no marker"])
def test_a_broken_checkpoint_falls_back_to_the_one_before(
    store: Store, work: Path, tmp_path: Path, said: Said, how: str
) -> None:
    for step in (10, 20):
        save_checkpoint(work, step)
    sync_of(store, work).once(over=False)
    broken = tmp_path / "store" / "run-1" / layout.CHECKPOINTS / "checkpoint-20"
    weights = broken / "adapter_model.safetensors"
    if how == "a byte flipped":
        content = bytearray(weights.read_bytes())
        content[500] ^= 1
        weights.write_bytes(content)
    elif how == "a file gone":
        weights.unlink()
    else:
        (broken / layout.COMPLETE).write_bytes(b"{}")
    new = begin(tmp_path / "new")
    restore(store, "run-1", new, said)
    assert [p.name for p in (new / layout.CHECKPOINTS).iterdir()] == ["checkpoint-10"]
    assert said[0].startswith("checkpoint-20 cannot be used")


def test_a_folder_s_own_checkpoint_and_files_stay(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    save_checkpoint(work, 10)
    sync_of(store, work).once(over=False)
    own = begin(tmp_path / "own")
    save_checkpoint(own, 20)
    (own / layout.METRICS).write_bytes(b"its own\n")
    restore(store, "run-1", own, said)
    assert [p.name for p in (own / layout.CHECKPOINTS).iterdir()] == ["checkpoint-20"]
    assert (own / layout.METRICS).read_bytes() == b"its own\n"


def test_an_ended_attempt_leaves_the_run_open_and_its_answer_goes(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    fail(work)
    sync_of(store, work).once(over=True)
    assert state(store, "run-1") == "partial"
    assert fetch(store, "run-1", tmp_path / "home") == "partial"
    assert (tmp_path / "home" / layout.RESULT).exists()
    restore(store, "run-1", work, said)
    assert not (work / layout.RESULT).exists()
    assert there(store, layout.RESULT) is None  # the next attempt may last hours


def test_a_second_writer_is_refused_until_it_takes_over(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    first = sync_of(store, work)
    first.once(over=False)
    other = begin(tmp_path / "other")
    with pytest.raises(Refused, match="written from elsewhere"):
        sync_of(store, other).once(over=False)
    restore(store, "run-1", other, said)
    sync_of(store, other).once(over=False)
    with pytest.raises(Refused, match="--restore"):
        first.once(over=False)


def test_a_copy_of_the_folder_takes_the_run_over_too(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    first = sync_of(store, work)
    first.once(over=False)
    shutil.copytree(work, tmp_path / "copy")
    restore(store, "run-1", tmp_path / "copy", said)
    with pytest.raises(Refused):
        first.once(over=False)


def test_another_job_under_the_same_id_is_refused(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    sync_of(store, work).once(over=False)
    other = begin(tmp_path / "other", seed=7)
    with pytest.raises(Refused, match="another job under this run id"):
        restore(store, "run-1", other, said)
    with pytest.raises(Refused, match="another job under this run id"):
        sync_of(store, other).once(over=False)


def test_an_attempt_started_by_another_launcher_goes_on_with_the_same_job(
    store: Store, work: Path, tmp_path: Path, said: Said
) -> None:
    sync_of(store, work).once(over=False)
    begin(tmp_path / "other", provenance={"plan_sha256": "1", "version": "2"})
    restore(store, "run-1", tmp_path / "other", said)


@pytest.fixture
def complete(store: Store, work: Path) -> Path:
    finish(work)
    sync = sync_of(store, work)
    sync.once(over=True)
    sync.seal()
    return work


def test_a_finished_run_stays_as_it_is(
    store: Store, complete: Path, tmp_path: Path, said: Said
) -> None:
    again = sync_of(store, complete)
    again.once(over=True)
    assert again.complete
    other = begin(tmp_path / "other")
    finish(other, size=2000)
    with pytest.raises(Refused, match="stays as it is"):
        sync_of(store, other).once(over=True)
    new = begin(tmp_path / "new")
    restore(store, "run-1", new, said)
    assert (new / layout.RESULT).read_bytes() == (complete / layout.RESULT).read_bytes()


def test_fetch_brings_only_what_is_missing_or_differs(
    store: Store, complete: Path, tmp_path: Path, said: Said
) -> None:
    home = tmp_path / "home"
    fetch(store, "run-1", home)
    (home / layout.RESULT).unlink()
    (home / layout.LOG).write_bytes(b"changed")
    assert fetch(store, "run-1", home, said) == "complete"
    assert sorted(said) == [f"fetching {layout.LOG}", f"fetching {layout.RESULT}"]
    assert fetch(store, "none", tmp_path / "none") == "absent"


def test_fetch_refuses_a_changed_file_and_a_name_that_leads_out(
    store: Store, complete: Path, tmp_path: Path
) -> None:
    at_home = tmp_path / "store" / "run-1"
    (at_home / layout.METRICS).write_bytes(b"tampered\n")
    with pytest.raises(Damaged, match=r"metrics\.jsonl is damaged"):
        fetch(store, "run-1", tmp_path / "home")
    (at_home / layout.SUMS).write_bytes(write_sums({"../stolen": "0" * 64}))
    with pytest.raises(Damaged, match="tampered"):
        fetch(store, "run-1", tmp_path / "home")


def test_fetch_writes_nothing_through_a_link(store: Store, complete: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / layout.ADAPTER).symlink_to(tmp_path / "outside")
    with pytest.raises(Damaged, match="is a link, or behind one"):
        fetch(store, "run-1", tmp_path / "home")
    assert list((tmp_path / "outside").iterdir()) == []


def test_documents_are_added_to_what_is_complete(
    store: Store, complete: Path, tmp_path: Path
) -> None:
    before = StoredRun(store, "run-1").sums()
    add(store, "run-1", {layout.REPORT: b"# report\n"})
    add(store, "run-1", {layout.REPORT: b"# report\n"})
    after = StoredRun(store, "run-1").sums()
    assert before is not None
    assert after is not None
    assert before.items() < after.items()
    assert after.keys() - before.keys() == {layout.REPORT}
    with pytest.raises(Refused):
        add(store, "run-1", {layout.REPORT: b"# another\n"})
    fetch(store, "run-1", tmp_path / "home")
    assert (tmp_path / "home" / layout.REPORT).read_bytes() == b"# report\n"


def test_a_collected_run_is_pushed_once(store: Store, complete: Path, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", open_store(str(tmp_path / "elsewhere"))
    fetch(store, "run-1", home)
    push(elsewhere, "run-1", home)
    push(elsewhere, "run-1", home)
    assert state(elsewhere, "run-1") == "complete"
    fetch(elsewhere, "run-1", tmp_path / "back")
    assert verify(tmp_path / "back") == []
    (home / layout.SUMS).write_bytes(write_sums({layout.SPEC: "0" * 64}))
    with pytest.raises(Refused):
        push(elsewhere, "run-1", home)


def test_a_file_that_changed_since_it_was_collected_seals_nothing(
    store: Store, complete: Path, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", open_store(str(tmp_path / "elsewhere"))
    fetch(store, "run-1", home)
    (home / layout.METRICS).write_bytes(b"another\n")
    with pytest.raises(Damaged, match="has changed since it was collected"):
        push(elsewhere, "run-1", home)
    assert state(elsewhere, "run-1") == "partial"


def test_a_push_that_was_overtaken_seals_nothing(
    store: Store, complete: Path, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", open_store(str(tmp_path / "elsewhere"))
    fetch(store, "run-1", home)
    overtaken = begin(tmp_path / "other")

    def overtake(line: str) -> None:
        if line == f"sending {layout.SPEC}":
            StoredRun(open_store(str(tmp_path / "elsewhere")), "run-1").claim(overtaken, True)

    with pytest.raises(Refused, match="written from elsewhere"):
        push(elsewhere, "run-1", home, overtake)
    assert state(elsewhere, "run-1") == "partial"


def test_sums_that_are_no_text_are_damaged(store: Store, complete: Path, tmp_path: Path) -> None:
    there = tmp_path / "store" / "run-1" / layout.SUMS
    there.write_bytes(b"\xff" + there.read_bytes()[1:])
    with pytest.raises(Damaged, match="SHA256SUMS is damaged"):
        fetch(store, "run-1", tmp_path / "home")


def test_a_run_that_lists_nothing_comes_as_it_is(store: Store, tmp_path: Path) -> None:
    store.put(f"run-1/{layout.SUMS}", b"", None)
    assert fetch(store, "run-1", tmp_path / "home") == "complete"
    assert verify(tmp_path / "home") == []


def test_it_is_told_how_much_there_is_to_move_and_what_moved(
    store: Store, complete: Path, tmp_path: Path
) -> None:
    seen = Told()
    home = tmp_path / "home"
    fetch(open_store(str(tmp_path / "store"), seen), "run-1", home)
    size = sum(p.stat().st_size for p in home.rglob("*") if p.is_file() and p.name != layout.SUMS)
    assert seen.said == [f"fetching run-1 from {tmp_path / 'store'}"]
    assert (seen.expected, seen.there, seen.ended) == (size, size, 1)
    (home / layout.METRICS).unlink()
    again = Told()
    fetch(open_store(str(tmp_path / "store"), again), "run-1", home)
    assert 0 < again.expected == again.there < size
    up = Told()
    elsewhere = open_store(str(tmp_path / "elsewhere"), up)
    push(elsewhere, "run-1", home)
    assert up.expected == size <= up.there  # and the small ones that say whose it is


class Told:
    """A progress that adds up."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.expected = self.there = self.ended = 0

    def begin(self, what: str, size_bytes: int) -> None:
        self.said.append(what)
        self.expected += size_bytes

    def moved(self, size_bytes: int) -> None:
        self.there += size_bytes

    def end(self) -> None:
        self.ended += 1


def test_the_job_is_over_when_it_has_answered_and_is_gone(work: Path) -> None:
    assert not is_over(work)
    lock = hold(work)
    assert lock is not None
    finish(work)
    assert not is_over(work)
    lock.close()
    assert is_over(work)


def test_sums_are_written_as_they_are_read() -> None:
    sums = {"b/c d": "1" * 64, "a": "0" * 64, "e\u2028f": "2" * 64, "g\x85h": "3" * 64}
    assert read_sums(write_sums(sums).decode()) == sums


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "..", "", "a\0b", "a\nb"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(Damaged):
        require_inside(name)


def test_spec_is_the_first_to_go_up(work: Path) -> None:
    assert names_of(work)[0] == layout.SPEC
