"""Whether two DICOM files hold the same, apart from when a step changed them and how they are encoded."""

from __future__ import annotations

import hashlib
from typing import Any

from core.engine.changed_file import PIXEL_TAGS, DicomContent, Segments
from core.steps.base import LargeValue

_ENCODING = frozenset(
    {
        0x00280004,  # Photometric Interpretation
        0x00280006,  # Planar Configuration
        0x7FE00001,  # Extended Offset Table
        0x7FE00002,  # Extended Offset Table Lengths
        0x7FE00003,  # Encapsulated Pixel Data Value Total Length
        0xFFFCFFFC,  # Data Set Trailing Padding
        *PIXEL_TAGS,
    }
)
_TIME_OF_CHANGE = 0x04000562  # Attribute Modification DateTime (PS3.3 C.12.1.1.9)


def same_but_for_time(ours: DicomContent, theirs: DicomContent) -> bool:
    """Whether two files are the same but for the time at which a step changed them, and for how they are encoded."""
    left_out = _ENCODING if ours.syntax != theirs.syntax else frozenset({0xFFFCFFFC})
    return _values(ours, left_out) == _values(theirs, left_out)


def _values(content: DicomContent, left_out: frozenset[int]) -> dict[int, object]:
    found: dict[int, object] = {}
    for element in content.dataset:
        tag = int(element.tag)
        if tag in left_out or tag & 0xFFFF == 0:
            continue
        found[tag] = _digest(content, tag) if isinstance(element.value, LargeValue) else _value(element)
    return found


def _digest(content: DicomContent, tag: int) -> bytes:
    _start, value, end = content.large[tag]
    hasher = hashlib.sha256()
    for block in Segments([(content.body, value, end)]).blocks():
        hasher.update(block)
    return hasher.digest()


def _value(element: Any) -> object:
    if element.VR == "SQ":
        return tuple(
            tuple((int(e.tag), _value(e)) for e in item if int(e.tag) != _TIME_OF_CHANGE and int(e.tag) & 0xFFFF)
            for item in element.value or ()
        )
    return "" if element.is_empty else str(element.value)
