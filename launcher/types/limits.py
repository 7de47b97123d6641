"""What a run may cost and take."""

from msgspec import Struct

MOST_USD = 1_000_000  # that a cap may be
# How long a rented machine waits for its results to be fetched before it goes by itself; a
# launcher that is there fetches them at once and ends it.
COLLECT_MINUTES = 5


def lowest(*caps: int | None) -> int | None:
    """What several caps come to, in their unit; None stands for no cap."""
    return min((cap for cap in caps if cap is not None), default=None)


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one run. Only a deadline derived from them enters a training environment."""

    max_cost_microusd: int | None = None
    max_hours: float = 8.0
    local_microusd_per_hour: int = 0  # of this machine at work: its electricity, as its owner says
    spot: bool = False
    providers: tuple[str, ...] = ()  # empty: any
    gpu: str | None = None  # NAME or NAME:COUNT
    collect_minutes: int = COLLECT_MINUTES
    to_bucket: bool = False  # the run goes to an s3:// store while it is made: egress
    image: str = ""  # that rented machines are started from, where their provider runs one
    image_bytes: int = 0  # of it, compressed, as its registry said last; 0: not known
