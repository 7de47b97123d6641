"""What this machine must have, and what of it is used: ports, processes, lines of /etc/hosts."""

import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tests.servers.unix_users import SYSTEM_PATH

# command → Debian's package of it
NEEDED = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sinfo": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "socat": "socat",
    "nc": "netcat-openbsd",
    "ps": "procps",
}
_HOSTS = Path("/etc/hosts")
# Of what is told apart by its environment alone: Slurm's daemons and steps, SkyPilot's workers, and
# its API server with all below it, which whatever comes next may have started again anywhere.
_DAEMONS = ("SkyPilot:", "slurm", "/usr/sbin/slurm")
_OF_A_SERVER = "IS_SKYPILOT_SERVER=true"
# Its workers write their titles over their environment; what is left are the files they hold.
_RENAMED = "SkyPilot:"


def lacks() -> str | None:
    """What stands in the way of a Slurm cluster here, and the way out; None where nothing does."""
    packages = sorted({p for c, p in NEEDED.items() if shutil.which(c, path=SYSTEM_PATH) is None})
    if packages:
        return f"Slurm is not installed: apt-get install {' '.join(packages)}"
    if os.geteuid() != 0:
        return "a cluster user can be made by root alone"
    return None


def program(name: str) -> str:
    """Where a system program is: sshd, for one, insists on an absolute path."""
    found = shutil.which(name, path=SYSTEM_PATH)
    assert found is not None, name
    return found


def address() -> str:
    """What this machine's name resolves to: SkyPilot looks for it among its nodes' addresses."""
    return socket.gethostbyname(socket.gethostname())


def until(what: str, holds: Callable[[], bool], seconds: float, every: float = 0.2) -> None:
    """Wait until something `holds`. Raises TimeoutError, naming it."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def processes(uid: int | None, mark: str) -> dict[int, str]:
    """Processes of a user, with `mark` in folder or command, and `mark`'s daemons, by id.

    Not by environment alone: a shell may have been told to be the cluster's client, and what is
    started from it is somebody else's.
    """
    found, ours = {}, _line_of_descent()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in ours:
            continue
        try:
            theirs = uid is not None and folder.stat().st_uid == uid
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            traces = [command, os.readlink(folder / "cwd")]
            variables = (folder / "environ").read_bytes().decode(errors="replace")
            if command.startswith(_DAEMONS) or _OF_A_SERVER in variables:
                traces.append(variables)
            if command.startswith(_RENAMED):
                traces += [os.readlink(file) for file in (folder / "fd").iterdir()]
        except OSError:  # it has ended, or may not be looked at
            continue
        if command and (theirs or any(mark in t for t in traces)):  # a zombie has no command
            found[int(folder.name)] = command
    return found


def _line_of_descent() -> set[int]:
    """This process and those above it: a shell may have been told to be the cluster's client."""
    line, pid = set(), os.getpid()
    while pid > 0:
        line.add(pid)
        # after the command's name in brackets: state, parent
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return line


def end(pids: Callable[[], Iterable[int]]) -> None:
    """KILL until none is left: what they would tidy up is removed with their folder."""

    def none_left() -> bool:
        found = list(pids())
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    until("processes that end", none_left, 30)


def name_hosts(names: Iterable[str], mark: str) -> None:
    """Give names this machine's address in /etc/hosts, on lines that end in `mark`."""
    _edit_hosts(lambda lines: [*lines, *(f"{address()} {name} # {mark}" for name in names)])


def forget_hosts(mark: str) -> None:
    _edit_hosts(lambda lines: [line for line in lines if not line.endswith(f"# {mark}")])


def _edit_hosts(edited: Callable[[list[str]], list[str]]) -> None:
    # In place: in a container /etc/hosts is often a mount, which cannot be replaced.
    with _HOSTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = edited(file.read().splitlines())
        file.seek(0)
        file.write("".join(f"{line}\n" for line in lines))
        file.truncate()
