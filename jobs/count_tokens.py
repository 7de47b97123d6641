"""How many tokens a job's rows have, for its plan: `python -m jobs.count_tokens JOB.json ROWS`.

Prints one JSON object: `rows` holds [characters, tokens] of at most ROWS evenly spaced training
rows, whole and with their template and end token. No network: the tokenizer is a folder's, or in
the Hub's cache.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from jobs.sources import without_torch
from jobs.spec import JobSpec, MessagesRow, Row, ScoresRow, full_text
from jobs.spec.reading import read_rows


def main(job_file: str, most: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer

    job = msgspec.json.decode(Path(job_file).read_bytes(), type=JobSpec)
    tokenizer = AutoTokenizer.from_pretrained(job.model.id, revision=job.model.revision)
    rows = [found.row for found in read_rows(job.data.train, job.regression)]
    every = -(-len(rows) // int(most))
    counted = [(len(full_text(row)), tokens(tokenizer, row)) for row in rows[::every]]
    json.dump({"rows": counted}, sys.stdout)


def tokens(tokenizer: Any, row: Row) -> int:
    """Of one row as it is trained on, before it is cut."""
    if isinstance(row, MessagesRow):
        messages = msgspec.to_builtins(row.messages)
        return len(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False),
                             add_special_tokens=False)["input_ids"])  # fmt: skip
    end = 0 if isinstance(row, ScoresRow) else 1
    return len(tokenizer(full_text(row))["input_ids"]) + end


if __name__ == "__main__":
    without_torch()
    main(*sys.argv[1:])
