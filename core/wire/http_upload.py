"""Requests on their way out: head and body in as few writes as can be, and whether they may be repeated."""

from __future__ import annotations

import threading
from typing import Protocol

from core.model.errors import TransportError, TransportFault
from core.wire.http_connection import SEND_LIMIT, Connection

PIECE = 256 * 1024  # bytes of a body read and sent at a time
_TOGETHER = 65536  # bytes of a body up to which copying it behind the head beats a second write
_SIZE_LINE = 10  # room for a chunk's size line: up to eight digits and the line end


class ByteSource(Protocol):
    """Bytes on their way. `length` is None where the source doesn't say in advance (sent chunked then)."""

    @property
    def length(self) -> int | None: ...

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` from its start; number of bytes, 0 at the end. A source that was cut raises."""


class Upload(Protocol):
    """Attributes: `repeatable`, whether `send` can start again; `complete`, whether all was handed over."""

    repeatable: bool
    complete: bool

    def send(self, connection: Connection) -> None:
        """Send all, or up to where the server takes no more or answers."""

    def close(self) -> None: ...


class BytesUpload:
    """A head, and a body that is held in memory."""

    __slots__ = ("_body", "_head", "complete", "repeatable")

    def __init__(self, head: bytes, body: bytes | memoryview = b"") -> None:
        if len(body) <= _TOGETHER:
            head, body = b"".join((head, body)), b""
        self._head = head
        self._body = memoryview(body)
        self.repeatable = True
        self.complete = False

    def send(self, connection: Connection) -> None:
        self.complete = False
        if not connection.send(self._head, self._body[:SEND_LIMIT]):
            return
        for start in range(SEND_LIMIT, len(self._body), SEND_LIMIT):
            if connection.answering() or not connection.send(self._body[start : start + SEND_LIMIT]):
                return
        self.complete = True

    def close(self) -> None:
        pass


class _Buffers(threading.local):
    """A large buffer kept by each thread. Taken out while in use: a source may itself make a request."""

    def __init__(self) -> None:
        self.free: list[memoryview] = []

    def take(self) -> memoryview:
        return self.free.pop() if self.free else memoryview(bytearray(PIECE))

    def give(self, buffer: memoryview) -> None:
        if not self.free:
            self.free.append(buffer)


_buffers = _Buffers()


class SourceUpload:
    """A head, and a body read from a source piece by piece, each piece sent from the memory it was read into.

    The first piece is read before a connection is needed, and can be sent again until the second one is read.
    """

    __slots__ = ("_buffer", "_chunked", "_ended", "_first", "_left", "_source", "complete", "repeatable")

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._source = source
        self._left = source.length or 0
        self._chunked = source.length is None
        self._ended = False
        self.repeatable = True
        self.complete = False
        self._buffer = _buffers.take()
        try:
            self._buffer[: len(head)] = head
            self._first = self._next_piece(len(head))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the buffer back to the thread."""
        _buffers.give(self._buffer)

    def send(self, connection: Connection) -> None:
        self.complete = False
        if not connection.send(self._buffer[: self._first]):
            return
        while not self._ended:
            if connection.answering():
                return
            self.repeatable = False
            if not connection.send(self._buffer[: self._next_piece(0)]):
                return
        self.complete = True

    def _next_piece(self, start: int) -> int:
        """Read the next piece into the buffer, from `start` on; where it ends."""
        return self._next_chunk(start) if self._chunked else self._next_run(start)

    def _next_run(self, start: int) -> int:
        want = min(self._left, len(self._buffer) - start)
        got = _read_full(self._source, self._buffer[start : start + want])
        self._left -= got
        if got < want:
            raise TransportError(
                TransportFault.CUT,
                f"What was to be sent ended {self._left} bytes too early.",
                "Try again; if it happens again, look at the source.",
            )
        self._ended = not self._left
        return start + got

    def _next_chunk(self, start: int) -> int:
        room = self._buffer[start + _SIZE_LINE : len(self._buffer) - 7]
        got = _read_full(self._source, room)
        self._ended = got < len(room)
        end = start + _SIZE_LINE + got
        if not got:
            end, tail = start, b"0\r\n\r\n"
        else:
            self._buffer[start : start + _SIZE_LINE] = b"%08x\r\n" % got
            tail = b"\r\n0\r\n\r\n" if self._ended else b"\r\n"
        self._buffer[end : end + len(tail)] = tail
        return end + len(tail)


def _read_full(source: ByteSource, view: memoryview) -> int:
    got = source.readinto(view) if len(view) else 0
    if not got or got == len(view):
        return got
    filled = got
    while filled < len(view):
        got = source.readinto(view[filled:])
        if not got:
            break
        filled += got
    return filled
