"""Rows of SkyPilot's catalogs as they stand there, in tests/fixtures/catalogs.

skypilot-org/skypilot-catalog, catalogs/v8/PROVIDER/vms.csv: aws at 00148f2, gcp at 006059e, lambda
at 0f40703, nebius at 0082b04, runpod at 01acdfd, vast at 01b8cdd; azure at 20291d7 of its fork
coopslarhette/skypilot-catalog.
"""

from pathlib import Path

from launcher.catalog import skypilot
from launcher.catalog.priced import Dropped, Price

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "catalogs"
PROVIDERS = sorted(path.stem for path in FOLDER.glob("*.csv"))


def text(provider: str) -> str:
    return (FOLDER / f"{provider}.csv").read_text(encoding="utf-8")


def prices(provider: str) -> tuple[Price, ...]:
    return skypilot.read(provider, text(provider))[0]


def dropped(provider: str) -> tuple[Dropped, ...]:
    return skypilot.read(provider, text(provider))[1]


def reasons(provider: str, instance: str) -> list[str]:
    return [entry.reason for entry in dropped(provider) if entry.instance == instance]


def place(root: Path, *providers: str) -> Path:
    """The real rows where SkyPilot would keep them, below a root for SKY_RUNTIME_DIR."""
    for provider in providers or PROVIDERS:
        path = root / ".sky" / "catalogs" / "v8" / provider / "vms.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(provider), encoding="utf-8")
    return root
