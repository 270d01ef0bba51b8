"""Rows of GETs on one connection: several on their way at once, answered in order (RFC 9112, section 9.3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from core.wire.abort import Abort
from core.wire.http_connection import Connection
from core.wire.http_message import Head
from core.wire.http_response import Answer, Response

_WINDOW = 32  # requests on their way at once
_WINDOW_BYTES = 16384  # of request heads: fits every socket buffer, so that neither side can block
_DOUBTFUL = frozenset({400, 408, 411, 429, 501, 502, 503, 505})  # what servers say that lost count


class Row:
    """The requests of a row, and how far it got.

    Attributes
    ----------
    answers : list[Answer]
        Trustworthy answers so far, in the order of the requests.
    broken : bool
        True when the server closed, or answered what may not belong to the request.
    keeps : bool
        Whether the server keeps the connection after the last answer that came.
    """

    def __init__(self, where: str, heads: Sequence[bytes]) -> None:
        self.where = where
        self.answers: list[Answer] = []
        self.broken = False
        self.keeps = False
        self._heads = heads
        self._sent = self._fitting(_WINDOW)

    @property
    def opening(self) -> bytes:
        """What is sent first."""
        return b"".join(self._heads[: self._sent])

    def read(self, connection: Connection, head: Head, limit: int) -> None:
        """Read the answers, sending the requests that follow, until all came or the row broke.

        Parameters
        ----------
        head
            Of the first answer.
        limit
            Bytes that each body may have.

        Raises
        ------
        TransportError
            The connection failed; `answers` holds what came before.
        """
        while True:
            if self.answers and head.status in _DOUBTFUL:
                self.broken = True
                return
            response = Response(self, connection, head, "GET", abort=None, early=False)
            self.answers.append(Answer(head.status, head.headers, response.read_all(limit), head.reason))
            self.keeps = head.keep_alive and response.framed
            if len(self.answers) == len(self._heads):
                return
            if not self.keeps:
                self.broken = True
                return
            if self._sent < len(self._heads) and self._sent - len(self.answers) <= _WINDOW // 2:
                more = self._sent + self._fitting(_WINDOW // 2)
                connection.send(b"".join(self._heads[self._sent : more]))
                self._sent = more
            head = connection.read_head()

    def release(self, connection: Connection, abort: Abort | None, *, keep: bool) -> None:
        """Take no connection back after one answer: the next one is still to be read from it."""

    def _fitting(self, count: int) -> int:
        """How many of the next `count` requests may be sent at once."""
        size = fitting = 0
        start = self._sent if self.answers else 0
        for head in self._heads[start : start + count]:
            size += len(head)
            if fitting and size > _WINDOW_BYTES // 2:
                break
            fitting += 1
        return fitting
