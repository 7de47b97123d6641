"""What a row of a price list must be to be offered: one rule a trap, each a reason or nothing.

`TRAPS` holds the rules in the order they are asked; the first that objects names the reason. None
changes a row. GPU memory is never taken from a list: what it says there only tells cards of one
name apart, and exposes a card that is not what it is called.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

from launcher.catalog.gpus import Gpu, cards_called, find


class Row(Struct, frozen=True):
    """A row of SkyPilot's catalogs; what is blank there is None."""

    provider: str
    instance: str
    accelerator: str
    count: float | None
    region: str
    zone: str
    usd: float | None  # an hour of the whole instance on demand
    spot_usd: float | None
    listed_mib: int | None  # memory as the list has it, brought to one card
    architecture: str = ""
    vcpus: float | None = None
    host_gib: float | None = None


# No card is rented at more than $15 an hour (8 x B200 at GCP: $11.28 each, 006059e), and the only
# rows above are stand-ins: TPU_V6E_MAX_PRICE = 700 of fetch_gcp.py. Assumption: nothing real is.
MOST_USD_PER_CARD_HOUR = 50.0
# Cards of one name differ by a third at least (12 and 16 GB); lists differ from what nvidia-smi
# shows by 7 % at most (L40S 49,152 for 46,068 MiB: Nebius; T4 16,384 for 15,360: AWS).
MEMORY_TOLERANCE = 0.10
WHOLE_CARDS = (1, 2, 4, 8, 16)  # what AWS, Azure and GCP rent


def _arm_host(row: Row) -> str | None:
    """Trap 7: AWS g5g and every Grace host. The images and wheels are for x86-64."""
    if row.architecture in ("", "x86_64"):
        return None
    return f"its host is {row.architecture}, and the training environment is for x86-64"


def _part_of_a_card(row: Row) -> str | None:
    """Trap 1: AWS g6f and Azure NV6ads are called `L4` and `A10`, at a count of 0.125 to 0.5."""
    if row.count is None or row.count < 1 or row.count != int(row.count):
        return "no count of cards" if row.count is None else f"{row.count:g} of a card"
    return None


def _impossible_count(row: Row) -> str | None:
    """Azure's ND96isr_H100_v5 is listed with 12 cards; it has 8."""
    if row.provider in ("aws", "azure", "gcp") and row.count not in WHOLE_CARDS:
        return f"{row.count:g} cards, and {row.provider} rents 1, 2, 4, 8 or 16"
    return None


def _local_zone(row: Row) -> str | None:
    """AWS local zones (usw2-lax1-az1) are listed at their region's price, which is not theirs, and
    an account must opt in to each."""
    if row.provider == "aws" and row.zone.count("-") > 1:
        return f"local zone {row.zone}: not enabled by default, and at a price of its own"
    return None


def _stand_in(row: Row) -> str | None:
    """Trap 3: 700.0 stands where GCP's fetcher found no price."""
    most = MOST_USD_PER_CARD_HOUR * (row.count or 1)
    for usd in (row.usd, row.spot_usd):
        if usd is not None and usd > most:
            return f"${usd:g} is no price but stands in for one"
    return None


def _unpriced(row: Row) -> str | None:
    """Azure lists machines at 0 or blank whose price its fetcher did not find."""
    if not row.usd and not row.spot_usd:
        return "no price"
    return None


def _card_in_doubt(row: Row) -> str | None:
    """Traps 5 and 6, and every GPU that we know no memory and no speed of."""
    found = card_meant(row.provider, row.accelerator, row.instance, row.listed_mib)
    return found if isinstance(found, str) else None


TRAPS: tuple[Callable[[Row], str | None], ...] = (
    _arm_host,
    _part_of_a_card,
    _impossible_count,
    _local_zone,
    _stand_in,
    _unpriced,
    _card_in_doubt,
)


def objection(row: Row) -> str | None:
    """Why the row is not offered; None for a sound one."""
    return next(filter(None, (trap(row) for trap in TRAPS)), None)


def no_discount(row: Row) -> str | None:
    """Trap 2: why a spot price is none. A blank one is not listed at all and needs no reason.

    AWS rounds spot prices to four digits, so an equal one may stand a hair above.
    """
    if row.spot_usd is None:
        return None
    if row.spot_usd <= 0:
        return f"spot at ${row.spot_usd:g}: no discount known"
    if row.usd and row.spot_usd > 0.999 * row.usd:
        return f"spot at ${row.spot_usd:g} is no less than on demand: no discount known"
    return None


# What a provider means by a name that several cards bear: (provider, its name, a part of the
# instance's name, the card). The first that matches counts.
_MEANT: tuple[tuple[str, str, str, str], ...] = (
    ("aws", "A100", "", "A100-40GB"),  # p4d: 40,960 MiB in its own catalog
    ("aws", "H100", "", "H100-SXM"),  # p5: AWS EC2 P5 page, HGX H100
    ("aws", "V100", "", "V100-16GB"),  # p3; p3dn is listed as V100-32GB
    ("azure", "A100", "", "A100-40GB"),  # ND96asr_v4: Azure ND A100 v4 series page
    ("azure", "H100", "Standard_NC", "H100-NVL"),  # NCads H100 v5 series page: 94 GB
    ("azure", "H100", "Standard_ND", "H100-SXM"),  # ND H100 v5 series page
    ("azure", "V100", "", "V100-16GB"),  # NCv3 series page; NDv2 is listed as V100-32GB
    ("gcp", "A100", "", "A100-40GB"),
    ("gcp", "H100", "", "H100-SXM"),  # A3 machine series page
    ("gcp", "H100-MEGA", "", "H100-SXM"),  # the same card with another network
    ("gcp", "V100", "", "V100-16GB"),
    ("lambda", "A100", "", "A100-40GB"),  # the 80 GB one is called A100-80GB
    ("lambda", "H100", "_pcie", "H100-PCIe"),
    ("lambda", "H100", "_sxm", "H100-SXM"),
    ("lambda", "V100", "", "V100-16GB"),  # GPU_TO_MEMORY of fetch_lambda_cloud.py
    ("nebius", "H100", "-sxm", "H100-SXM"),
    ("runpod", "H100", "", "H100-PCIe"),  # GPU_NAME_OVERRIDES of fetch_runpod.py
)


@lru_cache(maxsize=4096)
def card_meant(provider: str, accelerator: str, instance: str, listed_mib: int | None) -> Gpu | str:
    """The card behind a provider's name for it, or why it cannot be told."""
    name = (vast_name(instance) if provider == "vast" else None) or accelerator
    exact = find(name)
    cards = (exact,) if exact is not None else cards_called(name)
    fitting = tuple(c for c in cards if listed_mib is None or _near(listed_mib, c.total_mib))
    meant = _meant(provider, accelerator, instance)
    if meant is not None and len(fitting) != 1:
        name, card = meant, find(meant)
        cards = () if card is None else (card,)
        fitting = tuple(c for c in cards if listed_mib is None or _near(listed_mib, c.total_mib))
    if not cards:
        return f"GPU {name} is not in the table"
    if not fitting:
        known = " or ".join(f"{c.name} {c.total_mib:,}" for c in cards)
        return f"listed with {listed_mib:,} MiB a card, and it has {known}"
    if len(fitting) > 1:
        return f"{name} may be {' or '.join(c.name for c in fitting)}"
    return fitting[0]


def _meant(provider: str, accelerator: str, instance: str) -> str | None:
    for where, called, part, card in _MEANT:
        if where == provider and called == accelerator and part in instance:
            return card
    return None


def _near(listed_mib: int, total_mib: int) -> bool:
    return abs(listed_mib - total_mib) <= MEMORY_TOLERANCE * total_mib


_VAST_INSTANCE = re.compile(r"\d+x-(.+)-\d+-\d+")
_SUPER = re.compile(r"(\d{4})S\b(.*)")


def vast_name(instance: str) -> str | None:
    """The card in `1x-RTX_4070S_Ti-32-65536`; None where the name has another form.

    Trap 6: fetch_vast.py cuts `Ti`, `S`, `D`, `NVL`, `SXM4` and `PCIE` off the accelerator's name,
    so a 3060 Ti is listed as RTX3060 and both sizes of the A100 as A100. The instance's name is
    whole. A100's form says nothing of its memory.
    """
    match = _VAST_INSTANCE.fullmatch(instance)
    if match is None:
        return None
    words = match[1].replace("_", " ")
    words = _SUPER.sub(r"\1\2 SUPER", words)
    return re.sub(r"^(A100|V100) (SXM\d?|PCIE)$", r"\1", words)
