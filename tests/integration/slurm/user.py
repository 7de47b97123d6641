"""What a cluster's Unix user finds at home and on nodes, and what SkyPilot would fetch for it."""

import os
import shlex
import shutil
from pathlib import Path

from tests.servers.unix_users import SYSTEM_PATH

# Settings of this machine that package installers need, whoever runs them.
_REGISTRY = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY")
_REGISTRY += ("NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def registry_settings() -> dict[str, str]:
    """The variables of this process that a package installer of the user's needs as well."""
    return {key: value for key, value in os.environ.items() if key.startswith(_REGISTRY)}


def place_ps(programs: Path) -> None:
    """What a node's `ps aux` shows: its own job's processes, not those of other nodes' jobs, which
    run on this machine, too.

    SkyPilot 0.14.1 kills every daemon of its own that `ps aux` shows where a new cluster has none
    yet (sky/skylet/attempt_skylet.py): with it goes the autodown of the user's other clusters.
    """
    (programs / "ps").write_text(
        f"""#!/bin/bash
PATH={SYSTEM_PATH}
[ "$*" = aux ] || exec ps "$@"
ps aux | while IFS= read -r line; do
  read -r _ pid _ <<<"$line"
  if [ "$pid" = PID ] || grep -qzxF "HOME=$HOME" "/proc/$pid/environ" 2>/dev/null; then
    printf '%s\\n' "$line"
  fi
done
"""
    )
    (programs / "ps").chmod(0o755)


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
PATH={SYSTEM_PATH} exec curl "$@"
"""
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    # A login shell sets the PATH anew, so that ours is given there.
    profile = (
        f'export PATH={shlex.quote(str(programs))}:"$PATH"\n[ ! -f ~/.bashrc ] || . ~/.bashrc\n'
    )
    (home / ".bash_profile").write_text(profile)
