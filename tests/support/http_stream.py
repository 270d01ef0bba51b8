"""Reading HTTP/1.1 messages from a socket just so far that they can be passed on as they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator

_BLOCK = 1 << 16


class HttpHead:
    """A request's or response's start line and header fields."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        lines = raw.decode("latin-1").split("\r\n")
        self.start_line = lines[0]
        self.is_response = self.start_line.startswith("HTTP/")
        fields = (line.partition(":") for line in lines[1:])
        self._fields = {name.strip().lower(): value.strip().lower() for name, _, value in fields}

    @property
    def closes(self) -> bool:
        connection = self._fields.get("connection", "")
        old = self.start_line.endswith("HTTP/1.0") or self.start_line.startswith("HTTP/1.0")
        return connection == "close" or (old and connection != "keep-alive") or self.until_close

    @property
    def chunked(self) -> bool:
        return "chunked" in self._fields.get("transfer-encoding", "")

    @property
    def length(self) -> int:
        return int(self._fields.get("content-length", 0))

    @property
    def until_close(self) -> bool:
        """A response without a length ends with the connection (RFC 9112 6.3)."""
        return self.is_response and not self.bodiless and not self.chunked and "content-length" not in self._fields

    @property
    def bodiless(self) -> bool:
        return self.is_response and self.start_line.split(" ")[1] in ("204", "304")

    @property
    def expects_continue(self) -> bool:
        return self._fields.get("expect") == "100-continue"


class HttpStream:
    """One connection, with what was read from it and not used yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> HttpHead | None:
        """The next head, or None at the connection's end."""
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            block = self.socket.recv(_BLOCK)
            if not block:
                return None
            self._held += block
        raw, self._held = self._held[: end + 4], self._held[end + 4 :]
        return HttpHead(raw)

    def body(self, head: HttpHead, method: str, at_most: int | None) -> Iterator[bytes]:
        if head.bodiless or (head.is_response and method == "HEAD"):
            return
        left = at_most
        for block in self._whole_body(head):
            if left is not None:
                block = block[:left]
                left -= len(block)
            if block:
                yield block
            if left == 0:
                return

    def _whole_body(self, head: HttpHead) -> Iterator[bytes]:
        if head.chunked:
            yield from self._chunks()
        elif head.until_close:
            while block := self._some(_BLOCK):
                yield block
        else:
            yield from self._exactly(head.length)

    def _exactly(self, length: int) -> Iterator[bytes]:
        while length:
            block = self._some(min(length, _BLOCK))
            if not block:
                raise ConnectionError("the body ended early")
            length -= len(block)
            yield block

    def _chunks(self) -> Iterator[bytes]:
        """The chunks with their framing, passed on as they are (RFC 9112 7.1)."""
        while True:
            line = self._line()
            yield line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while (line := self._line()) != b"\r\n":
                    yield line
                yield line
                return
            yield from self._exactly(size + 2)

    def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            block = self.socket.recv(_BLOCK)
            if not block:
                raise ConnectionError("the body ended early")
            self._held += block
        line, self._held = self._held[: end + 2], self._held[end + 2 :]
        return line

    def _some(self, at_most: int) -> bytes:
        if self._held:
            block, self._held = self._held[:at_most], self._held[at_most:]
            return block
        return self.socket.recv(at_most)

    def gone(self) -> bool:
        """Whether the other side has closed or reset the connection."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
