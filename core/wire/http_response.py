"""Answers as callers see them: whole, or with a body still to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from core.model.errors import TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.failures import cut
from core.wire.http_body import body_of
from core.wire.http_connection import Connection
from core.wire.http_message import Head, Headers

_PART = 65536
_DRAIN = 65536  # bytes of an unread body that are worth reading to keep its connection


class Owner(Protocol):
    """Whoever the connection is given back to."""

    where: str

    def release(self, connection: Connection, abort: Abort | None, *, keep: bool) -> None: ...


class Sieve(Protocol):
    """Whatever makes less of a body while that comes in."""

    def take(self, part: memoryview, /) -> bytes:
        """The next part of the body, valid during the call only; gives what to keep so far."""
        ...

    def end(self) -> bytes:
        """The body has ended; gives what more to keep."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. The body is not part of its repr: it may hold patient data.

    `early` as in `Response`: an early "stored" is none.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    reason: str = ""
    early: bool = False


class Response:
    """An answer whose body is still to be read; close it, or use it in a ``with``.

    Attributes
    ----------
    length : int | None
        Bytes that `readinto` will give; None when the server doesn't say in advance.
    framed : bool
        False when only the end of the connection ends the body (HTTP/1.0), where a cut one looks whole.
    early : bool
        True when the server answered before it had taken the whole request body.
    """

    __slots__ = (
        "_abort",
        "_body",
        "_connection",
        "_keep",
        "_pool",
        "early",
        "framed",
        "headers",
        "length",
        "reason",
        "status",
    )

    def __init__(
        self,
        pool: Owner,
        connection: Connection,
        head: Head,
        method: str,
        *,
        abort: Abort | None,
        early: bool,
    ) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.early = early
        self._pool = pool
        self._abort = abort
        self._keep = head.keep_alive and not early
        self._body, self.length, self.framed = body_of(head, method, connection)
        self._connection: Connection | None = connection
        if self._body.ended:
            self._release()

    def readinto(self, view: memoryview, /) -> int:
        """Body bytes into `view` from its start; how many, 0 at the end only.

        Raises
        ------
        TransportError
            ``CUT`` when the body ended too early, ``TIMEOUT``, ``PROTOCOL``, ``ABORTED``.
        """
        body = self._body
        if self._connection is None:
            if not body.ended:
                raise self._closed()
            return 0
        try:
            count = body.readinto(view)
        except TransportError as error:
            self.close()
            if self._abort is not None and error.fault is not TransportFault.ABORTED:
                self._abort.check()
            raise
        except BaseException:
            self.close()
            raise
        if body.ended:
            self._release()
        return count

    def read(self, size: int) -> bytes:
        """At most `size` bytes of the body, `b""` at its end only; raises like `readinto`."""
        piece = bytearray(size)
        count = self.readinto(memoryview(piece))
        return bytes(piece[:count])

    def read_all(self, limit: int, sieve: Sieve | None = None) -> bytes:
        """What is left of the body; raises ``PROTOCOL`` when that is more than `limit` bytes, like `readinto` else.

        Parameters
        ----------
        sieve : Sieve | None
            Each part of the body goes through it as it comes in: what it leaves is given instead.
        """
        length = self.length
        if length is not None and length > limit:
            self.close()
            raise self._too_large(limit)
        if sieve is not None:
            return self._sifted(limit, sieve)
        whole = bytearray(length if length is not None else min(65536, limit + 1))
        have = 0
        while True:
            if have == len(whole):
                if length is not None:
                    return bytes(whole)
                if have > limit:
                    self.close()
                    raise self._too_large(limit)
                whole.extend(bytes(min(max(have, 65536), limit + 1 - have)))
            with memoryview(whole) as view, view[have:] as rest:
                count = self.readinto(rest)
            if not count:
                return bytes(whole[:have])
            have += count

    def _sifted(self, limit: int, sieve: Sieve) -> bytes:
        left = bytearray()
        part = memoryview(bytearray(_PART))
        have = 0
        while count := self.readinto(part):
            have += count
            if have > limit:
                self.close()
                raise self._too_large(limit)
            left += sieve.take(part[:count])
        left += sieve.end()
        return bytes(left)

    def close(self) -> None:
        """Give the connection back when the rest of the body is at hand, else drop it. May be called twice."""
        connection = self._connection
        if connection is None:
            return
        if self.length is not None and connection.buffered and self._keep:
            self._drain(connection)
        if self._connection is not None:
            self._release()

    def _drain(self, connection: Connection) -> None:
        scratch = memoryview(bytearray(_DRAIN))
        while connection.buffered and not self._body.ended:
            self._body.readinto(scratch[: connection.buffered])

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection, self._abort, keep=self._body.ended and self._keep)

    def _too_large(self, limit: int) -> TransportError:
        return TransportError(
            TransportFault.PROTOCOL,
            f"The answer of {self._pool.where} is larger than {limit} bytes.",
            "Check that the address is that of the right server.",
        )

    def _closed(self) -> TransportError:
        return cut(self._pool.where, "in the middle of its answer")

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
