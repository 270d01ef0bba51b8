"""The services of a DICOM peer, right by default and wrong in the ways that servers are (PS3.4 Annexes A, B, C, J).

pacs.on("store", Lie())                                       # 0000, and nothing stored
pacs.on("find", Find(limit=100))                              # silently cut off
pacs.on("get", Retrieve(send=3, failed=7))                    # 0000 with failed sub-operations
pacs.on("commit", Commit(reasons={uid: 0x0112}, same=False))  # N-EVENT type 2, on an association of its own
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.support import dimse_wire as wire
from tests.support.dimse_acts import Answer
from tests.support.dimse_archive import Held
from tests.support.dimse_peer import Act, FaultyPeer, Talk
from tests.support.dimse_wire import Ended, Line, Message, Offer
from tests.support.waiting import PATIENCE

PENDING = 0xFF00
CANCELLED = 0xFE00
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
CAN_BE_COMMITTED = 1  # event types of N-EVENT-REPORT (PS3.4 J.3.3.1)
SOME_FAILED = 2
NOT_HERE = 0x0112


@dataclass
class Store(Act):
    """Keep the image, and say so; or say something else."""

    status: int = 0x0000

    def strike(self, talk: Talk, request: Message) -> None:
        talk.peer.archive.keep(talk.line.syntax(request.context), request)
        talk.respond(request, self.status)


@dataclass
class StoredThen(Act):
    """Keep the image, and then have another act in place of the answer."""

    then: Act

    def strike(self, talk: Talk, request: Message) -> None:
        talk.peer.archive.keep(talk.line.syntax(request.context), request)
        self.then.strike(talk, request)


class Lie(Answer):
    """0000, and nothing stored."""

    def __init__(self) -> None:
        super().__init__(0x0000, keeps=False)


class Echo(Answer):
    def __init__(self, status: int = 0x0000) -> None:
        super().__init__(status)


@dataclass
class Find(Act):
    """Answers to a query.

    Attributes
    ----------
    limit : int or None
        No more than so many, and not a word about it.
    fail_after : int or None
        So many, then `status`, which says nothing of the rest.
    status : int
        The final one.
    twice : bool
        Each match two times.
    empty_at : int or None
        This answer (from 0) has no identifier.
    broken_at : int or None
        This one has an identifier that is no DICOM.
    without : tuple[str, ...]
        Keywords that are missing in all answers.
    character_set : str or None
        The answers name this character set, whatever they are encoded in; "" names none.
    no_end : bool
        After the last match nothing more comes.
    then : Act or None
        What happens in place of the final answer.
    heeds_cancel : bool
    """

    limit: int | None = None
    fail_after: int | None = None
    status: int = 0x0000
    twice: bool = False
    empty_at: int | None = None
    broken_at: int | None = None
    without: tuple[str, ...] = ()
    character_set: str | None = None
    no_end: bool = False
    then: Act | None = None
    heeds_cancel: bool = True

    def strike(self, talk: Talk, request: Message) -> None:
        query = wire.decode(bytes(request.data), talk.line.syntax(request.context))
        most = self.fail_after if self.fail_after is not None else self.limit
        found = list(talk.peer.archive.answers(query))[:most]
        for number, answer in enumerate(answer for one in found for answer in [one] * (1 + self.twice)):
            self._answer(talk, request, number, answer)
            if self.heeds_cancel and was_cancelled(talk, request):
                talk.respond(request, CANCELLED)
                return
        if self.then is not None:
            self.then.strike(talk, request)
        if self.no_end:
            talk.line.wait_closed()
            raise Ended("no end")
        talk.respond(request, self.status)

    def _answer(self, talk: Talk, request: Message, number: int, answer: Dataset) -> None:
        syntax = talk.line.syntax(request.context)
        for keyword in self.without:
            if keyword in answer:
                delattr(answer, keyword)
        data: bytes | None = wire.encode(answer, syntax)
        if self.character_set is not None:
            data = _labelled(answer, syntax, self.character_set)
        if number == self.broken_at:
            data = b"\x08\x00\x05\x00\xff\xff\xff\x7fnonsense"
        if number == self.empty_at:
            data = None
        talk.respond(request, PENDING, data)


@dataclass
class Retrieve(Act):
    """A C-GET or C-MOVE.

    Attributes
    ----------
    send : int or None
        So many of the images; None for all.
    failed : int
        Failed sub-operations that the final response counts, besides what really failed.
    status : int
        The final one.
    counters : bool
        Whether responses count the sub-operations.
    pending : bool
        Whether there are pending responses.
    no_end : bool
        No final response.
    then : Act or None
        What happens in place of the final response.
    late : threading.Event or None
        The images go out once this is set, after the final response.
    awaits_cancel : bool
        After the first image it waits for a C-CANCEL.
    heeds_cancel : bool
    """

    send: int | None = None
    failed: int = 0
    status: int = 0x0000
    counters: bool = True
    pending: bool = True
    no_end: bool = False
    then: Act | None = None
    late: threading.Event | None = None
    awaits_cancel: bool = False
    heeds_cancel: bool = True

    def strike(self, talk: Talk, request: Message) -> None:
        wanted = talk.peer.archive.images(wire.decode(bytes(request.data), talk.line.syntax(request.context)))
        images = wanted[: self.send]
        carrier = self._carrier(talk, request, images)
        if carrier is None:
            talk.respond(request, 0xA801)
            return
        if self.late is not None:
            talk.respond(request, self.status, **self._counts(0, len(images), 0))
            assert self.late.wait(PATIENCE), "the test never said go"
            for image in images:
                carrier.bring(image)
            carrier.end()
            return
        failed, cancelled = self._carry(talk, request, images, carrier)
        carrier.end()
        self._end(talk, request, len(images) - len(failed), failed, cancelled)

    def _carrier(self, talk: Talk, request: Message, images: list[Held]) -> Carrier | None:
        if request.field == wire.GET:
            return Carrier(talk.line, talk, request)
        place = talk.peer.places.get(request.command.MoveDestination.strip())
        return None if place is None else Mover(talk, request, place, images)

    def _carry(self, talk: Talk, request: Message, images: list[Held], carrier: Carrier) -> tuple[list[str], bool]:
        failed: list[str] = []
        for number, image in enumerate(images):
            if not carrier.bring(image):
                failed.append(image.sop_uid)
            if self.pending:
                counts = self._counts(len(images) - number - 1, number + 1 - len(failed), len(failed), remaining=True)
                talk.respond(request, PENDING, **counts)
            patience = wire.PATIENCE if self.awaits_cancel and number == 0 else 0
            if was_cancelled(talk, request, patience) and self.heeds_cancel:
                return failed, True
        return failed, False

    def _end(self, talk: Talk, request: Message, done: int, failed: list[str], cancelled: bool) -> None:
        if self.then is not None:
            self.then.strike(talk, request)
        if self.no_end:
            talk.line.wait_closed()
            raise Ended("no end")
        status = CANCELLED if cancelled else self.status
        if failed and not status:
            status = 0xB000
        data = None
        if failed:
            data = Dataset()
            data.FailedSOPInstanceUIDList = failed
        talk.respond(request, status, data, **self._counts(0, done, len(failed) + self.failed))

    def _counts(self, left: int, done: int, failed: int, *, remaining: bool = False) -> dict[str, Any]:
        if not self.counters:
            return {}
        return {
            "NumberOfRemainingSuboperations": left if remaining else None,
            "NumberOfCompletedSuboperations": done,
            "NumberOfFailedSuboperations": failed,
            "NumberOfWarningSuboperations": 0,
        }


class Carrier:
    """Brings images by C-STORE over the association of a C-GET."""

    def __init__(self, line: Line, talk: Talk, request: Message) -> None:
        self.line = line
        self.talk = talk
        self.request = request

    def bring(self, image: Held) -> bool:
        context = self.line.context_for(image.sop_class, [image.syntax])
        if context is None:
            return False
        number = (int(self.request.command.MessageID) + len(self.talk.peer.answers) + 7) % 0xFFFF
        command = wire.command_set(
            wire.STORE,
            has_data=True,
            AffectedSOPClassUID=image.sop_class,
            AffectedSOPInstanceUID=image.sop_uid,
            MessageID=number,
            Priority=0,
            **self._origin(),
        )
        self.line.say(context, command, image.data)
        return self._answered()

    def _origin(self) -> dict[str, object]:
        return {}

    def _answered(self) -> bool:
        while True:
            answer = self.line.hear()
            if answer.field == wire.CANCEL:
                self.talk.cancelled.add(int(answer.command.MessageIDBeingRespondedTo))
                self.talk.peer.note("cancel")
                continue
            if not answer.field & wire.RESPONSE:
                raise Ended("no answer to an image, but a request")
            self.talk.peer.answers.append(answer)
            return int(answer.command.Status) == 0

    def end(self) -> None:
        pass


class Mover(Carrier):
    """Brings them over an association of its own to the destination of a C-MOVE."""

    def __init__(self, talk: Talk, request: Message, place: tuple[str, int], images: list[Held]) -> None:
        offers = {(image.sop_class, image.syntax) for image in images}
        line = Line(socket.create_connection(place, 10))
        kind, _ = line.request(
            request.command.MoveDestination.strip(),
            talk.peer.aet,
            [Offer(sop_class, (syntax,)) for sop_class, syntax in sorted(offers)],
        )
        if kind != wire.AC:
            line.contexts.clear()
        super().__init__(line, talk, request)

    def _origin(self) -> dict[str, object]:
        return {
            "MoveOriginatorApplicationEntityTitle": self.talk.calling,
            "MoveOriginatorMessageID": self.request.command.MessageID,
        }

    def end(self) -> None:
        self.line.release()


@dataclass
class Commit(Act):
    """Storage commitment: the N-ACTION's answer, and the report.

    Attributes
    ----------
    status : int
        Of the N-ACTION's response.
    reasons : int or mapping or None
        Failure reason of all, or of some by SOP Instance UID. None: what it doesn't hold has 0112.
    same : bool
        Whether the report comes on the same association; otherwise on one of its own, to the caller's place.
    reports : int
        How often; 0 for never.
    transaction : str or None
        The report names another transaction than the request.
    leaves_out : int
        So many images are named neither as committed nor as failed.
    when : threading.Event or None
        The report waits for this.
    all_kept : bool
        Commits itself even to what it doesn't hold.
    """

    status: int = 0x0000
    reasons: int | Mapping[str, int] | None = None
    same: bool = True
    reports: int = 1
    transaction: str | None = None
    leaves_out: int = 0
    when: threading.Event | None = None
    all_kept: bool = False

    def strike(self, talk: Talk, request: Message) -> None:
        asked = wire.decode(bytes(request.data), talk.line.syntax(request.context))
        talk.peer.transactions.append(str(asked.TransactionUID))
        talk.respond(
            request,
            self.status,
            AffectedSOPInstanceUID=request.command.RequestedSOPInstanceUID,
            ActionTypeID=request.command.ActionTypeID,
        )
        if self.status or not self.reports:
            return
        report = self._report(talk.peer, asked)
        if self.same:
            self._wait()
            for _ in range(self.reports):
                self._say(talk.line, request.context, report)
        else:
            talk.peer.spawn(lambda: self._call(talk, report))

    def _wait(self) -> None:
        assert self.when is None or self.when.wait(PATIENCE), "the test never said go"

    def _report(self, peer: FaultyPeer, asked: Dataset) -> Dataset:
        done: list[Dataset] = []
        failed: list[Dataset] = []
        named = list(asked.ReferencedSOPSequence)
        for item in named[: len(named) - self.leaves_out]:
            reason = self._reason(peer, str(item.ReferencedSOPInstanceUID))
            if reason:
                item.FailureReason = reason
            (failed if reason else done).append(item)
        report = Dataset()
        report.TransactionUID = self.transaction or asked.TransactionUID
        report.RetrieveAETitle = peer.aet
        if done:
            report.ReferencedSOPSequence = done
        if failed:
            report.FailedSOPSequence = failed
        return report

    def _reason(self, peer: FaultyPeer, sop_uid: str) -> int:
        if isinstance(self.reasons, int):
            return self.reasons
        if self.reasons and sop_uid in self.reasons:
            return self.reasons[sop_uid]
        return 0 if self.all_kept or sop_uid in peer.archive else NOT_HERE

    def _say(self, line: Line, context: int, report: Dataset) -> None:
        command = wire.command_set(
            wire.EVENT,
            has_data=True,
            AffectedSOPClassUID=COMMITMENT,
            AffectedSOPInstanceUID=COMMITMENT_INSTANCE,
            MessageID=77,
            EventTypeID=SOME_FAILED if "FailedSOPSequence" in report else CAN_BE_COMMITTED,
        )
        line.say(context, command, wire.encode(report, line.syntax(context)))

    def _call(self, talk: Talk, report: Dataset) -> None:
        self._wait()
        for _ in range(self.reports):
            line = Line(socket.create_connection(talk.peer.places[talk.calling], 10))
            try:
                offer = Offer(COMMITMENT, (wire.EXPLICIT, wire.IMPLICIT), scp=True)
                kind, _ = line.request(talk.calling, talk.peer.aet, [offer])
                context = line.context_for(COMMITMENT)
                if kind != wire.AC or context is None:
                    raise Ended("report refused")
                self._say(line, context, report)
                talk.peer.answers.append(line.hear())
                talk.peer.note("report")
                line.release()
            finally:
                line.close()


RIGHT: dict[str, Act] = {
    "store": Store(),
    "find": Find(),
    "get": Retrieve(),
    "move": Retrieve(),
    "echo": Echo(),
    "commit": Commit(),
}


def unknown_transaction() -> str:
    """A transaction UID that nobody asked for."""
    return str(generate_uid())


def was_cancelled(talk: Talk, request: Message, seconds: float = 0) -> bool:
    """Whether a C-CANCEL for a request has come by now, or comes within some seconds."""
    number = int(request.command.MessageID)
    while number not in talk.cancelled and select.select([talk.line.sock], [], [], seconds)[0]:
        message = talk.line.hear()
        if message.field == wire.CANCEL:
            talk.cancelled.add(int(message.command.MessageIDBeingRespondedTo))
            talk.peer.note("cancel")
    return number in talk.cancelled


def _labelled(answer: Dataset, syntax: str, character_set: str) -> bytes:
    """An identifier whose texts are encoded as they were, under the name of another character set."""
    encoded = wire.encode(answer, syntax)
    honest = str(answer.get("SpecificCharacterSet", ""))
    if "SpecificCharacterSet" in answer:
        element = _character_set(honest, syntax)
        assert element in encoded
        return encoded.replace(element, _character_set(character_set, syntax) if character_set else b"", 1)
    return _character_set(character_set, syntax) + encoded


def _character_set(name: str, syntax: str) -> bytes:
    value = name.encode() + b" " * (len(name) % 2)
    if syntax == wire.IMPLICIT:
        return b"\x08\x00\x05\x00" + len(value).to_bytes(4, "little") + value
    return b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value
