"""Ports on loopback for servers that are told theirs, and take it only a while later."""

import random
import socket
from collections.abc import Callable
from pathlib import Path

FIRST = 10_000
# From the first of these on the kernel gives any port to who asks for one, and to each connection
# that goes out: one that was free may be taken when the server comes, or comes back.
GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
LINUX_GIVES_FROM = 32_768

_told: set[int] = set()


def free_port(its_own: Callable[[int], int] = lambda port: port, room: int = 0) -> int:
    """One that is free, as is the one that the server makes `its_own` of it, at most `room` above.
    None is told twice."""
    gives_from = int(GIVEN.read_text().split()[0]) if GIVEN.exists() else LINUX_GIVES_FROM
    last = max(gives_from - room, FIRST + 1000)  # where it gives nearly all, one of them
    while True:
        port = random.randrange(FIRST, last)
        both = {port, its_own(port)}
        if not both & _told and all(map(is_free, both)):
            _told.update(both)
            return port


def is_free(port: int) -> bool:
    """Whether a server could take it now."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
