"""What the speed of a device rests on: what was measured on it, by whom, or nothing."""

from typing import Literal

from msgspec import Struct

from launcher.types import Device

Status = Literal["measured", "foreign data", "unmeasured"]

# Cards with a file of benchmarks/measure_gpu.py's under docs/measured/.
MEASURED: tuple[str, ...] = ()
# Cards with published rates that `python -m benchmarks.throughput_residuals` reads: other people's
# LoRA and NF4 jobs, under other software.
FOREIGN = {
    "A100-80GB": "18 rows of LoRA on Qwen 1.8B to 14B (qwen-readme)",
    "RTX3090": "2 rows of LoRA and QLoRA on Llama 2 7B (answerai)",
    "RTX4090": "2 rows of LoRA and QLoRA on Llama 2 7B (answerai)",
}
# The CPU that benchmarks/cpu_rate.py ran on (docs/LOG.md); NVML has no name for it.
MEASURED_CPU = "AMD EPYC"


class Evidence(Struct, frozen=True):
    status: Status
    source: str


def evidence(device: Device) -> Evidence:
    """What is known of this device's speed."""
    if device.kind == "cpu":
        if device.name.startswith(MEASURED_CPU):
            return Evidence("measured", "benchmarks/cpu_rate.py on a CPU of that name")
        return Evidence("unmeasured", f"from {MEASURED_CPU}'s cores")
    if device.name in MEASURED:
        return Evidence("measured", f"docs/measured/{device.name}.csv")
    if device.name in FOREIGN:
        return Evidence("foreign data", FOREIGN[device.name])
    return Evidence("unmeasured", f"from {', '.join(FOREIGN)} and the data sheet")
