"""Command sets: group 0000 in Implicit VR Little Endian (PS3.7 section 6.3 and Annex E): written, and read."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import Tag

NO_DATA_SET: Final = 0x0101  # of Command Data Set Type (0000,0800); any other value announces a data set
_ELEMENT = struct.Struct("<HHL")
_NUMBERS = {"US": "H", "UL": "L", "SS": "h", "SL": "l"}


class CommandSet(dict[str, Any]):
    """A command set that came: values by keyword, which are attributes too ("MessageID").

    Numbers are integers, an empty one None; texts and UIDs come without their padding; several values are a list.
    A `Dataset` of pydicom takes ten times as long to build and to ask, and an association waits for it.
    """

    def __getattr__(self, keyword: str) -> Any:
        try:
            return self[keyword]
        except KeyError:
            raise AttributeError(f"The command set has no {keyword}.") from None


class MalformedCommand(ValueError):  # noqa: N818 - never leaves core.wire.dimse
    """Bytes that are no command set; the text says why."""


def encode_command(command: Dataset) -> bytes:
    """A command set with its group length; elements of other groups don't belong here and raise `ValueError`."""
    parts = []
    for element in command:
        if element.tag.group != 0:
            raise ValueError(f"{element.tag} is no element of a command set")
        if element.tag.element != 0:
            value = _encoded(element.VR, element.value)
            parts.append(_ELEMENT.pack(0, element.tag.element, len(value)) + value)
    return with_group_length(b"".join(parts))


def with_group_length(elements: bytes) -> bytes:
    """Encoded elements preceded by (0000,0000)."""
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def text_element(element: int, value: str, *, pad: bytes = b"\0") -> bytes:
    """Element (0000,`element`) of a UID, or of text with a space as `pad`."""
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += pad
    return _ELEMENT.pack(0, element, len(encoded)) + encoded


def number_element(element: int, value: int) -> bytes:
    """Element (0000,`element`) of VR US."""
    return struct.pack("<HHLH", 0, element, 2, value)


def _encoded(vr: str, value: Any) -> bytes:
    values = [] if value is None else list(value) if _is_many(value) else [value]
    if vr == "AT":
        tags = [int(tag) for tag in values]
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
    if vr in _NUMBERS:
        return struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *(int(number) for number in values))
    encoded = "\\".join(str(text) for text in values).encode("ascii", "replace")
    return encoded + (b"" if len(encoded) % 2 == 0 else b"\0" if vr == "UI" else b" ")


def _is_many(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def elements_of(encoded: bytes) -> dict[int, bytes]:
    """Values of a command set by element number, not decoded.

    Raises
    ------
    MalformedCommand
    """
    found: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    while position < end:
        if end - position < _ELEMENT.size:
            raise MalformedCommand("its last element is cut off")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group != 0:
            raise MalformedCommand(f"it has an element of group {group:04X}")
        if length > end - position:
            raise MalformedCommand(f"element (0000,{element:04X}) is longer than the whole")
        if element in found:
            raise MalformedCommand(f"element (0000,{element:04X}) comes twice")
        found[element] = encoded[position : position + length]
        position += length
    return found


def number(elements: dict[int, bytes], element: int) -> int | None:
    """The one value of a US element; None where it is missing or empty.

    Raises
    ------
    MalformedCommand
        It has another size.
    """
    value = elements.get(element)
    if not value:
        return None
    if len(value) != 2:
        raise MalformedCommand(f"element (0000,{element:04X}) is no number of two bytes")
    return int.from_bytes(value, "little")


def text(elements: dict[int, bytes], element: int) -> str:
    """A UID or text without its padding; empty where it is missing."""
    return elements.get(element, b"").decode("ascii", "replace").strip("\0 ")


def decoded(elements: dict[int, bytes]) -> CommandSet:
    """The values of `elements_of` by keyword; elements that the standard doesn't know are left out.

    An empty element is there with the value None or "".

    Raises
    ------
    MalformedCommand
    """
    command = CommandSet()
    for element, value in elements.items():
        keyword, vr = _entry(element)
        if keyword:
            command[keyword] = _decoded(element, vr, value)
    return command


@functools.lru_cache(256)
def _entry(element: int) -> tuple[str, str]:
    """Keyword and VR of an element of group 0000."""
    try:
        return keyword_for_tag(element), dictionary_VR(element)
    except KeyError:
        return "", "UN"


def _decoded(element: int, vr: str, value: bytes) -> object:
    if vr == "US" and len(value) == 2:
        return value[0] | value[1] << 8
    if vr in _NUMBERS or vr == "AT":
        code = "HH" if vr == "AT" else _NUMBERS[vr]
        size = struct.calcsize("<" + code)
        if len(value) % size:
            raise MalformedCommand(f"element (0000,{element:04X}) has a size that its type can't have")
        numbers: list[int] = [
            row[0] if len(row) == 1 else Tag(row[0], row[1]) for row in struct.iter_unpack("<" + code, value)
        ]
        return None if not numbers else numbers[0] if len(numbers) == 1 else numbers
    return value.decode("ascii", "replace").strip("\0 ")
