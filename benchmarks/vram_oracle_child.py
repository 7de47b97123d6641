"""One training micro-step and its evaluation, storage by storage, without a GPU or memory for it.

Run by benchmarks/vram_oracle.py with the training environment's interpreter; reads cases as JSON
lines ({"config": …, "job": a ResolvedSpec, "loss": chunked or plain, "prompt": tokens of a
question}) and answers each with one.

The job's own set-up runs (jobs/strategies: class, adapter, quantisation, dtypes), TRL's own loss
head, PEFT's own layers and bitsandbytes' own autograd function, under torch's FakeTensorMode: each
operation makes storages of the true size that hold nothing. A dispatch mode sees every storage come
and a finalizer sees it go; live bytes and their highest value are kept for each moment of the step.

Fake tensors lie on the CPU, since a build without CUDA runs no backward pass on fake CUDA tensors;
benchmarks/vram_oracle_card.py puts in its place what CUDA does otherwise.

What this does not see: the allocator's rounding and fragments, workspaces of cuBLAS and of sorting
(a bool index sorts its positions), CUDA's context, driver and kernels, cuDNN attention where torch
prefers it, math attention where a card has no flash attention (before sm80) but shared keys, staged
dK and dV of efficient attention for wide heads, and everything that is done while loading.
"""

import contextlib
import gc
import json
import sys
import types
import warnings
from typing import Any

import accelerate
import bitsandbytes
import msgspec
import peft
import torch
import transformers
import trl
from accelerate.utils import convert_outputs_to_fp32
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig
from transformers.quantizers import AutoHfQuantizer
from trl.trainer.utils import add_fused_lm_head

from benchmarks.vram_oracle_card import Storages, cuda_ways
from jobs import strategies
from jobs.spec import ResolvedSpec

STEP = ("forward", "loss", "last norm", "last layer", "layers", "embedding", "optimizer")
ASKED = ("evaluation", "prompts", "last token", "head")  # without gradients


def build(config: dict[str, Any], job: ResolvedSpec) -> Any:
    """The model as jobs/strategies.load_model would have it, with its adapter, on meta."""
    kind, more = strategies.model_class(job, types.SimpleNamespace(pad_token_id=0))
    dtype = torch.float32 if job.strategy == "full" else strategies.DTYPES[job.dtype]
    with torch.device("meta"):
        model = kind.from_config(
            AutoConfig.for_model(**config, **more), dtype=dtype, attn_implementation="sdpa"
        )
        nf4 = strategies.quantization(job)
        if nf4 is not None:
            quantizer = AutoHfQuantizer.from_config(nf4)
            quantizer.preprocess_model(model=model, dtype=dtype, device_map={"": "cpu"})
            quantizer.postprocess_model(model)
            strategies.keep_gradients(model)
        model = strategies.with_adapter(job, model)
    if job.regression is None and job.strategy != "full":
        if job.train.activation_checkpointing:  # trl 1.16 sft_trainer.py SFTTrainer.__init__
            model.enable_input_require_grads()
        if job.quantization is not None:  # the same, "When using QLoRA"
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.bfloat16)
    strategies.widen_adapter(job, model)
    base = model if job.strategy == "full" else model.get_base_model()
    if job.train.activation_checkpointing:  # transformers 5.23 trainer.py Trainer.train
        base.activation_checkpointing_enable()
    if job.regression is None:
        add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    model.train()
    return model


def materialise(model: Any, job: ResolvedSpec) -> dict[str, int]:
    """Give every parameter and buffer a storage, tied ones one; bytes by kind."""
    made: dict[int, Any] = {}
    kinds = {"quantised weights": 0, "quantisation state": 0, "other weights": 0, "adapters": 0}
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is None:
                continue
            if id(value) not in made:
                if isinstance(module, bitsandbytes.nn.Linear4bit) and name == "weight":
                    fresh = packed(module, value, job)
                    kinds["quantised weights"] += fresh.untyped_storage().nbytes()
                    kinds["quantisation state"] += state_bytes(fresh.quant_state)
                else:
                    fresh = torch.nn.Parameter(
                        torch.empty(value.shape, dtype=value.dtype), value.requires_grad
                    )
                    trained = value.requires_grad and job.strategy != "full"
                    kind = "adapters" if trained else "other weights"
                    kinds[kind] += fresh.untyped_storage().nbytes()
                made[id(value)] = fresh
            module._parameters[name] = made[id(value)]
        for name, value in list(module._buffers.items()):
            if value is not None:
                if id(value) not in made:
                    made[id(value)] = torch.empty(value.shape, dtype=value.dtype)
                module._buffers[name] = made[id(value)]
    return kinds


def packed(module: Any, weight: Any, job: ResolvedSpec) -> Any:
    """bitsandbytes' own quantisation, whose fake kernels give the packed shapes."""
    shape = (module.out_features, module.in_features)
    found, state = bitsandbytes.functional.quantize_4bit(
        torch.empty(shape, dtype=strategies.DTYPES[job.dtype]),
        blocksize=weight.blocksize,
        compress_statistics=weight.compress_statistics,
        quant_type=weight.quant_type,
    )
    fresh = torch.nn.Parameter(found, requires_grad=False)
    fresh.quant_state = state
    return fresh


def state_bytes(state: Any) -> int:
    tensors = [state.absmax, state.code]
    if state.nested:  # its table of codes is one for all
        tensors += [state.offset, state.state2.absmax]
    return sum(t.untyped_storage().nbytes() for t in tensors)


def inputs_of(job: ResolvedSpec) -> dict[str, Any]:
    """One micro-batch as TRL's collator makes it, all rows full."""
    rows, length = job.train.micro_batch, job.train.seq_len
    if job.train.packing and job.regression is None:  # padding-free: all rows one after the other
        ids = torch.zeros((1, rows * length), dtype=torch.int64)
        return {"input_ids": ids, "position_ids": torch.zeros_like(ids), "use_cache": False}
    ids = torch.zeros((rows, length), dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}


def prepared(model: Any, job: ResolvedSpec) -> Any:
    """The model's forward pass as accelerate 1.15 accelerator.py prepare_model leaves it."""
    if job.dtype == "fp32":
        return model.forward
    forward = torch.autocast("cpu", dtype=strategies.DTYPES[job.dtype])(model.forward)
    return convert_outputs_to_fp32(forward)


def micro_step(model: Any, inputs: dict[str, Any], job: ResolvedSpec, loss: str, mode: Any) -> None:
    """trl sft_trainer.py compute_loss (or jobs/trainer.py's), accelerate's casts, and backward."""
    forward = prepared(model, job)

    def compute_loss() -> Any:
        if job.regression is not None:
            output = forward(**inputs)
            wanted = torch.zeros((inputs["input_ids"].shape[0], len(job.regression.dimensions)))
            return torch.nn.functional.l1_loss(output.logits.float(), wanted)
        labels = torch.zeros_like(inputs["input_ids"])
        items = torch.ones((), dtype=torch.int64)
        if loss == "plain":
            return forward(**inputs, labels=labels, num_items_in_batch=items).loss
        outputs = forward(**inputs, labels=labels, fused_lm_head=True)
        return (-outputs.log_probs).sum() / items.clamp(min=1)

    mode.enter("forward")
    compute_loss().backward()


def evaluate(model: Any, inputs: dict[str, Any], job: ResolvedSpec) -> None:
    """jobs/trainer.py prediction_step: the loss of a micro-batch of held-out rows."""
    forward = prepared(model, job)
    with torch.no_grad():
        if job.regression is not None:
            forward(**inputs)
            return
        labels = torch.zeros_like(inputs["input_ids"])
        forward(**inputs, labels=labels, fused_lm_head=True)


def answer(model: Any, job: ResolvedSpec, prompt: int, mode: Storages) -> None:
    """jobs/evaluate.py: the questions' first token, and the last one of the longest answers.

    PEFT's generate asks the model inside, beneath accelerate's casts. What transformers 5.23
    generation/utils.py _prefill and _sample do in between is the same with a shorter cache.
    """
    base = model if job.strategy == "full" else model.get_base_model()
    forward = prepared(base, job) if job.strategy == "full" else base.forward
    rows, last = job.eval.batch, prompt + job.eval.max_new_tokens - 1
    cache = transformers.DynamicCache(config=base.config)

    def next_tokens(length: int, seen: int) -> None:
        ids = torch.zeros((rows, seen), dtype=torch.int64)
        given = base.prepare_inputs_for_generation(
            ids,
            next_sequence_length=length,
            past_key_values=cache,
            attention_mask=torch.ones_like(ids),
            position_ids=torch.zeros_like(ids),  # counted from each row's first token
            use_cache=True,
            logits_to_keep=1,
            is_first_iteration=length > 1,
        )
        output = forward(**given, return_dict=True)
        logits = output.logits[:, -1].to(copy=True, dtype=torch.float32)
        torch.argmax(logits, dim=-1)

    with torch.inference_mode():
        mode.enter("prompts")
        next_tokens(prompt, prompt)
        mode.enter("between")
        for layer in cache.layers:
            kept = min(last - 1, getattr(layer, "sliding_window", last) - 1)
            keys, values = layer.keys, layer.values
            layer.keys = keys.new_empty((*keys.shape[:2], kept, keys.shape[3]))
            layer.values = values.new_empty((*values.shape[:2], kept, values.shape[3]))
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = last - 1
            del keys, values
        gc.collect()  # what cycles hold would count as there
        mode.enter("last token")
        next_tokens(1, last)


def fit_head(model: Any, job: ResolvedSpec, length: int) -> None:
    """jobs/heads.py features_of, before there is an adapter or a trainer that says use_cache."""
    base = model if job.strategy == "full" else model.get_base_model()
    base.config.use_cache = True
    ids = torch.zeros((job.eval.batch, length), dtype=torch.int64)
    aside = contextlib.nullcontext() if job.strategy == "full" else model.disable_adapter()
    with torch.inference_mode(), aside:
        base(input_ids=ids, attention_mask=torch.ones_like(ids))


def watch(model: Any, mode: Storages, seen: dict[str, int]) -> list[Any]:
    """Tell the mode when the decoder's layers are through, and how far the backward pass is.

    Returns what takes the hooks off again.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = inner.model

    def from_here(tensor: Any, moment: str) -> None:
        if tensor.requires_grad:
            tensor.register_hook(lambda _: mode.enter(moment))

    def through(_: Any, __: Any, output: Any) -> None:
        seen["through"] = mode.live
        mode.enter("loss")
        from_here(output.last_hidden_state, "last norm")

    hooks = [
        decoder.register_forward_hook(through),
        decoder.norm.register_forward_pre_hook(lambda _, given: from_here(given[0], "last layer")),
        decoder.layers[0].register_forward_pre_hook(
            lambda _, given: from_here(given[0], "embedding")
        ),
    ]
    if len(decoder.layers) > 1:
        last = decoder.layers[-1]
        hooks.append(last.register_forward_pre_hook(lambda _, g: from_here(g[0], "layers")))
    return hooks


def optimizer_of(trained: list[Any], job: ResolvedSpec) -> Any:
    if "8bit" in job.train.optimizer:
        # The paged one makes the same states, elsewhere.
        return bitsandbytes.optim.AdamW8bit(trained, lr=1e-4)
    return torch.optim.AdamW(trained, lr=1e-4, foreach=not job.train.optimizer.endswith("fused"))


def make_state(optimizer: Any, job: ResolvedSpec) -> None:
    """Both moments, as the first step makes them; on the way no update is computed."""
    for group_index, group in enumerate(optimizer.param_groups):
        for index, p in enumerate(group["params"]):
            if "8bit" in job.train.optimizer:
                optimizer.init_state(group, p, group_index, index)
            else:  # torch optim/adamw.py, adam.py _init_group
                optimizer.state[p]["step"] = torch.zeros(())
                optimizer.state[p]["exp_avg"] = torch.zeros_like(p)
                optimizer.state[p]["exp_avg_sq"] = torch.zeros_like(p)


def update(optimizer: Any, job: ResolvedSpec) -> None:
    """An optimizer step; the fused and the 8-bit ones work in place and allocate nothing."""
    if job.train.optimizer == "adamw_torch":
        optimizer.step()


def simulate(case: dict[str, Any]) -> dict[str, Any]:
    """Bytes by term and by moment of one case."""
    job = msgspec.convert(case["job"], ResolvedSpec)
    model = build(case["config"], job)
    bitsandbytes.functional.name2qmap.clear()  # made anew in each case, and of fake tensors
    with FakeTensorMode(allow_non_fake_inputs=True), cuda_ways(job) as batch:
        inputs = inputs_of(job)
        rows, length = inputs["input_ids"].shape
        with Storages(supervised=rows * (length - 1)) as mode:
            kinds = materialise(model, job)
            static = mode.live
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = optimizer_of(trained, job)
            before = mode.live
            make_state(optimizer, job)
            state = mode.live - before
            if job.train.effective_batch > job.train.micro_batch:  # an earlier micro-batch's
                for p in trained:
                    p.grad = torch.zeros_like(p)
            standing = mode.live
            seen: dict[str, int] = {}
            hooks = watch(model, mode, seen)
            micro_step(model, inputs, job, case["loss"], mode)
            gradients = sum(p.grad.untyped_storage().nbytes() for p in trained)
            at_the_end = mode.live
            mode.enter("optimizer")
            update(optimizer, job)
            for hook in hooks:
                hook.remove()
            for p in trained:
                p.grad = None
            model.eval()
            mode.enter("evaluation")
            evaluate(model, inputs, job)
            batch.padded = job.eval.batch > 1
            if job.regression is None:
                answer(model, job, case["prompt"], mode)
            else:
                mode.enter("head")
                fit_head(model, job, case["prompt"])
            peaks = mode.peaks
    through = seen["through"] - standing
    moment = max(peaks.keys() & {*STEP, *ASKED}, key=peaks.__getitem__)
    beside = static + state
    return {
        **kinds,
        "static": static,
        "optimizer state": state,
        "gradients": gradients,
        "saved activations": through,
        **{m: peaks.get(m, 0) and peaks[m] - beside for m in (*STEP[:-1], *ASKED)},
        "optimizer": peaks["optimizer"] - at_the_end,
        "peak": peaks[moment],
        "moment": moment,
        "versions": {
            module.__name__: module.__version__.split("+")[0]
            for module in (torch, transformers, trl, peft, bitsandbytes, accelerate)
        },
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    for line in sys.stdin:
        print(json.dumps(simulate(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
