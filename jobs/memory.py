"""The job's peak memory, in bytes, and what the figure means."""

import resource
import sys


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
