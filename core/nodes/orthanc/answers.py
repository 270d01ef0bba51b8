"""Reading Orthanc's answers: JSON of an expected shape, and its own error body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from core.nodes.orthanc.identifiers import IdentifierList

JsonObject = dict[str, Any]

UNKNOWN_RESOURCE = 17
_ITEM_MISSING = 7
_NO_ROOM = {14, 19}  # CannotWriteFile, FullStorage
_BAD_FILE = 15
_FILE_MISSING = {13, 20, 2006}  # InexistentFile, CorruptedFile, RegularFileExpected
_DATABASE = {11, 33, 39}  # Database, DatabaseUnavailable, DatabaseCannotSerialize
_READ_ONLY = 22


class UnexpectedShapeError(ValueError):
    """The answer is JSON, but not what Orthanc answers there."""


def text(item: JsonObject, key: str) -> str:
    """A string value, stripped of padding; empty where there is none."""
    value = item.get(key)
    return value.strip(" \0") if isinstance(value, str) else ""


def number(item: JsonObject, key: str) -> int | None:
    """A whole number, which Orthanc gives as number or as string; None where there is none."""
    value = item.get(key)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    return None


def tags_of(item: JsonObject, key: str) -> dict[str, str]:
    """The string values of a ``MainDicomTags``, ``RequestedTags`` or ``Metadata`` object."""
    value = item.get(key)
    if not isinstance(value, dict):
        return {}
    return {k: v.strip(" \0") for k, v in value.items() if isinstance(v, str)}


def identifier(item: JsonObject) -> str:
    """The ``ID`` of a resource.

    Raises
    ------
    UnexpectedShapeError
    """
    value = item.get("ID")
    if not isinstance(value, str) or not value:
        raise UnexpectedShapeError("a resource without its ID")
    return value


def identifiers(value: object) -> Sequence[str]:
    """A list of Orthanc identifiers.

    Raises
    ------
    UnexpectedShapeError
    """
    if isinstance(value, IdentifierList):
        return value
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UnexpectedShapeError("not a list of identifiers")
    return value


def error_body(body: bytes) -> JsonObject | None:
    """Orthanc's own error body (``HttpStatus``, ``OrthancStatus``, ``Message``, ``Uri``), or None.

    It is left out by Orthanc where it answers 404 in its simplest way (``/studies/{id}``, ``DELETE``) and with
    the option ``HttpDescribeErrors`` off.
    """
    if body.lstrip()[:1] != b"{":
        return None
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if isinstance(found, dict) and "HttpStatus" in found and "OrthancStatus" in found:
        return found
    return None


def code_of(status: int, error: JsonObject | None) -> str | None:
    """The policy's word for an error that Orthanc described itself; None where its HTTP status says as much."""
    if error is None:
        return None
    orthanc = number(error, "OrthancStatus")
    if status == 404 and orthanc in (UNKNOWN_RESOURCE, _ITEM_MISSING):
        return "gone"
    if orthanc in _NO_ROOM:
        return "no-room"
    if orthanc in _FILE_MISSING:
        return "file-missing"
    if orthanc == _BAD_FILE:
        return "bad-dicom"
    if orthanc in _DATABASE:
        return "database"
    if orthanc == _READ_ONLY and status >= 400:
        return "read-only"
    return None
