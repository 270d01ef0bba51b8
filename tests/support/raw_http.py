"""A server that answers with exactly the bytes a test writes, for what no well-behaved server can be made to do."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType

from tests.support.waiting import PATIENCE

_LOOK = 0.2  # seconds between two looks whether the server closes


class Peer:
    """The server's end of one connection.

    Attributes
    ----------
    number : int
        0 for the first connection that the server took.
    """

    def __init__(self, server: RawServer, sock: socket.socket, number: int) -> None:
        self.number = number
        self.sock = sock
        self._server = server
        self._rest = b""

    def head(self) -> bytes:
        """The next request's head with its empty line; empty when the client has closed."""
        while b"\r\n\r\n" not in self._rest:
            got = self._receive()
            if not got:
                return b""
            self._rest += got
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        self._server.heads.append(head + b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def body(self, count: int) -> bytes:
        """The next bytes; fewer when the client closes before."""
        while len(self._rest) < count:
            got = self._receive()
            if not got:
                break
            self._rest += got
        body, self._rest = self._rest[:count], self._rest[count:]
        return body

    def chunks(self) -> bytes:
        """A chunked body, put together."""
        whole = b""
        while True:
            while b"\r\n" not in self._rest:
                self._rest += self._receive()
            line, _, self._rest = self._rest.partition(b"\r\n")
            size = int(line, 16)
            whole += self.body(size)
            assert self.body(2) == b"\r\n"
            if not size:
                return whole

    def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(data)

    def answer(self, body: bytes = b"", *, status: str = "200 OK", extra: str = "") -> None:
        """A plain answer with a length."""
        self.send(f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def gone(self) -> bool:
        """Wait until the client closes (or the server does); true then."""
        while self._receive():
            pass
        return True

    def _receive(self) -> bytes:
        """What comes next; empty at the end, and when the server closes: on Windows, no shutdown wakes a recv."""
        try:
            while not self._server.closed:
                if self._pending or select.select([self.sock], [], [], _LOOK)[0]:
                    return self.sock.recv(1 << 20)
        except (ConnectionError, ssl.SSLError):
            pass
        return b""

    @property
    def _pending(self) -> int:
        return self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0


class RawServer:
    """Runs `script` in a thread for each connection, and closes the connection when the script returns.

    Attributes
    ----------
    port : int
    connections : int
        How many were taken so far.
    heads : list[bytes]
        Heads of requests, in the order read.
    failures : list[BaseException]
        What scripts raised; leaving the ``with`` raises the first one.
    closed : bool
        Leaving the ``with`` has begun.
    """

    def __init__(self, script: Callable[[Peer], object], *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.connections = 0
        self.heads: list[bytes] = []
        self.failures: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        with contextlib.suppress(OSError):  # on Windows, nothing else wakes who accepts
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        if self.failures and error is None:
            raise self.failures[0]

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number, self.connections = self.connections, self.connections + 1
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        self._open.add(sock)
        try:
            if self._tls is not None:
                plain = sock
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                except (OSError, ssl.SSLError):
                    return  # the client does not like our certificate, or we not its own
                finally:
                    self._open.discard(plain)
                self._open.add(sock)
            self._script(Peer(self, sock, number))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            if not self.closed:
                self.failures.append(error)
        finally:
            self._open.discard(sock)
            with contextlib.suppress(OSError):
                sock.close()
