"""Synthetic studies, made quickly and the same each time: a template is encoded once, UIDs are patched in."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pydicom.uid as uids
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset

CT_BYTES = 525_000
SMALL_BYTES = 1_400

#: A patient's name in each character set of PS3.3 C.12.1.1.2 that is met in practice.
NAMES = {
    "ISO_IR 6": "Ferry^Ada",
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 101": "Wałęsa^Łukasz",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 144": "Люкceмбypг^Иван",
    "ISO_IR 148": "Çavuşoğlu^Şükrü",
    "ISO_IR 166": "นามสกุล^ชื่อ",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
}

_STORAGE = {
    "CT": uids.CTImageStorage,
    "MR": uids.MRImageStorage,
    "CR": uids.ComputedRadiographyImageStorage,
    "DX": uids.DigitalXRayImageStorageForPresentation,
    "MG": uids.DigitalMammographyXRayImageStorageForPresentation,
    "NM": uids.NuclearMedicineImageStorage,
    "PT": uids.PositronEmissionTomographyImageStorage,
    "US": uids.UltrasoundImageStorage,
    "XA": uids.XRayAngiographicImageStorage,
    "OT": uids.SecondaryCaptureImageStorage,
}

#: Files in pydicom's wheel whose compressed pixel data are borrowed.
_COMPRESSED = {
    uids.JPEGBaseline8Bit: "SC_rgb_jpeg_dcmtk.dcm",
    uids.JPEGExtended12Bit: "JPGExtended.dcm",
    uids.JPEGLosslessSV1: "SC_rgb_jpeg_gdcm.dcm",
    uids.JPEGLSLossless: "MR_small_jpeg_ls_lossless.dcm",
    uids.JPEG2000Lossless: "MR_small_jp2klossless.dcm",
    uids.JPEG2000: "JPEG2000.dcm",
    uids.RLELossless: "MR_small_RLE.dcm",
}
COMPRESSED_SYNTAXES = tuple(_COMPRESSED)

_PIXEL_KEYWORDS = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
    "PixelData",
]

# Placeholders of the template; what replaces them has the same length, so that no length field changes.
_UID_ROOT = "1.2.826.0.1.3680043.8.498."
_STUDY, _SERIES, _INSTANCE = (_UID_ROOT + digit * 34 for digit in "123")
_SERIES_NUMBER, _INSTANCE_NUMBER = "1999999991", "1999999992"


class Study(list[bytes]):
    """The encoded instances of one study, in order, with what a test wants to know about them."""

    def __init__(self, plan: StudyPlan) -> None:
        super().__init__(plan.encoded())
        self.plan = plan

    @property
    def study_uid(self) -> str:
        return self.plan.study_uid

    @property
    def series_uids(self) -> list[str]:
        return [self.plan.series_uid(series) for series in range(self.plan.series)]

    @property
    def sop_uids(self) -> list[str]:
        return [sop_uid for _, _, sop_uid in self.plan.positions()]

    def digests(self) -> dict[str, str]:
        """MD5 by SOP Instance UID, to be compared with `OrthancServer.digests`."""
        return {
            sop_uid: hashlib.md5(instance).hexdigest() for sop_uid, instance in zip(self.sop_uids, self, strict=True)
        }

    def write(self, folder: Path) -> list[Path]:
        """One file an instance under ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for sop_uid, instance in zip(self.sop_uids, self, strict=True):
            path = folder / f"{sop_uid}.dcm"
            path.write_bytes(instance)
            paths.append(path)
        return paths


@dataclass(frozen=True)
class StudyPlan:
    """What a study is made of; the same plan gives the same bytes.

    ``instances`` is the number in each series; ``size_bytes`` about what one instance is to take.
    ``tags`` are further elements by keyword, as pairs, so that the plan stays hashable.
    """

    patient: str = "Ferry^Ada"
    patient_id: str = "FERRY-1"
    modality: str = "CT"
    series: int = 1
    instances: int = 10
    size_bytes: int = 2_000
    character_set: str = "ISO_IR 192"
    transfer_syntax: str = uids.ExplicitVRLittleEndian
    study_date: str = "20240315"
    accession: str = "A0001"
    description: str = "Synthetic study"
    seed: int = 1
    tags: tuple[tuple[str, Any], ...] = field(default=())

    @property
    def study_uid(self) -> str:
        key = (self.seed, self.patient_id, self.modality, self.study_date, self.accession)
        return _uid("study", *key)

    def series_uid(self, series: int) -> str:
        return _uid(self.study_uid, series)

    def positions(self) -> Iterator[tuple[int, int, str]]:
        """Series (from 0), instance (from 0) and SOP Instance UID of each instance."""
        for series in range(self.series):
            for instance in range(self.instances):
                yield series, instance, _uid(self.study_uid, series, instance)

    def encoded(self) -> Iterator[bytes]:
        """The instances, one by one, without holding the study in memory."""
        head, tail, deflated = _template(self)
        head = head.replace(_STUDY.encode(), self.study_uid.encode())
        of_series, last = b"", -1
        for series, instance, sop_uid in self.positions():
            if series != last:
                of_series = head.replace(_SERIES.encode(), self.series_uid(series).encode())
                of_series = of_series.replace(_SERIES_NUMBER.encode(), b"%-10d" % (series + 1))
                last = series
            patched = of_series.replace(_INSTANCE.encode(), sop_uid.encode())
            patched = patched.replace(_INSTANCE_NUMBER.encode(), b"%-10d" % (instance + 1))
            yield _deflate(patched + tail) if deflated else patched + tail


def make_study(
    patient: str | None = None,
    *,
    patient_id: str = "FERRY-1",
    modality: str = "CT",
    series: int = 1,
    instances: int = 10,
    size_bytes: int = 2_000,
    character_set: str = "ISO_IR 192",
    transfer_syntax: str = uids.ExplicitVRLittleEndian,
    study_date: str = "20240315",
    accession: str = "A0001",
    description: str = "Synthetic study",
    seed: int = 1,
    **tags: Any,
) -> Study:
    """A study of ``series`` × ``instances`` instances of about ``size_bytes`` each, as encoded files.

    The Study Instance UID follows from ``seed``, ``patient_id``, ``modality``, ``study_date`` and
    ``accession``: vary one of these for another study. Without ``patient``, the name is one written in
    ``character_set``. Compressed transfer syntaxes take their pixel data from pydicom's own test files and
    leave ``size_bytes`` aside.
    """
    return Study(
        StudyPlan(
            patient=patient if patient is not None else NAMES.get(character_set, "Ferry^Ada"),
            patient_id=patient_id,
            modality=modality,
            series=series,
            instances=instances,
            size_bytes=size_bytes,
            character_set=character_set,
            transfer_syntax=str(transfer_syntax),
            study_date=study_date,
            accession=accession,
            description=description,
            seed=seed,
            tags=tuple(sorted(tags.items())),
        )
    )


def make_studies(count: int, *, seed: int = 1, **same: Any) -> list[Study]:
    """``count`` studies of different patients; ``same`` are arguments of `make_study`."""
    return [
        make_study(seed=seed, **{"patient_id": f"FERRY-{n:05d}", "accession": f"A{n:05d}", **same})
        for n in range(1, count + 1)
    ]


def ct_study(instances: int = 10, **more: Any) -> Study:
    """A CT series of 512×512×16 bit images, 525 kB each."""
    return make_study(instances=instances, size_bytes=CT_BYTES, **more)


def small_study(instances: int = 100, **more: Any) -> Study:
    """Instances as small as they come, 1.4 kB each."""
    return make_study(instances=instances, size_bytes=SMALL_BYTES, **more)


def merged_digests(studies: list[Study]) -> dict[str, str]:
    """The digests of several studies together."""
    return {sop_uid: digest for study in studies for sop_uid, digest in study.digests().items()}


@dataclass(frozen=True)
class LargeInstance:
    """One instance in a file, too large to be held in memory."""

    path: Path
    study_uid: str
    sop_uid: str
    size: int
    md5: str


def write_large_instance(path: Path, size_bytes: int, *, seed: int = 1) -> LargeInstance:
    """Write one multi-frame instance of about ``size_bytes`` (up to 4 GB), holding 1 MB of it at a time."""
    frame = 512 * 512 * 2
    frames = max(1, round(size_bytes / frame))
    assert frames * frame < 2**32 - 1, "a native PixelData element ends at 4 GB (PS3.5 A.1)"
    plan = StudyPlan(modality="OT", instances=1, seed=seed, accession=f"LARGE{size_bytes}")
    _, _, sop_uid = next(plan.positions())
    dataset = _dataset(plan)
    dataset.SOPClassUID = uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.NumberOfFrames = frames
    _set_pixel_module(dataset, 512, 512)
    head = _encode(dataset)
    for placeholder, value in (
        (_STUDY, plan.study_uid),
        (_SERIES, plan.series_uid(0)),
        (_INSTANCE, sop_uid),
        (_SERIES_NUMBER, "1".ljust(10)),
        (_INSTANCE_NUMBER, "1".ljust(10)),
    ):
        head = head.replace(placeholder.encode(), value.encode())
    head += b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", frames * frame)
    digest = hashlib.md5(head)
    pixels = random.Random(seed).randbytes(frame)
    with path.open("wb") as file:
        file.write(head)
        for number in range(frames):
            block = struct.pack("<I", number) + pixels[4:]
            file.write(block)
            digest.update(block)
    return LargeInstance(path, plan.study_uid, sop_uid, len(head) + frames * frame, digest.hexdigest())


@functools.lru_cache(maxsize=64)
def _template(plan: StudyPlan) -> tuple[bytes, bytes, bool]:
    """The encoded instance with placeholders, split at its pixel data; and whether to deflate it."""
    syntax = uids.UID(plan.transfer_syntax)
    dataset = _dataset(plan)
    if syntax in _COMPRESSED:
        _borrow_pixels(dataset, syntax)
        whole = _encode(dataset)
        cut = whole.index(b"\xe0\x7f\x10\x00")
        return whole[:cut], whole[cut:], False
    overhead = len(_encode(dataset)) + 130  # the pixel module's elements
    rows, columns = _shape(plan.size_bytes - overhead)
    _set_pixel_module(dataset, rows, columns)
    pixels = random.Random(plan.seed).randbytes(rows * columns * 2)
    length = len(pixels)
    head = _encode(dataset)
    if syntax == uids.ImplicitVRLittleEndian:
        element = b"\xe0\x7f\x10\x00" + struct.pack("<I", length)
    elif syntax == uids.ExplicitVRBigEndian:
        element = b"\x7f\xe0\x00\x10OW\0\0" + struct.pack(">I", length)
    else:
        element = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", length)
    return head, element + pixels, syntax == uids.DeflatedExplicitVRLittleEndian


def _dataset(plan: StudyPlan) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SpecificCharacterSet = plan.character_set.split("\\")
    dataset.SOPClassUID = _STORAGE.get(plan.modality, uids.SecondaryCaptureImageStorage)
    dataset.SOPInstanceUID = _INSTANCE
    dataset.StudyDate = dataset.SeriesDate = plan.study_date
    dataset.StudyTime = dataset.SeriesTime = "101500"
    dataset.AccessionNumber = plan.accession
    dataset.Modality = plan.modality
    dataset.StudyDescription = plan.description
    dataset.SeriesDescription = f"{plan.modality} series"
    dataset.PatientName = plan.patient
    dataset.PatientID = plan.patient_id
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = _STUDY
    dataset.SeriesInstanceUID = _SERIES
    dataset.StudyID = "1"
    dataset.SeriesNumber = _SERIES_NUMBER
    dataset.InstanceNumber = _INSTANCE_NUMBER
    for keyword, value in plan.tags:
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = uids.UID(_INSTANCE)
    dataset.file_meta.TransferSyntaxUID = uids.UID(plan.transfer_syntax)
    return dataset


def _set_pixel_module(dataset: Dataset, rows: int, columns: int) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0


def _borrow_pixels(dataset: Dataset, syntax: uids.UID) -> None:
    path = get_testdata_file(_COMPRESSED[syntax], download=False)
    assert isinstance(path, str), f"pydicom comes without {_COMPRESSED[syntax]}"
    donor = pydicom.dcmread(path)
    for keyword in _PIXEL_KEYWORDS:
        if keyword in donor:
            dataset[keyword] = donor[keyword]


def _encode(dataset: Dataset) -> bytes:
    """The file's bytes; for the deflated syntax not yet deflated."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    whole = io.BytesIO()
    dataset.save_as(
        whole,
        enforce_file_format=True,
        implicit_vr=syntax == uids.ImplicitVRLittleEndian,
        little_endian=syntax != uids.ExplicitVRBigEndian,
    )
    encoded = whole.getvalue()
    if syntax != uids.DeflatedExplicitVRLittleEndian:
        return encoded
    start = _dataset_start(encoded)
    return encoded[:start] + zlib.decompress(encoded[start:], -zlib.MAX_WBITS)


def _deflate(encoded: bytes) -> bytes:
    start = _dataset_start(encoded)
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = squeeze.compress(encoded[start:]) + squeeze.flush()
    # Even length, as every DICOM file (PS3.5 A.5).
    return encoded[:start] + body + b"\0" * (len(body) % 2)


def _dataset_start(encoded: bytes) -> int:
    """Where the data set begins: behind preamble, prefix and the group-length element (PS3.10 7.1)."""
    (length,) = struct.unpack_from("<I", encoded, 140)
    return 144 + int(length)


def _shape(pixel_bytes: int) -> tuple[int, int]:
    """Rows and columns of a 16-bit image of about ``pixel_bytes``."""
    samples = max(1, pixel_bytes // 2)
    columns = min(512, 1 << (math.isqrt(samples).bit_length() - 1))
    if samples >= 512 * 500:
        columns = 512
    return max(1, min(65_535, round(samples / columns))), columns


def _uid(*key: object) -> str:
    digest = hashlib.sha256(repr(key).encode()).digest()
    return _UID_ROOT + str(10**33 + int.from_bytes(digest[:16]) % (9 * 10**33))
