"""What can be had for a price, and what its provider bills."""

from msgspec import Struct

from jobs.spec import DeviceKind


class Device(Struct, frozen=True, kw_only=True):
    """One accelerator, or the CPU with its RAM, as a plan sees it."""

    kind: DeviceKind
    name: str
    usable_bytes: int  # free where it is this machine's, else what the driver leaves of the card
    total_bytes: int
    compute_capability: tuple[int, int] | None = None
    dense_16bit_tflops: float = 0.0  # peak, without sparsity
    fp32_tflops: float = 0.0  # peak, TF32 off; 0: not known
    bandwidth_gb_s: float = 0.0
    cores: int = 0  # CPU only: physical or allotted cores


class Offer(Struct, frozen=True, kw_only=True):
    """Something that can be had for a price: this machine, or an instance of a provider."""

    provider: str
    instance: str
    region: str
    device: Device
    count: int
    microusd_per_hour: int  # of the whole instance
    spot: bool
    as_of: str  # ISO date of the price
    source: str
    executor: str | None  # None: no executor of ours can provision it; shown, never chosen
    capabilities: tuple[str, ...] = ()  # launcher.catalog.providers.Capability
    billing_seconds: int = 1  # granularity
    billing_minimum_seconds: int = 0
    microusd_per_gib_disk_hour: int = 0
    microusd_per_gib_egress: int = 0
    provision_seconds: tuple[float, float, float] = (
        0.0,
        0.0,
        0.0,
    )  # low, expected, high
    download_mb_s: tuple[float, float, float] = (
        100.0,
        50.0,
        12.5,
    )  # fast, expected, slow
    note: str = ""
    # Spot: how often a machine is taken back, (low, expected, high); None: nobody has said.
    interruptions_per_hour: tuple[float, float, float] | None = None
    accelerator: str = ""  # the GPU's name in SkyPilot's catalog; "": as providers.py has it
    regions: tuple[str, ...] = ()  # where the price holds when the region is `any`; (): not known
    architecture: str = "x86_64"  # of the host
    minimum_driver: str = ""  # the first NVIDIA driver that knows the card; "": not known
    origin: str = ""  # this machine, snapshot or SkyPilot: whose list the price is from
    enabled: bool | None = None  # whether SkyPilot may rent there; None: not known
    enabled_as_of: str = ""  # ISO date of that check
    image: str = ""  # the one asked for, where the provider runs one
    image_bytes: int = 0  # of it, compressed; 0: not known
    # The handle of an attempt whose machine this is: up, and idle once that one's job is over
    held: str = ""

    @property
    def device_name(self) -> str:
        """The device, and how many of it."""
        return f"{self.count}× {self.device.name}" if self.count > 1 else self.device.name


class Terms(Struct, frozen=True, kw_only=True):
    """What a machine's provider bills for it."""

    microusd_per_hour: int  # of the whole machine, its disk included
    billing_seconds: int = 1  # granularity
    billing_minimum_seconds: int = 0
    egress_microusd: int = 0  # of what leaves it, once
