"""Where an attempt comes from: its plan, this program, the image it is started from."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from jobs.spec import Provenance
from launcher import __version__, paths
from launcher.inputs.images import digest_of


def provenance(plan_document: bytes, image: str) -> Provenance:
    """What the job's lineage shall say; `image` is a reference, "" for none."""
    return Provenance(
        plan_sha256=hashlib.sha256(plan_document).hexdigest(),
        version=__version__,
        git_revision=git_revision(paths.job_code().parent),
        image=image or None,
        image_digest=digest_of(image),
    )


@cache
def git_revision(root: Path) -> str | None:
    """The commit of the checkout whose top folder this is, "-dirty" behind it where files differ.

    None for any other folder, such as an installation inside of somebody's checkout, and where
    there is no git to ask.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty"]
    command += ["--exclude=*"]  # the commit, whatever tags there are
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout.strip() or None
