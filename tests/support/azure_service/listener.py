"""An HTTP/1.1 server of threads over plain TCP or TLS, whose requests are streamed."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BLOCK = 1 << 20
JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class Cut(Exception):  # noqa: N818 - no error: the connection is to be reset
    """Drop the connection without an answer."""


class Request(BaseHTTPRequestHandler):
    """One request. `answer` sends the answer; a body that nobody read is read to its end before."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener
    timeout = 60

    def setup(self) -> None:
        if self.server.tls is not None:
            self.request.settimeout(10)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        self.server.ended(self.connection)

    def handle_one_request(self) -> None:
        self.left: int | None = 0
        self.answered = 0
        super().handle_one_request()

    def _handle(self) -> None:
        split = urlsplit(self.path)
        self.parts = [unquote(part) for part in split.path.split("/") if part]
        self.query = parse_qsl(split.query, keep_blank_values=True)
        self.chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        self.left = None if self.chunked else int(self.headers.get("Content-Length", 0))
        self.received = 0
        try:
            self.server.handler(self)
        except Cut:
            self.reset()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: object) -> None:
        pass

    # reading

    def read(self, most: int = BLOCK) -> bytes:
        """Some bytes of the body, empty at its end."""
        if self.chunked:
            return self._read_chunked(most)
        assert self.left is not None
        data = self.rfile.read1(min(most, self.left)) if self.left else b""
        if self.left and not data:
            raise ConnectionResetError("the body was cut off")
        self.left -= len(data)
        self.received += len(data)
        return data

    def _read_chunked(self, most: int) -> bytes:
        if self.left is None:
            size = self.rfile.readline().split(b";")[0].strip()
            if not size:
                raise ConnectionResetError("the body was cut off")
            self.left = int(size, 16)
            if not self.left:
                while self.rfile.readline().strip():
                    pass
                self.left = -1
        if self.left == -1:
            return b""
        data = self.rfile.read1(min(most, self.left))
        if not data:
            raise ConnectionResetError("the body was cut off")
        self.left -= len(data)
        self.received += len(data)
        if not self.left:
            self.rfile.readline()
            self.left = None
        return data

    def whole(self, limit: int = BLOCK) -> bytes:
        """The whole body, which must be small."""
        body = bytearray()
        while data := self.read():
            body += data
            assert len(body) <= limit
        return bytes(body)

    def drain(self) -> None:
        while self.read():
            pass

    # answering

    def answer(
        self, status: int, body: bytes | str = b"", kind: str = TEXT, headers: Mapping[str, str] | None = None
    ) -> None:
        self.drain()
        data = body.encode() if isinstance(body, str) else body
        self.begin(status, kind if data else "", length=len(data), headers=headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer_json(self, status: int, found: Any, kind: str = JSON, headers: Mapping[str, str] | None = None) -> None:
        self.answer(status, json.dumps(found), kind, headers)

    def begin(self, status: int, kind: str, *, length: int | None, headers: Mapping[str, str] | None = None) -> None:
        """The head of an answer whose body follows; without a length it is chunked."""
        self.answered = status
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        elif status not in (204, 304):
            self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def answer_file(self, path: Path, kind: str, before: bytes = b"", after: bytes = b"") -> None:
        """A file with what frames it, streamed."""
        self.drain()
        self.begin(200, kind, length=len(before) + path.stat().st_size + len(after))
        self.wfile.write(before)
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                self.wfile.write(data)
        self.wfile.write(after)

    def reset(self) -> None:
        """Close with RST, as a broken line does."""
        self.close_connection = True
        sock = self.connection
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.shutdown(sock, socket.SHUT_RD)
        self.rfile.close()
        with contextlib.suppress(OSError, ValueError):
            sock.close()


class Listener(ThreadingHTTPServer):
    """Listens on a free port of the loopback.

    Attributes
    ----------
    errors : list[BaseException]
        What went wrong inside the service itself: a test's fault, never a client's.
    """

    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(self, handler: Callable[[Request], None], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.handler = handler
        self.tls = tls
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="azure", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def opened(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)

    def ended(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            self.errors.append(error)

    def close(self) -> None:
        """Stop, cut what is open; raises what went wrong inside."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._thread.join(10)
        if self.errors:
            raise AssertionError(f"inside the service: {self.errors[0]!r}") from self.errors[0]
