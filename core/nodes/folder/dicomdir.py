"""The DICOMDIR of a folder: which files it names, and writing it anew from the files that are there."""

from __future__ import annotations

import io
import sqlite3
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.fileset import DIRECTORY_RECORDERS
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from core.model.quietly import quietly
from core.nodes.local.header import BrokenDicomError, NotDicomError, read_whole_head

NAME = "DICOMDIR"
LARGEST = 512 << 20
"""A DICOMDIR of more bytes is not read: it is a hint only."""

_FILE_ID = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ITEM = b"\xfe\xff\x00\xe0"
# Each record begins with three elements of fixed length (explicit VR little endian): the offset of the next
# record (0004,1400), the in-use flag (0004,1410) and the offset of the first lower record (0004,1420), PS3.3 F.3.2.
_NEXT_AT, _LOWER_AT = 8, 30


def is_file_id(ref: str) -> bool:
    """Whether a DICOMDIR may name this path: PS3.10 8.2, at most 8 parts of at most 8 of A-Z, 0-9, _."""
    parts = ref.split("/")
    return len(parts) <= 8 and all(1 <= len(p) <= 8 and _FILE_ID.issuperset(p) for p in parts)


def named_files(file: BinaryIO) -> set[str]:
    """The paths that a DICOMDIR names, in lower case with forward slashes.

    Raises
    ------
    NotDicomError, BrokenDicomError
    """
    ds = read_whole_head(file)
    found = set()
    with quietly():
        try:
            for record in ds.get("DirectoryRecordSequence") or ():
                file_id = record.get("ReferencedFileID")
                if file_id and record.get("RecordInUseFlag") != 0:
                    parts = [file_id] if isinstance(file_id, str) else file_id
                    found.add("/".join(str(p) for p in parts).lower())
        except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, struct.error) as error:
            raise BrokenDicomError(f"its records can't be read ({type(error).__name__})") from error
    return found


class DirectoryRecords:
    """The records of all files, encoded, in a temporary database: kept up by difference, written in one go."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("pragma synchronous = off")
        self._db.execute("pragma journal_mode = off")
        self._db.executescript(
            "create table leaves (ref text primary key, stamp integer, patient text, study text, series text,"
            " number integer, record blob) without rowid;"
            "create index leaves_order on leaves (patient, study, series, number, ref);"
            "create table parents (level integer, key text, record blob, primary key (level, key)) without rowid;"
        )
        self._uid = generate_uid()

    def close(self) -> None:
        self._db.close()

    def update(self, files: Iterator[tuple[str, int]], open_file: Callable[[str], BinaryIO]) -> int:
        """Bring the records in line with these files (path, stamp); gives how many can't be named in a DICOMDIR."""
        self._db.execute("create temp table if not exists present (ref text primary key) without rowid")
        self._db.execute("delete from present")
        without = 0
        for ref, stamp in files:
            if not is_file_id(ref):
                without += 1
                continue
            self._db.execute("insert or ignore into present values (?)", (ref,))
            if self._db.execute("select 1 from leaves where ref = ? and stamp = ?", (ref, stamp)).fetchone():
                continue
            try:
                with open_file(ref) as file:
                    self._add(ref, stamp, read_whole_head(file))
            except (BrokenDicomError, NotDicomError, FileNotFoundError):
                self._db.execute("delete from present where ref = ?", (ref,))
                without += 1
        self._db.execute("delete from leaves where ref not in (select ref from present)")
        return without

    def _add(self, ref: str, stamp: int, ds: Dataset) -> None:
        with quietly():
            patient = str(ds.get("PatientID") or "")
            keys = [patient, str(ds.get("StudyInstanceUID")), str(ds.get("SeriesInstanceUID"))]
            for level, (kind, key) in enumerate(zip(("PATIENT", "STUDY", "SERIES"), keys, strict=True)):
                self._db.execute("insert or ignore into parents values (?, ?, ?)", (level, key, _record(kind, ds)))
            leaf = _leaf(ds, ref)
            number = ds.get("InstanceNumber")
            self._db.execute(
                "insert or replace into leaves values (?, ?, ?, ?, ?, ?, ?)",
                (ref, stamp, *keys, int(number) if str(number or "").lstrip("-").isdigit() else 0, leaf),
            )

    def write(self, file: BinaryIO) -> int:
        """Write the DICOMDIR; gives the number of files that it names."""
        head, sequence_at = self._head()
        file.write(head)
        first = last = count = 0
        # Where each record will lie follows from the lengths alone; so one walk computes, the next one writes.
        offsets: list[int] = []
        at = sequence_at + 12
        for _, _, length in self._walk():
            offsets.append(at)
            at += 8 + length
        file.write(struct.pack("<HH2sHL", 0x0004, 0x1220, b"SQ", 0, at - sequence_at - 12))
        nexts, lowers = self._links(offsets)
        for place, (level, record, _) in enumerate(self._walk()):
            if level == 0:
                first, last = first or offsets[place], offsets[place]
            count += level == 3
            patched = bytearray(record)
            struct.pack_into("<L", patched, _NEXT_AT, nexts[place])
            struct.pack_into("<L", patched, _LOWER_AT, lowers[place])
            file.write(_ITEM + struct.pack("<L", len(patched)) + patched)
        end = file.tell()
        file.seek(sequence_at - _OFFSETS_LENGTH)
        file.write(struct.pack("<HH2sHL", 0x0004, 0x1200, b"UL", 4, first))
        file.write(struct.pack("<HH2sHL", 0x0004, 0x1202, b"UL", 4, last))
        file.seek(end)
        return count

    def _walk(self) -> Iterator[tuple[int, bytes, int]]:
        """Every record from the top down, each patient's studies, series and files behind it: level, bytes, length."""
        now: list[str | None] = [None, None, None]
        for *keys, record in self._db.execute(
            "select patient, study, series, record from leaves order by patient, study, series, number, ref"
        ):
            for level in range(3):
                if now[level] != keys[level]:
                    now[level] = keys[level]
                    now[level + 1 :] = [None] * (2 - level)
                    parent = self._db.execute(
                        "select record from parents where level = ? and key = ?", (level, keys[level])
                    ).fetchone()[0]
                    yield level, parent, len(parent)
            yield 3, record, len(record)

    def _links(self, offsets: list[int]) -> tuple[list[int], list[int]]:
        nexts, lowers = [0] * len(offsets), [0] * len(offsets)
        open_at: list[int | None] = [None] * 4
        for place, (level, _, _) in enumerate(self._walk()):
            before = open_at[level]
            if before is not None:
                nexts[before] = offsets[place]
            elif level:
                above = open_at[level - 1]
                assert above is not None
                lowers[above] = offsets[place]
            open_at[level] = place
            open_at[level + 1 :] = [None] * (3 - level)
        return nexts, lowers

    def _head(self) -> tuple[bytes, int]:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
        meta.MediaStorageSOPInstanceUID = self._uid
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = io.BytesIO()
        out = DicomFileLike(buffer)
        out.is_little_endian, out.is_implicit_VR = True, False
        buffer.write(b"\x00" * 128 + b"DICM")
        write_file_meta_info(out, meta, enforce_standard=True)
        ds = Dataset()
        ds.FileSetID = ""
        ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
        ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
        ds.FileSetConsistencyFlag = 0
        write_dataset(out, ds)
        return buffer.getvalue(), buffer.tell()


_OFFSETS_LENGTH = 12 + 12 + 10  # the two offsets and the consistency flag, which stand right before the records


def _leaf(ds: Dataset, ref: str) -> bytes:
    from pydicom.fileset import _four_level_record_type

    kind = _four_level_record_type(ds)
    try:
        record = DIRECTORY_RECORDERS[kind](ds)
    except (ValueError, KeyError, AttributeError):
        # Something that the record must hold is missing in the file. The file is named all the same, as an
        # image with its number, which readers need at least; the file itself stays as it is.
        kind, record = "IMAGE", Dataset()
        record.InstanceNumber = ds.get("InstanceNumber") or 0
    record.ReferencedFileID = ref.split("/")
    record.ReferencedSOPClassUIDInFile = ds.get("SOPClassUID")
    record.ReferencedSOPInstanceUIDInFile = ds.get("SOPInstanceUID")
    record.ReferencedTransferSyntaxUIDInFile = ds.file_meta.get("TransferSyntaxUID")
    return _encoded(kind, record, ds)


def _record(kind: str, ds: Dataset) -> bytes:
    record = Dataset()
    if kind == "PATIENT":
        record.PatientName = ds.get("PatientName") or ""
        record.PatientID = ds.get("PatientID") or "UNKNOWN"
    elif kind == "STUDY":
        # Type 1 in the record, often empty in the file; the values are those that dcmmkdir invents.
        record.StudyDate = ds.get("StudyDate") or "19000101"
        record.StudyTime = ds.get("StudyTime") or "000000"
        record.StudyDescription = ds.get("StudyDescription") or ""
        record.StudyInstanceUID = ds.get("StudyInstanceUID")
        record.StudyID = ds.get("StudyID") or "1"
        record.AccessionNumber = ds.get("AccessionNumber") or ""
    else:
        record.Modality = ds.get("Modality") or "OT"
        record.SeriesInstanceUID = ds.get("SeriesInstanceUID")
        number = ds.get("SeriesNumber")
        record.SeriesNumber = 1 if number is None or number == "" else number
    return _encoded(kind, record, ds)


def _encoded(kind: str, record: Dataset, ds: Dataset) -> bytes:
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = 0xFFFF
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    if ds.get("SpecificCharacterSet"):
        record.SpecificCharacterSet = ds.SpecificCharacterSet
    buffer = io.BytesIO()
    out = DicomFileLike(buffer)
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, record)
    return buffer.getvalue()
