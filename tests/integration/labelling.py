"""`python -m jobs.label` in real child processes."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import layout
from tests.integration.command import ROOT

KEY = "sk-0123456789-not-to-be-seen"
VARIABLE = "LABEL_TEST_KEY"
PROMPT = 'Score length and calm from 0 to 10, like {"length": 1, "calm": 2}.\nTEXT:{text}'


@dataclass
class Labelling:
    """One task in its own folder."""

    folder: Path
    python: str
    base_url: str
    key: str = KEY
    environment: dict[str, str] = field(default_factory=dict)

    def texts(self, texts: Iterable[str]) -> None:
        rows = (json.dumps({"id": f"t{i}", "text": text}) for i, text in enumerate(texts))
        (self.folder / "in.jsonl").write_text("".join(row + "\n" for row in rows))

    def spec(self, **changes: Any) -> Path:
        """label.json with quick retries; a dict among the changes goes over the part's keys."""
        if not (self.folder / "prompt.txt").exists():
            (self.folder / "prompt.txt").write_text(PROMPT)
        endpoint = {"base_url": self.base_url, "model": "oracle-1", "key_variable": VARIABLE}
        spec: dict[str, Any] = {
            "texts": {"file": "in.jsonl", "id_field": "id"},
            "endpoint": {**endpoint, "max_output_tokens": 40},
            "prompt": "prompt.txt",
            "dimensions": {"length": {}, "calm": {}},
            "limits": {"max_tokens": 1_000_000},
            "retries": {"first_wait_seconds": 0.01, "longest_wait_seconds": 0.05},
        }
        for name, value in changes.items():
            merged = isinstance(value, dict) and name not in ("dimensions", "limits")
            spec[name] = {**spec.get(name, {}), **value} if merged else value
        path = self.folder / "label.json"
        path.write_text(json.dumps(spec))
        return path

    def start(self, python: str | None = None) -> "subprocess.Popen[str]":
        ours = {"PYTHONPATH": str(ROOT), VARIABLE: self.key, "NO_PROXY": "*"}
        return subprocess.Popen(
            [python or self.python, "-m", "jobs.label", "label.json"],
            cwd=self.folder,
            env={**os.environ, **self.environment, **ours},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, code: int = 0, python: str | None = None) -> str:
        """Run to the end; everything that was printed."""
        process = self.start(python)
        try:
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == code, out + err
        return out + err

    @property
    def output(self) -> Path:
        return self.folder / "labels"

    def rows(self) -> list[dict[str, Any]]:
        lines = (self.output / layout.LABELLED).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def summary(self) -> dict[str, Any]:
        return json.loads((self.output / layout.LABEL_SUMMARY).read_text())

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Of the journal, all or of one kind; a torn line is passed over."""
        found = []
        for line in (self.output / layout.ORACLE_ANSWERS).read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return [event for event in found if kind in (None, event["event"])]

    def wait_for_event(self, kind: str) -> None:
        patience_until = time.monotonic() + 60
        while not self.events(kind):
            assert time.monotonic() < patience_until, f"no {kind} came"
            time.sleep(0.02)
