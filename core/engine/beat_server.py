"""A very small web server that answers every question with one document: for programs that watch over a job.

One thread serves all, so nothing that a caller does takes more than its place: each has five seconds for everything,
a request head of eight kilobytes, and the one who has been there longest gives way when there are too many.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic

from core.model.errors import LocalError

log = logging.getLogger(__name__)

MOST_CALLERS = 32
LONGEST_HEAD = 8192  # bytes
CALLER_SECONDS = 5.0
_PIECE = 4096
_LOOK = 0.5  # seconds between two looks at who takes too long
_TOO_LONG = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_PATHS = frozenset({"/", "/health", "/healthz"})

Answer = Callable[[], tuple[bool, bytes]]


@dataclass(slots=True, eq=False)
class _Caller:
    sock: socket.socket
    until: float
    head: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None  # what is left to be sent; None while the request is being read
    done: bool = False


class BeatServer:
    """Listens from its making on, until `stop`.

    Parameters
    ----------
    address : str
        IP address of this computer.
    port : int
        0 takes any that is free; see `port`.
    answer : Callable[[], tuple[bool, bytes]]
        Whether all is well, and the document (JSON) that says so. Asked for each request, on the server's thread.

    Raises
    ------
    LocalError
        The port is taken, or not allowed.
    """

    def __init__(self, address: str, port: int, answer: Answer) -> None:
        self._answer = answer
        self._listener = _bound(address, port)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._bell, self._ringer = socket.socketpair()  # so that it ends at once
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._callers: dict[socket.socket, _Caller] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heart-beat-{self.port}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more; the port is free when this returns."""
        self._ended.set()
        with contextlib.suppress(OSError):  # it has ended already
            self._ringer.send(b"!")
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                for key, _events in self._selector.select(_LOOK):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._callers:
                        self._serve(self._callers[key.fileobj])
                now = monotonic()
                for caller in [c for c in self._callers.values() if c.until < now]:
                    self._drop(caller)
        except Exception:
            log.exception("heart-beat")
        finally:
            for caller in list(self._callers.values()):
                self._drop(caller)
            self._selector.close()
            for sock in (self._listener, self._bell, self._ringer):
                sock.close()

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:  # gone before it was its turn
            return
        sock.setblocking(False)
        if len(self._callers) >= MOST_CALLERS:
            self._drop(min(self._callers.values(), key=lambda c: c.until))
        caller = self._callers[sock] = _Caller(sock, monotonic() + CALLER_SECONDS)
        self._selector.register(sock, selectors.EVENT_READ)
        self._serve(caller)

    def _serve(self, caller: _Caller) -> None:
        try:
            if caller.answer is not None:
                self._send(caller)
            elif caller.done:
                if not caller.sock.recv(_PIECE):  # what it still says is of no interest; it is waited for to leave
                    self._drop(caller)
            else:
                self._read(caller)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(caller)

    def _read(self, caller: _Caller) -> None:
        piece = caller.sock.recv(_PIECE)
        if not piece:
            self._drop(caller)
            return
        caller.head += piece
        end = caller.head.find(b"\r\n\r\n")
        if end < 0 and len(caller.head) <= LONGEST_HEAD:
            return
        answer = self._response(bytes(caller.head[:end])) if end >= 0 else _encoded(_TOO_LONG, b"")
        caller.answer = memoryview(answer)
        caller.head.clear()
        self._selector.modify(caller.sock, selectors.EVENT_WRITE)
        self._send(caller)

    def _send(self, caller: _Caller) -> None:
        assert caller.answer is not None
        sent = caller.sock.send(caller.answer)
        caller.answer = caller.answer[sent:]
        if not caller.answer:
            caller.answer, caller.done = None, True
            caller.sock.shutdown(socket.SHUT_WR)
            self._selector.modify(caller.sock, selectors.EVENT_READ)

    def _drop(self, caller: _Caller) -> None:
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(caller.sock)
        self._callers.pop(caller.sock, None)
        caller.sock.close()

    def _response(self, head: bytes) -> bytes:
        """An answer to a request head (RFC 9112); one that can't be read has an answer, too."""
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _encoded(HTTPStatus.BAD_REQUEST, b"")
        method, target = words[0], words[1].partition(b"?")[0].decode("latin-1")
        if method not in (b"GET", b"HEAD"):
            return _encoded(HTTPStatus.METHOD_NOT_ALLOWED, b"", allow=True)
        if target not in _PATHS:
            return _encoded(HTTPStatus.NOT_FOUND, b"")
        try:
            healthy, document = self._answer()
        except Exception:
            log.exception("heart-beat")
            healthy, document = False, b'{"healthy": false, "reasons": ["Something went wrong inside DICOM Ferry."]}\n'
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return _encoded(status, document, body=method == b"GET")


def _encoded(status: HTTPStatus, document: bytes, *, body: bool = True, allow: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(document)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if allow:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join((*lines, "", "")).encode("ascii") + (document if body else b"")


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(MOST_CALLERS)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE or getattr(error, "winerror", None) in (10048, 10013)
        why = "is in use by another program" if taken else "can't be used on this computer"
        raise LocalError(
            f"The heart-beat can't listen: port {port} at {address} {why}.",
            "End that program, or choose another port for the heart-beat."
            if taken
            else "Choose a port above 1023 and an address of this computer, such as 127.0.0.1.",
            detail=str(error),
            code="port-in-use" if taken else "listen-failed",
        ) from error
    return sock
