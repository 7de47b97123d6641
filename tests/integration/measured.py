"""Figures that a program prints in the training environment."""

import os
import subprocess
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def measured(train_python: str, program: str, cases: Any, kind: type[T]) -> T:
    """The JSON of the program's last line; it reads `cases` as JSON from stdin, on one thread."""
    done = subprocess.run(
        [train_python, "-P", "-c", program],
        input=msgspec.json.encode(cases),
        capture_output=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=kind)
