"""The identifiers of our answers as bytes (PS3.5 section 7), in a character set that the asker can read."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import ImplicitVRLittleEndian

UNICODE = "ISO_IR 192"

_TEXT_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_NUMBERS = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i"}
_LONG_VRS = frozenset(("UC", "UR", "UT"))
_LONGEST = 65534


def encode_answer(values: Mapping[str, str], transfer_syntax: str, asked_in: str = "") -> bytes:
    """One answer.

    Parameters
    ----------
    values : Mapping[str, str]
        Keyword → text; several values are separated by backslashes.
    transfer_syntax : str
        Implicit or Explicit VR Little Endian.
    asked_in : str
        Specific Character Set (0008,0005) of the request: used for the answer as well where it can hold all of
        it, else Unicode is.
    """
    explicit = transfer_syntax != ImplicitVRLittleEndian
    character_set, encoding = _character_set(values, asked_in)
    elements = {tag: part for keyword, text in values.items() for tag, part in _element(keyword, text, encoding)}
    if character_set:
        elements |= dict(_element("SpecificCharacterSet", character_set, "ascii"))
    return b"".join(_encoded(tag, *elements[tag], explicit=explicit) for tag in sorted(elements))


def _character_set(values: Mapping[str, str], asked_in: str) -> tuple[str, str]:
    """Defined term, empty where ASCII does, and Python's name of the encoding."""
    whole = "".join(values.values())
    if whole.isascii():
        return "", "ascii"
    term = asked_in.strip()
    encoding = python_encoding.get(term, "") if term.startswith("ISO_IR ") or term in ("GB18030", "GBK") else ""
    if encoding and term not in ("ISO_IR 6", UNICODE):
        try:
            whole.encode(encoding)
        except UnicodeError:
            pass
        else:
            return term, encoding
    return UNICODE, "utf-8"


@lru_cache(maxsize=1024)
def _known(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no keyword")
    return tag, dictionary_VR(tag).split(" ")[0]


def _element(keyword: str, text: str, encoding: str) -> list[tuple[int, tuple[str, bytes]]]:
    tag, vr = _known(keyword)
    if vr in _NUMBERS:
        return [(tag, (vr, _numbers(text, _NUMBERS[vr])))]
    value = text.encode(encoding if vr in _TEXT_VRS else "ascii", "replace")
    if len(value) > _LONGEST and vr not in _LONG_VRS:
        value = b""  # as it came it would not fit into an answer of this kind
    return [(tag, (vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)))]


def _numbers(text: str, code: str) -> bytes:
    try:
        return b"".join(struct.pack(code, int(part)) for part in text.split("\\") if part)
    except (ValueError, struct.error):
        return b""


def _encoded(tag: int, vr: str, value: bytes, *, explicit: bool) -> bytes:
    group, element = tag >> 16, tag & 0xFFFF
    if not explicit:
        return struct.pack("<HHI", group, element, len(value)) + value
    if vr in _LONG_VRS:
        return struct.pack("<HH2s2xI", group, element, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value
