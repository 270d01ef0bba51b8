"""A caller that misbehaves towards a listening application entity: half PDUs, resets, lies about lengths, crowds.

caller = Caller(host, port, called="FERRY")
line = caller.half_a_pdu(file)              # then silence: the line is left open for the test to look at
assert caller.end_of(line) in (ABORTED, CLOSED)
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from tests.support import dimse_wire as wire
from tests.support.dimse_wire import Ended, Line, Offer

VERIFICATION = "1.2.840.10008.1.1"
ABORTED, CLOSED, OPEN = "aborted", "closed", "still open"


@dataclass(frozen=True)
class Image:
    """What a C-STORE of a DICOM file needs."""

    sop_class: str
    sop_uid: str
    syntax: str
    data: bytes

    @classmethod
    def of(cls, file: bytes) -> Image:
        whole = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        start = 144 + int.from_bytes(file[140:144], "little")
        syntax = str(whole.file_meta.TransferSyntaxUID)
        return cls(str(whole.SOPClassUID), str(whole.SOPInstanceUID), syntax, file[start:])

    @property
    def offer(self) -> Offer:
        return Offer(self.sop_class, (self.syntax,))


class Rejected(Ended):
    """The association was not accepted.

    Attributes
    ----------
    reason : tuple[int, ...]
        Result, source and reason of an A-ASSOCIATE-RJ; empty for anything else.
    """

    def __init__(self, kind: int, body: bytes) -> None:
        self.reason = tuple(body[1:4]) if kind == wire.RJ else ()
        super().__init__(f"PDU of type {kind}: {body.hex()}")


class Caller:
    """Somebody who calls; well-behaved with `open` and `store`, and in a way of its own with each of the others."""

    def __init__(self, host: str, port: int, *, called: str, calling: str = "CALLER") -> None:
        self.place = (host, port)
        self.called = called
        self.calling = calling
        self.lines: list[Line] = []

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc: object) -> None:
        for line in self.lines:
            line.close()

    # --- as it should be

    def connect(self) -> Line:
        """TCP alone."""
        line = Line(socket.create_connection(self.place, 10))
        self.lines.append(line)
        return line

    def open(self, *offers: Offer, max_pdu: int = 16384) -> Line:
        """An association; raises `Rejected`."""
        line = self.connect()
        kind, body = line.request(self.called, self.calling, offers or [Offer(VERIFICATION)], max_pdu=max_pdu)
        if kind != wire.AC:
            line.close()
            raise Rejected(kind, body)
        return line

    def store(self, line: Line, file: bytes, number: int = 1) -> int:
        """Store one file; the status that was answered."""
        image = Image.of(file)
        line.say(self._context(line, image), self._request(image, number), image.data)
        return int(line.hear().command.Status)

    def send(self, file: bytes) -> int:
        """Store one file over an association of its own."""
        line = self.open(Image.of(file).offer)
        status = self.store(line, file)
        line.release()
        return status

    # --- as it should not be

    def half_a_pdu(self, file: bytes) -> Line:
        """An association, and the first half of a P-DATA PDU; then silence."""
        image = Image.of(file)
        line = self.open(image.offer)
        first = next(self._pieces(line, image))
        line.send(first[: len(first) // 2])
        return line

    def half_a_request(self) -> Line:
        """Half an association request; then silence."""
        line = self.connect()
        line.send(wire.Handshake(self.called, self.calling).encode(wire.RQ)[:40])
        return line

    def half_an_image(self, file: bytes, after: int) -> Line:
        """A C-STORE whose data set stops after some bytes, at the end of a PDU; then silence."""
        image = Image.of(file)
        line = self.open(image.offer)
        for piece in self._begun(line, image, after):
            line.send(piece)
        return line

    def reset_in_data_set(self, file: bytes, after: int) -> None:
        """RST once so many bytes of a data set have gone."""
        self.half_an_image(file, after).reset()

    def close_in_data_set(self, file: bytes, after: int) -> None:
        """FIN there."""
        self.half_an_image(file, after).close()

    def abort_in_data_set(self, file: bytes, after: int) -> Line:
        """A-ABORT there."""
        line = self.half_an_image(file, after)
        line.send(wire.abort())
        return line

    def release_in_data_set(self, file: bytes, after: int) -> Line:
        """A-RELEASE-RQ there."""
        line = self.half_an_image(file, after)
        line.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        return line

    def gone_before_answer(self, file: bytes) -> None:
        """A whole C-STORE, and RST without waiting for its answer."""
        image = Image.of(file)
        line = self.open(image.offer)
        line.say(self._context(line, image), self._request(image), image.data)
        line.reset()

    def wrong_pdu_length(self, file: bytes, length: int) -> Line:
        """A P-DATA PDU whose head tells another length than it has."""
        image = Image.of(file)
        line = self.open(image.offer)
        body = wire.pdv(self._context(line, image), 3, wire.command_bytes(self._request(image)))
        line.send(wire.pdu(wire.P_DATA, body, length=length))
        return line

    def wrong_pdv_length(self, file: bytes, length: int) -> Line:
        """A fragment that tells another length than its PDU has room for."""
        image = Image.of(file)
        line = self.open(image.offer)
        body = wire.pdv(self._context(line, image), 3, wire.command_bytes(self._request(image)))
        line.send(wire.pdu(wire.P_DATA, struct.pack(">I", length) + body[4:]))
        return line

    def wrong_item_length(self) -> Line:
        """An association request with an item that reaches beyond its end."""
        line = self.connect()
        whole = bytearray(wire.Handshake(self.called, self.calling).encode(wire.RQ))
        whole[6 + 68 + 2 : 6 + 68 + 4] = b"\xff\xff"
        line.send(bytes(whole))
        return line

    def truncated_data_set(self, file: bytes, length: int) -> int:
        """A C-STORE that ends in good order but brings only the first bytes of the data set; the status."""
        image = Image.of(file)
        line = self.open(image.offer)
        line.say(self._context(line, image), self._request(image), image.data[:length])
        return int(line.hear().command.Status)

    def another_uid(self, file: bytes, sop_uid: str) -> int:
        """A C-STORE whose command set names another SOP Instance UID than its data set; the status."""
        image = Image.of(file)
        line = self.open(image.offer)
        request = self._request(image)
        request.AffectedSOPInstanceUID = sop_uid
        line.say(self._context(line, image), request, image.data)
        return int(line.hear().command.Status)

    def unknown_context(self, file: bytes) -> Line:
        """A C-STORE in a presentation context that was never agreed on."""
        image = Image.of(file)
        line = self.open(image.offer)
        line.say(99, self._request(image), image.data)
        return line

    def unknown_pdu(self) -> Line:
        """A PDU of a type that there is not."""
        line = self.open()
        line.send(wire.pdu(0x42, b"what is this?"))
        return line

    def unasked_answer(self) -> Line:
        """A C-ECHO response to nobody's request."""
        line = self.open()
        line.say(1, wire.command_set(wire.ECHO | wire.RESPONSE, MessageIDBeingRespondedTo=5, Status=0))
        return line

    def no_dicom(self, data: bytes = b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n") -> Line:
        """Bytes of another protocol."""
        line = self.connect()
        line.send(data)
        return line

    def too_large_pdu(self, size: int = 0x7FFFFFFF) -> Line:
        """The head of a P-DATA PDU of two gigabytes."""
        line = self.open()
        line.send(wire.pdu(wire.P_DATA, b"", length=size))
        return line

    def crowd(self, count: int, *offers: Offer) -> tuple[list[Line], list[Rejected]]:
        """Many associations at once, all left open: those accepted, and how the others were rejected."""
        accepted: list[Line] = []
        rejected: list[Rejected] = []
        for _ in range(count):
            try:
                accepted.append(self.open(*offers))
            except Rejected as error:
                rejected.append(error)
        return accepted, rejected

    # --- what became of it

    def end_of(self, line: Line, seconds: float = 10.0) -> str:
        """How the other side ends a connection: ABORTED, CLOSED, or OPEN after so many seconds of silence."""
        line.sock.settimeout(seconds)
        try:
            while True:
                kind, _ = line.pdu()
                if kind == wire.ABORT:
                    line.close()
                    return ABORTED
        except Ended as ended:
            if isinstance(ended.__cause__, TimeoutError):
                return OPEN
        line.close()
        return CLOSED

    def _context(self, line: Line, image: Image) -> int:
        found = line.context_for(image.sop_class, [image.syntax])
        assert found is not None, f"no context for {image.sop_class} was accepted"
        return found

    def _request(self, image: Image, number: int = 1) -> Dataset:
        return wire.command_set(
            wire.STORE,
            has_data=True,
            AffectedSOPClassUID=image.sop_class,
            AffectedSOPInstanceUID=image.sop_uid,
            MessageID=number,
            Priority=0,
        )

    def _pieces(self, line: Line, image: Image) -> Iterator[bytes]:
        return wire.message(self._context(line, image), self._request(image), image.data, max_pdu=line.max_pdu)

    def _begun(self, line: Line, image: Image, after: int) -> Iterator[bytes]:
        context = self._context(line, image)
        yield from wire.message(context, self._request(image))
        room = (line.max_pdu or 16384) - 6
        data: Sequence[int] = image.data[:after]
        for start in range(0, len(data), room):
            yield wire.pdu(wire.P_DATA, wire.pdv(context, 0, bytes(data[start : start + room])))
