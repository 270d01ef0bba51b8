"""What a DICOM peer of the tests holds, and which of it matches a query (PS3.4 section C.2.2.2)."""

from __future__ import annotations

import collections
import fnmatch
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from tests.support import dimse_wire as wire

_LEVELS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_COUNTS = {
    "NumberOfStudyRelatedSeries": "SeriesInstanceUID",
    "NumberOfStudyRelatedInstances": "SOPInstanceUID",
    "NumberOfSeriesRelatedInstances": "SOPInstanceUID",
}


@dataclass(frozen=True)
class Held:
    """One image: `data` is its encoded data set without preamble and meta information."""

    sop_class: str
    sop_uid: str
    syntax: str
    data: bytes
    header: Dataset


class Archive:
    """Images by SOP Instance UID; thread-safe.

    Attributes
    ----------
    times : Counter
        How often an image was stored, by SOP Instance UID.
    """

    def __init__(self) -> None:
        self.times: collections.Counter[str] = collections.Counter()
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, sop_uid: str) -> bool:
        return sop_uid in self._held

    @property
    def sop_uids(self) -> set[str]:
        with self._lock:
            return set(self._held)

    def data(self, sop_uid: str) -> bytes:
        return self._held[sop_uid].data

    def add_files(self, files: Iterable[bytes]) -> None:
        """Take DICOM files (PS3.10) in."""
        for file in files:
            whole = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
            (group,) = (int.from_bytes(file[140:144], "little"),)
            self._add(whole.file_meta.TransferSyntaxUID, file[144 + group :], whole)

    def add_header(self, header: Dataset) -> None:
        """Take in something to be found, without pixels and never to be sent."""
        self._add(wire.EXPLICIT, b"", header)

    def keep(self, syntax: str, request: wire.Message) -> None:
        """Take in what a C-STORE request has brought."""
        data = bytes(request.data)
        self._add(syntax, data, _header(data, syntax), str(request.command.AffectedSOPInstanceUID))

    def _add(self, syntax: str, data: bytes, header: Dataset, sop_uid: str = "") -> None:
        uid = sop_uid or str(header.SOPInstanceUID)
        with self._lock:
            self._held[uid] = Held(str(header.SOPClassUID), uid, str(syntax), data, header)
            self.times[uid] += 1

    def lose(self, sop_uids: Iterable[str]) -> None:
        with self._lock:
            for uid in sop_uids:
                self._held.pop(uid, None)

    def images(self, query: Dataset) -> list[Held]:
        """The images that the keys of a query match, whatever its level."""
        with self._lock:
            held = list(self._held.values())
        keys = [e for e in query if e.keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet", *_COUNTS)]
        return [h for h in held if all(_matches(e.keyword, e.value, h.header) for e in keys)]

    def answers(self, query: Dataset) -> Iterator[Dataset]:
        """One identifier for each match of a query at its level."""
        level = query.QueryRetrieveLevel
        groups: dict[str, list[Held]] = {}
        for held in self.images(query):
            groups.setdefault(str(held.header.get(_LEVELS[level], "")), []).append(held)
        for group in groups.values():
            yield _answer(query, group)


def _answer(query: Dataset, group: list[Held]) -> Dataset:
    header = group[0].header
    answer = Dataset()
    answer.QueryRetrieveLevel = query.QueryRetrieveLevel
    if "SpecificCharacterSet" in header:
        answer.SpecificCharacterSet = header.SpecificCharacterSet
    for element in query:
        key = element.keyword
        if key in ("QueryRetrieveLevel", "SpecificCharacterSet"):
            continue
        value: Any
        if key in _COUNTS:
            value = str(len({str(held.header.get(_COUNTS[key])) for held in group}))
        elif key == "ModalitiesInStudy":
            value = sorted({str(held.header.Modality) for held in group})
        else:
            value = header[key].value if key in header else ""
        setattr(answer, key, value)
    return answer


def _matches(keyword: str, wanted: Any, header: Dataset) -> bool:
    if wanted is None or str(wanted) in ("", "*", "[]"):
        return True
    held = str(header.get("Modality" if keyword == "ModalitiesInStudy" else keyword, ""))
    if isinstance(wanted, pydicom.multival.MultiValue | list):
        return held in [str(one) for one in wanted]
    text = str(wanted)
    if keyword.endswith(("Date", "Time")) and "-" in text:
        first, last = text.split("-")
        return (first or "0") <= held <= (last or "9")
    if "*" in text or "?" in text:
        return fnmatch.fnmatchcase(held.upper(), text.upper())
    return held == text


def _header(data: bytes, syntax: str) -> Dataset:
    return pydicom.dcmread(BytesIO(_meta(syntax) + data), stop_before_pixels=True)


def _meta(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value
    length = b"\x02\x00\x00\x00UL\x04\x00" + len(element).to_bytes(4, "little")
    return bytes(128) + b"DICM" + length + element
