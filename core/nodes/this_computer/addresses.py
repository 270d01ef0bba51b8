"""Under which addresses others reach this computer, and whether a host is this computer."""

from __future__ import annotations

import contextlib
import socket

from core.nodes.this_computer.callers import plain_address
from core.wire.host import is_loopback

_OUTSIDE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # RFC 5737 and 3849: nobody has these
_LOCAL = "127.0.0.1"


def own_addresses() -> tuple[str, ...]:
    """Addresses of this computer that others may reach, the one by which it goes out first; perhaps none.

    Nothing is sent to find out.
    """
    found: list[str] = []
    for outside, family in _OUTSIDE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))  # a datagram socket: the system only chooses the way
            found.append(str(probe.getsockname()[0]))
    with contextlib.suppress(OSError):
        found += [str(row[4][0]) for row in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)]
    usable = (address.partition("%")[0] for address in found)
    return tuple(dict.fromkeys(a for a in usable if _is_reachable(a)))


def own_address() -> str:
    """The address by which this computer goes out; loopback where it has no network."""
    return next(iter(own_addresses()), _LOCAL)


def _is_reachable(address: str) -> bool:
    ip = plain_address(address)
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified)


def is_own_host(host: str) -> bool:
    """Whether a host's name or address is this computer's; False where the name can't be found."""
    if is_loopback(host):
        return True
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(_is_own(row[0], row[4]) for row in rows)


def _is_own(family: int, address: tuple[object, ...]) -> bool:
    """Only an address of its own is one that a system lets a socket have."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True
