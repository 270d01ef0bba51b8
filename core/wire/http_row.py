"""Rows of transfers on one connection: several images asked for, or handed over, before the first answer is read.

Pipelining (RFC 9112, section 9.3.2) saves a round trip and a change of threads for each image. What a row leaves
open is carried singly by whoever asked, where a doubtful answer gets its full meaning; a row itself never guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.model.errors import TransportError, TransportFault
from core.wire.http_connection import Connection
from core.wire.http_message import Head, Headers

_TOGETHER = 65536  # bytes up to which requests are copied together rather than sent one by one


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """One whole answer; `body` lies in the memory given for the row, and is valid as long as that."""

    status: int
    headers: Headers
    body: memoryview


class RowUpload:
    """The requests of a row on their way out, each a head and a body (`Upload`)."""

    __slots__ = ("_requests", "complete", "repeatable", "sent")

    def __init__(self, requests: Sequence[tuple[bytes, bytes | memoryview]]) -> None:
        self._requests = requests
        self.repeatable = True
        self.complete = False
        self.sent = 0

    def send(self, connection: Connection) -> None:
        """Send all, or up to where the server takes no more; `sent` counts the requests that went out whole."""
        self.complete = False
        self.sent = 0
        pending: list[bytes | memoryview] = []
        size = count = 0
        for head, body in self._requests:
            if size and size + len(head) + len(body) > _TOGETHER:
                if not connection.send(b"".join(pending)):
                    return
                self.sent += count
                pending, size, count = [], 0, 0
            if len(head) + len(body) > _TOGETHER:
                if not connection.send(head, memoryview(body)):
                    return
                self.sent += 1
                continue
            pending += (head, body)
            size += len(head) + len(body)
            count += 1
        if pending:
            if not connection.send(b"".join(pending)):
                return
            self.sent += count
        self.complete = True

    def close(self) -> None:
        pass


def read_row(
    connection: Connection, head: Head, count: int, into: memoryview, answers: list[RowAnswer]
) -> tuple[bool, bool]:
    """Read up to `count` answers with their bodies into `into`, one behind the other, and append them to `answers`.

    Parameters
    ----------
    head : Head
        Of the first answer.

    Returns
    -------
    tuple[bool, bool]
        Whether the row was answered in full, and whether the connection may be used again. It ends early at the
        first answer that isn't plainly framed, that doesn't fit, or whose connection isn't kept.

    Raises
    ------
    TransportError
        The connection failed; `answers` holds what came before.
    """
    at = 0
    while True:
        length = head.length
        coding = head.headers.get("content-encoding")
        if head.status == 204:
            length = 0
        if length is None or length > len(into) - at or (coding and coding.lower() != "identity"):
            return False, False
        end = at + length
        while at < end:
            got = connection.read_into(into[at:end])
            if not got:
                raise TransportError(TransportFault.CUT, f"{connection.where} broke off in the middle of its answer.")
            at += got
        answers.append(RowAnswer(head.status, head.headers, into[end - length : end]))
        if len(answers) == count:
            return True, head.keep_alive
        if not head.keep_alive:
            return False, False
        head = connection.read_head()
