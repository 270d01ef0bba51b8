"""The least that a C-STORE sender can do: one association, encoded images from memory, no thread, no check.

Nothing that sends over one association can be quicker by much: what it takes is the receiver's time. It shows what
is left to gain on the machine that the bench runs on.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from core.wire.dimse.command import number_element, text_element, with_group_length
from core.wire.dimse.file_meta import FileHead, split_head
from core.wire.dimse.fragments import release_request
from core.wire.dimse.negotiation import Proposed, agreement, context_id, request
from core.wire.dimse.peer import Peer

_HEADER = 6  # bytes of a PDU's type and length
_PDV = 6  # bytes of a fragment's length, context and message control header
_COMMAND, _DATA, _LAST = 1, 0, 2
_STORED = number_element(0x0900, 0)  # Status


def read(folder: Path) -> list[FileHead]:
    """All images of a folder, in memory."""
    return [split_head(memoryview(path.read_bytes())) for path in sorted(folder.rglob("*.dcm"))]


def send(port: int, called_aet: str, calling_aet: str, images: Sequence[FileHead]) -> None:
    """Store them all, one after the other, at an application entity of this computer."""
    proposed = (Proposed(images[0].sop_class, (images[0].transfer_syntax,)),)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.settimeout(None)  # each send is one call then
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request(Peer("", "127.0.0.1", port, called_aet, calling_aet), proposed))
        agreed = agreement(_receive(sock), proposed, "the server")
        for number, image in enumerate(images):
            sock.sendall(b"".join(_message(image, number % 0xFFFF + 1, agreed.max_pdu - _PDV)))
            answer = _receive(sock)
            if _STORED not in answer:
                raise SystemExit(f"it was not stored: {answer.hex()}")
        sock.sendall(release_request())
        _receive(sock)


def _message(image: FileHead, message_id: int, longest: int) -> list[bytes | memoryview]:
    command = with_group_length(
        text_element(0x0002, image.sop_class) + number_element(0x0100, 1) + number_element(0x0110, message_id)
        + number_element(0x0700, 0) + number_element(0x0800, 1) + text_element(0x1000, image.sop_uid)
    )  # fmt: skip
    pieces: list[bytes | memoryview] = [_pdu(command, _COMMAND | _LAST), command]
    data, step = memoryview(image.data_set), longest & ~1
    for at in range(0, len(data), step):
        part = data[at : at + step]
        pieces += [_pdu(part, _LAST if at + step >= len(data) else _DATA), part]
    return pieces


def _pdu(fragment: bytes | memoryview, control: int) -> bytes:
    return struct.pack(">BxLLBB", 4, len(fragment) + _PDV, len(fragment) + 2, context_id(0), control)


def _receive(sock: socket.socket) -> bytes:
    """The next PDU, whole."""
    got = b""
    while len(got) < _HEADER or len(got) < _HEADER + struct.unpack_from(">L", got, 2)[0]:
        if hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        more = sock.recv(65536)
        if not more:
            raise SystemExit("the server closed the connection")
        got += more
    return got
