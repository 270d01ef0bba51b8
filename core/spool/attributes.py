"""The identifiers and query attributes at the beginning of a data set, read in one pass over its first bytes.

Reading them with a general parser costs more than everything else that is done to a small image, so the elements
are stepped over here (PS3.5 section 7); what isn't found within the first bytes is left to pydicom.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from core.model.errors import LocalError
from core.model.quietly import quietly

STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "PatientComments", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "NameOfPhysiciansReadingStudy", "AdmittingDiagnosesDescription", "InstitutionName",
)  # fmt: skip
"""Kept of the patient and the study (PS3.4 Tables C.6-1 and C.6-2)."""
SERIES = (
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime",
    "BodyPartExamined", "ProtocolName", "Laterality", "Manufacturer", "ManufacturerModelName", "StationName",
    "InstitutionalDepartmentName", "PerformingPhysicianName", "OperatorsName", "FrameOfReferenceUID",
)  # fmt: skip
INSTANCE = (
    "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "ImageType", "ContentDate", "ContentTime", "AcquisitionDate",
    "AcquisitionTime", "AcquisitionNumber", "AcquisitionDateTime", "InstanceCreationDate", "InstanceCreationTime",
    "SliceLocation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel",
    "PhotometricInterpretation",
)  # fmt: skip
HEAD = 1 << 16
"""Bytes of the data set that are kept while it arrives: in real images the identifiers come within some kilobytes."""
LARGEST_HEAD = 64 << 20
LARGEST_INFLATED = 1 << 21
_DEPTH = 32

_CHARSET = 0x00080005
_UID = re.compile(r"[0-9A-Za-z._-]{1,64}\Z")
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_TEXT_VRS = frozenset(("SH", "LO", "ST", "LT", "UC", "UT", "PN"))
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i"}
_PN_DELIMITERS = {0x5C, 0x5E, 0x3D, 0x0D, 0x0A, 0x09, 0x0C}


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


_WANTED: dict[int, tuple[str, str]] = {_tag(k): (k, dictionary_VR(_tag(k))) for k in (*STUDY, *SERIES, *INSTANCE)}
_LAST = max(_WANTED)
_STUDY, _SERIES, _INSTANCE = frozenset(STUDY), frozenset(SERIES), frozenset(INSTANCE)


class UnusableInstanceError(LocalError):
    """What arrived can't be kept as what it claims to be; nothing was stored.

    `code` is "unreadable" (no data set), "uid-missing" or "uid-differs".
    """


@dataclass(frozen=True, slots=True)
class Attributes:
    """The three levels' attributes as text by keyword; several values are separated by a backslash."""

    study: Mapping[str, str]
    series: Mapping[str, str]
    instance: Mapping[str, str]

    @property
    def sop_uid(self) -> str:
        return self.instance.get("SOPInstanceUID", "")

    @property
    def sop_class(self) -> str:
        return self.instance.get("SOPClassUID", "")

    @property
    def series_uid(self) -> str:
        return self.series.get("SeriesInstanceUID", "")

    @property
    def study_uid(self) -> str:
        return self.study.get("StudyInstanceUID", "")


class _EndOfHead(Exception):  # noqa: N818 - no error
    """The walk leads beyond the bytes at hand, or is none for it: pydicom has to look."""


class _NoDataset(Exception):  # noqa: N818
    """These bytes are no data set in this transfer syntax."""


def is_uid(text: str) -> bool:
    """Whether this serves as a UID: a little laxer than PS3.5 section 9, as many writers are."""
    return _UID.match(text) is not None


def read_attributes(
    head: bytes | memoryview, transfer_syntax: str, *, whole: bool, file: BinaryIO, offset: int
) -> Attributes:
    """The attributes of a data set.

    Parameters
    ----------
    head : bytes
        Its first bytes, `HEAD` of them or less.
    transfer_syntax : str
    whole : bool
        `head` is all of it.
    file : BinaryIO
        The file (PS3.10) that holds it, read where the head doesn't reach.
    offset : int
        Where the data set begins in the file.

    Raises
    ------
    UnusableInstanceError
        It isn't a data set in this transfer syntax, or lacks a UID.
    """
    try:
        if transfer_syntax == DeflatedExplicitVRLittleEndian:
            found = _inflated(file, offset)
        else:
            found = _walk(head, transfer_syntax, whole)
    except _EndOfHead:
        found = _with_pydicom(file)
    except _NoDataset as error:
        raise _unreadable(str(error)) from error
    texts = _texts(found, big=transfer_syntax == ExplicitVRBigEndian)
    made = Attributes(
        {k: v for k, v in texts.items() if k in _STUDY},
        {k: v for k, v in texts.items() if k in _SERIES},
        {k: v for k, v in texts.items() if k in _INSTANCE},
    )
    for name, uid in (
        ("SOP Instance UID", made.sop_uid),
        ("SOP Class UID", made.sop_class),
        ("Series Instance UID", made.series_uid),
        ("Study Instance UID", made.study_uid),
    ):
        if not is_uid(uid):
            raise UnusableInstanceError(
                f"An image has no usable {name}.",
                "Nothing was stored; have the device that sent it checked.",
                detail=f"{name} {'is missing' if not uid else 'is not a UID'}",
                code="uid-missing",
            )
    return made


def _unreadable(why: str) -> UnusableInstanceError:
    return UnusableInstanceError(
        "What arrived is not a DICOM data set.",
        "Nothing was stored; have the device that sent it checked.",
        detail=why,
        code="unreadable",
    )


# stepping over elements ---------------------------------------------------------------------------------


def _walk(head: bytes | memoryview, transfer_syntax: str, whole: bool) -> dict[int, bytes]:
    explicit = transfer_syntax != ImplicitVRLittleEndian
    big = transfer_syntax == ExplicitVRBigEndian
    found: dict[int, bytes] = {}
    _Walk(bytes(head), explicit, ">" if big else "<", whole).top(found)
    return found


def _inflated(file: BinaryIO, offset: int) -> dict[int, bytes]:
    """Of a deflated data set (PS3.5 section A.5) the beginning is inflated, as much as any real image needs."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    head = bytearray()
    file.seek(offset)
    try:
        while len(head) < LARGEST_INFLATED and (chunk := file.read(HEAD)):
            head += inflate.decompress(chunk, LARGEST_INFLATED - len(head))
    except zlib.error as error:
        raise _NoDataset("it can't be inflated") from error
    found: dict[int, bytes] = {}
    try:
        _Walk(bytes(head), True, "<", inflate.eof).top(found)
    except _EndOfHead:
        raise _NoDataset("its identifiers can't be found at its beginning") from None
    return found


class _Walk:
    """One pass over encoded elements."""

    def __init__(self, data: bytes, explicit: bool, order: str, whole: bool) -> None:
        self._data = data
        self._end = len(data)
        self._whole = whole
        self._explicit = explicit
        self._tag = struct.Struct(order + "HH").unpack_from
        self._two = struct.Struct(order + "H").unpack_from
        self._four = struct.Struct(order + "I").unpack_from

    def top(self, found: dict[int, bytes]) -> None:
        at, last, end, data = 0, -1, self._end, self._data
        while True:
            if at + 8 > end:
                if self._whole and at == end:
                    return
                raise self._short()
            group, element = self._tag(data, at)
            tag = group << 16 | element
            if tag <= last or group < 8:
                raise _EndOfHead  # not in order: pydicom takes that
            if tag > _LAST:
                return
            last = tag
            start, length, kind = self._head(at, self._explicit)
            if length == 0xFFFFFFFF:
                at = self._over_sequence(start, self._explicit and kind != b"UN", 0)
                continue
            at = start + length
            if tag in _WANTED or tag == _CHARSET:
                if at > end:
                    raise self._short()
                found[tag] = data[start:at]
            elif at > end:
                raise self._short()

    def _short(self) -> Exception:
        return _NoDataset("it ends in the middle of an element") if self._whole else _EndOfHead()

    def _head(self, at: int, explicit: bool) -> tuple[int, int, bytes]:
        """Where the value begins, its length, and the VR (empty where implicit)."""
        data = self._data
        if not explicit:
            return at + 8, self._four(data, at + 4)[0], b""
        kind = data[at + 4 : at + 6]
        if kind in _LONG_VRS:
            if at + 12 > self._end:
                raise self._short()
            return at + 12, self._four(data, at + 8)[0], kind
        if not (kind.isalpha() and kind.isupper()):
            raise _EndOfHead  # implicit VR under an explicit name, as some write it: pydicom finds out
        return at + 8, self._two(data, at + 6)[0], kind

    def _over_sequence(self, at: int, explicit: bool, depth: int) -> int:
        """Where a sequence of undefined length ends (PS3.5 section 7.5)."""
        if depth > _DEPTH:
            raise _NoDataset("its sequences are nested absurdly deep")
        while True:
            if at + 8 > self._end:
                raise self._short()
            group, element = self._tag(self._data, at)
            length = self._four(self._data, at + 4)[0]
            if group != 0xFFFE or element not in (0xE000, 0xE0DD):
                raise _NoDataset("a sequence has no items")
            at += 8
            if element == 0xE0DD:
                return at
            at = self._over_item(at, explicit, depth + 1) if length == 0xFFFFFFFF else at + int(length)

    def _over_item(self, at: int, explicit: bool, depth: int) -> int:
        while True:
            if at + 8 > self._end:
                raise self._short()
            group, element = self._tag(self._data, at)
            if group == 0xFFFE:
                if element != 0xE00D:
                    raise _NoDataset("an item has no end")
                return at + 8
            start, length, kind = self._head(at, explicit)
            if length == 0xFFFFFFFF:
                at = self._over_sequence(start, explicit and kind != b"UN", depth)
            else:
                at = start + length


class _Bounded:
    """A file that refuses absurd reads, so that a false length costs no memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LARGEST_HEAD
        self._reads = 300_000
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > LARGEST_HEAD:
            raise _unreadable("it names an absurd length")
        chunk = self._file.read(size)
        self._left -= len(chunk)
        self._reads -= 1
        if self._left < 0 or self._reads < 0:
            raise _unreadable("its identifiers don't come within any reasonable head")
        return chunk


def _with_pydicom(file: BinaryIO) -> dict[int, bytes]:
    file.seek(0)
    bounded: BinaryIO = _Bounded(file)  # type: ignore[assignment]
    try:
        with quietly():
            ds = read_partial(
                bounded,
                stop_when=lambda tag, _vr, _length: int(tag) > _LAST,
                specific_tags=[*_WANTED, _CHARSET],
            )
        found = {}
        for tag in map(int, ds.keys()):
            if tag in _WANTED or tag == _CHARSET:
                value = ds.get_item(tag).value
                found[tag] = value if isinstance(value, bytes) else _flat(value)
        return found
    except (OSError, UnusableInstanceError):
        raise
    except Exception as error:
        # pydicom raises a dozen kinds of exception for garbage; their texts quote values, their types don't.
        raise _unreadable(type(error).__name__) from error


def _flat(value: object) -> bytes:
    """A value that pydicom has converted already, as bytes again."""
    if isinstance(value, MutableSequence):
        return "\\".join(map(str, value)).encode()
    return str(value or "").encode()


# values as text -----------------------------------------------------------------------------------------


def _texts(found: Mapping[int, bytes], *, big: bool) -> dict[str, str]:
    encodings: tuple[str, ...] | None = None
    texts: dict[str, str] = {}
    for tag, value in found.items():
        if tag == _CHARSET:
            continue
        keyword, vr = _WANTED[tag]
        if vr in _NUMBERS:
            texts[keyword] = _numbers(value, _NUMBERS[vr], big)
        elif vr in _TEXT_VRS and (not value.isascii() or b"\x1b" in value):
            if encodings is None:
                encodings = encodings_of(found.get(_CHARSET, b"").decode("latin-1").strip("\0 "))
            texts[keyword] = decoded(value, encodings).strip("\0 ")
        elif vr in _TEXT_VRS:
            texts[keyword] = value.decode("ascii").strip("\0 ")
        else:
            text = value.decode("latin-1")
            texts[keyword] = "\\".join(v.strip("\0 ") for v in text.split("\\")) if "\\" in text else text.strip("\0 ")
    return texts


def _numbers(value: bytes, code: str, big: bool) -> str:
    size = struct.calcsize(code)
    order = ">" if big else "<"
    return "\\".join(str(n) for (n,) in struct.iter_unpack(order + code, value[: len(value) // size * size]))


def decoded(value: bytes, encodings: tuple[str, ...]) -> str:
    """A text in Python's encodings of these names; what isn't in them is replaced."""
    if b"\x1b" not in value:
        try:
            return value.decode(encodings[0], "replace")
        except LookupError:
            return value.decode("latin-1")
    with quietly():
        return decode_bytes(value, encodings, _PN_DELIMITERS)


def encodings_of(charset: str) -> tuple[str, ...]:
    """Python's names of the encodings in a Specific Character Set (0008,0005)."""
    if charset in ("", "ISO_IR 6", "ISO_IR 100"):
        # Many writers name nothing and write Latin-1 all the same; it reads ASCII just as well.
        return ("iso8859",)
    try:
        with quietly():
            return tuple(convert_encodings([part.strip() for part in charset.split("\\")])) or ("iso8859",)
    except ValueError:  # bytes that are no name of anything, such as one with a zero in it
        return ("iso8859",)
