"""A data set in another of the little endian encodings without pixels being touched: every value stays as it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

from pydicom.datadict import dictionary_VR

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
PIXEL_DATA = 0x7FE00010

_PIXEL_REPRESENTATION = 0x00280103
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DEEPEST = 64

Pieces = list[bytes | memoryview]


class NotConvertibleError(ValueError):
    """The bytes are no data set that can be written in another way; the text says why."""


def inflated(data: bytes | memoryview, most: int) -> bytes:
    """The data set of the deflated transfer syntax (PS3.5 A.5) in Explicit VR Little Endian, of at most so many bytes.

    Raises
    ------
    NotConvertibleError
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = inflate.decompress(data, most + 1)
    except zlib.error as error:
        raise NotConvertibleError("it can't be inflated") from error
    if len(found) > most:
        raise NotConvertibleError("it is too large to be re-encoded here")
    if not inflate.eof:
        raise NotConvertibleError("it ends in the middle")
    return found


def transcoded(
    data: bytes | memoryview,
    *,
    source: str,
    target: str,
    replace: Mapping[int, tuple[bytes, bytes] | None] | None = None,
) -> Pieces:
    """The same elements with the same values, from one of Implicit and Explicit VR Little Endian to one of them.

    Sequences get undefined lengths; group lengths, which would be wrong now, are left out (PS3.5 7.2).

    Parameters
    ----------
    replace : Mapping[int, tuple[bytes, bytes] | None] | None
        VRs and encoded values to be put in the place of others at the top level, by tag; None leaves an element out.

    Returns
    -------
    Pieces
        Bytes to be sent one after the other; large values are views of `data`.

    Raises
    ------
    NotConvertibleError
    """
    made = _Transcoder(memoryview(data), source != IMPLICIT, target != IMPLICIT, dict(replace or {}))
    try:
        made.elements(0, len(data), 0, None)
    except struct.error:
        raise NotConvertibleError("it ends in the middle of an element") from None
    return made.out


def large_value(data: memoryview, large: int) -> tuple[bytes, int] | None:
    """Header in Explicit VR and length of an element of Implicit VR that begins `data`; None unless it is large.

    Sequences and group lengths are never: they can't be taken over as they are.
    """
    made = _Transcoder(data, False, True, {})
    tag, vr, length, _start = made._head(0)
    if length == _UNDEFINED or length < large or vr == b"SQ" or not tag & 0xFFFF or tag >> 16 == 0xFFFE:
        return None
    return made._header(tag, vr if vr in _LONG_VRS else b"UN", length), length


def next_element(data: memoryview, *, signed: bool) -> tuple[Pieces, int, bool] | None:
    """The element of Implicit VR that begins `data`, in Explicit VR; None where `data` ends before it does.

    Parameters
    ----------
    signed : bool
        Whether the Pixel Representation (0028,0103) before it says that pixels are signed.

    Returns
    -------
    tuple[Pieces, int, bool]
        What to write, how many bytes of `data` that stands for, and `signed` for what follows.

    Raises
    ------
    NotConvertibleError
    """
    made = _Transcoder(data, False, True, {})
    made._signed = signed
    tag, vr, length, start = made._head(0)
    if tag >> 16 == 0xFFFE:
        raise NotConvertibleError("an item stands where there is no sequence")
    if length == _UNDEFINED:
        try:
            after = _Skipper(data, explicit=False).items(start, 0)
        except struct.error:
            return None
    else:
        after = start + length
    if after > len(data):
        return None
    try:
        made._element(tag, vr, length, start, after, 0)
    except struct.error:
        raise NotConvertibleError("it ends in the middle of an element") from None
    return made.out, after, made._signed


class _Transcoder:
    def __init__(
        self, data: memoryview, explicit_in: bool, explicit_out: bool, replace: dict[int, tuple[bytes, bytes] | None]
    ) -> None:
        self.out: Pieces = []
        self._data = data
        self._in = explicit_in
        self._explicit_out = explicit_out
        self._replace = replace
        self._signed = False

    def elements(self, at: int, end: int, depth: int, until: int | None) -> int:
        """Elements up to `end`, or to the delimiter `until`; where they end."""
        if depth > _DEEPEST:
            raise NotConvertibleError("its sequences are nested too deeply")
        while at < end:
            tag, vr, length, start = self._head(at)
            if tag == until:
                return start
            if tag >> 16 == 0xFFFE:
                raise NotConvertibleError("an item stands where there is no sequence")
            at = self._element(tag, vr, length, start, end, depth)
        if until is not None or at > end:
            raise NotConvertibleError("it ends within a sequence")
        return at

    def _element(self, tag: int, vr: bytes, length: int, start: int, end: int, depth: int) -> int:
        if not depth and tag in self._replace:
            after = self._after(start, length, end)
            instead = self._replace[tag]
            if instead is not None:
                self._say(tag, *instead)
            return after
        if vr == b"SQ":
            return self._sequence(tag, start, length, end, depth)
        if length == _UNDEFINED:
            if vr != b"UN":
                raise NotConvertibleError("its pixels are encapsulated")
            after = _Skipper(self._data, explicit=False).items(start, 0)
            self.out += [self._header(tag, vr, _UNDEFINED), self._data[start:after]]
            return after
        after = start + length
        if after > end:
            raise NotConvertibleError("an element is longer than what it is in")
        if tag & 0xFFFF:
            self._say(tag, vr, self._data[start:after])
        if tag == _PIXEL_REPRESENTATION and not depth:
            self._signed = bytes(self._data[start:after])[:1] == b"\x01"
        return after

    def _after(self, start: int, length: int, end: int) -> int:
        if length == _UNDEFINED:
            return _Skipper(self._data, self._in).items(start, 0)
        if start + length > end:
            raise NotConvertibleError("an element is longer than what it is in")
        return start + length

    def _sequence(self, tag: int, start: int, length: int, end: int, depth: int) -> int:
        self.out.append(self._header(tag, b"SQ", _UNDEFINED))
        at, stop = start, end if length == _UNDEFINED else start + length
        if stop > end:
            raise NotConvertibleError("a sequence is longer than what it is in")
        while at < stop:
            group, element, size = struct.unpack_from("<HHI", self._data, at)
            item, at = group << 16 | element, at + 8
            if item == _SEQUENCE_END and length == _UNDEFINED:
                break
            if item != _ITEM:
                raise NotConvertibleError("a sequence has something else than items")
            self.out.append(struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED))
            if size == _UNDEFINED:
                at = self.elements(at, stop, depth + 1, _ITEM_END)
            elif at + size > stop:
                raise NotConvertibleError("an item is longer than its sequence")
            else:
                at = self.elements(at, at + size, depth + 1, None)
            self.out.append(struct.pack("<HHI", 0xFFFE, 0xE00D, 0))
        else:
            if length == _UNDEFINED:
                raise NotConvertibleError("a sequence does not end")
        self.out.append(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
        return at

    def _head(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and where the value starts."""
        group, element, length = struct.unpack_from("<HHI", self._data, at)
        tag = group << 16 | element
        if group == 0xFFFE:
            return tag, b"", length, at + 8
        if not self._in:
            return tag, self._vr(tag, length), length, at + 8
        vr = bytes(self._data[at + 4 : at + 6])
        if vr in _LONG_VRS:
            return tag, vr, struct.unpack_from("<I", self._data, at + 8)[0], at + 12
        return tag, vr, length >> 16, at + 8

    def _vr(self, tag: int, length: int) -> bytes:
        """What an element of an implicit VR is (PS3.5 Annex A.1 where the dictionary leaves a choice)."""
        if length == _UNDEFINED:
            return b"UN" if tag == PIXEL_DATA else b"SQ"
        known = _dictionary(tag)
        if "OW" in known:
            return b"OW"
        if known == "US or SS":
            return b"SS" if self._signed else b"US"
        return known.encode() if len(known) == 2 else b"UN"

    def _say(self, tag: int, vr: bytes, value: bytes | memoryview) -> None:
        if self._explicit_out and vr not in _LONG_VRS and len(value) > 0xFFFF:
            vr = b"UN"  # PS3.5 6.2.2: what is too long for its own
        self.out += [self._header(tag, vr, len(value)), value]

    def _header(self, tag: int, vr: bytes, length: int) -> bytes:
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if not self._explicit_out:
            return head + struct.pack("<I", length)
        if vr in _LONG_VRS:
            return head + vr + b"\0\0" + struct.pack("<I", length)
        return head + vr + struct.pack("<H", length)


class _Skipper:
    """Finds where something of undefined length ends."""

    def __init__(self, data: memoryview, explicit: bool) -> None:
        self._transcoder = _Transcoder(data, explicit, explicit, {})
        self._data = data

    def items(self, at: int, depth: int) -> int:
        if depth > _DEEPEST:
            raise NotConvertibleError("its sequences are nested too deeply")
        while True:
            group, element, size = struct.unpack_from("<HHI", self._data, at)
            tag, at = group << 16 | element, at + 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise NotConvertibleError("a sequence has something else than items")
            at = self._item(at, depth) if size == _UNDEFINED else at + size

    def _item(self, at: int, depth: int) -> int:
        while True:
            tag, _vr, length, at = self._transcoder._head(at)
            if tag == _ITEM_END:
                return at
            at = self.items(at, depth + 1) if length == _UNDEFINED else at + length


@lru_cache(maxsize=8192)
def _dictionary(tag: int) -> str:
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"  # private creators (PS3.5 7.8.1)
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
