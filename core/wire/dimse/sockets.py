"""Acknowledgements that are not delayed: what keeps C-STORE from stalling some 40 ms an instance.

Receivers built on DCMTK write a response in two small segments, and send the second one only when the first
was acknowledged (Nagle's algorithm); our system delays that acknowledgement unless it is told not to.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Final

_SIO_TCP_SET_ACK_FREQUENCY: Final = 0x98000017
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


def quick_acknowledgements(sock: socket.socket) -> Callable[[], None] | None:
    """Have this connection's segments acknowledged as they come.

    Returns
    -------
    Callable[[], None] | None
        To be called before each receive: on Linux the kernel falls back into delaying (tcp(7)). None where
        nothing needs to be repeated: on Windows it is set once for the connection (SIO_TCP_SET_ACK_FREQUENCY),
        and other systems, macOS among them, offer no such thing; there more associations help.
    """
    if sys.platform == "win32":
        _acknowledge_each_segment(sock)
        return None
    if _QUICKACK is None:
        return None
    option = _QUICKACK
    # Not the method of a TLS socket's class: the option belongs to the connection below.
    setsockopt = sock.setsockopt

    def arm() -> None:
        setsockopt(socket.IPPROTO_TCP, option, 1)

    return arm


def _acknowledge_each_segment(sock: socket.socket) -> None:
    """Windows only; a system that refuses works as before, with delays."""
    if sys.platform == "win32":
        import ctypes

        value, returned = ctypes.c_ulong(1), ctypes.c_ulong(0)
        ctypes.windll.ws2_32.WSAIoctl(
            ctypes.c_void_p(sock.fileno()),
            ctypes.c_ulong(_SIO_TCP_SET_ACK_FREQUENCY),
            ctypes.byref(value),
            ctypes.sizeof(value),
            None,
            0,
            ctypes.byref(returned),
            None,
            None,
        )
