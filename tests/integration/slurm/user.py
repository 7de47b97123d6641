"""The cluster's Unix user: a fresh name and home, and what jobs find there."""

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.slurm import machine

# Settings of this machine that package installers need, whoever runs them.
_REGISTRY = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY")
_REGISTRY += ("NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def add(name: str, home: Path) -> None:
    """Make the user with a home; `*` as its password lets sshd in by key alone."""
    command = ["useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash"]
    subprocess.run([*command, "--user-group", "--password", "*", name], check=True)
    home.mkdir()
    shutil.chown(home, name, name)


def remove(name: str) -> None:
    """Remove the user, and what it left in /tmp, where SkyPilot writes scripts."""
    owner = uid(name)
    if owner is None:
        return
    for path in Path("/tmp").iterdir():
        if path.lstat().st_uid == owner:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    subprocess.run(["userdel", name], check=True)


def uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def registry_settings() -> dict[str, str]:
    """The variables of this process that a package installer of the user's needs as well."""
    return {key: value for key, value in os.environ.items() if key.startswith(_REGISTRY)}


def place_uv_installer(programs: Path, home: Path, uv: Path, python: str) -> None:
    """Stand in for the installer that SkyPilot pipes from the network into a shell.

    On every new cluster SkyPilot runs `curl … https://astral.sh/uv/install.sh | sh`, then has uv
    fetch a Python 3.10. Here `curl` answers that one address with a script that installs PyPI's
    uv, behind a wrapper that takes `python` for 3.10 (3.11 does: SkyPilot uses Ray nowhere here).
    """
    programs.mkdir()
    shutil.copy(uv, programs / "uv-from-pypi")
    (programs / "uv").write_text(
        f"""#!/bin/bash
for argument; do
  shift
  if [ "$argument" = 3.10 ]; then argument={shlex.quote(python)}; fi
  set -- "$@" "$argument"
done
export UV_PYTHON_DOWNLOADS=never UV_CACHE_DIR={shlex.quote(str(home / ".cache" / "uv"))}
exec {shlex.quote(str(programs / "uv-from-pypi"))} "$@"
"""
    )
    (programs / "curl").write_text(
        f"""#!/bin/bash
for argument; do
  if [ "$argument" = https://astral.sh/uv/install.sh ]; then
    echo 'mkdir -p "$UV_INSTALL_DIR" && cp {shlex.quote(str(programs / "uv"))} "$UV_INSTALL_DIR"'
    exit
  fi
done
PATH={machine.SYSTEM_PATH} exec curl "$@"
"""
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    # A login shell sets the PATH anew, so that ours is given there.
    profile = (
        f'export PATH={shlex.quote(str(programs))}:"$PATH"\n[ ! -f ~/.bashrc ] || . ~/.bashrc\n'
    )
    (home / ".bash_profile").write_text(profile)


def system_python() -> str:
    """A Python of this one's minor version that every user of the machine may run."""
    name = "python{}.{}".format(*sys.version_info)
    found = shutil.which(name, path=machine.SYSTEM_PATH)
    assert found is not None, f"no {name} for other users than root: apt-get install {name}"
    return found


def copy_environment(kept: Path, target: Path, python: str) -> None:
    """A copy of a kept virtual environment, as hard links where the file system allows it.

    The kept one is below root's home, where the cluster's user may not look, and so may be the
    Python that it was made with.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    make = [python, "-m", "venv", "--without-pip", str(target)]
    subprocess.run(make, check=True, env={"PATH": machine.SYSTEM_PATH})
    packages = Path("lib", "python{}.{}".format(*sys.version_info), "site-packages")
    (target / packages).rmdir()
    copy = [
        "cp",
        "--archive",
        "--no-target-directory",
        str(kept / packages),
        str(target / packages),
    ]
    if subprocess.run([copy[0], "--link", *copy[1:]], capture_output=True).returncode != 0:
        subprocess.run(copy, check=True)
    shutil.copy(kept / "ready", target / "ready")
