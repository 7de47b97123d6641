"""The cases of one model for measure_gpu.py, in the training interpreter.

`probe DEVICE` prints what the device is; `measure` reads a request on stdin and prints one line of
JSON a case. For each strategy and task the model is built once, of random weights, in the types
that jobs/strategies.py would load it in; trainer, settings and adapters are the job's own.
"""

import gc
import json
import statistics
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from datasets import Dataset
from transformers import AutoConfig
from transformers.quantizers import AutoHfQuantizer

from jobs import strategies, trainer
from jobs.arguments import regression_arguments, sft_arguments
from jobs.callbacks import StepTimes
from jobs.outcome import reason_of
from jobs.spec import ResolvedSpec
from jobs.tokenizer import load_tokenizer
from jobs.versions import versions

STEPS = 4  # the first is left out of the time
HELD_STEPS = 2  # where the verdict alone is asked: from the second on all state is there


def probe(device: str) -> None:
    found = versions()
    said = ", ".join(f"{name} {found[name]}" for name in sorted(found))
    card = {"name": "cpu", "total_bytes": 0, "compute_capability": None, "versions": said}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        card |= {"name": properties.name, "total_bytes": properties.total_memory}
        card["compute_capability"] = (properties.major, properties.minor)
    print(json.dumps(card))


def build(job: ResolvedSpec, config: dict[str, Any], tokenizer: Any, whole_fits: bool) -> Any:
    """Random weights, quantised where the spec says so; nothing is read from a file.

    What is to be quantised may be larger than the card before (not `whole_fits`): then it is made
    in RAM.
    """
    kind, more = strategies.model_class(job, tokenizer)
    settings = AutoConfig.for_model(**config | more)
    dtype = torch.float32 if job.strategy == "full" else strategies.DTYPES[job.dtype]
    place = torch.device(strategies.device(job))
    with place if whole_fits or job.quantization is None else torch.device("cpu"):
        model = kind.from_config(settings, dtype=dtype)
    if job.quantization is not None:
        quantise(model, job, place)
        model.to(place)
        settings = strategies.quantization(job)
        model.hf_quantizer = AutoHfQuantizer.from_config(settings, pre_quantized=False)
        model.is_loaded_in_4bit = model.is_quantized = True
        model.config.quantization_config = settings
    strategies.keep_gradients(model)
    return model


def quantise(model: Any, job: ResolvedSpec, place: torch.device) -> None:
    """Every linear layer but head and scores as bitsandbytes holds it, one after the other."""
    linear = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    for name in linear:  # by name: a list of modules would keep every weight that was replaced
        if name in ("lm_head", strategies.HEAD):
            continue
        module = model.get_submodule(name)
        packed = Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=strategies.DTYPES[job.dtype],
            compress_statistics=job.quantization.double,
            quant_type=job.quantization.kind,
            device="meta",
        )
        packed.weight = Params4bit(
            module.weight.data.cpu(),
            requires_grad=False,
            compress_statistics=job.quantization.double,
            quant_type=job.quantization.kind,
            module=packed,
        ).to(place)
        packed.bias = module.bias
        model.set_submodule(name, packed)
        del module
    model.requires_grad_(False)


def rows_of(job: ResolvedSpec, vocabulary: int, steps: int) -> Dataset:
    """Enough for all steps: the first is full, packed ones all are; else each is a token shorter,
    so that a batch is padded and masked as people's are."""
    count, full = steps * job.train.micro_batch, job.train.seq_len
    shorter = 0 if job.train.packing or job.train.micro_batch == 1 else 1
    ids = [torch.randint(0, vocabulary, (full - i * shorter,)).tolist() for i in range(count)]
    if job.regression is None:
        return Dataset.from_dict({"input_ids": ids, "labels": ids})
    scores = torch.rand(count, len(job.regression.dimensions)).tolist()
    mask = [[1] * len(row) for row in ids]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": mask, "labels": scores})


def tuner_of(job: ResolvedSpec, model: Any, tokenizer: Any, rows: Dataset, folder: Path) -> Any:
    if job.regression is not None:
        model = strategies.with_adapter(job, model)
        strategies.widen_adapter(job, model)
        return trainer.RegressionTrainer(
            job.regression.loss,
            model=model,
            args=regression_arguments(job, folder),
            train_dataset=rows,
            data_collator=trainer.padded(tokenizer),
        )
    found = trainer.SftTrainer(
        model=model,
        args=sft_arguments(job, folder),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=strategies.adapter(job, model),
    )
    strategies.widen_adapter(job, found.model)
    return found


def train(job: ResolvedSpec, model: Any, tokenizer: Any, steps: int) -> dict[str, Any]:
    """A few steps of one case; the model is left without its adapter."""
    cuda = job.device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    tuner = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(job, model.config.vocab_size, steps)
            tuner = tuner_of(job, model, tokenizer, rows, Path(folder))
            times = StepTimes()
            tuner.add_callback(times)
            tuner.args.max_steps = steps
            tuner.args.set_save(strategy="no")
            tuner.train()
        if model.is_activation_checkpointing != job.train.activation_checkpointing:
            raise RuntimeError("the case before left its checkpointing on")
        return {
            "outcome": "ok",
            "standing_bytes": torch.cuda.memory_allocated() if cuda else 0,
            "allocated_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
            "reserved_bytes": torch.cuda.max_memory_reserved() if cuda else 0,
            "context_bytes": beside() if cuda else 0,
            "step_seconds": statistics.median(times.seconds[1:]),
        }
    except Exception as error:
        if reason_of(error) != "OUT_OF_MEMORY":
            raise
        return {"outcome": "OUT_OF_MEMORY"}
    finally:
        if tuner is not None and hasattr(tuner.model, "unload"):
            tuner.model.unload()
        as_built(model)


def as_built(model: Any) -> None:
    """Without what a trainer leaves on a model, which the next case may be without."""
    model.activation_checkpointing_disable()
    model.disable_input_require_grads()
    for parameter in model.parameters():
        parameter.grad = None


def beside() -> int:
    """Bytes in use on the card that are not torch's allocator's: the context, alone on a card."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def grant(cuda: bool, granted: int | None) -> None:
    """Let torch reserve so much, None: all; what it holds of earlier cases is given back."""
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if granted is None else granted / total)


def measure() -> None:
    request = json.load(sys.stdin)
    trainer.quiet()
    tokenizer = load_tokenizer(request["tokenizer"], None)
    cases = [
        (msgspec.convert(c["spec"], type=ResolvedSpec), c["granted"]) for c in request["cases"]
    ]
    for _, members in groupby(cases, lambda case: (case[0].task, case[0].strategy)):
        some = list(members)
        cuda = some[0][0].device == "cuda"
        grant(cuda, None)
        try:
            model = build(some[0][0], request["config"], tokenizer, request["whole_fits"])
        except torch.cuda.OutOfMemoryError:
            model = None  # the weights alone do not fit
        for job, granted in some:
            grant(cuda, granted)
            found = {"outcome": "OUT_OF_MEMORY"}
            if model is not None:
                found = train(job, model, tokenizer, STEPS if granted is None else HELD_STEPS)
            print("\n" + json.dumps(found), flush=True)
        del model


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        probe(sys.argv[2])
    else:
        measure()
