"""GPU facts, one row a card, each naming the NVIDIA or AMD document that states them.

Written down from memory in November 2026. Held against since: the 16-bit rates of all cards but
A10G, L40S, B200 and MI300X and the less common GeForce follow from multiprocessors x boost clock x
rate of one (a test does the product); bandwidths of T4, V100, A10G, A40, A100, H100 SXM, H200, B200
and the RTX 50 series, and B200's rates, stand so in other people's tables. None is a measurement.

Rates are peak dense 16-bit tensor TFLOP/s without sparsity (where a data sheet prints only the
figure with sparsity, half of it) and, on GeForce cards, with FP32 accumulation, which training
uses and which is half of the FP16 accumulation that advertisements print.

Usable memory: the card's nominal gigabytes read as 10^9 bytes. This is the figure that AWS's API
lists (A10G and L4: 22,888 MiB, L40S: 45,776 MiB, in the SkyPilot catalog) and below what PyTorch
prints as total capacity on A100 (39.5, 79.1 GiB), RTX 4090 (23.5) and RTX 5090 (31.5). On cards
that keep ECC codes in their GDDR6, PyTorch has reported less: T4 14.56 GiB (the row says so),
A10 21.99, L4 22.03, L40 44.40. Where the driver can be asked, its free memory is used instead.
"""

from functools import cache

from msgspec import Struct

from launcher.errors import BadInput
from launcher.nearest import nearest
from launcher.types import MIB

_GA102 = "NVIDIA Ampere GA102 GPU Architecture whitepaper"
_ADA = "NVIDIA Ada GPU Architecture whitepaper"
_RTX50 = "NVIDIA RTX Blackwell GPU Architecture whitepaper"
# Not printed in the whitepaper: twice the card's FP32 shader rate on its product page, the ratio
# of tensor (FP32 accumulation) to shader rate that the whitepaper prints for its siblings.
_SIBLING = "2 x the FP32 rate of NVIDIA's product page (ratio: architecture whitepaper)"
_L4 = "NVIDIA L4 data sheet (half of 242 with sparsity)"
_A6000 = "NVIDIA RTX A6000 data sheet (half of 309.7 with sparsity)"
_RTXPRO6000 = (
    "NVIDIA RTX PRO 6000 Blackwell Server Edition data sheet (half of 1 PFLOP/s with sparsity)"
)
_RTXPRO6000_WK = "NVIDIA RTX Blackwell PRO GPU Architecture whitepaper"
_A100 = "NVIDIA A100 data sheet (PCIe; SXM has 2,039 GB/s)"
_H100_PCIE = "NVIDIA H100 PCIe data sheet (half of 1,513 with sparsity)"
_H100_SXM = "NVIDIA H100 data sheet (half of 1,979 with sparsity)"
_H200 = "NVIDIA H200 data sheet (half of 1,979 with sparsity)"
_B200 = "NVIDIA HGX B200 data sheet (half of 4.5 PFLOP/s with sparsity)"
_BOTH_SIZES = _SIBLING + "; the 16 GB card has the same rates"
# The driver that came with the first CUDA toolkit that compiles for the card: NVIDIA CUDA Toolkit
# release notes, "CUDA Toolkit and Corresponding Driver Versions", Linux. The wheels of the training
# environment may ask for a newer one.
_FIRST_DRIVER = {
    (7, 0): "384.81",  # CUDA 9.0
    (7, 5): "410.48",  # 10.0
    (8, 0): "450.36.06",  # 11.0
    (8, 6): "455.23",  # 11.1
    (8, 9): "520.61.05",  # 11.8
    (9, 0): "520.61.05",  # 11.8
    (10, 0): "570.26",  # 12.8
    (12, 0): "570.26",  # 12.8
}
_VOLTA = (7, 0)
# What the CUDA cores' fp32 rate is of the 16-bit tensor rate, as the same data sheets print both.
_FP32_SHARE = {
    (7, 0): 1 / 8,  # V100: 15.7 of 125
    (7, 5): 1 / 8,  # T4: 8.1 of 65
    (8, 0): 1 / 16,  # A100: 19.5 of 312
    (8, 6): 1 / 4,  # A40: 37.4 of 149.7, A6000: 38.7 of 154.8, A10: 31.2 of 125
    (8, 9): 1 / 4,  # L4: 30.3 of 121, L40S: 91.6 of 362
    (9, 0): 67 / 989,  # H100 SXM and H200; PCIe: 51 of 756
    (10, 0): 1 / 30,  # HGX B200, eight cards: 600 of 18,000
    (12, 0): 1 / 4,  # RTX PRO 6000, server: 120 of 500, workstation: 125 of 503.8
    None: 1 / 8,  # MI300X: 163.4 of 1,307.4
}
_FP32_SHARE_WHERE_HALVED = 1 / 2  # GeForce: see _SIBLING; A10G: 35 of 70


class Gpu(Struct, frozen=True):
    """One card. `nominal_gb` is the number in its name; `usable_mib` only where it is known."""

    name: str
    nominal_gb: int
    total_mib: int  # as nvidia-smi lists it, or the nominal size where that is not known
    compute_capability: tuple[int, int] | None  # None: not CUDA
    dense_16bit_tflops: float
    bandwidth_gb_s: float
    source: str
    usable_mib: int | None = None

    @property
    def usable_bytes(self) -> int:
        return self.usable_mib * MIB if self.usable_mib else self.nominal_gb * 10**9

    @property
    def minimum_driver(self) -> str:
        """The first NVIDIA driver that knows the card; empty where it has none."""
        return _FIRST_DRIVER.get(self.compute_capability, "") if self.compute_capability else ""

    @property
    def dense_int8_tops(self) -> float:
        """Twice the 16-bit rate in all data sheets; four times on GeForce cards, whose 16-bit rate
        with FP32 accumulation is halved. Volta's tensor cores know no integers: 62.8 by DP4A."""
        if self.compute_capability == _VOLTA:
            return self.dense_16bit_tflops / 2
        return self.dense_16bit_tflops * (4 if self._geforce else 2)

    @property
    def fp32_tflops(self) -> float:
        """Of products in fp32, TF32 off: on the CUDA cores."""
        if self._geforce or self.name == "A10G":
            return self.dense_16bit_tflops * _FP32_SHARE_WHERE_HALVED
        return self.dense_16bit_tflops * _FP32_SHARE[self.compute_capability]

    @property
    def _geforce(self) -> bool:
        return self.name.startswith("RTX") and not self.name.startswith("RTXPRO")


_T4_USABLE_MIB = 14_909  # 14.56 GiB: PyTorch's total capacity, facebookresearch/tribev2#28

# fmt: off
GPUS: tuple[Gpu, ...] = (
    Gpu("T4", 16, 15360, (7, 5), 65.0, 320, "NVIDIA T4 data sheet", _T4_USABLE_MIB),
    Gpu("V100-16GB", 16, 16384, (7, 0), 125.0, 900, "NVIDIA V100 data sheet (SXM2)"),
    Gpu("V100-32GB", 32, 32768, (7, 0), 125.0, 900, "NVIDIA V100 data sheet (SXM2)"),
    Gpu("RTX3060", 12, 12288, (8, 6), 25.5, 360, _SIBLING),
    Gpu("RTX3060Ti", 8, 8192, (8, 6), 32.4, 448, _SIBLING),
    Gpu("RTX3070", 8, 8192, (8, 6), 40.6, 448, _GA102),
    Gpu("RTX3070Ti", 8, 8192, (8, 6), 43.5, 608, _SIBLING),
    Gpu("RTX3080", 10, 10240, (8, 6), 59.5, 760, _GA102),
    Gpu("RTX3080Ti", 12, 12288, (8, 6), 68.2, 912, _SIBLING),
    Gpu("RTX3090", 24, 24576, (8, 6), 71.0, 936, _GA102),
    Gpu("RTX3090Ti", 24, 24564, (8, 6), 80.0, 1008, _SIBLING),
    Gpu("RTX4060", 8, 8188, (8, 9), 30.2, 272, _SIBLING),
    Gpu("RTX4060Ti", 8, 8188, (8, 9), 44.1, 288, _BOTH_SIZES),
    Gpu("RTX4070", 12, 12282, (8, 9), 58.3, 504, _SIBLING),
    Gpu("RTX4070SUPER", 12, 12282, (8, 9), 71.0, 504, _SIBLING),
    Gpu("RTX4070Ti", 12, 12282, (8, 9), 80.2, 504, _ADA),
    Gpu("RTX4070TiSUPER", 16, 16376, (8, 9), 88.2, 672, _SIBLING),
    Gpu("RTX4080", 16, 16376, (8, 9), 97.5, 717, _ADA),
    Gpu("RTX4080SUPER", 16, 16376, (8, 9), 104.4, 736, _SIBLING),
    Gpu("RTX4090", 24, 24564, (8, 9), 165.2, 1008, _ADA),
    Gpu("RTX5060", 8, 8192, (12, 0), 38.4, 448, _SIBLING),
    Gpu("RTX5060Ti", 8, 8192, (12, 0), 47.4, 448, _BOTH_SIZES),
    Gpu("RTX5070", 12, 12288, (12, 0), 61.7, 672, _SIBLING),
    Gpu("RTX5070Ti", 16, 16384, (12, 0), 87.9, 896, _SIBLING),
    Gpu("RTX5080", 16, 16384, (12, 0), 112.6, 960, _RTX50),
    Gpu("RTX5090", 32, 32607, (12, 0), 209.5, 1792, _RTX50),
    Gpu("A10", 24, 23028, (8, 6), 125.0, 600, "NVIDIA A10 data sheet"),
    Gpu("A10G", 24, 23028, (8, 6), 70.0, 600, "NVIDIA A10G data sheet"),
    Gpu("L4", 24, 23034, (8, 9), 121.0, 300, _L4),
    Gpu("L40S", 48, 46068, (8, 9), 362.0, 864, "NVIDIA L40S data sheet"),
    Gpu("A40", 48, 46068, (8, 6), 149.7, 696, "NVIDIA A40 data sheet"),
    Gpu("A6000", 48, 49140, (8, 6), 154.8, 768, _A6000),
    Gpu("RTXPRO6000", 96, 97887, (12, 0), 500.0, 1597, _RTXPRO6000),
    Gpu("RTXPRO6000-WK", 96, 97887, (12, 0), 503.8, 1792, _RTXPRO6000_WK),
    Gpu("A100-40GB", 40, 40960, (8, 0), 312.0, 1555, "NVIDIA A100 data sheet"),
    Gpu("A100-80GB", 80, 81920, (8, 0), 312.0, 1935, _A100),
    Gpu("H100-PCIe", 80, 81559, (9, 0), 756.0, 2000, _H100_PCIE),
    Gpu("H100-SXM", 80, 81559, (9, 0), 989.0, 3350, _H100_SXM),
    Gpu("H200", 141, 143771, (9, 0), 989.0, 4800, _H200),
    Gpu("B200", 180, 183359, (10, 0), 2250.0, 7700, _B200),
    Gpu("MI300X", 192, 196608, None, 1307.4, 5300, "AMD Instinct MI300X data sheet"),
)
# fmt: on

# NVML's and providers' spellings that `_key` does not fold.
ALIASES: dict[str, tuple[str, ...]] = {
    "V100-16GB": ("V100-SXM2-16GB", "V100-PCIE-16GB", "V100-SXM2"),
    "V100-32GB": ("V100-SXM2-32GB", "V100-PCIE-32GB", "V100-SXM3-32GB"),
    "A6000": ("RTX A6000", "RTXA6000"),
    "RTXPRO6000": ("RTX PRO 6000 Blackwell Server Edition", "RTX PRO Server 6000", "RTXPRO6000S"),
    "RTXPRO6000-WK": ("RTX PRO 6000 Blackwell Workstation Edition", "RTXPRO6000WS"),
    "A100-40GB": ("A100-40", "A100-40 SXM4", "A100-SXM4-40GB", "A100-PCIE-40GB"),
    "A100-80GB": ("A100-80", "A100-80 PCIe", "A100 80GB PCIe", "A100-SXM4-80GB", "A100-80GB-SXM"),
    "H100-SXM": ("H100 80GB HBM3", "H100-SXM5"),
    "H200": ("H200-SXM",),
    "B200": ("B200-SXM",),
    "MI300X": ("AMD Instinct MI300X",),
}


def _key(name: str) -> str:
    """Fold spellings: `NVIDIA GeForce RTX 4090` and `rtx-4090` are one card.

    A word that makes another card of it (`Laptop GPU`, `Max-Q`, `D`) stays and so finds nothing.
    """
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return "".join(w for w in words if w not in ("nvidia", "geforce", "tesla"))


@cache
def _index() -> dict[str, Gpu]:
    return {_key(n): card for card in GPUS for n in (card.name, *ALIASES.get(card.name, ()))}


def find(name: str) -> Gpu | None:
    """The card that NVML or a provider calls `name`; None when the table does not hold it."""
    return _index().get(_key(name))


def cards_called(name: str) -> tuple[Gpu, ...]:
    """The cards a person may mean: the one of that name, else its sizes (`A100`, `H100`)."""
    exact = find(name)
    if exact is not None:
        return (exact,)
    key = _key(name)
    return tuple(c for c in GPUS if key and _key(c.name.split("-")[0]) == key)


def require_cards(name: str) -> tuple[Gpu, ...]:
    """`cards_called`, but raises `BadInput` with the nearest names when there is none."""
    cards = cards_called(name)
    if cards:
        return cards
    near = nearest(_key(name), _index(), 3)
    hint = ", ".join(dict.fromkeys(_index()[key].name for key in near))
    raise BadInput(
        f"no GPU called {name!r}; " + (f"nearest: {hint}" if hint else "see launch offers")
    )


def gpu(name: str) -> Gpu:
    """The one card called `name`. Raises `BadInput` when it is unknown or names several."""
    cards = require_cards(name)
    if len(cards) > 1:
        raise BadInput(f"{name!r} may be {' or '.join(c.name for c in cards)}; name one")
    return cards[0]
