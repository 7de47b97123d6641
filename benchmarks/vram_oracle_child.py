"""One training micro-step and its evaluation, storage by storage, without a GPU or memory for it.

Run by benchmarks/vram_oracle.py with the training environment's interpreter; reads cases as JSON
lines ({"config": …, "job": a ResolvedSpec, "loss": chunked or plain, "prompt": tokens of a
question}) and answers each with one.

The job's own set-up runs (jobs/strategies: class, adapter, quantisation, dtypes), TRL's own loss
head, PEFT's own layers and bitsandbytes' own autograd function, under torch's FakeTensorMode: each
operation makes storages of the true size that hold nothing. A dispatch mode sees every storage come
and a finalizer sees it go; live bytes and their highest value are kept for each moment of the step.

Fake tensors lie on the CPU, since a build without CUDA runs no backward pass on fake CUDA tensors.
What CUDA does otherwise is put in its place, each from the source that says so:
- attention: `_Flash`, `_Efficient`, as aten's CUDA functions allocate;
- dropout: aten::native_dropout, whose mask is bool (aten Dropout.cpp is_fused_kernel_acceptable);
- TRL's tiles: trl 1.16 kernels/chunked_logprob.py folds them in Triton kernels, which allocate
  nothing, and adds into fp32 accumulators in place (`_addmm_fp32`); it scores supervised tokens
  alone (trainer/utils.py `_fused_forward`, `compact`);
- a 4-bit product: bitsandbytes 0.50 backends/cuda/ops.py `_dequant_linear_fallback`, which unpacks
  the weight and multiplies, as all cards do above 1,536 tokens (below it depends on the card).

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
import weakref
from collections.abc import Iterator
from typing import Any

import accelerate
import bitsandbytes
import msgspec
import peft
import torch
import transformers
import transformers.masking_utils
import trl
import trl.kernels.chunked_logprob
import trl.trainer.utils
from accelerate.utils import convert_outputs_to_fp32
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig
from transformers.quantizers import AutoHfQuantizer
from trl.trainer.utils import add_fused_lm_head

from jobs import strategies
from jobs.spec import ResolvedSpec

aten = torch.ops.aten
STEP = ("forward", "loss", "last norm", "last layer", "layers", "embedding", "optimizer")
ASKED = ("evaluation", "prompts", "last token", "head")  # without gradients


class Storages(TorchDispatchMode):
    """Live bytes of all storages made while this mode is on, and their peak in each moment."""

    def __init__(self, supervised: int) -> None:
        super().__init__()
        self.supervised = supervised  # what a bool mask over the tokens selects
        self.live = 0
        self.moment = "standing"
        self.peaks: dict[str, int] = {}
        self._known: set[int] = set()

    def enter(self, moment: str) -> None:
        self.moment = moment
        self.peaks[moment] = max(self.live, self.peaks.get(moment, 0))

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        stand_in = _STAND_INS.get(func)
        if stand_in is None or (found := stand_in(self, *args, **kwargs)) is None:
            found = func(*args, **kwargs)
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return found

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peaks[self.moment] = max(self.live, self.peaks.get(self.moment, 0))
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _index(mode: Storages, tensor: Any, indices: Any) -> Any:
    """tensor[bool mask]: how many it selects is the case's, not the data's, to say."""
    if len(indices) != 1 or indices[0].dtype != torch.bool:
        return None
    return tensor.new_empty((mode.supervised, *tensor.shape[indices[0].dim() :]))


def _index_put(_: Storages, tensor: Any, indices: Any, *__: Any) -> Any:
    masked = len(indices) == 1 and indices[0].dtype == torch.bool
    return tensor if masked else None  # in place


def _masked_scatter_backward(_: Storages, grad: Any, __: Any, sizes: Any) -> Any:
    return grad.new_empty(sizes)


def _gemm_4bit(
    mode: Storages,
    a: Any,
    _: Any,
    shape: Any,
    absmax: Any,
    blocksize: int,
    quant_type: str,
    bias: Any = None,
    absmax_8bit: Any = None,
    *nested: Any,
    **named: Any,
) -> Any:
    """What each line of `_dequant_linear_fallback` makes, alive as long as there."""
    absmax_8bit = named.get("absmax_8bit", absmax_8bit)
    with mode:
        scales = [absmax]
        if absmax_8bit is not None:
            scales.append(torch.empty_like(absmax_8bit, dtype=torch.float32))
            scales.append(scales[-1] + torch.empty((), dtype=torch.float32))
        weight = torch.empty(shape, dtype=a.dtype)
        return torch.nn.functional.linear(a, weight, bias)


_STAND_INS = {
    aten.index.Tensor: _index,
    aten._index_put_impl_.default: _index_put,
    aten.masked_scatter_backward.default: _masked_scatter_backward,
    torch.ops.bitsandbytes.gemm_4bit.default: _gemm_4bit,
}


def _rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


class _Flash(torch.autograd.Function):
    """aten transformers/cuda/flash_attn/flash_api.cpp mha_fwd and mha_bwd: no mask, shared keys."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> Any:
        rows, heads, length, size = q.shape
        out = q.new_empty((rows, length, heads, size)).transpose(1, 2)
        sums = torch.empty((rows, heads, length), dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, _, _ = ctx.saved_tensors
        rows, heads, length, size = q.shape
        dq, dk, dv = (_like(x) for x in (q, k, v))
        padded = _rounded(length, 128)
        wide = _rounded(size, 32 if size <= 128 else 64)
        working = [
            torch.empty((rows, heads, padded), dtype=torch.float32),
            torch.empty((rows, heads, padded, wide), dtype=torch.float32),
        ]
        if k.shape[1] != heads:  # dK and dV of every query head, then summed
            working += [q.new_empty((rows, length, heads, size)) for _ in (k, v)]
        return dq, dk, dv


class _Efficient(torch.autograd.Function):
    """aten transformers/cuda/attention_backward.cu _efficient_attention_backward, with a bias.

    Its workspace holds dQ in fp32 (mem_eff_attention/kernel_backward.h workspace_elements_gq).
    """

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, bias: Any) -> Any:
        rows, heads, length, size = q.shape
        out = q.new_empty((rows, length, heads, size)).transpose(1, 2)
        sums = torch.empty((rows, heads, _rounded(length, 32)), dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums, bias)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, _, _, _ = ctx.saved_tensors
        rows, heads, length, size = q.shape
        dq, dk, dv = (_like(x) for x in (q, k, v))
        working = [  # noqa: F841 - alive until the gradients are returned
            torch.empty((rows, heads, length), dtype=torch.float32),
            torch.empty((rows, heads, _rounded(length, 64), size), dtype=torch.float32),
        ]
        return dq, dk, dv, None


def _like(x: Any) -> Any:
    """A gradient in the (rows, length, heads, size) layout in which the kernels write."""
    rows, heads, length, size = x.shape
    return x.new_empty((rows, length, heads, size)).transpose(1, 2)


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    """torch's scaled_dot_product_attention on a card from sm80, in a 16-bit dtype.

    Autocast casts its inputs (autocast_mode.h, lower_precision_fp). Without a mask flash attention
    is taken; with one the bool mask becomes an additive bias in each layer (attention.cpp
    convert_boolean_attn_mask) and efficient attention is taken.
    """
    assert dropout_p == 0.0, "attention dropout is not simulated"
    assert query.shape[-1] % 8 == 0, "padding of heads is not simulated"
    if torch.is_autocast_enabled("cpu"):
        to = torch.get_autocast_dtype("cpu")
        query, key, value = (x.to(to) for x in (query, key, value))
    assert query.dtype in (torch.bfloat16, torch.float16), "only 16-bit attention is simulated"
    if attn_mask is None:
        return _Flash.apply(query, key, value)
    assert key.shape[1] == query.shape[1], "efficient attention shares no keys"
    zero = torch.zeros((), dtype=query.dtype)
    bias = torch.where(attn_mask, zero, torch.full((), float("-inf"), dtype=query.dtype))
    if bias.shape[-1] % 16:  # attention.cpp preprocess_mask pads for alignment
        bias = torch.nn.functional.pad(bias, (0, 16 - bias.shape[-1] % 16))
    return _Efficient.apply(query, key, value, bias)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


class _Kernel:
    """A Triton kernel: launched over a grid, it works in what it is given."""

    def __getitem__(self, _: Any) -> Any:
        return lambda *_, **__: None


class Rows:
    """Whether the rows at hand are padded: fake tensors hold no values to tell it by."""

    padded = False


@contextlib.contextmanager
def cuda_ways(job: ResolvedSpec) -> Iterator[Rows]:
    """What the job's code would choose and find on a card, in rows that differ in length."""
    packs = job.train.packing and job.regression is None
    batch = Rows()
    batch.padded = not packs and job.train.micro_batch > 1
    tiles, heads, masks = trl.kernels.chunked_logprob, trl.trainer.utils, transformers.masking_utils
    asked = torch.is_autocast_enabled
    changes = [
        (torch.nn.functional, "scaled_dot_product_attention", attention),
        (torch.nn.functional, "dropout", dropout),
        # Without a device it answers for CUDA, as peft bnb.py Linear4bit.forward asks it.
        (torch, "is_autocast_enabled", lambda device="cpu": asked(device)),
        (tiles, "_use_triton", lambda _: True),
        (heads, "_use_triton", lambda _: True),
        (tiles, "triton", types.SimpleNamespace(cdiv=lambda a, b: -(-a // b))),
        (tiles, "_forward_kernel", _Kernel()),
        (tiles, "_backward_kernel", _Kernel()),
        (tiles, "_addmm_fp32", lambda *_: None),
        (sys.modules["torch.optim.adam"], "_get_value", lambda _: 1.0),  # of a step counter
        # A table of 256 values, worked out from values.
        (bitsandbytes.functional, "create_dynamic_map", lambda *_, **__: torch.empty(256)),
        (masks, "is_tracing", lambda _: False),
        (masks, "fast_all", lambda _: not batch.padded),
        (masks, "find_packed_sequence_indices", _packed_indices if packs else lambda _: None),
    ]
    before = [(place, name, getattr(place, name, None)) for place, name, _ in changes]
    for place, name, new in changes:
        setattr(place, name, new)
    try:
        yield batch
    finally:
        for place, name, old in before:
            setattr(place, name, old)


def _packed_indices(position_ids: Any) -> Any:
    """masking_utils.find_packed_sequence_indices where there are several documents."""
    return torch.zeros_like(position_ids)


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
    in_step = max(peaks[m] for m in STEP if m in peaks)
    beside = static + state
    return {
        **kinds,
        "static": static,
        "optimizer state": state,
        "gradients": gradients,
        "saved activations": through,
        **{m: peaks.get(m, 0) and peaks[m] - beside for m in (*STEP[:-1], *ASKED)},
        "optimizer": peaks["optimizer"] - at_the_end,
        "step": in_step,
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
