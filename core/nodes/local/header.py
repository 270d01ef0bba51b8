"""What the head of a DICOM file says: identifiers and study-level texts, read without the pixels."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, MutableSequence
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from core.model.errors import FerryError
from core.model.quietly import quietly
from core.model.rules.tags import is_plain, tag_path
from core.model.study import StudyInfo
from core.spool.attributes import decoded, encodings_of

STUDY_KEYWORDS = (
    "StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyDescription", "StudyID", "AccessionNumber", "ReferringPhysicianName", "InstitutionName",
)  # fmt: skip
"""Kept of every study, for lists and filters. They all lie below group 0021, so reading ends early."""

_OTHER_KEYWORDS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription",
    "SeriesNumber", "InstanceNumber",
)  # fmt: skip
_LAST_TAG = 0x00200013
_FIRST_BYTES = 1 << 14
"""Bytes of a file that are looked through at first: in nearly all files the identifiers come within them."""
LARGEST_HEAD = 64 << 20
"""Bytes read of one file at most until the identifiers must have come."""
MOST_READS = 300_000
"""Elements take two or three reads each; a head of a hundred thousand is hostile, and would take minutes."""
LARGEST_INFLATED = 2 << 20

_STRICT_UID = re.compile(r"[0-9]+(\.[0-9]+)+\Z")
_UID = re.compile(r"[!-~]{1,64}\Z")
_TEXT_VRS = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
_CODE_VRS = frozenset({"UI", "CS", "DA", "TM", "DT", "IS", "DS", "AE", "AS", "UR"})
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_TAG, _SHORT, _LONG = struct.Struct("<HH"), struct.Struct("<H"), struct.Struct("<I")
_OTHERWISE_ENCODED = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)


class NotDicomError(Exception):
    """The file isn't DICOM (or is a DICOMDIR): it is left alone."""


class BrokenDicomError(Exception):
    """The file is DICOM, but its identifiers can't be had; the text says why, without patient data."""


@dataclass(frozen=True, slots=True)
class Header:
    """Identifiers of an instance and its study's texts, decoded by (0008,0005).

    Attributes
    ----------
    transfer_syntax : str | None
        None for a file without file meta information.
    texts : Mapping[str, str]
        Keyword → text of the elements that were there; several values are separated by a backslash.
    part10 : bool
        Has preamble and "DICM" (PS3.10 7.1).
    """

    sop_uid: str
    sop_class: str
    series_uid: str
    study_uid: str
    transfer_syntax: str | None
    texts: Mapping[str, str]
    part10: bool

    @property
    def study(self) -> StudyInfo:
        t = self.texts
        return StudyInfo(
            study_uid=self.study_uid,
            ref=self.study_uid,
            patient_name=t.get("PatientName", ""),
            patient_id=t.get("PatientID", ""),
            birth_date=t.get("PatientBirthDate", ""),
            sex=t.get("PatientSex", ""),
            study_date=t.get("StudyDate", "").replace(".", ""),
            study_time=t.get("StudyTime", "").replace(":", "").split(".")[0],
            description=t.get("StudyDescription", ""),
            accession=t.get("AccessionNumber", ""),
            tags=tuple((k, t[k]) for k in STUDY_KEYWORDS if k in t),
        )


def read_header(file: BinaryIO) -> Header:
    """Read the head of an open file from its start.

    Raises
    ------
    NotDicomError, BrokenDicomError
    OSError
        The disk's own trouble, never taken for a broken file.
    """
    quick = _first_look(file)
    if quick is not None:
        part10, (meta, texts) = True, quick
        syntax, media_class = meta
    else:
        ds, part10 = _parse(file, _tags((*STUDY_KEYWORDS, *_OTHER_KEYWORDS)), _LAST_TAG)
        texts = _texts(ds)
        syntax, media_class = _meta(ds, 0x00020010), _meta(ds, 0x00020002)
    sop_class = texts.get("SOPClassUID", "") or media_class
    if MediaStorageDirectoryStorage in (sop_class, media_class):
        raise NotDicomError("a DICOMDIR")
    header = Header(
        sop_uid=texts.get("SOPInstanceUID", ""),
        sop_class=sop_class,
        series_uid=texts.get("SeriesInstanceUID", ""),
        study_uid=texts.get("StudyInstanceUID", ""),
        transfer_syntax=syntax or None,
        texts=texts,
        part10=part10,
    )
    uids = {
        "SOP Instance UID": header.sop_uid,
        "Series Instance UID": header.series_uid,
        "Study Instance UID": header.study_uid,
    }
    if not part10 and not all(_STRICT_UID.match(uid) for uid in (*uids.values(), sop_class)):
        raise NotDicomError("neither a preamble nor identifiers")
    for name, uid in uids.items():
        if not uid:
            raise BrokenDicomError(f"it has no {name}")
        if not _UID.match(uid):
            raise BrokenDicomError(f"its {name} is not a UID")
    return header


def _first_look(file: BinaryIO) -> tuple[tuple[str, str], dict[str, str]] | None:
    """Transfer syntax and SOP class of the meta information, and the texts, by stepping over the elements.

    A general parser takes eight times as long. None, with the file at its start again, wherever anything is unusual:
    that is left to the parser.
    """
    head = file.read(_FIRST_BYTES)
    file.seek(0)
    if head[128:132] != b"DICM":
        return None
    meta: dict[int, bytes] = {}
    at = _step(head, 132, False, 0x0002FFFF, meta)
    syntax = meta.get(0x00020010, b"").decode("latin-1").rstrip("\0 ")
    if at is None or not syntax or syntax in _OTHERWISE_ENCODED:
        return None
    values: dict[int, bytes] = {}
    if _step(head, at, syntax == ImplicitVRLittleEndian, _LAST_TAG, values) is None:
        return None
    encodings = encodings_of(_ascii(values.get(0x00080005)))
    wanted = _wanted()
    texts = {wanted[t][0]: _text(wanted[t][1], value, encodings) for t, value in values.items() if t in wanted}
    return (syntax, _ascii(meta.get(0x00020002))), texts


def _step(head: bytes, at: int, implicit: bool, last: int, values: dict[int, bytes]) -> int | None:
    """Collect the elements up to `last` (PS3.5 7.1); where the next one begins, None if that can't be told here."""
    before = -1
    end = len(head)
    while at + 12 <= end:
        group, element = _TAG.unpack_from(head, at)
        tag = group << 16 | element
        if tag > last:
            return at
        if tag <= before:
            return None
        before = tag
        if implicit:
            start, length = at + 8, _LONG.unpack_from(head, at + 4)[0]
        else:
            vr = head[at + 4 : at + 6]
            if not (vr.isalpha() and vr.isupper()):
                return None
            if vr in _LONG_VRS:
                start, length = at + 12, _LONG.unpack_from(head, at + 8)[0]
            else:
                start, length = at + 8, _SHORT.unpack_from(head, at + 6)[0]
        at = start + length  # an undefined length leads beyond all bytes
        values[tag] = head[start:at]
    return None


@cache
def _wanted() -> dict[int, tuple[str, str]]:
    """Keyword and VR by tag of what `read_header` reads."""
    found = {tag: (keyword_for_tag(tag), dictionary_VR(tag)) for tag in _tags((*STUDY_KEYWORDS, *_OTHER_KEYWORDS))}
    assert all(vr in _TEXT_VRS or vr in _CODE_VRS for _keyword, vr in found.values())
    return found


def read_tags(file: BinaryIO, keys: frozenset[str]) -> dict[str, str]:
    """Values of some elements as text by what rules call them; what isn't there is left out. Raises as `read_header`.

    Parameters
    ----------
    keys : frozenset[str]
        Keywords, numbers "(gggg,eeee)" and paths with dots (`core.model.rules.tags`): of a tag within sequences the
        values in all their items.
    """
    paths = {key: path for key in keys if (path := tag_path(key))}
    tags = sorted({path[0] for path in paths.values()})
    if not tags:
        return {}
    ds, _ = _parse(file, tags, max(tags))
    try:
        return _read_out(ds, keys, paths)
    except Exception as error:
        # As in `_parse`: what garbage makes of pydicom's conversions is of any kind.
        raise BrokenDicomError(f"it can't be read ({type(error).__name__})") from error


def _read_out(ds: Dataset, keys: frozenset[str], paths: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    texts = _texts(ds)
    found = {key: "" if texts[key] == "[]" else texts[key] for key in keys if key in texts}
    if "TransferSyntaxUID" in keys:
        found["TransferSyntaxUID"] = _meta(ds, 0x00020010)
    with quietly():
        for key, path in paths.items():
            if not is_plain(key) and path[0] in ds:
                found[key] = "\\".join(text for text in _along(ds, path) if text)
    return found


def _along(ds: Dataset, path: Sequence_[int]) -> Iterator[str]:
    """The values at the end of a path, in all items of the sequences on the way."""
    element = ds.get(Tag(path[0]))
    if element is None:
        return
    if len(path) == 1:
        yield _seen(element.value)
    elif isinstance(element.value, Sequence):
        for item in element.value:
            yield from _along(item, path[1:])


def _seen(value: Any) -> str:
    """As `_plain`, of bytes of unknown representation (UN) what is plain text."""
    if isinstance(value, bytes):
        text = value.strip(b"\0 ")
        return text.decode("ascii") if text.isascii() and text.decode("ascii").isprintable() else ""
    return _plain(value)


def read_attributes(file: BinaryIO) -> dict[str, str]:
    """Every attribute below the pixel data as text by "gggg,eeee", without those of the encoding.

    Raises as `read_header`.
    """
    ds, _ = _parse(file, None, 0x7FDFFFFF)
    with quietly():
        return {f"{e.tag.group:04x},{e.tag.element:04x}": _plain(e.value) for e in ds if not _of_encoding(int(e.tag))}


def read_whole_head(file: BinaryIO) -> Dataset:
    """The data set below the pixel data, for the DICOMDIR's records. Raises as `read_header`."""
    return _parse(file, None, 0x7FDFFFFF)[0]


class _Bounded:
    """A file that refuses absurd reads, so that a false length costs no memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LARGEST_HEAD
        self._reads = MOST_READS
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > LARGEST_HEAD:
            raise BrokenDicomError("it names an absurd length")
        chunk = self._file.read(size)
        self._left -= len(chunk)
        self._reads -= 1
        if self._left < 0 or self._reads < 0:
            raise BrokenDicomError("its identifiers don't come within any reasonable head")
        return chunk


def _parse(file: BinaryIO, tags: list[int] | None, last: int) -> tuple[Dataset, bool]:
    head = file.read(1024)
    if not head:
        raise NotDicomError("empty")
    part10 = head[128:132] == b"DICM"
    if not part10 and not _looks_like_dataset(head):
        raise NotDicomError("no preamble")
    source: Any = file
    source.seek(0)
    deflated = part10 and _deflated(head)
    try:
        if deflated:
            source = _inflated(file, head)
        bounded: Any = _Bounded(source)
        ds = read_partial(
            bounded,
            stop_when=lambda tag, _vr, _length: int(tag) > last,
            force=not part10,
            specific_tags=tags,
        )
    except (OSError, BrokenDicomError, FerryError):
        raise
    except Exception as error:
        # pydicom raises a dozen kinds of exception for garbage; their texts quote values, their types don't.
        if part10:
            raise BrokenDicomError(f"it can't be read ({type(error).__name__})") from error
        raise NotDicomError("no preamble and no data set") from error
    if deflated:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds, part10


def _looks_like_dataset(head: bytes) -> bool:
    """Whether a file without preamble starts as data sets do: with an element of group 0008 or 0002.

    Either explicit VR (two capitals after the tag) or implicit with a short first value.
    """
    if len(head) < 16 or head[:2] not in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        return False
    if head[4:6].isalpha() and head[4:6].isupper():
        return True
    return head[:2] == b"\x08\x00" and int.from_bytes(head[4:8], "little") <= 1024


def _deflated(head: bytes) -> bool:
    at = head.find(b"\x02\x00\x10\x00UI", 132)
    if at < 0:
        return False
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\x00 ") == DeflatedExplicitVRLittleEndian.encode()


def _inflated(file: BinaryIO, head: bytes) -> BinaryIO:
    """The same head as if it were not deflated; no more than `LARGEST_INFLATED` is inflated (PS3.5 A.5)."""
    if head[132:138] != b"\x02\x00\x00\x00UL":
        raise BrokenDicomError("its file meta information has no length")
    end = 144 + int.from_bytes(head[140:144], "little")
    if end > 1 << 16:
        raise BrokenDicomError("its file meta information is absurdly long")
    file.seek(0)
    meta = file.read(end)
    plain = b"1.2.840.10008.1.2.1".ljust(len(DeflatedExplicitVRLittleEndian), b"\x00")
    meta = meta.replace(DeflatedExplicitVRLittleEndian.encode(), plain, 1)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    body = bytearray()
    # The identifiers come first: what the pixels say is not needed.
    while len(body) < LARGEST_INFLATED and (chunk := file.read(1 << 16)):
        body += inflate.decompress(chunk, LARGEST_INFLATED - len(body))
    return io.BytesIO(meta + bytes(body))


def _tags(keywords: tuple[str, ...]) -> list[int]:
    return [tag for tag in map(tag_for_keyword, keywords) if tag is not None]


def _meta(ds: Dataset, tag: int) -> str:
    element = ds.file_meta.get_item(tag) if hasattr(ds, "file_meta") else None
    return "" if element is None else _ascii(element.value)


def _ascii(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1").rstrip("\x00 ").strip()
    return "" if value is None else str(value).strip()


def _texts(ds: Dataset) -> dict[str, str]:
    charset = getattr(ds.get_item(0x00080005), "value", b"")
    encodings = encodings_of("\\".join(charset) if isinstance(charset, MutableSequence) else _ascii(charset))
    found: dict[str, str] = {}
    for tag in list(ds.keys()):
        element = ds.get_item(tag)
        keyword = keyword_for_tag(tag)
        vr = dictionary_VR(tag) if keyword else ""
        if not isinstance(element, RawDataElement) or element.value is None or not isinstance(element.value, bytes):
            with quietly():
                found[keyword] = _plain(ds[tag].value)
        elif vr in _TEXT_VRS or vr in _CODE_VRS:
            found[keyword] = _text(vr, element.value, encodings)
        else:
            with quietly():
                found[keyword] = _plain(ds[tag].value)
    return found


def _text(vr: str, value: bytes, encodings: tuple[str, ...]) -> str:
    if vr in _TEXT_VRS:
        return decoded(value, encodings).rstrip("\x00 ").strip()
    return "\\".join(v.strip("\x00 ") for v in value.decode("latin-1").split("\\"))


def _plain(value: Any) -> str:
    """A value as text: several ones with backslashes, sequences as "[{gggg,eeee=text;…},…]", bytes as nothing.

    That is how the other kinds of node give attributes too, so that they can be compared.
    """
    if value is None or isinstance(value, (bytes, bytearray)):
        return ""
    if isinstance(value, Dataset):
        inner = ((f"{e.tag.group:04x},{e.tag.element:04x}", e) for e in value if not _of_encoding(int(e.tag)))
        return "{" + ";".join(f"{tag}={_plain(e.value)}" for tag, e in inner) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_plain(item) for item in value) + "]"
    if isinstance(value, (list, tuple, MutableSequence)):
        return "\\".join(_plain(v) for v in value)
    return str(value).strip("\x00 ")


def _of_encoding(tag: int) -> bool:
    """Group lengths, file meta information, character set and padding: not what the image *is*."""
    return tag & 0xFFFF == 0 or tag >> 16 == 2 or tag in (0x00080005, 0xFFFCFFFC)
