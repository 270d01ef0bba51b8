"""DICOM JSON (PS3.18 Annex F) in the program's own words: answers by keyword, as C-FIND's are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.wire.found import Answer

TAGS: Mapping[str, str] = {
    "StudyInstanceUID": "0020000D",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "AccessionNumber": "00080050",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "StudyID": "00200010",
    "StudyDescription": "00081030",
    "ModalitiesInStudy": "00080061",
    "NumberOfStudyRelatedSeries": "00201206",
    "NumberOfStudyRelatedInstances": "00201208",
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
    "SeriesNumber": "00200011",
    "SeriesDescription": "0008103E",
    "NumberOfSeriesRelatedInstances": "00201209",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "InstanceNumber": "00200013",
}
"""What is asked for and read, by keyword."""

_LONGEST = 10_240  # characters of a text (PS3.5 table 6.2-1: LT); more is no name, date or description
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def answer_of(item: Mapping[str, Any], keywords: Iterable[str] = TAGS) -> Answer:
    """Those of the elements that are in an answer; empty texts for those that have no value."""
    found: dict[str, str] = {}
    for keyword in keywords:
        element = item.get(TAGS[keyword])
        if isinstance(element, dict):
            found[keyword] = text_of(element)
    return found


def text_of(element: Mapping[str, Any]) -> str:
    """The values of an element as text, several of them separated by backslashes."""
    values = element.get("Value")
    if not isinstance(values, list):
        return ""
    return "\\".join(_text(value) for value in values)[:_LONGEST]


def sequence_of(item: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    """The items of a sequence; none where there is none."""
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def number_of(item: Mapping[str, Any], tag: str) -> int | None:
    """A whole number, which services write as a number or as a string."""
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    value = values[0] if isinstance(values, list) and values else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().isdigit() and len(value) < 20:
        return int(value)
    return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip(" \0")
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 64 else ""
    if isinstance(value, dict):  # a person's name (PS3.18 F.2.2)
        groups = [str(value.get(group) or "").strip(" \0") for group in _GROUPS]
        return "=".join(groups).rstrip("=")
    return ""
