"""A container's first process, on this machine: the kernel's word, and its GPUs."""

from pathlib import Path

import pytest

from jobs.contained import out_of_memory, wrong_gpus


@pytest.mark.parametrize(
    ("name", "text", "was"),
    [
        ("memory.events", "low 0\noom 3\noom_kill 1\noom_group_kill 0\n", True),
        ("memory.events", "low 0\noom 3\noom_kill 0\n", False),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
        ("elsewhere", "oom_kill 1\n", False),
    ],
)
def test_the_kernels_count_says_whether_memory_was_short(
    tmp_path: Path, name: str, text: str, was: bool
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert out_of_memory(tmp_path) is was


def test_no_gpu_planned_asks_for_none() -> None:
    assert wrong_gpus("") is None
