"""The job's peak memory, in bytes, and what the figure means."""

import ctypes
import gc
import resource
import sys

# mallopt(3): M_MMAP_THRESHOLD. Larger blocks are mapped one by one, and unmapped when freed.
_M_MMAP_THRESHOLD = -3
# Layer activations are larger, Python's own objects are not. By default glibc moves the threshold
# up to 32 MB, and keeps what is below it on its heap. docs/LOG.md has what either costs.
LEAN_HEAP_BLOCK_BYTES = 1_000_000


def lean_heap() -> bool:
    """Make glibc hand freed blocks back to the system; False where there is no such allocator."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LEAN_HEAP_BLOCK_BYTES))
    except (AttributeError, OSError):
        return False


def peak_memory() -> tuple[int, str]:
    """Peak so far: what torch allocated on CUDA, else this process's resident set.

    torch's figure leaves out the CUDA context and the allocator's cache.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated()), "cuda max_memory_allocated"
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "peak resident set"


def free_memory() -> None:
    """What a trainer that is gone held: its optimizer and activations, before the next asks."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
