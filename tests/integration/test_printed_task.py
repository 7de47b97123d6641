"""The command in its header takes what `launch --dry-run --show task` prints, as it is.

SkyPilot's own command and a server of its own parse the file and choose a machine, on catalogs of
real rows; a dry run asks no cloud for anything.
"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.integration.offers import Offers
from tests.integration.skypilot import api_server, name_cards
from tests.unit.launcher.catalog.real_rows import place

JOB = ("--model", "Qwen/Qwen2.5-7B", "--strategy", "qlora", "--max-cost", "20")
IMAGE = ("--image", "registry.example/me/train:1")
# Where from, and the instance that was planned. Clouds that know their machines without their own
# libraries or lists of images: SkyPilot goes on to them in a dry run.
TASKS = [
    (("--on", "runpod", "--gpu", "A100-80GB"), "1x_A100-80GB_SECURE"),
    (("--on", "runpod", "--gpu", "A100-80GB:2", *IMAGE), "2x_A100-80GB_SECURE"),
    (("--on", "lambda", "--gpu", "A6000", *IMAGE), "gpu_1x_a6000"),
]
CARDS = [
    *(("runpod", "A100-80GB", count, False) for count in (1, 2)),
    ("lambda", "A6000", 1, False),
]


def test_sky_launch_takes_the_printed_tasks(
    sky_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    home = place(tmp_path, "runpod", "lambda")
    name_cards(home, CARDS)
    launch = Offers(home).launch
    with api_server(sky_python, home, ("RunPod", "Lambda")) as (variables, _):
        for number, (where, instance) in enumerate(TASKS):
            printed = tmp_path / f"{number}.yaml"
            printed.write_text(launch(*JOB, *where, "--dry-run", "--show", "task").stdout)
            named = re.search(r"^# By hand: sky (.*) FILE$", printed.read_text(), re.MULTILINE)
            assert named is not None
            assert named[1] == "launch --secret HF_TOKEN"
            sky = Path(sky_python).with_name("sky")
            done = subprocess.run(
                [sky, *shlex.split(named[1]), "--yes", "--dryrun", printed],
                cwd=tmp_path,
                env={**variables, "HF_TOKEN": "hf_x"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
            assert "Dryrun finished." in said
            assert f" {instance} " in said
