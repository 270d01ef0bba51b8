"""DICOM's bytes by hand, for peers that are to break the rules: PDUs (PS3.8 section 9.3) and messages (PS3.7).

Independent of the program's own encoder and of pynetdicom's state machine: each half can be bent.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as decode_dataset
from pynetdicom.dsutils import encode as encode_dataset

from tests.support.waiting import PATIENCE

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION = "1.2.826.0.1.3680043.8.498.7"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

STORE, GET, FIND, MOVE, ECHO, EVENT, ACTION, CANCEL = 0x01, 0x10, 0x20, 0x21, 0x30, 0x100, 0x130, 0xFFF
RESPONSE = 0x8000
NO_DATA = 0x0101


class Ended(Exception):  # noqa: N818 - the way out of a conversation, good or bad
    """The conversation is over."""


@dataclass(frozen=True)
class Offer:
    """A presentation context as it is proposed; `scp` asks for the role of an SCP (PS3.7 Annex D.3.3.4)."""

    abstract: str
    syntaxes: tuple[str, ...] = (EXPLICIT, IMPLICIT)
    scp: bool = False


@dataclass
class Handshake:
    """What an A-ASSOCIATE-RQ or -AC says.

    Attributes
    ----------
    contexts : dict[int, tuple[int, str, tuple[str, ...]]]
        By identifier: result (AC), abstract syntax (RQ), transfer syntaxes.
    roles : dict[str, tuple[int, int]]
        SCU and SCP role by SOP class.
    """

    called: str = "ANY"
    calling: str = "PEER"
    contexts: dict[int, tuple[int, str, tuple[str, ...]]] = field(default_factory=dict)
    max_pdu: int = 16384
    roles: dict[str, tuple[int, int]] = field(default_factory=dict)

    def encode(self, kind: int) -> bytes:
        body = struct.pack(">HH16s16s32x", 1, 0, self.called.ljust(16).encode(), self.calling.ljust(16).encode())
        body += _item(0x10, APPLICATION_CONTEXT.encode())
        for number, (result, abstract, syntaxes) in self.contexts.items():
            inner = b"" if kind == AC else _item(0x30, abstract.encode())
            inner += b"".join(_item(0x40, syntax.encode()) for syntax in syntaxes)
            body += _item(0x20 if kind == RQ else 0x21, struct.pack("BBBB", number, 0, result, 0) + inner)
        user = _item(0x51, struct.pack(">I", self.max_pdu)) + _item(0x52, IMPLEMENTATION.encode())
        for uid, (scu, scp) in self.roles.items():
            user += _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((scu, scp)))
        return pdu(kind, body + _item(0x50, user))

    @classmethod
    def decode(cls, body: bytes) -> Handshake:
        made = cls(body[4:20].decode("latin-1").strip(), body[20:36].decode("latin-1").strip())
        for kind, content in _items(body[68:]):
            if kind in (0x20, 0x21):
                inner = [(k, c.decode("ascii").rstrip("\0 ")) for k, c in _items(content[4:])]
                abstract = next((c for k, c in inner if k == 0x30), "")
                made.contexts[content[0]] = (content[2], abstract, tuple(c for k, c in inner if k == 0x40))
            elif kind == 0x50:
                for inner_kind, value in _items(content):
                    if inner_kind == 0x51:
                        (made.max_pdu,) = struct.unpack(">I", value)
                    elif inner_kind == 0x54:
                        made.roles[value[2:-2].decode("ascii")] = (value[-2], value[-1])
        return made


def pdu(kind: int, body: bytes, *, length: int | None = None) -> bytes:
    """A PDU; `length` tells a lie about it."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length) + body


def rejection(result: int, source: int, reason: int) -> bytes:
    return pdu(RJ, bytes((0, result, source, reason)))


def abort(source: int = 0, reason: int = 0) -> bytes:
    return pdu(ABORT, bytes((0, 0, source, reason)))


def pdv(context: int, control: int, data: bytes) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def command_bytes(command: Dataset) -> bytes:
    """The command set, in Implicit VR Little Endian, with its group length (PS3.7 section 6.3.1)."""
    encoded = encode_dataset(command, True, True) or b""
    return struct.pack("<HHII", 0, 0, 4, len(encoded)) + encoded


def message(context: int, command: Dataset, data: bytes | None = None, *, max_pdu: int = 16384) -> Iterator[bytes]:
    """The P-DATA-TF PDUs of a message; `max_pdu` is what the other side takes, 0 for any."""
    room = (max_pdu or 1 << 20) - 6
    parts = [(1, command_bytes(command))]
    if data is not None:
        parts.append((0, data))
    for control, content in parts:
        for start in range(0, max(len(content), 1), room):
            last = start + room >= len(content)
            yield pdu(P_DATA, pdv(context, control | (2 if last else 0), content[start : start + room]))


def command_set(command_field: int, *, has_data: bool = False, **values: object) -> Dataset:
    """A command set; a value of None leaves the element out."""
    command = Dataset()
    command.CommandField = command_field
    command.CommandDataSetType = 1 if has_data else NO_DATA
    for keyword, value in values.items():
        if value is not None:
            setattr(command, keyword, value)
    return command


def encode(dataset: Dataset, syntax: str) -> bytes:
    encoded = encode_dataset(dataset, syntax == IMPLICIT, True)
    assert encoded is not None
    return encoded


def decode(data: bytes, syntax: str) -> Dataset:
    return decode_dataset(BytesIO(data), syntax == IMPLICIT, True)


@dataclass
class Message:
    """A message that came.

    Attributes
    ----------
    data : bytes or bytearray
        The encoded data set; what has come of it so far where a fault strikes in the middle.
    """

    context: int
    command: Dataset
    data: bytes | bytearray = b""

    @property
    def field(self) -> int:
        return int(self.command.CommandField)

    @property
    def has_data(self) -> bool:
        return bool(self.command.CommandDataSetType != NO_DATA)


class Line:
    """One end of a connection that speaks PDUs."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.max_pdu = 16384  # what the other side takes
        self.longest = 0  # of the P-DATA-TF PDUs that came: bytes behind their heads
        self.contexts: dict[int, tuple[str, str]] = {}  # accepted: abstract and transfer syntax
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # --- bytes

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Ended(str(error)) from error

    def read(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            try:
                piece = self.sock.recv(min(count - len(got), 1 << 16))
            except OSError as error:
                raise Ended(str(error)) from error
            if not piece:
                raise Ended("closed")
            got += piece
        return bytes(got)

    def pdu(self) -> tuple[int, bytes]:
        """Type and content of the next PDU."""
        kind, _, length = struct.unpack(">BBI", self.read(6))
        if kind == P_DATA:
            self.longest = max(self.longest, length)
        return kind, self.read(length)

    def wait_closed(self) -> None:
        """Read and forget until the other side (or this peer's end) closes."""
        with contextlib.suppress(Ended):
            while True:
                self.read(1)

    def reset(self) -> None:
        """Close with RST."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.sock.close()

    # --- messages

    def say(self, context: int, command: Dataset, data: bytes | None = None) -> None:
        for piece in message(context, command, data, max_pdu=self.max_pdu):
            self.send(piece)

    def hear(self, watch: Callable[[Message], None] | None = None) -> Message:
        """The next message. `watch` sees it as it grows, from the end of its command set on.

        Raises
        ------
        Ended
            Released (this is answered), aborted or cut.
        """
        command, data, found = bytearray(), bytearray(), None
        while True:
            kind, body = self.pdu()
            if kind == RELEASE_RQ:
                self.send(pdu(RELEASE_RP, bytes(4)))
                raise Ended("released")
            if kind != P_DATA:
                raise Ended(f"PDU of type {kind}")
            for context, control, content in _pdvs(body):
                (command if control & 1 else data).extend(content)
                if control == 3:
                    found = Message(context, decode(bytes(command), IMPLICIT), data)
                if found is None:
                    continue
                if watch is not None and found.has_data:
                    watch(found)
                if control == 2 or (control == 3 and not found.has_data):
                    return found

    def syntax(self, context: int) -> str:
        return self.contexts[context][1]

    def context_for(self, abstract: str, syntaxes: Sequence[str] = ()) -> int | None:
        for number, (name, syntax) in self.contexts.items():
            if name == abstract and (not syntaxes or syntax in syntaxes):
                return number
        return None

    # --- as the one who calls

    def request(self, called: str, calling: str, offers: Iterable[Offer], *, max_pdu: int = 16384) -> tuple[int, bytes]:
        """Ask for an association; the type and content of the answer."""
        asked = Handshake(called, calling, max_pdu=max_pdu)
        for number, offer in enumerate(offers):
            asked.contexts[2 * number + 1] = (0, offer.abstract, offer.syntaxes)
            if offer.scp:
                asked.roles[offer.abstract] = (0, 1)
        self.send(asked.encode(RQ))
        kind, body = self.pdu()
        if kind == AC:
            answer = Handshake.decode(body)
            self.max_pdu = answer.max_pdu
            for number, (result, _, syntaxes) in answer.contexts.items():
                if result == 0:
                    self.contexts[number] = (asked.contexts[number][1], syntaxes[0])
        return kind, body

    def release(self) -> None:
        with contextlib.suppress(Ended):
            self.send(pdu(RELEASE_RQ, bytes(4)))
            self.pdu()
        self.close()


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(body):
        kind, _, length = struct.unpack_from(">BBH", body, at)
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def _pdvs(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(body):
        length, context, control = struct.unpack_from(">IBB", body, at)
        yield context, control, body[at + 6 : at + 4 + length]
        at += 4 + length
