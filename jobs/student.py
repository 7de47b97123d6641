"""A trained student, loaded as it was trained: the same quantisation, the same casts.

What it scores is then exactly what its run measured; loaded otherwise (in 16 bits, or merged) its
scores differ a little.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from peft import PeftModel

from jobs import layout, strategies
from jobs.outcome import BadInput
from jobs.scores import Array
from jobs.sources import base_of
from jobs.spec import DeviceKind, Dtype, Regression, ResolvedSpec


def read_run(run: Path) -> ResolvedSpec:
    """The spec of a finished regression run. Raises `BadInput` where the folder is none."""
    try:
        job = msgspec.json.decode((run / layout.SPEC).read_bytes(), type=ResolvedSpec)
    except FileNotFoundError:
        raise BadInput(f"{run}: no {layout.SPEC}; give the folder of a finished run") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"{run / layout.SPEC}: {error}") from None
    if job.regression is None:
        raise BadInput(f"{run}: a run of task {job.task}; only a regression student scores texts")
    return job


class Student:
    """Scores texts. `asked` names the dimensions, in the order of the outputs."""

    def __init__(
        self, run: Path, device: DeviceKind | None = None, dtype: Dtype | None = None
    ) -> None:
        job = read_run(run)
        assert job.regression is not None, "read_run has looked"
        job = placed(job, device, dtype)
        self.asked: Regression = job.regression
        self.job = job
        weights = run / (layout.MODEL if job.strategy == "full" else layout.ADAPTER)
        if not weights.is_dir():
            raise BadInput(
                f"{run}: no {weights.name}/; the run did not finish, or was not collected"
            )
        source, revision = (str(weights), None) if job.strategy == "full" else base_of(job, run)
        self.tokenizer = strategies.load_tokenizer(str(weights), None)
        model = strategies.load_model(job, source, revision, self.tokenizer)
        if job.strategy != "full":
            model = PeftModel.from_pretrained(model, str(weights.resolve()))
            strategies.widen_head(model)
        self.model = model.eval()
        strategies.limit_threads(job, strategies.count_parameters(model))

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, after cutting."""
        longest = self.job.train.seq_len
        found = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return [len(ids) for ids in found]

    def scores(self, texts: Sequence[str]) -> Array:
        """Scores of shape (texts, dimensions), in the units of training, not cut to their range."""
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
        return logits.float().cpu().numpy().astype(np.float64)


def placed(job: ResolvedSpec, device: DeviceKind | None, dtype: Dtype | None) -> ResolvedSpec:
    """The spec on a device of this machine: the one asked for, the run's own, or the CPU.

    A CPU computes in fp32 unless told otherwise: 16-bit arithmetic is many times slower there.
    """
    there: DeviceKind = "cpu"
    if job.device == "cuda" and torch.cuda.is_available():
        there = "cuda"
    if job.device == "mps" and torch.backends.mps.is_available():
        there = "mps"
    there = device or there
    moved: Dtype = job.dtype if there == job.device else "bf16" if there == "cuda" else "fp32"
    return msgspec.structs.replace(job, device=there, dtype=dtype or moved)
