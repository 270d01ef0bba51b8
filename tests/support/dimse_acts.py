"""What a DICOM peer can do to any request instead of the right thing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support import dimse_wire as wire
from tests.support.dimse_peer import Act, Talk
from tests.support.dimse_wire import Ended, Message


@dataclass
class Answer(Act):
    """Answer at once with this status; a store keeps the image only if `keeps`."""

    status: int
    comment: str | None = None
    keeps: bool = False

    def strike(self, talk: Talk, request: Message) -> None:
        if self.keeps:
            talk.peer.archive.keep(talk.line.syntax(request.context), request)
        talk.respond(request, self.status, ErrorComment=self.comment)


@dataclass
class Silence(Act):
    """Take whatever comes and never answer, until the other side goes."""

    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.sock.settimeout(120)
        talk.line.wait_closed()
        raise Ended("silent to the end")


@dataclass
class Deaf(Act):
    """Read no more at all, as a half-open connection or a hung server: until the fault is off."""

    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        talk.fault.wait_off()
        raise Ended("deaf to the end")


@dataclass
class Drip(Act):
    """Answer rightly, but a byte at a time with `seconds` between."""

    seconds: float

    def strike(self, talk: Talk, request: Message) -> None:
        def drip(data: bytes) -> None:
            for at in range(len(data)):
                talk.line.send(data[at : at + 1])
                time.sleep(self.seconds)

        _bent(talk, request, drip)


@dataclass
class Abort(Act):
    """A-ABORT instead of an answer, or in the middle of the data set."""

    after: int | None = None
    source: int = 0
    reason: int = 0

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.send(wire.abort(self.source, self.reason))
        talk.line.wait_closed()
        raise Ended("aborted here")


@dataclass
class Reset(Act):
    """RST."""

    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.reset()
        raise Ended("reset here")


@dataclass
class Close(Act):
    """Close the connection without a word."""

    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        raise Ended("closed here")


@dataclass
class Release(Act):
    """Ask to end the association instead of answering."""

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        talk.line.wait_closed()
        raise Ended("released here")


@dataclass
class HalfAnswer(Act):
    """Half of the right answer's first PDU, then silence, or the end."""

    then_close: bool = False

    def strike(self, talk: Talk, request: Message) -> None:
        def half(data: bytes) -> None:
            talk.line.send(data[: len(data) // 2])
            if not self.then_close:
                talk.line.wait_closed()
            raise Ended("half an answer")

        _bent(talk, request, half)


@dataclass
class Raw(Act):
    """These bytes, then nothing more."""

    data: bytes
    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.send(self.data)
        talk.line.wait_closed()
        raise Ended("said its bytes")


@dataclass
class Twice(Act):
    """The right answer two times."""

    def strike(self, talk: Talk, request: Message) -> None:
        _bent(talk, request, lambda data: talk.line.send(data + data))


@dataclass
class OfAnother(Act):
    """An answer to another request than was made: its Message ID is wrong, or its context, or there is no status."""

    message_id: int | None = 0
    context: int = 0
    status: int | None = 0x0000

    def strike(self, talk: Talk, request: Message) -> None:
        wrong = request.command.MessageID + 1000 if self.message_id == 0 else self.message_id
        answer = wire.command_set(
            request.field | wire.RESPONSE,
            AffectedSOPClassUID=request.command.get("AffectedSOPClassUID"),
            MessageIDBeingRespondedTo=wrong,
            Status=self.status,
        )
        for piece in wire.message(request.context + self.context, answer, max_pdu=talk.line.max_pdu):
            talk.send(piece)


@dataclass
class After(Act):
    """Wait until the test lets it go on (`Fault.off`), then do the right thing."""

    def strike(self, talk: Talk, request: Message) -> None:
        talk.fault.wait_off()
        if request.command:
            talk.handle(request)
        else:
            talk.accept(request)


# --- what can happen to an association request


@dataclass
class Reject(Act):
    """A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int

    def strike(self, talk: Talk, request: Message) -> None:
        talk.line.send(wire.rejection(self.result, self.source, self.reason))
        talk.line.wait_closed()
        raise Ended("rejected")


@dataclass
class AboveLimit(Act):
    """Rejects whoever comes while `limit` associations are open: (2, 3, 2), local limit exceeded."""

    limit: int

    def strike(self, talk: Talk, request: Message) -> None:
        with talk.peer.turnstile:
            if talk.peer.open_associations < self.limit:
                talk.accept(request)
                return
        Reject(2, 3, 2).strike(talk, request)


def _bent(talk: Talk, request: Message, send: Callable[[bytes], None]) -> None:
    """Do the right thing, saying it in another way."""
    talk.send = send
    if request.command:
        talk.handle(request)
    else:
        talk.accept(request)
    talk.send = talk.line.send
