"""The head of a DICOM file that is to be sent: what it says of itself, and where its data set begins (PS3.10 7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from core.wire.dimse.fragments import ByteStream

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"

_FIRST = 4096  # bytes looked at; a usual head has 132 and some 200
_LONGEST = 1 << 18
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))


class NotAFileError(ValueError):
    """The bytes are no DICOM file; the text says why."""


@dataclass(frozen=True, slots=True)
class FileHead:
    """What stands before the data set.

    Attributes
    ----------
    sop_class, sop_uid : str
        Media Storage SOP Class and Instance UID (0002,0002) and (0002,0003); empty where it has none.
    transfer_syntax : str
        (0002,0010); for a file without meta information, what the data set looks like.
    data_set : bytes | memoryview | ByteStream
        All that follows it.
    """

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    data_set: bytes | memoryview | ByteStream


def split_head(body: bytes | memoryview | ByteStream) -> FileHead:
    """Read the head of a file, and give what follows as it is, whole or to be read on.

    Raises
    ------
    NotAFileError
    TransportError, LocalError
        Those of the stream.
    """
    if isinstance(body, (bytes, memoryview)):
        whole = memoryview(body)
        start, values = _meta(bytes(whole[:_FIRST]), len(whole) <= _FIRST)
        if start < 0:
            start, values = _meta(bytes(whole[:_LONGEST]), True)
        return _head(values, whole[start : start + 16], whole[start:])
    read = bytearray()
    for most in (_FIRST, _LONGEST):
        ended = _fill(read, body, most)
        start, values = _meta(bytes(read), ended or most == _LONGEST)
        if start >= 0:
            break
    left = None if body.length is None else body.length - start
    return _head(values, read[start : start + 16], _Rest(memoryview(bytes(read[start:])), body, left))


class _Rest:
    """What was read too far, and then the stream itself."""

    def __init__(self, first: memoryview, stream: ByteStream, length: int | None) -> None:
        self._first = first
        self._stream = stream
        self._length = length

    @property
    def length(self) -> int | None:
        return self._length

    def readinto(self, view: memoryview, /) -> int:
        if not self._first:
            return self._stream.readinto(view)
        count = min(len(self._first), len(view))
        view[:count] = self._first[:count]
        self._first = self._first[count:]
        return count


def _head(values: dict[int, bytes], start: bytes | bytearray | memoryview, data_set: memoryview | _Rest) -> FileHead:
    if not start:
        raise NotAFileError("it has no data set")
    return FileHead(_uid(values, 0x0002), _uid(values, 0x0003), _uid(values, 0x0010) or _look(bytes(start)), data_set)


def _fill(read: bytearray, stream: ByteStream, most: int) -> bool:
    """Read on until there are `most` bytes; True at the end of the stream."""
    piece = memoryview(bytearray(most - len(read)))
    while piece:
        count = stream.readinto(piece)
        if not count:
            return True
        read += piece[:count]
        piece = piece[count:]
    return False


def _meta(head: bytes, whole: bool) -> tuple[int, dict[int, bytes]]:
    """Where the data set begins, and the elements of group 0002; -1 where more bytes are needed to tell."""
    at = 132 if head[128:132] == b"DICM" else 0
    values: dict[int, bytes] = {}
    while True:
        if at + 2 > len(head):
            if whole and at == len(head):
                return at, values
            return _need_more(whole)
        if head[at : at + 2] != b"\x02\x00":
            return at, values
        if at + 12 > len(head):
            return _need_more(whole)
        element, vr, short = struct.unpack_from("<H2sH", head, at + 2)
        start, length = at + 8, short
        if vr in _LONG_VRS:
            start, length = at + 12, struct.unpack_from("<I", head, at + 8)[0]
        elif not (vr.isalpha() and vr.isupper()):
            raise NotAFileError("its file meta information can't be read")
        at = start + length
        if at > _LONGEST:
            raise NotAFileError("its file meta information is absurdly long")
        if at > len(head):
            return _need_more(whole)
        values[element] = head[start:at]


def _need_more(whole: bool) -> tuple[int, dict[int, bytes]]:
    if whole:
        raise NotAFileError("it ends within its file meta information")
    return -1, {}


def _uid(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").decode("latin-1").strip("\0 ")


def _look(start: bytes) -> str:
    """Explicit or implicit VR, of a data set that nothing is said of: it starts with group 0008 in all files."""
    if len(start) < 8 or start[:2] != b"\x08\x00":
        raise NotAFileError("it has no file meta information, and is no data set")
    return EXPLICIT if start[4:6].isalpha() and start[4:6].isupper() else IMPLICIT
