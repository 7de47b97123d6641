"""What scoring texts with a student took."""

from msgspec import Struct

from jobs.spec.job import DeviceKind, Dtype


class PredictSummary(Struct, frozen=True, kw_only=True):
    """Throughput in batches, and latency of one text alone, tokenising included."""

    texts: int
    tokens: int  # read, after cutting to the run's sequence length
    batch: int
    device: DeviceKind
    dtype: Dtype
    seconds: float  # of the batches together
    texts_per_second: float
    tokens_per_second: float
    latency_texts: int
    latency_p50_seconds: float
    latency_p95_seconds: float
    peak_memory_bytes: int
    memory_metric: str
