"""The plan's count of tokens is what training sees."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from jobs.data import Line, read_lines
from jobs.encode import Encoder
from jobs.spec import full_text
from tests.jobs.short_job import ROOT, SAMPLE

COMPLETIONS = "".join(
    json.dumps({"prompt": f"{'word ' * n}?", "completion": f" {n}"}) + "\n" for n in range(1, 40)
)


@pytest.mark.parametrize("rows", ["messages", "completions"])
def test_rows_have_the_tokens_that_are_trained_on(tmp_path, rows) -> None:
    file = SAMPLE / "train.jsonl"
    if rows == "completions":
        file = tmp_path / "rows.jsonl"
        file.write_text(COMPLETIONS)
    job = {"model": {"id": str(SAMPLE / "model")}, "data": {"train": str(file)}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jobs.count_tokens", "job.json", "100"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    counted = json.loads(done.stdout)["rows"]
    encoder = Encoder(AutoTokenizer.from_pretrained(SAMPLE / "model"), 10_000, True)
    lines = read_lines(file)
    chosen = lines[:: -(-len(lines) // 100)]

    def trained(line: Line) -> list[int]:
        return [len(full_text(line.row)), len(encoder.encode(line)["input_ids"])]

    assert counted == [trained(line) for line in chosen]
    assert len(counted) <= 100
