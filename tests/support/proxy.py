"""A proxy in front of a real HTTP server that misbehaves when a test says so."""

from __future__ import annotations

import collections
import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from tests.support.http_stream import HttpHead, HttpStream
from tests.support.orthanc import address
from tests.support.waiting import PATIENCE


class Cut(Enum):
    """How a connection ends before its time."""

    FIN = "fin"
    RST = "rst"


@dataclass
class Fault:
    """What happens to the requests whose ``"METHOD /path"`` matches ``pattern``. Made by `FaultProxy`.

    Attributes
    ----------
    times : int or None
        How many requests are left to suffer it; without an end when None.
    hits : int
        How many have suffered it.
    delay : float
        Seconds before the request is passed on.
    answer : bytes or None
        The proxy's own answer; the server never sees the request.
    request_bytes, response_bytes : int or None
        Bytes of the body that pass before the trouble; None: no trouble there.
    cut : Cut or None
        The trouble is an end of the connection; without it, silence.
    """

    pattern: re.Pattern[str]
    times: int | None = None
    hits: int = 0
    delay: float = 0.0
    answer: bytes | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    cut: Cut | None = None
    on: bool = True
    _change: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def off(self) -> None:
        """From now on it happens to nobody; silent connections are cut."""
        with self._change:
            self.on = False
            self._change.notify_all()

    def wait_hit(self, count: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until ``count`` requests have met it."""
        with self._change:
            met = self._change.wait_for(lambda: self.hits >= count, timeout)
        assert met, f"{self.pattern.pattern!r} was met by {self.hits} requests in {timeout:g} s, not {count}"

    def claim(self, request: str) -> bool:
        """Whether this request suffers it; counts it if so."""
        with self._change:
            if not self.on or (self.times is not None and self.hits >= self.times):
                return False
            if not self.pattern.search(request):
                return False
            self.hits += 1
            self._change.notify_all()
            return True

    def wait_delay(self) -> None:
        """Hold a request back."""
        if self.delay:
            with self._change:
                self._change.wait_for(lambda: not self.on, self.delay)

    def wait_off(self, closed: Callable[[], bool]) -> None:
        """Stay silent until the test switches it off or either side has gone."""
        with self._change:
            while self.on and not closed():
                self._change.wait(0.2)


class FaultProxy:
    """Passes requests on to ``target`` (``http://host:port``), counts them, and does to them what was asked.

    A thread for each connection, HTTP/1.1 with keep-alive; pipelined requests are answered in order. Faults
    are looked at in the order in which they were made; the first that matches a request happens to it.
    """

    def __init__(self, target: str) -> None:
        assert target.startswith("http://"), "the proxy speaks plain HTTP"
        self._target = address(target)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._requests: collections.Counter[str] = collections.Counter()
        self._log: list[str] = []
        self._faults: list[Fault] = []
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._active = self._most_active = 0
        self._bytes_in = self._bytes_out = 0
        self._bandwidth: _Bandwidth | None = None
        self._closed = False

    # --- for the test

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> Self:
        self._spawn(self._accept)
        return self

    def close(self) -> None:
        """Stop listening, cut all connections, wait for the threads."""
        self._closed = True
        # A blocked accept() does not wake by a close alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.clear()
        self.cut_connections()
        for thread in list(self._threads):
            thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def count(self, pattern: str = "") -> int:
        """How many requests came whose ``"METHOD /path?query"`` matches this regular expression."""
        wanted = re.compile(pattern)
        with self._lock:
            return sum(count for request, count in self._requests.items() if wanted.search(request))

    def requests(self, pattern: str = "") -> list[str]:
        """The requests that match, in the order of their arrival, as ``"METHOD /path?query"``."""
        wanted = re.compile(pattern)
        with self._lock:
            return [request for request in self._log if wanted.search(request)]

    def forget(self) -> None:
        """Count from nought again."""
        with self._lock:
            self._requests.clear()
            self._log.clear()
            self._bytes_in = self._bytes_out = 0
            self._most_active = self._active

    @property
    def bytes_in(self) -> int:
        """Bytes of bodies that clients sent."""
        return self._bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes of bodies that clients were given."""
        return self._bytes_out

    @property
    def most_active(self) -> int:
        """The largest number of requests that were under way at one time."""
        return self._most_active

    def delay(self, seconds: float, pattern: str = "", *, times: int | None = None) -> Fault:
        """Hold matching requests back for this long, then pass them on."""
        return self._add(Fault(re.compile(pattern), times, delay=seconds))

    def hang(self, pattern: str = "", *, times: int | None = None) -> Fault:
        """Take matching requests' heads and never answer, until `Fault.off`."""
        return self._add(Fault(re.compile(pattern), times, request_bytes=0))

    def hang_request(self, after: int, pattern: str = "", *, times: int | None = None) -> Fault:
        """Stop reading after this many bytes of the request's body, and stay silent."""
        return self._add(Fault(re.compile(pattern), times, request_bytes=after))

    def hang_response(self, after: int, pattern: str = "", *, times: int | None = None) -> Fault:
        """Fall silent after this many bytes of the response's body."""
        return self._add(Fault(re.compile(pattern), times, response_bytes=after))

    def cut_request(self, after: int, pattern: str = "", *, times: int | None = None, how: Cut = Cut.RST) -> Fault:
        """End both connections after this many bytes of the request's body went to the server."""
        return self._add(Fault(re.compile(pattern), times, request_bytes=after, cut=how))

    def cut_response(self, after: int, pattern: str = "", *, times: int | None = None, how: Cut = Cut.RST) -> Fault:
        """End both connections after this many bytes of the response's body reached the client.

        With ``after=0`` the server has done its work and the client never learns of it.
        """
        return self._add(Fault(re.compile(pattern), times, response_bytes=after, cut=how))

    def answer(
        self,
        status: int,
        pattern: str = "",
        *,
        body: bytes | str = b"",
        content_type: str = "text/plain",
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        times: int | None = None,
    ) -> Fault:
        """Answer matching requests itself, e.g. 503 with ``retry_after=2``, or a 200 with a page of HTML."""
        encoded = body.encode() if isinstance(body, str) else body
        fields = {"Content-Type": content_type, "Content-Length": str(len(encoded)), **(headers or {})}
        if retry_after is not None:
            fields["Retry-After"] = str(retry_after)
        lines = [f"HTTP/1.1 {status} Answered by the proxy", *(f"{k}: {v}" for k, v in fields.items())]
        whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + encoded
        return self._add(Fault(re.compile(pattern), times, answer=whole))

    def answer_html(self, pattern: str = "", *, times: int | None = None) -> Fault:
        """Status 200 with a page of HTML, as the log-in page of a hospital's proxy."""
        page = "<!DOCTYPE html><html><body><h1>Please log in</h1></body></html>"
        return self.answer(200, pattern, body=page, content_type="text/html", times=times)

    def limit(self, bytes_per_second: float | None) -> None:
        """Let all bodies, both ways together, pass at this rate at most; None for no limit."""
        self._bandwidth = _Bandwidth(bytes_per_second) if bytes_per_second else None

    def clear(self) -> None:
        """Take all faults away."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.off()

    def cut_connections(self, how: Cut = Cut.RST) -> None:
        """End all connections that are open now."""
        with self._lock:
            open_now = list(self._sockets)
        for each in open_now:
            _end(each, how)

    # --- inside

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        def run() -> None:
            try:
                # Either side may go at any time; that is what the proxy is for.
                with contextlib.suppress(OSError):
                    work(*args)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="fault proxy", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            client, _ = self._listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """One client's connection, request after request; the server's connection is kept beside it."""
        with self._lock:
            self._sockets.add(client)
        pair = _Pair(client, self._target)
        try:
            if self._closed:
                return
            while self._one(pair):
                pass
        finally:
            with self._lock:
                self._sockets.discard(client)
            pair.close()

    def _one(self, pair: _Pair) -> bool:
        """One request and its response; whether the connection goes on."""
        head = pair.client.head()
        if head is None:
            return False
        method, path, _ = head.start_line.split(" ", 2)
        request = f"{method} {path}"
        with self._lock:
            self._requests[request] += 1
            self._log.append(request)
            self._active += 1
            self._most_active = max(self._most_active, self._active)
            faults = list(self._faults)
        try:
            fault = next((fault for fault in faults if fault.claim(request)), None)
            return self._carry(pair, method, head, fault)
        finally:
            with self._lock:
                self._active -= 1

    def _carry(self, pair: _Pair, method: str, head: HttpHead, fault: Fault | None) -> bool:
        if fault is not None:
            fault.wait_delay()
        if fault is not None and fault.answer is not None:
            return self._answer(pair, head, fault.answer)
        try:
            server = pair.server()
        except OSError:
            return self._answer(pair, head, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        trouble = fault.request_bytes if fault is not None else None
        if not (trouble == 0 and fault is not None and fault.cut is None):
            server.send(head.raw)
            if head.expects_continue:
                pair.client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault is not None and trouble is not None:
            self._pass(pair.client, server, head, method, trouble, "in")
            return self._make_trouble(pair, fault)
        self._pass(pair.client, server, head, method, None, "in")
        response = server.head()
        while response is not None and response.start_line.split(" ")[1].startswith("1"):
            # An interim response to the client's "Expect", which was answered already.
            response = server.head()
        if response is None:
            # The server closed without a response: so does the proxy.
            return False
        trouble = fault.response_bytes if fault is not None else None
        if not (trouble == 0 and fault is not None and fault.cut is not None):
            pair.client.send(response.raw)
        self._pass(server, pair.client, response, method, trouble, "out")
        if fault is not None and trouble is not None:
            return self._make_trouble(pair, fault)
        if response.closes:
            pair.forget_server()
        return not (head.closes or response.closes)

    def _answer(self, pair: _Pair, head: HttpHead, answer: bytes) -> bool:
        # Read what was sent: an answer behind unread bytes would be lost in a reset.
        if head.expects_continue:
            pair.client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._pass(pair.client, None, head, head.start_line.split(" ")[0], None, "in")
        pair.client.send(answer)
        return not head.closes

    def _make_trouble(self, pair: _Pair, fault: Fault) -> bool:
        if fault.cut is None:
            fault.wait_off(lambda: self._closed or pair.client.gone())
        pair.end(fault.cut or Cut.RST)
        return False

    def _pass(
        self, source: HttpStream, sink: HttpStream | None, head: HttpHead, method: str, at_most: int | None, way: str
    ) -> None:
        """Carry the body that belongs to ``head``; no more than ``at_most`` bytes of it."""
        for block in source.body(head, method, at_most):
            if self._bandwidth is not None:
                self._bandwidth.spend(len(block))
            if sink is not None:
                sink.send(block)
            with self._lock:
                if way == "in":
                    self._bytes_in += len(block)
                else:
                    self._bytes_out += len(block)


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, target: tuple[str, int]) -> None:
        self.client = HttpStream(client)
        self._target = target
        self._server: HttpStream | None = None

    def server(self) -> HttpStream:
        """The connection to the server; a new one where the server has closed the last."""
        if self._server is not None and self._server.gone():
            self.forget_server()
        if self._server is None:
            connection = socket.create_connection(self._target, timeout=PATIENCE)
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._server = HttpStream(connection)
        return self._server

    def forget_server(self) -> None:
        if self._server is not None:
            self._server.socket.close()
            self._server = None

    def end(self, how: Cut) -> None:
        for stream in (self.client, self._server):
            if stream is not None:
                _end(stream.socket, how)

    def close(self) -> None:
        self.client.socket.close()
        self.forget_server()


class _Bandwidth:
    """A rate shared by all connections."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def spend(self, size: int) -> None:
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + size / self._rate
        time.sleep(max(0.0, self._free_at - time.monotonic()))


def _end(connection: socket.socket, how: Cut) -> None:
    """End a connection that another thread may be reading from."""
    with contextlib.suppress(OSError):
        if how is Cut.RST:
            # Closing with data unsent and no time to linger makes the kernel send a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if threading.current_thread().name == "fault proxy":
                connection.close()
                return
        connection.shutdown(socket.SHUT_RDWR)
