"""Storages counted as they come and go, and what a card does otherwise than the CPU they lie on.

For benchmarks/vram_oracle_child.py. Each is taken from the source that says so:
- attention: `_Flash`, `_Efficient`, as aten's CUDA functions allocate;
- dropout: aten::native_dropout, whose mask is bool (aten Dropout.cpp is_fused_kernel_acceptable);
- TRL's tiles: trl 1.16 kernels/chunked_logprob.py folds them in Triton kernels, which allocate
  nothing, and adds into fp32 accumulators in place (`_addmm_fp32`); it scores supervised tokens
  alone (trainer/utils.py `_fused_forward`, `compact`);
- a 4-bit product: bitsandbytes 0.50 backends/cuda/ops.py `_dequant_linear_fallback`, which unpacks
  the weight and multiplies, as all cards do above 1,536 tokens (below it depends on the card).
"""

import contextlib
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import bitsandbytes
import torch
import transformers.masking_utils
import trl.kernels.chunked_logprob
import trl.trainer.utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jobs.spec import ResolvedSpec

aten = torch.ops.aten


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
    """torch's scaled_dot_product_attention on a card from sm80.

    Autocast casts its inputs (autocast_mode.h, lower_precision_fp). Without a mask flash attention
    is taken; with one the bool mask becomes an additive bias in each layer (attention.cpp
    convert_boolean_attn_mask) and efficient attention is taken.
    """
    assert dropout_p == 0.0, "attention dropout is not simulated"
    assert query.shape[-1] % 8 == 0, "padding of heads is not simulated"
    if torch.is_autocast_enabled("cpu"):
        to = torch.get_autocast_dtype("cpu")
        query, key, value = (x.to(to) for x in (query, key, value))
    if attn_mask is None:
        assert query.dtype in (torch.bfloat16, torch.float16), "flash attention is 16-bit"
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
