"""Unix users of the tests' own: a fresh name and home, and a Python that they may run."""

import pwd
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = Path("lib", "python{}.{}".format(*sys.version_info), "site-packages")


def add(name: str, home: Path) -> None:
    """Make the user with a home; `*` as its password lets sshd in by key alone."""
    command = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash"]
    subprocess.run([*command, "--user-group", "--password", "*", name], check=True)
    home.mkdir()
    shutil.chown(home, name, name)


def remove(name: str) -> None:
    """Remove the user, and what it left in /tmp."""
    owner = uid(name)
    if owner is None:
        return
    for path in Path("/tmp").iterdir():
        with suppress(FileNotFoundError):  # others' come and go meanwhile
            if path.lstat().st_uid == owner:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    subprocess.run(["userdel", name], check=True)


def uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def system_python() -> str:
    """A Python of this one's minor version that every user of the machine may run."""
    name = "python{}.{}".format(*sys.version_info)
    found = shutil.which(name, path=SYSTEM_PATH)
    assert found is not None, f"no {name} for other users than root: apt-get install {name}"
    return found


def copy_environment(kept: Path, target: Path, python: str) -> None:
    """A copy of a kept virtual environment, as hard links where the file system allows it.

    The kept one is below root's home, where other users may not look, and so may be the Python that
    it was made with.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    make = [python, "-m", "venv", "--without-pip", str(target)]
    subprocess.run(make, check=True, env={"PATH": SYSTEM_PATH})
    (target / PACKAGES).rmdir()
    copy = [
        "cp",
        "--archive",
        "--no-target-directory",
        str(kept / PACKAGES),
        str(target / PACKAGES),
    ]
    if subprocess.run([copy[0], "--link", *copy[1:]], capture_output=True).returncode != 0:
        subprocess.run(copy, check=True)
