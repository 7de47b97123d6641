"""What a layer works on: a micro-batch, in which widths; and what it says of itself."""

from math import ceil

from msgspec import Struct

from jobs.spec import ResolvedSpec
from launcher.estimate.tensors import Window

NF4_BLOCK = 64  # bitsandbytes 0.50 functional.quantize_4bit: values per absmax


class Widths(Struct, frozen=True, kw_only=True):
    """Bytes per element, and what decides which copies there are."""

    compute: int  # of what matmuls read and write
    stream: int  # of the residual stream
    adapter: int  # of LoRA's parameters
    rank: int
    autocast: bool  # matmuls cast their inputs to `compute`
    dropout: bool  # LoRA dropout above 0
    full: bool  # every weight is trained
    nf4: bool  # the layers' linear weights are in 4 bits

    @property
    def widened(self) -> bool:
        """Whether LoRA's input is first cast to the adapters' dtype.

        peft layer.py Linear.forward always does; bnb.py Linear4bit.forward not under autocast.
        """
        return self.adapter > self.compute and not self.nf4


class Batch(Struct, frozen=True, kw_only=True):
    """One micro-batch, all rows full."""

    rows: int
    length: int  # tokens of a row; packed rows lie in one
    masked: bool  # attention is told by a mask what it may see

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.rows * self.length

    @property
    def pairs(self) -> int:
        """Of tokens in one row, over all rows."""
        return self.rows * self.length**2

    @property
    def mask_elements(self) -> int:
        """Of a mask that all layers share (transformers masking_utils.py sdpa_mask)."""
        return self.pairs if self.masked else 0


class Layer(Struct, frozen=True, kw_only=True):
    """One layer's bytes for a micro-batch."""

    kept: int  # for the backward pass, its own input not counted
    kept_first: int  # the same of the first layer, where nothing before it is trained
    forward: int  # the most at once, `kept` in it
    again: int  # the same while it is computed again, which ends with the last tensor kept
    backward: int  # the most at once, what is still kept in it


def batch_of(spec: ResolvedSpec, window: Window | None = None) -> Batch:
    """The micro-batch that TRL's collator makes of full rows.

    Packed rows come as one row without padding and a mask that keeps documents apart. Unpacked rows
    are as long as the longest of them: several need a mask for the padding, as rows differ; one
    needs none, unless it is as long as the window of layers that slide (transformers 5.23
    masking_utils.py _ignore_causal_mask_sdpa). Where only some slide, a mask is counted for all:
    up to 0.7 % of the peak too much (Gemma 3, docs/measured/oracle.csv). Regression does not pack.
    """
    rows, length = spec.train.rows_at_once, spec.train.seq_len
    if spec.packs:
        return Batch(rows=1, length=rows * length, masked=True)
    return Batch(rows=rows, length=length, masked=masked(rows, length, window))


def masked(rows: int, length: int, window: Window | None) -> bool:
    """Whether unpacked rows need a mask."""
    return rows > 1 or (window is not None and length >= window.tokens)


def micro_tokens(spec: ResolvedSpec) -> int:
    """Tokens of one forward pass, all rows full."""
    return batch_of(spec).tokens


def unpacked_bytes(numel: int, width: int) -> int:
    """A 4-bit weight in the dtype of the product, and its scales in fp32, twice.

    bitsandbytes backends/cuda/ops.py _dequant_linear_fallback, functional.py dequantize_4bit.
    """
    return numel * width + 2 * 4 * ceil(numel / NF4_BLOCK)
