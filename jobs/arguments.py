"""The spec's training settings in the words of transformers and TRL."""

from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from trl import SFTConfig

from jobs import layout
from jobs.metrics import lower_is_better
from jobs.outcome import BadInput
from jobs.ranks import WAIT_SECONDS, ranks
from jobs.sharding import fsdp_arguments
from jobs.spec import ResolvedSpec


def sft_arguments(job: ResolvedSpec, run_folder: Path) -> SFTConfig:
    train = job.train
    return SFTConfig(
        **common(job, run_folder),
        max_length=train.seq_len,
        packing=train.packing,
        eval_packing=False,
        assistant_only_loss=False,  # the labels are made already, see jobs/encode.py
        # Off, as the models' own configs have it: with TRL's default a mixture of experts returns
        # its router's logits in generation too, where transformers 5.23 cannot sum them.
        router_aux_loss_coef=0.0,
    )


def regression_arguments(job: ResolvedSpec, run_folder: Path) -> TrainingArguments:
    return TrainingArguments(
        **common(job, run_folder), label_names=["labels"], remove_unused_columns=False
    )


def common(job: ResolvedSpec, run_folder: Path) -> dict[str, Any]:
    """What every task's trainer is told."""
    train = job.train
    processes = ranks().count
    micro = train.rows_at_once
    if train.effective_batch % (micro * processes):
        shared = f" x {processes} processes" if processes > 1 else ""
        raise BadInput(
            f"train.effective_batch {train.effective_batch} is no multiple of "
            f"train.micro_batch {micro}{shared}"
        )
    warmed = train.schedule == "constant" and (train.warmup_steps or train.warmup_share) > 0
    return {
        "output_dir": str(run_folder / layout.CHECKPOINTS),
        "num_train_epochs": train.epochs,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if warmed else train.schedule,
        # Below 1 it is a share of all steps (transformers 5 has no warmup_ratio).
        "warmup_steps": min(train.warmup_share, 0.999)
        if train.warmup_steps is None
        else train.warmup_steps,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": train.optimizer,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": micro,
        "gradient_accumulation_steps": train.effective_batch // (micro * processes),
        "activation_checkpointing": train.activation_checkpointing,
        "bf16": job.dtype == "bf16",
        "fp16": job.dtype == "fp16",
        "tf32": train.tf32 if job.device == "cuda" else None,
        "use_cpu": job.device == "cpu",
        "ddp_backend": "gloo" if processes > 1 and job.device == "cpu" else None,
        "ddp_timeout": WAIT_SECONDS,
        "ddp_find_unused_parameters": False,  # all that is trained takes part in every step
        "dataloader_pin_memory": job.device == "cuda",
        "logging_steps": train.log_every_steps,
        "logging_nan_inf_filter": False,  # a loss that is no number ends the job, see callbacks
        "save_steps": train.checkpoint_every_steps,
        "save_total_limit": None,  # jobs/callbacks.py removes old ones, once the new one is whole
        "seed": job.seed,
        "data_seed": job.seed,
        "report_to": "none",  # jobs/tracking.py has them, at arm's length
        "run_name": job.run_id,
        "project": job.name,
        "hub_private_repo": True,  # of a tracker's Space
        "trackio_static_space_id": False,
        "disable_tqdm": True,
        **(selection(job, train.select_by) if train.select_by is not None else {}),
        **fsdp_arguments(job),
    }


def selection(job: ResolvedSpec, metric: str) -> dict[str, Any]:
    """Evaluate and save at the end of each epoch; the best one is loaded at the end."""
    return {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",  # and every save_steps, see jobs/callbacks.py
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": not lower_is_better(metric, job.gates),
    }
