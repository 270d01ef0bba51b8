"""Synthetic studies for the demo: several modalities, a compressed one, names in many scripts. Nobody's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

_SIDE = 128


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """What one synthetic study is like; `series` lists the number of images of each series."""

    modality: str
    sop_class: str
    description: str
    name: str
    character_set: str
    series: tuple[int, ...]
    date: str
    colour: bool = False
    compressed: bool = False


STUDIES = (
    DemoStudy("CT", uids.CTImageStorage, "CT chest", "Müller^Jörg", "ISO_IR 100", (24,), "20260112"),
    DemoStudy("MR", uids.MRImageStorage, "MR head", "Wang^XiaoDong=王^小東", "ISO_IR 192", (12, 12), "20260203"),
    DemoStudy(
        "CR",
        uids.ComputedRadiographyImageStorage,
        "Hand, two views",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "\\ISO 2022 IR 87",
        (2,),
        "20260217",
    ),
    DemoStudy(
        "US", uids.UltrasoundImageStorage, "Abdomen", "Люксембург^Роза", "ISO_IR 144", (6,), "20260302", colour=True
    ),
    DemoStudy(
        "CT",
        uids.CTImageStorage,
        "CT abdomen (compressed)",
        "قباني^لنزار",
        "ISO_IR 127",
        (10,),
        "20260318",
        compressed=True,
    ),
    DemoStudy(
        "XA",
        uids.XRayAngiographicImageStorage,
        "Angiography",
        "Hong^Gildong=洪^吉洞=홍^길동",
        "\\ISO 2022 IR 149",
        (5,),
        "20260401",
    ),
)


def write_studies(folder: Path) -> int:
    """Write all studies as DICOM files (PS3.10), a folder for each; the number of files."""
    count = 0
    for number, study in enumerate(STUDIES, start=1):
        place = folder / f"{number}-{study.modality.lower()}"
        place.mkdir(parents=True, exist_ok=True)
        for image in _images(study, number):
            count += 1
            image.save_as(place / f"{count:04}.dcm", enforce_file_format=True)
    return count


def _images(study: DemoStudy, number: int) -> Iterator[Dataset]:
    study_uid = _uid(number)
    for series, images in enumerate(study.series, start=1):
        for position in range(1, images + 1):
            ds = Dataset()
            ds.SpecificCharacterSet = study.character_set.split("\\")
            ds.SOPClassUID = study.sop_class
            ds.SOPInstanceUID = _uid(number, series, position)
            ds.StudyDate = ds.SeriesDate = study.date
            ds.StudyTime = ds.SeriesTime = "101500"
            ds.AccessionNumber = f"DEMO{number:04}"
            ds.Modality = study.modality
            ds.Manufacturer = "DICOM Ferry (synthetic)"
            ds.StudyDescription = study.description
            ds.SeriesDescription = f"{study.description} {series}"
            ds.PatientName = study.name
            ds.PatientID = f"DEMO-{number:03}"
            ds.PatientBirthDate = "19600101"
            ds.PatientSex = "O"
            ds.StudyInstanceUID = study_uid
            ds.SeriesInstanceUID = _uid(number, series)
            ds.StudyID = str(number)
            ds.SeriesNumber = series
            ds.InstanceNumber = position
            ds.ImageComments = "Synthetic image, not for diagnosis"
            _add_pixels(ds, study, position / (images + 1))
            yield ds


def _add_pixels(ds: Dataset, study: DemoStudy, depth: float) -> None:
    """A disc that grows and shrinks along the series (image pixel module, PS3.3 C.7.6.3)."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uids.RLELossless if study.compressed else uids.ExplicitVRLittleEndian
    ds.Rows = ds.Columns = _SIDE
    ds.SamplesPerPixel = 3 if study.colour else 1
    ds.PhotometricInterpretation = "RGB" if study.colour else "MONOCHROME2"
    if study.colour:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 if study.colour else 16
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = 0
    if study.colour:
        dark, bright = b"\x10\x10\x18", bytes((200, int(80 + 120 * depth), 60))
    else:
        dark, bright = (60).to_bytes(2, "little"), int(600 + 800 * depth).to_bytes(2, "little")
    pixels = _disc(dark, bright, 0.15 + 0.7 * (1 - abs(2 * depth - 1)) / 2)
    ds.PixelData = encapsulate([_rle(pixels)]) if study.compressed else pixels


def _disc(dark: bytes, bright: bytes, radius: float) -> bytes:
    rows = []
    for y in range(_SIDE):
        height = (y - _SIDE / 2) / _SIDE
        half = max(0.0, radius**2 - height**2) ** 0.5 * _SIDE
        left = int(_SIDE / 2 - half)
        rows.append(dark * left + bright * (_SIDE - 2 * left) + dark * left)
    return b"".join(rows)


def _rle(pixels: bytes) -> bytes:
    """One 16-bit frame as RLE segments, high bytes first (PS3.5 Annex G)."""
    segments = [_pack_bits(pixels[1::2]), _pack_bits(pixels[0::2])]
    offsets = [64, 64 + len(segments[0])]
    header = b"".join(n.to_bytes(4, "little") for n in (2, *offsets))
    return header.ljust(64, b"\0") + b"".join(segments)


def _pack_bits(plane: bytes) -> bytes:
    """Each row by itself, runs of equal bytes only (PS3.5 G.3.1); of even length."""
    out = bytearray()
    for start in range(0, len(plane), _SIDE):
        row = plane[start : start + _SIDE]
        at = 0
        while at < len(row):
            end = at + 1
            while end < len(row) and end - at < 128 and row[end] == row[at]:
                end += 1
            if end - at == 1:
                out += bytes((0, row[at]))  # a literal of one byte
            else:
                out += bytes((257 - (end - at), row[at]))
            at = end
    return bytes(out) + b"\0" * (len(out) % 2)


def _uid(*place: int) -> str:
    return generate_uid(entropy_srcs=["DICOM Ferry demo", *map(str, place)])
