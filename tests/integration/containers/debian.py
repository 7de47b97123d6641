"""A Debian base image without a registry: the packages that this machine has installed, packed."""

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

# What the Dockerfile needs of a base, and what every Debian has: apt brings torch's libstdc++.
WANTED = ("python3-venv", "ca-certificates", "apt")
_LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")
_LINKS = ("bin", "sbin", "lib", "lib64")  # into /usr, since Debian 12
_EMPTY = ("dev", "proc", "root", "run", "sys", "tmp", "var/tmp")
_ACCOUNTS = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}


def pack(archive: Path) -> None:
    """Write the root file system of a small Debian as a tar."""
    names = {name.lstrip("/") for package in _closure() for name in _files(package)}
    with tarfile.open(archive, "w") as out:
        for name in sorted((names | set(_LINKS)) - set(_EMPTY) - set(_ACCOUNTS)):
            out.add(f"/{name}", arcname=name, recursive=False)
        for name in _EMPTY:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in name else 0o755
            out.addfile(entry)
        for name, text in _ACCOUNTS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))


def _closure() -> set[str]:
    """Debian's essential packages, and those WANTED, with all that they depend on."""
    form = "${Package}\t${Essential}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    said = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={form}"], capture_output=True, text=True, check=True
    ).stdout
    needs: dict[str, list[str]] = {}
    provider: dict[str, str] = {}
    todo = list(WANTED)
    for line in said.splitlines():
        package, essential, provides, depends = line.split("\t")
        needs[package] = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", depends)
        provider |= dict.fromkeys(
            re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", provides), package
        )
        todo += [package] if essential == "yes" else []
    found: set[str] = set()
    while todo:
        name = todo.pop()
        name = name if name in needs else provider.get(name, "")
        if name and name not in found:
            found.add(name)
            todo += needs[name]
    return found


def _files(package: str) -> set[str]:
    """Where a package's files really are: some name them by the links to /usr."""
    said = subprocess.run(
        ["dpkg", "--listfiles", package], capture_output=True, text=True, check=True
    ).stdout
    found = set()
    for line in said.splitlines():
        path = os.path.join(os.path.realpath(os.path.dirname(line)), os.path.basename(line))
        if os.path.lexists(path) and not path.startswith(_LEFT_OUT) and path != "/":
            found.add(path)
    return found
