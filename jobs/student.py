"""A trained student: texts in, scores out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from jobs import finished, strategies
from jobs.outcome import BadInput
from jobs.scores import Array
from jobs.spec import DeviceKind, Dtype


class Student:
    """Scores texts. `asked` names the dimensions, in the order of the outputs."""

    def __init__(
        self, run: Path, device: DeviceKind | None = None, dtype: Dtype | None = None
    ) -> None:
        job = finished.placed(finished.read_run(run, "regression"), device, dtype)
        if job.regression is None:  # the spec refuses it; for the reader
            raise BadInput(f"{run}: the spec says nothing about what to score")
        self.job, self.asked = job, job.regression
        self.model, self.tokenizer = finished.load(job, run)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, after cutting."""
        longest = self.job.train.seq_len
        found = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return [len(ids) for ids in found]

    def scores(self, texts: Sequence[str]) -> Array:
        """Scores of shape (texts, dimensions), in the units of training, not cut to their range.

        Raises `BadInput` where one is no finite number.
        """
        inputs = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.job.train.seq_len,
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        autocast = torch.autocast(
            self.model.device.type,
            dtype=strategies.DTYPES[self.job.dtype],
            enabled=self.job.dtype != "fp32",
        )
        with torch.inference_mode(), autocast:
            logits = self.model(**inputs).logits
        found = logits.float().cpu().numpy().astype(np.float64)
        odd = len(texts) - int(np.isfinite(found).all(axis=1).sum())
        if odd:
            raise BadInput(
                f"the student's scores of {odd} of {len(texts)} texts are no finite numbers in "
                f"{self.job.dtype}: try --dtype fp32; where they are none either, train it anew"
            )
        return found
