"""The connection below an association: whole sends, buffered reads, and the times within which both must end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

from core.model.errors import TransportError
from core.wire.abort import Abort
from core.wire.dimse.errors import takes_nothing, too_slow
from core.wire.dimse.sockets import quick_acknowledgements
from core.wire.failures import TIMED_OUT, cut, silent
from core.wire.tls import tls_failure

_LOOK = 0.5  # seconds for which a blocked call sleeps before the times are looked at
_BUFFER = 65536
_DIRECT = 8192  # bytes wanted from which on the socket is read into the caller's memory
SLOWEST = 1000.0  # bytes a second; who is slower over a whole message counts as hanging


class Channel:
    """A connected socket and what has come over it unread. Used by one thread at a time.

    Attributes
    ----------
    sent : int
        Bytes that the system has taken so far.
    broken_off : bool
        True when a send ended in the middle: no PDU can follow.
    on_stall : Callable[[], None] | None
        Called while a send waits, after what has come was taken in; what it raises ends the send.
    """

    def __init__(self, sock: socket.socket, where: str) -> None:
        self.where = where
        self.sent = 0
        self.broken_off = False
        self.on_stall: Callable[[], None] | None = None
        self._sock = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._abort: Abort | None = None
        self._arm = quick_acknowledgements(sock)
        self._view = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0
        self._silence = self._allowed = self._waited = self._quiet = 0.0
        self._got = 0
        self._then: tuple[float, float] | None = None
        self._closed = False
        sock.settimeout(_LOOK)

    # Times and the abort switch

    def allow(self, silence: float, altogether: float) -> None:
        """What is read or sent from here on: seconds of silence allowed, and seconds of waiting altogether.

        Each byte that moves lengthens the second by what it takes at `SLOWEST`. The caller's own time between
        two calls doesn't count.
        """
        self._silence = silence
        self._allowed = altogether
        self._waited = self._quiet = 0.0
        self._got = 0
        self._then = None

    def begin(self, first: float, silence: float, altogether: float) -> None:
        """A message is awaited: `first` seconds of silence until it begins; from then on as `allow` says."""
        self.allow(first, first)
        if self._start == self._end:
            self._then = (silence, altogether)
        else:
            self.allow(silence, altogether)

    def watch(self, abort: Abort | None) -> None:
        """Let another switch end what is done here; raises ``ABORTED`` when it already has."""
        previous, self._abort = self._abort, abort
        if previous is abort:
            return
        if previous is not None:
            previous.unregister(self._sock)
        if abort is not None:
            abort.register(self._sock)

    def _failure(self, error: TransportError, cause: BaseException | None = None) -> TransportError:
        """`error`, unless it is but the effect of an abort."""
        if self._abort is not None:
            self._abort.check()
        error.__cause__ = cause
        return error

    def _moved(self, began: float, count: int) -> None:
        """So many bytes moved since `began`: is that quick enough?"""
        self._quiet = 0.0
        self._waited += time.monotonic() - began
        self._got += count
        if self._waited > self._allowed + self._got / SLOWEST:
            raise self._failure(too_slow(self.where, self._waited, self._got))

    def _stood_still(self, began: float, *, sending: bool) -> float:
        """Nothing moved since `began`: has that been too long? When the next wait begins."""
        if self._abort is not None:
            self._abort.check()  # on Windows, a socket that is shut down doesn't wake whoever waits for it
        now = time.monotonic()
        self._quiet += now - began
        self._waited += now - began
        if self._quiet >= self._silence:
            raise self._failure((takes_nothing if sending else silent)(self.where, self._silence))
        if self._waited > self._allowed + self._got / SLOWEST:
            raise self._failure(too_slow(self.where, self._waited, self._got))
        return now

    # Sending

    def send(self, data: memoryview | bytes) -> None:
        """Send all of it.

        Raises
        ------
        TransportError
            ``TIMEOUT``, ``CUT``, ``TLS`` or ``ABORTED``; `broken_off` is true then unless not a byte went.
        """
        left = memoryview(data)
        began = time.monotonic()
        while left:
            try:
                count = self._sock.send(left)
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                if isinstance(error, TimeoutError) and error.errno in TIMED_OUT:
                    raise self._failure(cut(self.where, "while data was sent to it", error), error) from error
                began = self._stood_still(began, sending=True)
                self.broken_off = self.broken_off or len(left) < len(data)
                if self.on_stall is not None:
                    there = self.look()
                    self.on_stall()
                    if not there:
                        raise self._failure(cut(self.where, "while data was sent to it")) from None
                continue
            except ssl.SSLError as error:
                self.broken_off = True
                raise self._failure(self._tls_ended(error, "while data was sent to it"), error) from error
            except OSError as error:
                self.broken_off = True
                raise self._failure(cut(self.where, "while data was sent to it", error), error) from error
            self.sent += count
            left = left[count:]
            self.broken_off = bool(left)
            self._moved(began, count)
            began = time.monotonic()

    def _tls_ended(self, error: ssl.SSLError, when: str) -> TransportError:
        if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return cut(self.where, when, error)
        return tls_failure(self.where, error)

    # Receiving

    @property
    def buffered(self) -> memoryview:
        """What has come and was not read."""
        return self._view[self._start : self._end]

    def look(self) -> bool:
        """Take what has come without waiting; False when the other side has ended the connection."""
        if self._end == len(self._view) and not self._compact():
            return True
        return self._take(0) is not False

    def wait(self, seconds: float) -> bool:
        """Wait until something has come, or the connection has ended; False when nothing has in this time.

        Raises
        ------
        TransportError
            ``ABORTED``.
        """
        if self._end > self._start:
            return True
        self._start = self._end = 0
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            came = self._take(min(left, _LOOK)) is not None
            if self._abort is not None:
                self._abort.check()  # on Windows, nothing else ends this wait
            if came or left <= _LOOK:
                return came

    def _take(self, seconds: float) -> bool | None:
        """Receive into the buffer's free end: True when something came, False at the end, None when nothing did."""
        try:
            self._sock.settimeout(seconds)
            if self._arm is not None and seconds:
                self._arm_now()
            got = self._sock.recv_into(self._view[self._end :])
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):  # closed meanwhile
                self._sock.settimeout(_LOOK)
        self._end += got
        return got > 0

    def _compact(self) -> bool:
        """Make room at the end of the buffer; False when there is none."""
        have = self._end - self._start
        if not self._start and have == len(self._view):
            return False
        self._view[:have] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, have
        return True

    def _receive(self, view: memoryview) -> int:
        began = time.monotonic()
        while True:
            if self._arm is not None:
                self._arm_now()
            try:
                got = self._sock.recv_into(view)
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                if isinstance(error, TimeoutError) and error.errno in TIMED_OUT:  # the system gave it up
                    raise self._failure(self._cut(error), error) from error
                began = self._stood_still(began, sending=False)
                continue
            except ssl.SSLError as error:
                raise self._failure(self._tls_ended(error, self._when), error) from error
            except OSError as error:
                raise self._failure(self._cut(error), error) from error
            if not got:
                raise self._failure(self._cut())
            if self._then is None:
                self._moved(began, got)
            else:
                self.allow(*self._then)
                self._got = got
            return got

    def _arm_now(self) -> None:
        assert self._arm is not None
        try:
            self._arm()
        except OSError:  # a connection that is over; receiving tells how
            self._arm = None

    @property
    def _when(self) -> str:
        return "in the middle of its answer" if self._got else "before it answered"

    def _cut(self, error: Exception | None = None) -> TransportError:
        return cut(self.where, self._when, error)

    def need(self, count: int) -> memoryview:
        """The next `count` bytes (at most 65,536), valid until the next call here; they count as read.

        Raises
        ------
        TransportError
            ``TIMEOUT``, ``CUT``, ``TLS`` or ``ABORTED``.
        """
        if self._start == self._end:
            self._start = self._end = 0
        while self._end - self._start < count:
            if self._start + count > len(self._view):
                self._compact()
            self._end += self._receive(self._view[self._end :])
        found = self._view[self._start : self._start + count]
        self._start += count
        return found

    def read_into(self, view: memoryview) -> int:
        """At least one byte and at most `view` holds: what has come, else straight from the socket."""
        if self._start == self._end:
            if len(view) >= _DIRECT:
                return self._receive(view)
            self._start = 0
            self._end = self._receive(self._view)
        count = min(len(view), self._end - self._start)
        view[:count] = self._view[self._start : self._start + count]
        self._start += count
        return count

    def skip(self, count: int) -> None:
        """Read `count` bytes and forget them."""
        while count:
            step = min(count, len(self._view))
            self.need(step)
            count -= step

    # The end

    def close(self, *, linger: float = 0.0) -> None:
        """Drop the connection; may be called twice.

        Parameters
        ----------
        linger
            Seconds to wait for the other side to close, so that what was sent last is not lost in a reset.
        """
        if self._closed:
            return
        self._closed = True
        if linger:
            self._wait_for_end(time.monotonic() + linger)
        if self._abort is not None:
            self._abort.unregister(self._sock)
            self._abort = None
        self._sock.close()

    def _wait_for_end(self, deadline: float) -> None:
        with contextlib.suppress(OSError):  # over already
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not socket.socket.recv(self._sock, _BUFFER):
                    return
