"""Identifiers of C-FIND (PS3.4 C.2.2): keys to bytes, and answers to texts, whatever character set they claim."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.valuerep import PersonName

from core.model.quietly import caught, quietly

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

_CHARACTER_SET = 0x00080005
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_TEXT_VRS = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))
_SINGLE_TEXT = frozenset(("ST", "LT", "UT", "UR"))
_PLAIN_VRS = frozenset(("UI", "CS", "DA", "TM", "DT", "IS", "DS", "AE", "AS", "UR"))
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}
_DELIMITERS = {0x5C, 0x5E, 0x3D, 0x0D, 0x0A, 0x09, 0x0C}
_LATIN = frozenset(("", "ISO_IR 6", "ISO_IR 100", "ISO 2022 IR 6", "ISO 2022 IR 100"))
_DEEPEST = 16


class MalformedIdentifierError(ValueError):
    """The bytes are no data set; the text says why, without their content."""


def encode(keys: Mapping[str, str], transfer_syntax: str, character_set: str = "") -> bytes:
    """The identifier of a request.

    Parameters
    ----------
    keys : Mapping[str, str]
        Keyword → what is asked for; empty where it is only wanted back. Lists of UIDs with backslashes.
    transfer_syntax : str
        Implicit or Explicit VR Little Endian.
    character_set : str
        Specific Character Set (0008,0005) of `keys`; Unicode is taken where a value can't be written in it. It is
        named even where all is ASCII: many servers answer in the character set that they were asked in.
    """
    elements = dict(keys)
    encodings: tuple[str, ...] = ()
    if character_set or not all(value.isascii() for value in keys.values()):
        elements["SpecificCharacterSet"], encodings = _writable(keys, character_set)
    tagged = sorted((_tag(keyword), value) for keyword, value in elements.items())
    return b"".join(_element(tag, value, encodings, explicit=transfer_syntax != IMPLICIT) for tag, value in tagged)


def decode(data: bytes, transfer_syntax: str, character_set: str = "") -> dict[str, str]:
    """The elements of an answer as texts.

    Parameters
    ----------
    data : bytes
    transfer_syntax : str
        Implicit or Explicit VR Little Endian.
    character_set : str
        What the texts are in where the answer names no character set, or one that they are not in.

    Raises
    ------
    MalformedIdentifierError
    """
    values: dict[str, tuple[str, bytes]] = {}
    named = ""
    for tag, value in _elements(data, explicit=transfer_syntax != IMPLICIT):
        if tag == _CHARACTER_SET:
            named = value.decode("latin-1").strip("\0 ")
        keyword, vr = _known(tag)
        if keyword:
            values[keyword] = vr, value
    return {keyword: _text(vr, value, named, character_set) for keyword, (vr, value) in values.items()}


def write_data_set(data_set: Dataset, transfer_syntax: str) -> bytes:
    """A data set without pixels in Implicit or Explicit VR Little Endian."""
    with quietly():
        buffer = DicomBytesIO()
        buffer.is_little_endian = True
        buffer.is_implicit_VR = transfer_syntax == IMPLICIT
        write_dataset(buffer, data_set)
        return buffer.getvalue()


# --- bytes ---


@lru_cache(maxsize=256)
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword")
    return int(tag)


def _element(tag: int, value: str, encodings: tuple[str, ...], *, explicit: bool) -> bytes:
    vr = _known(tag)[1]
    if value.isascii() or vr not in _TEXT_VRS:
        encoded = value.encode("ascii", "replace")
    elif vr == "PN":
        encoded = PersonName(value).encode(encodings)
    else:
        encoded = encode_string(value, encodings)
    if len(encoded) % 2:
        encoded += b"\0" if vr == "UI" else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if explicit and vr.encode() not in _LONG_VRS:
        if len(encoded) > 0xFFFF:
            raise ValueError("too much is asked for at once")
        return head + vr.encode() + struct.pack("<H", len(encoded)) + encoded
    return head + (vr.encode() + b"\0\0" if explicit else b"") + struct.pack("<I", len(encoded)) + encoded


def _elements(data: bytes, *, explicit: bool) -> Iterator[tuple[int, bytes]]:
    """Tags and values of the elements that have a length; sequences of undefined length are passed over."""
    at, end = 0, len(data)
    while at < end:
        tag, length, start = _head(data, at, explicit)
        if length == _UNDEFINED:
            at = _after_items(data, start, explicit, 0)
            continue
        at = start + length
        if at > end:
            raise MalformedIdentifierError("an element is longer than the data set")
        yield tag, data[start:at]


def _head(data: bytes, at: int, explicit: bool) -> tuple[int, int, int]:
    """Tag, length and where the value starts."""
    try:
        group, element, length = struct.unpack_from("<HHI", data, at)
        tag = group << 16 | element
        if not explicit or group == 0xFFFE:
            return tag, length, at + 8
        vr = data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            return tag, struct.unpack_from("<I", data, at + 8)[0], at + 12
        return tag, length >> 16, at + 8
    except struct.error:
        raise MalformedIdentifierError("it ends in the middle of an element") from None


def _after_items(data: bytes, at: int, explicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends (PS3.5 7.5)."""
    if depth > _DEEPEST:
        raise MalformedIdentifierError("sequences are nested too deeply")
    while True:
        tag, length, at = _head(data, at, explicit)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise MalformedIdentifierError("a sequence has something else than items")
        at = _after_item(data, at, explicit, depth) if length == _UNDEFINED else at + length


def _after_item(data: bytes, at: int, explicit: bool, depth: int) -> int:
    while True:
        tag, length, at = _head(data, at, explicit)
        if tag == _ITEM_END:
            return at
        at = _after_items(data, at, explicit, depth + 1) if length == _UNDEFINED else at + length


# --- texts ---


@lru_cache(maxsize=4096)
def _known(tag: int) -> tuple[str, str]:
    """Keyword and VR by the dictionary; empty for private elements and those that are no text."""
    keyword = keyword_for_tag(tag)
    return (keyword, dictionary_VR(tag).split(" ")[0]) if keyword else ("", "")


def _text(vr: str, value: bytes, named: str, fallback: str) -> str:
    if vr in _NUMBERS:
        size = struct.calcsize(_NUMBERS[vr])
        numbers = struct.unpack(f"<{len(value) // size}{_NUMBERS[vr]}", value[: len(value) // size * size])
        return "\\".join(map(str, numbers))
    if vr in _TEXT_VRS and not (value.isascii() and b"\x1b" not in value):
        text = decoded(value, named, fallback)
    elif vr in _TEXT_VRS or vr in _PLAIN_VRS:
        text = value.decode("latin-1")
    else:
        return ""
    if vr in _SINGLE_TEXT:
        return text.rstrip("\0 ")
    return "\\".join(part.strip("\0 ") for part in text.split("\\")) if "\\" in text else text.strip("\0 ")


def decoded(value: bytes, named: str, fallback: str = "") -> str:
    """A text with characters beyond ASCII, by the character set that was named for it, or one that fits better.

    Latin 1 takes any bytes, and is what many servers name whatever they send: what reads as Unicode is Unicode.
    """
    if named.partition("\\")[0] in _LATIN and b"\x1b" not in value:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    for character_set in (named, fallback):
        if character_set:
            found = _strictly(value, character_set)
            if found is not None:
                return found
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _strictly(value: bytes, character_set: str) -> str | None:
    """None where the bytes are not in that character set, or it is not known."""
    encodings = _encodings(character_set)
    try:
        if b"\x1b" not in value:
            return value.decode(encodings[0]) if encodings else None
        with caught() as complaints:
            found = decode_bytes(value, encodings, _DELIMITERS)
        return None if complaints else found
    except (UnicodeError, LookupError):
        return None


@lru_cache(maxsize=64)
def _encodings(character_set: str) -> tuple[str, ...]:
    """Python's names of the encodings; empty where the defined term is none."""
    try:
        with caught() as complaints:
            found = tuple(convert_encodings([term.strip() for term in character_set.split("\\")]))
        return () if complaints else found
    except (LookupError, ValueError):  # also for a name with a zero in it
        return ()


def _writable(keys: Mapping[str, str], character_set: str) -> tuple[str, tuple[str, ...]]:
    """The character set for a request: the one wanted where all values can be written in it, else Unicode."""
    if character_set.startswith("ISO 2022"):
        character_set = "\\" + character_set  # the first one is for what has no escape sequence before it
    encodings = _encodings(character_set) if character_set else ()
    for value in keys.values():
        if not any(_can_write(value, encoding) for encoding in encodings):
            return "ISO_IR 192", ("utf8",)
    return character_set, encodings


def _can_write(value: str, encoding: str) -> bool:
    try:
        value.encode(encoding)
    except UnicodeError:
        return False
    return True
