"""Other programs at work for an export: the converter, and those in llama.cpp's environment."""

import os
import subprocess
import sys

import msgspec

from jobs.shipping.wire import Tools

TAIL_LINES = 15


class ToolFailed(Exception):
    """A program ended with an error; its last words are in the message."""


def call(command: list[str]) -> str:
    """Run to the end and return its stdout. Raises `ToolFailed`."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-TAIL_LINES:])
        raise ToolFailed(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
    return done.stdout


def module(python: str, name: str, *arguments: object) -> str:
    """Run one of our modules with another interpreter; it finds them by the same PYTHONPATH."""
    return call([python, "-P", "-m", name, *map(str, arguments)])


def convert(tools: Tools, source: str, target: str) -> None:
    """A Transformers folder to GGUF in 16 bits, with llama.cpp's own converter."""
    module(sys.executable, "jobs.shipping.converter", tools.llama_cpp, tools.site_packages,
           source, "--outtype", "f16", "--outfile", target)  # fmt: skip


def find(python: str) -> Tools:
    """What llama.cpp's environment holds."""
    return msgspec.json.decode(module(python, "jobs.shipping.tools"), type=Tools)
