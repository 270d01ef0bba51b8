"""Opening a TCP connection to a named host within a time, stoppable, whichever of its addresses answers first."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from core.wire.abort import Abort
from core.wire.failures import connect_failed, connect_timed_out, name_slow, name_unknown, place

_LOOK = 0.05  # seconds between two looks at the abort switch
_STAGGER = 0.25  # seconds before the next address is tried as well (RFC 8305, section 5)
_UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, 10035, 10036, 10037}


@dataclass(frozen=True, slots=True)
class _Address:
    family: int
    endpoint: tuple[Any, ...]


def dial(host: str, port: int, *, timeout: float, abort: Abort | None = None, prefer: str = "") -> socket.socket:
    """Connect, with Nagle's algorithm off.

    Parameters
    ----------
    timeout
        Seconds for name look-up and connection together.
    prefer
        The numeric address that answered the last time; tried first.

    Raises
    ------
    TransportError
        ``NAME``, ``REFUSED``, ``TIMEOUT`` or ``ABORTED``; no byte was sent.
    """
    deadline = time.monotonic() + timeout
    addresses = _look_up(host, port, timeout, deadline, abort)
    addresses.sort(key=lambda address: address.endpoint[0] != prefer)
    sock = _first_to_answer(addresses, place(host, port), timeout, deadline, abort)
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def look_up(host: str, port: int, *, timeout: float, abort: Abort | None = None) -> list[str]:
    """The numeric addresses of a host.

    Raises
    ------
    TransportError
        ``NAME`` or ``ABORTED``.
    """
    found = _look_up(host, port, timeout, time.monotonic() + timeout, abort)
    return list(dict.fromkeys(str(address.endpoint[0]) for address in found))


def _look_up(host: str, port: int, timeout: float, deadline: float, abort: Abort | None) -> list[_Address]:
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # not a number but a name, which may take long: look it up beside, where it can be left alone
    found: list[_Address] = []
    failed: list[Exception] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.extend(_addresses(host, port, 0))
        except (OSError, UnicodeError) as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=look_up, name=f"look-up {host}", daemon=True).start()
    while not done.wait(_LOOK):
        if abort is not None:
            abort.check()
        if time.monotonic() >= deadline:
            raise name_slow(host, timeout)
    if failed:
        raise name_unknown(host, failed[0]) from failed[0]
    return found


def _addresses(host: str, port: int, flags: int) -> list[_Address]:
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [_Address(row[0], row[4]) for row in rows]


def _first_to_answer(
    addresses: list[_Address], where: str, timeout: float, deadline: float, abort: Abort | None
) -> socket.socket:
    waiting: set[socket.socket] = set()
    errors: list[OSError] = []
    next_start = 0.0
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                if abort is not None:
                    abort.check()
                now = time.monotonic()
                if now >= deadline:
                    raise connect_timed_out(where, timeout)
                if addresses and (not waiting or now >= next_start):
                    next_start = now + _STAGGER
                    _start(addresses.pop(0), selector, waiting, errors)
                elif not waiting:
                    raise connect_failed(where, _telling(errors), timeout) from _telling(errors)
                for key, _ in selector.select(min(_LOOK, deadline - now) if waiting else 0):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    selector.unregister(sock)
                    waiting.discard(sock)
                    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if number == 0:
                        return sock
                    errors.append(OSError(number, errno.errorcode.get(number, str(number))))
                    sock.close()
        finally:
            for sock in waiting:
                sock.close()


def _start(
    address: _Address, selector: selectors.BaseSelector, waiting: set[socket.socket], errors: list[OSError]
) -> None:
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:  # a family that this computer has not
        errors.append(error)
        return
    sock.setblocking(False)
    try:
        number = sock.connect_ex(address.endpoint)
    except OSError as error:
        errors.append(error)
        sock.close()
        return
    if number in _UNDER_WAY:
        waiting.add(sock)
        selector.register(sock, selectors.EVENT_WRITE)
    else:
        errors.append(OSError(number, errno.errorcode.get(number, str(number))))
        sock.close()


def _telling(errors: list[OSError]) -> OSError:
    """The error that tells most: a refusal says that the computer is there."""
    refused = [error for error in errors if error.errno in (errno.ECONNREFUSED, 10061)]
    return (refused or errors or [OSError(errno.EHOSTUNREACH, "the name has no address")])[0]
