"""Bodies of answers: where each ends, and that a cut one never looks whole."""

from __future__ import annotations

import re
import zlib
from typing import Protocol

from core.model.errors import TransportError
from core.wire.failures import cut, no_http
from core.wire.http_connection import Connection
from core.wire.http_message import HEAD_LIMIT, LINE_LIMIT, Head

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n\x00]*)?")
_CHUNK_LINE = 1024  # bytes of a chunk's size line with its extensions
_DIRECT = 16384  # bytes left in a chunk from which on the socket is read into the caller's memory
_SCRATCH = 65536


class Body(Protocol):
    """`ended` is true when all was read, so that the connection stands before the next answer."""

    ended: bool

    def readinto(self, view: memoryview, /) -> int: ...


class EmptyBody:
    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = True

    def readinto(self, view: memoryview, /) -> int:
        return 0


class SizedBody:
    """As many bytes as Content-Length says."""

    __slots__ = ("_connection", "_left", "ended")

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self._left = length
        self.ended = False

    def readinto(self, view: memoryview, /) -> int:
        left = self._left
        if not left or not view:
            return 0
        got = self._connection.read_into(view[:left] if len(view) > left else view)
        if not got:
            raise cut(self._connection.where, f"with {left} bytes of its answer missing")
        self._left = left - got
        self.ended = got == left
        return got


class ChunkedBody:
    """Chunked transfer coding (RFC 9112, section 7.1); trailers are read and dropped."""

    __slots__ = ("_connection", "_first", "_left", "ended")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._left = 0
        self._first = True
        self.ended = False

    def readinto(self, view: memoryview, /) -> int:
        if self.ended or not view:
            return 0
        connection = self._connection
        if not self._left:
            self._left = self._next_size()
            if not self._left:
                self._read_trailers()
                self.ended = True
                return 0
        left = self._left
        part = view[:left] if len(view) > left else view
        got = connection.read_into(part) if left >= _DIRECT else connection.read_buffered(part)
        if not got:
            raise cut(connection.where, "in the middle of its answer")
        self._left = left - got
        return got

    def _next_size(self) -> int:
        connection = self._connection
        if not self._first and connection.read_line(0):
            raise no_http(connection.where, "a chunk is longer than it said")
        self._first = False
        line = connection.read_line(_CHUNK_LINE)
        matched = _CHUNK_SIZE.fullmatch(line)
        if matched is None:
            raise no_http(connection.where, "a chunk's size is malformed", repr(line[:100]))
        return int(matched[1], 16)

    def _read_trailers(self) -> None:
        size = 0
        for _ in range(LINE_LIMIT):
            line = self._connection.read_line(HEAD_LIMIT // 2)
            if not line:
                return
            size += len(line)
            if size > HEAD_LIMIT:
                break
        raise no_http(self._connection.where, "its trailers are out of all bounds")


class UnframedBody:
    """All until the server closes: the only ending that HTTP/1.0 knows without a length."""

    __slots__ = ("_connection", "ended")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.ended = False

    def readinto(self, view: memoryview, /) -> int:
        if self.ended or not view:
            return 0
        got = self._connection.read_into(view)
        self.ended = not got
        return got


class GzipBody:
    """What another body gives, unpacked piece by piece: memory is bounded however much it unpacks to."""

    __slots__ = ("_inflate", "_inner", "_packed", "_scratch", "_where", "ended")

    def __init__(self, inner: Body, where: str) -> None:
        self._inner = inner
        self._where = where
        self._inflate = zlib.decompressobj(31)
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._packed = b""
        self.ended = False

    def readinto(self, view: memoryview, /) -> int:
        if self.ended or not view:
            return 0
        while not self._inflate.eof:
            if not self._packed:
                got = self._inner.readinto(self._scratch)
                self._packed = bytes(self._scratch[:got])
            try:
                plain = self._inflate.decompress(self._packed, len(view))
            except zlib.error as error:
                raise no_http(self._where, "its gzip coding is damaged", str(error)) from error
            fed, self._packed = self._packed, self._inflate.unconsumed_tail
            if plain:
                view[: len(plain)] = plain
                return len(plain)
            if not fed:
                raise cut(self._where, "in the middle of its compressed answer")
        if self._inflate.unused_data or self._packed or self._inner.readinto(self._scratch):
            raise no_http(self._where, "something follows its compressed answer")
        self.ended = True
        return 0


def body_of(head: Head, method: str, connection: Connection) -> tuple[Body, int | None, bool]:
    """The body that follows a head, its length for the reader (None: not known), and whether its end is marked.

    Raises
    ------
    TransportError
        ``PROTOCOL`` for a content coding that was not asked for and isn't understood.
    """
    if method == "HEAD" or head.status in (204, 304) or head.length == 0:
        return EmptyBody(), 0, True
    body: Body
    length = head.length
    if head.chunked:
        body = ChunkedBody(connection)
    elif length is not None:
        body = SizedBody(connection, length)
    else:
        body = UnframedBody(connection)
    framed = head.chunked or length is not None
    coding = head.headers.get("content-encoding", "identity").lower()
    if coding in ("gzip", "x-gzip"):
        return GzipBody(body, connection.where), None, framed
    if coding not in ("identity", ""):
        raise _foreign_coding(connection.where, coding)
    return body, length, framed


def _foreign_coding(where: str, coding: str) -> TransportError:
    return no_http(where, "its content coding was not asked for", coding[:100])
