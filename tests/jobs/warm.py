"""The libraries of a job on the CPU, imported in the environment that the job gives them.

For a server of forks (tests/jobs/short_job.py): what this module imports, no job imports again.
"""

import gc
import os

from jobs.sources import set_environment
from jobs.spec import ResolvedSpec

os.environ["OMP_NUM_THREADS"] = "1"  # as short_job.start gives it
JOB = ResolvedSpec(
    run_id="warm", model={"id": "./model"}, data={"train": "x"}, strategy="lora", dtype="fp32",
    device="cpu", quantization=None,
)  # fmt: skip
set_environment(JOB, model_is_local=True)

import bitsandbytes  # noqa: E402, F401
from peft import PeftModel  # noqa: E402, F401
from transformers import (  # noqa: E402, F401
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Trainer,
)

from jobs import arguments, predict, regression, sft, strategies, trainer  # noqa: E402, F401

gc.freeze()  # a fork need not go through what was imported
