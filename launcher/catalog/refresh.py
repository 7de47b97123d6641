"""Ask SkyPilot where it may rent, read its catalogs anew, say what moved since the last time."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import msgspec
from msgspec import Struct

from launcher import paths
from launcher.catalog import clusters, enabled, merge
from launcher.catalog import offers as embedded
from launcher.catalog.priced import Listing
from launcher.catalog.providers import PROVIDERS
from launcher.errors import OutsideFailed
from launcher.types import Offer

# An interpreter that has SkyPilot, for a launcher that has not.
VARIABLE = "LORALIFT_SKYPILOT_PYTHON"
INSTALL = "pip install 'loralift[cloud]', or point LORALIFT_SKYPILOT_PYTHON at a Python that has it"
# Importing SkyPilot takes 5 s, the check of ten providers without credentials 1 s (measured,
# November 2026, 2 cores); ten providers that each time out must end as well. Assumption.
TIMEOUT_SECONDS = 300
_PROGRAM = Path(__file__).with_name("ask_skypilot.py")


class Known(Struct, frozen=True):
    """A price as it was at a refresh."""

    provider: str
    instance: str
    region: str
    spot: bool
    gpu: str
    count: int
    microusd_per_hour: int
    as_of: str

    @property
    def key(self) -> tuple[str, str, str, bool, str, int]:
        return self.provider, self.instance, self.region, self.spot, self.gpu, self.count


class Moved(Struct, frozen=True):
    """A price that is another than at the last refresh."""

    old: Known
    new: Known

    @property
    def percent(self) -> float:
        """Infinite where the owner of a cluster asked for nothing before."""
        if not self.old.microusd_per_hour:
            return inf
        return 100 * (self.new.microusd_per_hour / self.old.microusd_per_hour - 1)


class Refreshed(Struct, frozen=True):
    check: enabled.Check
    unread: dict[str, str]  # provider or cluster → why it could not be read anew
    moved: tuple[Moved, ...]  # largest change first
    appeared: int
    gone: int
    against: str  # what the prices were compared with


def refresh(say: Callable[[str], None], now: datetime) -> Refreshed:
    """Raises OutsideFailed where SkyPilot is not installed or does not answer."""
    python = skypilot_python()
    before = _kept()
    against = "the last refresh" if before is not None else "the embedded snapshot"
    if before is None:
        before = _known(merge.merged([embedded.snapshot()]))
    say("asking SkyPilot where it may rent; this takes some seconds")
    answer = ask(python, PROVIDERS)
    check = enabled.Check(
        checked_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        skypilot=answer.version,
        enabled=tuple(answer.enabled),
        disabled=answer.disabled,
    )
    try:
        enabled.keep(check)
        clusters.keep(
            clusters.Asked(asked_at=check.checked_at, skypilot=answer.version, shares=answer.shares)
        )
        after = _known(merge.offers(now.date().isoformat()))
        paths.write_aside(_file(), msgspec.msgpack.encode(after))
    except OSError as error:
        raise OutsideFailed(f"cannot keep what SkyPilot answered: {error}") from None
    return compared(before, after, check, answer.unread, against)


def compared(
    before: Iterable[Known],
    after: Iterable[Known],
    check: enabled.Check,
    unread: dict[str, str],
    against: str,
) -> Refreshed:
    """What moved, appeared and went. Pure."""
    old, new = {k.key: k for k in before}, {k.key: k for k in after}
    moved = [
        Moved(old[key], new[key])
        for key in old.keys() & new.keys()
        if old[key].microusd_per_hour != new[key].microusd_per_hour
    ]
    moved.sort(key=lambda m: (-abs(m.percent), m.new.key))
    return Refreshed(
        check, unread, tuple(moved), len(new.keys() - old.keys()), len(old.keys() - new.keys()),
        against,
    )  # fmt: skip


def skypilot_python() -> str:
    """The interpreter that has SkyPilot: named, this one, or the one beside `sky` on the PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    spec = importlib.util.find_spec("sky")
    # A folder called sky is an empty namespace without an origin, not SkyPilot.
    if spec is not None and spec.origin is not None:
        return sys.executable
    command = shutil.which("sky")
    beside = Path(command).resolve().with_name("python") if command is not None else None
    if beside is not None and os.access(beside, os.X_OK):
        return str(beside)
    raise OutsideFailed(f"SkyPilot is not installed, so there is nobody to ask: {INSTALL}")


class Answer(Struct, frozen=True):
    """What SkyPilot says of the providers it was asked about."""

    version: str
    enabled: list[str]
    disabled: dict[str, str]
    unread: dict[str, str]
    shares: tuple[clusters.Share, ...]


def ask(python: str, names: Iterable[str], seconds: float = TIMEOUT_SECONDS) -> Answer:
    """Ask about these providers alone; the catalogs of the enabled ones are fetched anew.

    Raises OutsideFailed.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "answer.json"
        command = [python, "-c", _PROGRAM.read_text(), str(result), *names]
        try:
            done = subprocess.run(
                command,
                cwd=paths.skypilot_folder(),
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise OutsideFailed(f"SkyPilot did not answer in {seconds:g} s ({python})") from None
        except OSError as error:
            raise OutsideFailed(f"SkyPilot did not answer: {error}"[:400]) from None
        try:
            return msgspec.convert(json.loads(result.read_text()), Answer)
        except (OSError, ValueError, msgspec.ValidationError):
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise OutsideFailed(
                f"SkyPilot did not answer ({python}, exit {done.returncode}): {last}\n"
                f"`sky check` shows what is wrong; without SkyPilot: {INSTALL}"
            ) from None


def _known(listing: Listing) -> tuple[Known, ...]:
    return tuple(_price(offer) for offer in listing.offers)


def _price(offer: Offer) -> Known:
    return Known(
        offer.provider, offer.instance, offer.region, offer.spot, offer.device.name, offer.count,
        offer.microusd_per_hour, offer.as_of,
    )  # fmt: skip


def _kept() -> tuple[Known, ...] | None:
    try:
        return msgspec.msgpack.decode(_file().read_bytes(), type=tuple[Known, ...])
    except (OSError, msgspec.MsgspecError):
        return None


def _file() -> Path:
    return paths.catalog_folder() / "prices.msgpack"
