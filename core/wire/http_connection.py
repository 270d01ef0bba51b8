"""One HTTP/1.1 connection: sends what it is given, and reads heads and body bytes with little work per byte."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Sequence

from core.model.errors import TransportError
from core.wire.abort import Abort
from core.wire.failures import TIMED_OUT, cut, no_http, silent
from core.wire.http_message import HEAD_LIMIT, Head, parse_head
from core.wire.tls import tls_failure

SEND_LIMIT = 1 << 20  # bytes handed to the system between two looks whether the server answers early
_INTERIM_LIMIT = 16  # 1xx answers to one request
_LOOK = 0.5  # seconds for which a blocked call sleeps before the idle time is looked at
_NOTHING = memoryview(b"")
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)


class Connection:
    """A connected socket, its receive buffer, and what the last answer said. Used by one thread at a time.

    Plain sockets on POSIX systems block in the kernel with a time limit there (SO_RCVTIMEO, SO_SNDTIMEO): a
    read or write is one system call, where Python's own time-outs make it two.

    Attributes
    ----------
    answered : bool
        Whether a byte came back since `begin`.
    reused : bool
        Whether it has carried a request before this one.
    idle_since : float
        `time.monotonic` of its return to the pool.
    abort : Abort | None
        Looked at twice a second while nothing moves: on Windows, a socket that is shut down doesn't wake whoever
        waits for it.
    """

    __slots__ = (
        "_early",
        "_eof",
        "_last_head",
        "_last_raw",
        "_poll",
        "_recv_into",
        "_send",
        "_send_both",
        "_tls",
        "_wait_all",
        "abort",
        "answered",
        "end",
        "idle_since",
        "idle_timeout",
        "reused",
        "sock",
        "start",
        "view",
        "where",
    )

    def __init__(self, sock: socket.socket, where: str, idle_timeout: float) -> None:
        self.where = where
        self.idle_timeout = idle_timeout
        self.idle_since = 0.0
        self.abort: Abort | None = None
        self.answered = False
        self.reused = False
        self.start = self.end = 0
        self.view = memoryview(bytearray(HEAD_LIMIT))
        self._last_raw = b""
        self._last_head: Head | None = None
        self._early: Head | None = None
        self._eof = False
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._wait_all = 0
        self._attach(sock)

    def _attach(self, sock: socket.socket) -> None:
        look = min(_LOOK, self.idle_timeout)
        if self._tls or sys.platform == "win32":
            sock.settimeout(look)
        else:
            sock.setblocking(True)
            moment = struct.pack("@ll", int(look), int(look % 1 * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, moment)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, moment)
            self._wait_all = _WAIT_ALL
        self.sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        # One system call for head and body; a TLS socket and Windows have none that does it.
        self._send_both = None if self._tls else getattr(sock, "sendmsg", None)
        self._poll: Callable[[int], Sequence[object]] | None = None
        if sys.platform != "win32":
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            self._poll = poll.poll

    def close(self) -> None:
        """Drop the connection; may be called twice."""
        self.sock.close()

    def begin(self, idle_timeout: float) -> None:
        """A new request starts, with this many seconds of silence allowed."""
        self.idle_timeout = idle_timeout
        self.answered = False
        self._early = None

    def readable(self) -> bool:
        """Whether bytes, or the end, wait to be read from the socket."""
        if self._poll is not None:
            return bool(self._poll(0))
        return bool(select.select([self.sock], [], [], 0)[0])

    def alive(self) -> bool:
        """Whether an idle connection can carry another request: nothing unasked has come, not even its end."""
        if self.end > self.start:
            return False
        try:
            return not self.readable() or (self._tls and not self._arrived())
        except (OSError, TransportError):  # gone, which is all that was asked
            return False

    # Sending

    def send(self, data: bytes | memoryview, more: memoryview = _NOTHING) -> bool:
        """Send all of `data`, and of `more` behind it.

        Returns
        -------
        bool
            False when the server took no more, or has answered already: `read_head` tells which.

        Raises
        ------
        TransportError
            ``TIMEOUT`` when nothing moved for the idle time-out, ``TLS``, ``ABORTED``.
        """
        since = 0.0
        while True:
            try:
                sent = self._send_both((data, more)) if more and self._send_both else self._send(data)
            except (BlockingIOError, TimeoutError) as error:
                if error.errno in TIMED_OUT:  # the system gave the connection up
                    return False
                if self.abort is not None:
                    self.abort.check()
                sent = 0
            except ssl.SSLError as error:
                if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
                    return False
                raise tls_failure(self.where, error) from error
            except OSError:
                return False
            if sent >= len(data):
                data, more = more[sent - len(data) :], _NOTHING
                if not data:
                    return True
                since = 0.0
                continue
            if sent:
                data = memoryview(data)[sent:]
                since = 0.0
                continue
            now = time.monotonic()
            since = since or now - min(_LOOK, self.idle_timeout)
            if self.answering():
                return False
            if now - since >= self.idle_timeout:
                raise silent(self.where, self.idle_timeout)

    def answering(self) -> bool:
        """Whether the final answer (or the end) has come although the request is still being sent."""
        try:
            if not self.readable() or (self._tls and not self._arrived()):
                return False
        except OSError:
            return True
        head = self._read_one_head()
        if head.status < 200:
            return False
        self._early = head
        return True

    def _arrived(self) -> bool:
        """Whether what came over TLS is more than the layer's own messages."""
        if self.start == self.end:
            self.start = self.end = 0
        self.sock.setblocking(False)
        try:
            return self._fill() >= 0
        except ssl.SSLWantReadError:
            return False
        finally:
            self.sock.settimeout(min(_LOOK, self.idle_timeout))

    # Receiving

    def receive(self, view: memoryview, flags: int = 0) -> int:
        """Bytes from the socket, 0 at its end.

        Raises
        ------
        TransportError
            ``TIMEOUT``, ``CUT`` (reset, or TLS ended without saying so), ``TLS``, ``ABORTED``.
        """
        if self._eof:
            return 0
        since = 0.0
        while True:
            try:
                return self._recv_into(view, len(view), flags)
            except (BlockingIOError, TimeoutError) as error:
                if error.errno in TIMED_OUT:  # the system gave the connection up
                    raise self._cut(error) from error
                if self.abort is not None:
                    self.abort.check()
                now = time.monotonic()
                since = since or now - min(_LOOK, self.idle_timeout)
                if now - since >= self.idle_timeout:
                    raise silent(self.where, self.idle_timeout) from None
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
                raise self._cut(error) from error
            except ssl.SSLWantReadError:
                raise
            except ssl.SSLError as error:
                raise tls_failure(self.where, error) from error
            except OSError as error:
                raise self._cut(error) from error

    def _cut(self, error: Exception | None = None) -> Exception:
        return cut(self.where, "in the middle of its answer" if self.answered else "before it answered", error)

    def _fill(self) -> int:
        """Receive more into the buffer; its free end must not be empty. 0 at the end of the stream."""
        got = self.receive(self.view[self.end :] if self.end else self.view)
        if got:
            self.end += got
            self.answered = True
        else:
            self._eof = True
        return got

    def _make_room(self) -> None:
        have = self.end - self.start
        if self.start:
            self.view[:have] = bytes(self.view[self.start : self.end])
            self.start, self.end = 0, have

    def read_head(self) -> Head:
        """The head of the final answer; interim ones (1xx) are skipped.

        Raises
        ------
        TransportError
            ``CUT``, ``TIMEOUT``, ``PROTOCOL``, ``TLS``.
        """
        head, self._early = self._early, None
        interim = 0
        while head is None or head.status < 200:
            head = self._read_one_head()
            if head.status == 101 or interim > _INTERIM_LIMIT:
                raise no_http(self.where, "it sends interim answers without end")
            interim += 1
        return head

    def _read_one_head(self) -> Head:
        buffer = self.view.obj
        assert isinstance(buffer, bytearray)
        if self.start == self.end:
            self.start = self.end = 0
        searched = self.start
        while True:
            found = buffer.find(b"\r\n\r\n", searched, self.end)
            if found >= 0:
                break
            if self.end > self.start:
                self._refuse_strangers(bytes(self.view[self.start : min(self.end, self.start + 8)]))
                if self.end - self.start >= HEAD_LIMIT:
                    raise no_http(self.where, f"its head is larger than {HEAD_LIMIT // 1024} kB")
                if self.end == len(self.view):
                    self._make_room()
                searched = max(self.start, self.end - 3)
            if not self._fill():
                raise self._cut()
        raw = bytes(self.view[self.start : found])
        self.start = found + 4
        if raw == self._last_raw and self._last_head is not None:
            return self._last_head
        head = parse_head(raw, self.where)
        self._last_raw, self._last_head = raw, head
        return head

    def _refuse_strangers(self, first: bytes) -> None:
        """Don't wait for the rest of a head that can't become one."""
        if first[:2] in (b"\x15\x03", b"\x16\x03"):
            raise no_http(self.where, "it speaks TLS, so its address begins with https://")
        if not b"HTTP/1.1"[: len(first)] == first and not b"HTTP/1.0"[: len(first)] == first:
            raise no_http(self.where, "it speaks something else")

    def read_into(self, view: memoryview) -> int:
        """Body bytes: what the buffer has, else straight from the socket. 0 at the end of the stream."""
        have = self.end - self.start
        if not have:
            return self.receive(view, self._wait_all)
        count = min(have, len(view))
        view[:count] = self.view[self.start : self.start + count]
        self.start += count
        return count

    def read_buffered(self, view: memoryview) -> int:
        """Like `read_into`, but by way of the buffer, for bodies in small pieces."""
        if self.start == self.end:
            self.start = self.end = 0
            if not self._fill():
                return 0
        return self.read_into(view)

    def read_line(self, limit: int) -> bytes:
        """One line of at most `limit` bytes, without its end; raises ``PROTOCOL`` when longer, ``CUT``."""
        buffer = self.view.obj
        assert isinstance(buffer, bytearray)
        while True:
            found = buffer.find(b"\r\n", self.start, min(self.end, self.start + limit + 2))
            if found >= 0:
                line = bytes(self.view[self.start : found])
                self.start = found + 2
                return line
            if self.end - self.start >= limit + 2:
                raise no_http(self.where, "a line of its body's framing is too long")
            self._make_room()
            if not self._fill():
                raise self._cut()

    @property
    def buffered(self) -> int:
        """Bytes that have come and were not read."""
        return self.end - self.start
