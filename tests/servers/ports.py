"""Ports on loopback for servers that are told theirs, and take it only a while later."""

import random
import socket
from pathlib import Path

FIRST = 10_000
# From the first of these on the kernel gives any port to who asks for one, and to each connection
# that goes out: one that was free may be taken when the server comes, or comes back.
GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
LINUX_GIVES_FROM = 32_768


def free_ports(count: int, above: int = 0) -> list[int]:
    """So many, each with its neighbour that many `above`."""
    gives_from = int(GIVEN.read_text().split()[0]) if GIVEN.exists() else LINUX_GIVES_FROM
    last = max(gives_from, FIRST + above + 1000) - above  # where it gives nearly all, one of them
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(FIRST, last)
        if port not in found and _is_free(port) and _is_free(port + above):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
