"""Messages in pieces: P-DATA-TF PDUs and the fragments in them, out and in (PS3.8 sections 9.3.5 and Annex E)."""

from __future__ import annotations

import struct
from collections.abc import Collection
from enum import IntEnum
from typing import Protocol

from core.model.errors import LocalError
from core.wire.dimse.channel import Channel
from core.wire.dimse.errors import AssociationAborted, AssociationReleased, ProtocolViolation

_GATHER = 1 << 18  # bytes handed to the system at once
_LONGEST_SENT = 1 << 17  # of our PDUs, to peers that take any
_LONGEST_TAKEN = 1 << 30  # where we allow any: more is nonsense
_MOST_EMPTY = 1000  # fragments without a byte in a row
_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_BOTH = struct.Struct(">BxLLBB")
_COMMAND, _LAST = 1, 2  # message control header (PS3.8 Annex E.2)


class PduType(IntEnum):
    """PS3.8 section 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class ByteStream(Protocol):
    """Bytes of a data set on their way. `length` is None where it isn't known in advance."""

    @property
    def length(self) -> int | None: ...

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` from its start; number of bytes, 0 at the end."""


def release_request() -> bytes:
    return _PDU.pack(PduType.RELEASE_RQ, 4) + bytes(4)


def release_response() -> bytes:
    return _PDU.pack(PduType.RELEASE_RP, 4) + bytes(4)


def abort_request(source: int, reason: int) -> bytes:
    """`source` 0 for the user of the association, 2 for its machinery with a `reason` (PS3.8 Table 9-26)."""
    return _PDU.pack(PduType.ABORT, 4) + bytes((0, 0, source, reason))


class Outbox:
    """Cuts messages into PDUs, and gathers the PDUs into large sends. Its memory is constant.

    Parameters
    ----------
    max_pdu
        What the peer takes, counted as in PS3.8 Annex D.1; 0 for any.

    Attributes
    ----------
    reading : bool
        True while the data is read from its source: an error that leaves it so is the source's own.
    """

    def __init__(self, channel: Channel, max_pdu: int) -> None:
        self.reading = False
        longest = min(max_pdu, _LONGEST_SENT) if max_pdu else _LONGEST_SENT
        self._fragment = (longest - _PDV.size) & ~1  # fragments but the last have an even length (PS3.8 Annex E.2)
        step = self._fragment + _BOTH.size
        self._view = memoryview(bytearray(step * max(2, _GATHER // step)))
        self._channel = channel
        self._end = 0

    def send(self, context_id: int, command: bytes, data: bytes | memoryview | ByteStream | None) -> None:
        """Send one message. What the data's own source raises passes through."""
        self._end = 0
        self.reading = False
        self._put_whole(memoryview(command), context_id, _COMMAND)
        if isinstance(data, (bytes, memoryview)):
            self._put_whole(memoryview(data).cast("B"), context_id, 0)
        elif data is not None:
            self._put(data, context_id, 0)
        self._channel.send(self._view[: self._end])

    def _put_whole(self, data: memoryview, context_id: int, kind: int) -> None:
        """As `_put`, of what is in memory: while it is cut, whoever shares the association waits."""
        view, fragment, header = self._view, self._fragment, _BOTH.size
        at, position, left = self._end, 0, len(data)
        while True:
            if at + header + fragment > len(view):
                self._channel.send(view[:at])
                at = 0
            count = min(fragment, left)
            left -= count
            _BOTH.pack_into(
                view, at, PduType.P_DATA, count + _PDV.size, count + 2, context_id, kind if left else kind | _LAST
            )
            at += header
            view[at : at + count] = data[position : position + count]
            at += count
            position += count
            if not left:
                self._end = at
                return

    def _put(self, source: ByteStream, context_id: int, kind: int) -> None:
        """Add the PDUs of a command set or a data set; whatever has no room is sent."""
        view, fragment = self._view, self._fragment
        left = source.length
        before = -1  # where the PDU before stands, if it may yet turn out to be the last
        while True:
            if self._end + _BOTH.size + fragment > len(view):
                before = self._flush(before)
            at = self._end
            start = at + _BOTH.size
            room = fragment if left is None else min(fragment, left)
            self.reading = True
            got = _fill(source, view[start : start + room])
            if left is not None:
                if got < room:
                    raise LocalError("The image ended before all of it was read.", "Check the source, then try again.")
                left -= got
                last = not left
            else:
                last = got < room
            self.reading = False
            if not got and before >= 0:
                view[before + _BOTH.size - 1] |= _LAST
                return
            _BOTH.pack_into(
                view, at, PduType.P_DATA, got + _PDV.size, got + 2, context_id, kind | (_LAST if last else 0)
            )
            self._end = start + got
            if last:
                return
            before = at if left is None else -1

    def _flush(self, before: int) -> int:
        """Send what is here, but not the PDU that may be the last; where that one stands then."""
        until = before if before >= 0 else self._end
        self._channel.send(self._view[:until])
        rest = self._end - until
        if rest:
            self._view[:rest] = bytes(self._view[until : self._end])
        self._end = rest
        return 0 if before >= 0 else -1


def _fill(source: ByteStream, view: memoryview) -> int:
    """Read until `view` is full or the source at its end."""
    got = source.readinto(view) if view else 0
    while 0 < got < len(view):
        more = source.readinto(view[got:])
        if not more:
            break
        got += more
    return got


class Inbox:
    """Takes fragments out of PDUs, and makes sure that nothing else is between them.

    Attributes
    ----------
    context_id : int
        Of the fragment that is being read.
    left : int
        Bytes of it that were not read yet.
    is_last : bool
        Whether it ends its command set or data set.
    """

    def __init__(self, channel: Channel, max_pdu: int) -> None:
        self.context_id = 0
        self.left = 0
        self.is_last = True
        self._channel = channel
        self._known: Collection[int] = ()
        self._pdu_left = 0
        # Twice what we allowed, since some peers count otherwise; nothing of this size is ever held in memory.
        self._longest = 2 * max_pdu if max_pdu else _LONGEST_TAKEN

    def know(self, context_ids: Collection[int]) -> None:
        """The accepted contexts, without which there are no fragments."""
        self._known = context_ids

    def pdu(self, longest: int) -> tuple[int, bytes]:
        """A PDU other than P-DATA: its type, and the whole of it.

        Raises
        ------
        TransportError
            Also `AssociationAborted` when it is an A-ABORT.
        """
        header = bytes(self._channel.need(_PDU.size))
        kind, length = _PDU.unpack(header)
        self._refuse_strangers(kind, header)
        if length > longest:
            raise ProtocolViolation(self._channel.where, f"a PDU of type {kind} claims {length} bytes")
        body = self._whole(length)
        if kind == PduType.ABORT:
            raise AssociationAborted(self._channel.where, *(body[2:4] if length >= 4 else (0, 0)))
        return kind, header + body

    def _whole(self, length: int) -> bytes:
        """`length` bytes, however many: a request with all contexts and encodings has more than the buffer holds."""
        whole = bytearray(length)
        view = memoryview(whole)
        while view:
            view = view[self._channel.read_into(view) :]
        return bytes(whole)

    def _refuse_strangers(self, kind: int, header: bytes) -> None:
        if kind not in PduType.__members__.values():
            detail = f"first bytes {header.hex(' ')}"
            raise ProtocolViolation(self._channel.where, "it speaks something else", abort_reason=1, detail=detail)

    def skip_pdu(self) -> int:
        """Read one PDU of any type and forget it; its type. For the wait that ends a release."""
        channel = self._channel
        if self.left or self._pdu_left:
            channel.skip(self.left + self._pdu_left)
            self.left = self._pdu_left = 0
        header = bytes(channel.need(_PDU.size))
        kind, length = _PDU.unpack(header)
        self._refuse_strangers(kind, header)
        if length > self._longest:
            raise ProtocolViolation(channel.where, f"a PDU claims {length} bytes")
        channel.skip(length)
        return int(kind)

    def next(self, *, command: bool, context_id: int = 0) -> None:
        """Begin the next fragment, which must be of a command set or a data set, and of this context if it is given.

        Raises
        ------
        TransportError
            ``CUT`` when the peer ended the association (`AssociationAborted`, or released), `ProtocolViolation`.
        """
        channel = self._channel
        empty = 0
        while True:
            if not self._pdu_left:
                self._next_pdu()
            if self._pdu_left < _PDV.size:
                raise ProtocolViolation(channel.where, "a PDU ends in the middle of a fragment's head")
            length, found, control = _PDV.unpack(channel.need(_PDV.size))
            self._pdu_left -= _PDV.size
            if length < 2 or length - 2 > self._pdu_left:
                raise ProtocolViolation(channel.where, f"a fragment claims {length} bytes")
            if bool(control & _COMMAND) is not command:
                expected = "command" if command else "data"
                raise ProtocolViolation(channel.where, f"something else came where {expected} belongs", abort_reason=2)
            if found not in self._known or (context_id and found != context_id):
                raise ProtocolViolation(channel.where, f"a fragment is of context {found}, which is not the one agreed")
            context_id = self.context_id = found
            self.left = length - 2
            self._pdu_left -= self.left
            self.is_last = bool(control & _LAST)
            if self.left or self.is_last:
                return
            empty += 1
            if empty > _MOST_EMPTY:
                raise ProtocolViolation(channel.where, "it sends empty fragments without end")

    def _next_pdu(self) -> None:
        channel = self._channel
        header = bytes(channel.need(_PDU.size))
        kind, length = _PDU.unpack(header)
        self._refuse_strangers(kind, header)
        if kind == PduType.P_DATA:
            if not _PDV.size <= length <= self._longest:
                raise ProtocolViolation(channel.where, f"a PDU claims {length} bytes")
            self._pdu_left = length
            return
        if kind in (PduType.ABORT, PduType.RELEASE_RQ):
            if length != 4:
                raise ProtocolViolation(channel.where, f"a PDU of type {kind} claims {length} bytes")
            body = bytes(channel.need(4))
            if kind == PduType.ABORT:
                raise AssociationAborted(channel.where, body[2], body[3])
            raise AssociationReleased(channel.where)
        name = PduType(kind).name.replace("_", "-")
        raise ProtocolViolation(channel.where, f"an A-{name} came in the midst of it", abort_reason=2)

    def read_into(self, view: memoryview) -> int:
        """Bytes of the fragment that was begun; at least one, `left` must not be 0."""
        got = self._channel.read_into(view[: self.left] if len(view) > self.left else view)
        self.left -= got
        return got

    def read_command(self, limit: int) -> bytes:
        """The whole of a command set, whose first fragment was begun.

        Raises
        ------
        ProtocolViolation
            It has more than `limit` bytes.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            size += self.left + _PDV.size
            if size > limit:
                raise ProtocolViolation(self._channel.where, f"a command set has more than {limit} bytes")
            parts.append(bytes(self._channel.need(self.left)))
            self.left = 0
            if self.is_last:
                return b"".join(parts)
            self.next(command=True, context_id=self.context_id)

    def raise_ending(self) -> None:
        """Raise what an A-ABORT or A-RELEASE-RQ means that has come unasked; nothing when none has."""
        waiting = self._channel.buffered
        whole = _PDU.size + 4
        if not self._pdu_left and not self.left and len(waiting) >= whole:
            kind, length = _PDU.unpack_from(waiting)
            if kind in (PduType.ABORT, PduType.RELEASE_RQ) and length == 4:
                self._next_pdu()
