"""`make soak`: what takes too long for every change. Prints figures for docs/LOG.md; ends with 1
when any of them misses its bar.

    .venv/bin/python -m benchmarks.soak [NAME ...]
"""

import subprocess
import sys
from pathlib import Path

from launcher.executors.environment import training_python
from tests.integration.pretrained import smollm2_folder


def commands(python: str, model: str) -> dict[str, list[str]]:
    here = [sys.executable, "-m"]
    return {
        "pretrained": [*here, "pytest", "tests/soak/test_pretrained.py", "-q", "-s"],
        "climb": [*here, "pytest", "tests/soak/test_climb.py", "-q", "-s"],
        "managed": [*here, "pytest", "tests/soak/test_managed.py", "-q", "-s"],
        "kills": [*here, "pytest", "tests/soak/test_kills.py", "-q", "-s"],
        "stores": [*here, "pytest", "tests/soak/test_stores.py", "-q", "-s"],
        "throughput": [*here, "benchmarks.stores"],
        "tracking": [*here, "pytest", "tests/soak/test_tracking.py", "-q", "-s"],
        "canary": [*here, "pytest", "tests/soak/test_canary.py", "-q", "-s"],
        "images": [*here, "pytest", "tests/soak/test_images.py", "-q", "-s"],
        "canary-machine": [*here, "pytest", "tests/soak/test_canary_machine.py", "-q"],
        "properties": [*here, "pytest", "tests/unit", "-q", "--hypothesis-profile", "thorough"],
        "student": [*here, "benchmarks.student", python, model, "--heads", "fitted"],
        "low-ram": [*here, "benchmarks.low_ram", python],
        "train": [*here, "benchmarks.train", python],
        "overhead": [*here, "benchmarks.overhead"],
    }


def main() -> None:
    python = str(training_python(None, lambda line: print(line, file=sys.stderr)))
    found = commands(python, str(smollm2_folder(python)))
    failed = []
    for name in sys.argv[1:] or found:
        print(f"== {name}: {' '.join(found[name][1:])}", flush=True)
        if subprocess.run(found[name], cwd=Path(__file__).parents[1], check=False).returncode:
            failed.append(name)
    sys.exit(f"missed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
