"""Whether a data set on the disk goes on to its end, or breaks off in the middle: looked at without its values."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DEPTH = 64
_CHUNK = 1 << 18


class _BrokenOffError(Exception):
    pass


def is_whole(file: BinaryIO, offset: int, size: int, transfer_syntax: str) -> bool:
    """Whether the elements of a data set (PS3.5 section 7) end exactly where the file ends.

    Parameters
    ----------
    file : BinaryIO
    offset, size : int
        Where the data set begins, and how long the file is, in bytes.
    """
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        return _is_inflatable(file, offset)
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    walk = _Walk(file, size, order)
    try:
        return walk.elements(offset, transfer_syntax != ImplicitVRLittleEndian, 0) == size
    except _BrokenOffError:
        return False


def _is_inflatable(file: BinaryIO, offset: int) -> bool:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    file.seek(offset)
    try:
        while not inflate.eof and (chunk := file.read(_CHUNK)):
            while chunk and not inflate.eof:
                inflate.decompress(chunk, _CHUNK)
                chunk = inflate.unconsumed_tail
    except zlib.error:
        return False
    return inflate.eof


class _Walk:
    def __init__(self, file: BinaryIO, size: int, order: str) -> None:
        self._file = file
        self._size = size
        self._tag = struct.Struct(order + "HH")
        self._long = struct.Struct(order + "I")
        self._short = struct.Struct(order + "H")

    def elements(self, at: int, explicit: bool, depth: int) -> int:
        """Where the elements end that begin `at`: with the file at the top, with an item's end inside of one."""
        if depth > _DEPTH:
            raise _BrokenOffError
        while at < self._size or depth:
            head = self._read(at, 8)
            group, element = self._tag.unpack_from(head)
            tag = group << 16 | element
            if depth and tag == _ITEM_END:
                return at + 8
            kind = head[4:6] if explicit else b""
            if kind in _LONG_VRS:
                start, (length,) = at + 12, self._long.unpack(self._read(at + 8, 4))
            elif explicit:
                start, (length,) = at + 8, self._short.unpack_from(head, 6)
            else:
                start, (length,) = at + 8, self._long.unpack_from(head, 4)
            at = self._items(start, explicit and kind != b"UN", depth) if length == _UNDEFINED else start + length
            if at > self._size:
                raise _BrokenOffError
        return at

    def _items(self, at: int, explicit: bool, depth: int) -> int:
        """Where a sequence, or pixels in fragments, of undefined length end."""
        while True:
            head = self._read(at, 8)
            group, element = self._tag.unpack_from(head)
            (length,) = self._long.unpack_from(head, 4)
            tag = group << 16 | element
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise _BrokenOffError
            at = self.elements(at, explicit, depth + 1) if length == _UNDEFINED else at + length

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        found = self._file.read(count)
        if len(found) < count:
            raise _BrokenOffError
        return found
