"""NVML for real: nvidia-ml-py against a library of our own, compiled here, in a child process
that finds it by LD_LIBRARY_PATH before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from launcher.catalog.local import Survey
from launcher.types import MIB, Offer

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "import sys, msgspec; from launcher.catalog.local import survey;"
    "sys.stdout.buffer.write(msgspec.json.encode(survey('2026-11-21')));"
    "print(*[m for m in ('pynvml', 'torch') if m in sys.modules], file=sys.stderr)"
)


def look(library: Path | None, cards: str = "", **variables: str) -> tuple[Survey, str]:
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": str(ROOT), "NVML_CARDS": cards, **variables}
    if library is not None:
        environment["LD_LIBRARY_PATH"] = str(library)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=Survey), done.stderr.decode()


def gpus(found: Survey) -> list[Offer]:
    return [offer for offer in found.offers if offer.device.kind == "cuda"]


def test_a_card_with_what_is_free_of_it(nvml):
    found, _ = look(nvml, "NVIDIA GeForce RTX 4080|16376|1376|8.9|2")
    (offer,) = gpus(found)
    assert offer.device.name == "RTX4080"
    assert offer.device.total_bytes == 16376 * MIB
    assert offer.device.usable_bytes == 15000 * MIB
    assert offer.device.compute_capability == (8, 9)
    assert offer.device.dense_16bit_tflops == 97.5
    assert offer.microusd_per_hour == 0
    assert offer.executor == "process"
    assert "driver 550.54.14" in offer.source
    assert offer.note == "1.3 GiB in use by 2 processes"


def test_the_cpu_is_offered_beside_the_cards(nvml):
    found, _ = look(nvml, "Tesla T4|15360|3|7.5|0;NVIDIA L40S|46068|0|8.9|0")
    assert [o.instance for o in found.offers] == ["gpu0", "gpu1", "cpu"]


def test_a_card_we_do_not_know_has_no_speed(nvml):
    found, _ = look(nvml, "NVIDIA GeForce RTX 4090 Laptop GPU|16376|0|8.9|0")
    (offer,) = gpus(found)
    assert offer.device.name == "NVIDIA GeForce RTX 4090 Laptop GPU"
    assert offer.device.dense_16bit_tflops == 0
    assert "speed unknown" in offer.note


def test_one_broken_card_does_not_hide_the_other(nvml):
    found, _ = look(nvml, "NVIDIA A10|0|0|8.6|0;NVIDIA A10|23028|0|8.6|0")
    assert [o.instance for o in gpus(found)] == ["gpu1"]
    assert found.problems == ("GPU 0: Unknown Error",)


def test_a_driver_that_does_not_answer_is_said(nvml):
    found, _ = look(nvml, "NVIDIA A10|23028|0|8.6|0", NVML_INIT="999")
    assert gpus(found) == []
    assert "run nvidia-smi" in found.problems[0]


@pytest.mark.parametrize(
    ("visible", "instances"),
    [("1", ["gpu1"]), ("", []), ("GPU-stand-in-0", ["gpu0"]), ("0,1", ["gpu0", "gpu1"])],
)
def test_cards_hidden_from_cuda_are_not_offered(nvml, visible, instances):
    cards = "NVIDIA A10|23028|0|8.6|0;NVIDIA A10|23028|0|8.6|0"
    found, _ = look(nvml, cards, CUDA_VISIBLE_DEVICES=visible)
    assert [o.instance for o in gpus(found)] == instances
    assert len(found.problems) == 2 - len(instances)


def test_without_the_library_pynvml_is_never_imported():
    found, modules = look(None)
    assert "torch" not in modules
    if not gpus(found):  # a machine with a driver imports it, rightly
        assert "pynvml" not in modules
