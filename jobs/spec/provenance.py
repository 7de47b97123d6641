"""What started an attempt, as its lineage tells it: known outside of the job alone."""

from msgspec import Struct


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set when an attempt is started, as its deadline is. It changes nothing that is trained."""

    plan_sha256: str  # of plan.json, as it lies beside the collected run
    version: str  # of Loralift
    git_revision: str | None = None  # of its checkout, "-dirty" behind it; None: an installed one
    image: str | None = None  # that the machine was started from, as it was given
    image_digest: str | None = None  # sha256:…; None: no image, or a tag, which names none for good
