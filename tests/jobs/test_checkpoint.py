import pytest

from jobs import layout
from jobs.checkpoint import is_complete, keep_newest, last_complete, mark_complete


def written(folder, step, complete=True):
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "adapter_model.safetensors").write_bytes(b"weights" * step)
    (checkpoint / "inner" / "state.json").write_text("{}")
    (checkpoint / "training_args.bin").write_bytes(b"a pickle")
    if complete:
        mark_complete(checkpoint)
    return checkpoint


def test_the_newest_whole_one_is_found_and_newer_remains_are_removed(tmp_path):
    written(tmp_path, 9)
    whole = written(tmp_path, 10)
    torn = written(tmp_path, 11, complete=False)
    assert last_complete(tmp_path) == whole
    assert not torn.exists()


def test_no_folder_is_no_checkpoint(tmp_path):
    assert last_complete(tmp_path / "checkpoints") is None


def truncate(checkpoint):
    (checkpoint / "adapter_model.safetensors").write_bytes(b"weights")


def flip(checkpoint):
    (checkpoint / "adapter_model.safetensors").write_bytes(b"WEIGHTS" * 5)


def remove(checkpoint):
    (checkpoint / "inner" / "state.json").unlink()


def tear_marker(checkpoint):
    marker = checkpoint / layout.COMPLETE
    marker.write_bytes(marker.read_bytes()[:20])


@pytest.mark.parametrize("damage", [truncate, flip, remove, tear_marker])
def test_a_damaged_one_is_not_complete(tmp_path, damage):
    checkpoint = written(tmp_path, 5)
    assert is_complete(checkpoint)
    damage(checkpoint)
    assert not is_complete(checkpoint)


def test_one_under_another_step_is_not_complete(tmp_path):
    moved = written(tmp_path, 5).rename(tmp_path / "checkpoint-6")
    assert not is_complete(moved)


def test_nothing_pickled_is_kept(tmp_path):
    assert not (written(tmp_path, 1) / "training_args.bin").exists()


def test_old_ones_go_by_step_not_by_name(tmp_path):
    for step in (8, 9, 10):
        written(tmp_path, step)
    keep_newest(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]
