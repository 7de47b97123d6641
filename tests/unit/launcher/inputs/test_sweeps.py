"""`--sweep` as people write it."""

import pytest

from launcher.errors import BadInput
from launcher.inputs.sweeps import combinations


def test_every_value_is_a_run_and_several_sweeps_their_combinations() -> None:
    assert combinations(()) == [()]
    assert combinations(("lora.r=8,16",)) == [("lora.r=8",), ("lora.r=16",)]
    found = combinations(("lora.r=8, 16", "train.learning_rate=1e-4,2e-4"))
    assert found == [
        ("lora.r=8", "train.learning_rate=0.0001"),
        ("lora.r=8", "train.learning_rate=0.0002"),
        ("lora.r=16", "train.learning_rate=0.0001"),
        ("lora.r=16", "train.learning_rate=0.0002"),
    ]


def test_a_value_may_be_a_list_or_a_word() -> None:
    found = combinations(("lora.target_modules=all-linear,[q_proj, v_proj]",))
    assert found == [
        ('lora.target_modules="all-linear"',),
        ('lora.target_modules=["q_proj", "v_proj"]',),
    ]


def test_a_key_is_swept_once() -> None:
    with pytest.raises(BadInput, match=r"--sweep lora.r=.*twice"):
        combinations(("lora.r=8,16", "lora.r=32"))


@pytest.mark.parametrize("sweep", ["lora.r", "lora.r=", "=8,16", "lora.r=[8", "lora.r=8,8"])
def test_what_is_no_sweep_is_refused(sweep: str) -> None:
    with pytest.raises(BadInput, match="--sweep"):
        combinations((sweep,))
