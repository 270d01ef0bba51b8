"""A step that de-identifies without a keyring, and images that say everywhere whose they are."""

from __future__ import annotations

import io
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.steps.base import Step, StepSurroundings
from core.steps.deidentify.pseudonyms import secret_name
from core.steps.registry import step_kinds

KEY = "7f" * 32
UID_ROOT = "1.2.276.0.7230010.3.99."
NAME = "ZEBRA^QUAGGA^OKAPI"
PATIENT_ID = "PID-4711-0815"
ACCESSION = "ACC998877"
BIRTH = "19520229"
STUDY_DAY = "20240317"


class Vault:
    """Secrets in memory, as a keyring keeps them."""

    def __init__(self, **secrets: str) -> None:
        self.kept = dict(secrets)

    @property
    def surroundings(self) -> StepSurroundings:
        return StepSurroundings(secret=self.kept.get, keep_secret=self.kept.__setitem__)


def opened(vault: Vault | None = None, **fields: Any) -> Step:
    """The step with these fields; by default always with the same key."""
    kind = step_kinds.get("deidentify")
    vault = vault or Vault(**{secret_name("standard"): KEY})
    return kind.open(kind.Fields(**fields), vault.surroundings)


def ct_image(**more: Any) -> Dataset:
    """A small CT image of NAME, as a scanner writes it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = UID_ROOT + "3.1"
    ds.StudyInstanceUID = UID_ROOT + "1"
    ds.SeriesInstanceUID = UID_ROOT + "2"
    ds.FrameOfReferenceUID = UID_ROOT + "4"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = NAME, PATIENT_ID, BIRTH, "F"
    ds.AccessionNumber, ds.StudyID = ACCESSION, "S4471"
    ds.StudyDate, ds.StudyTime = STUDY_DAY, "101112"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = bytes(range(8))
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def as_bytes(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """The file, with its File Meta Information."""
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dataset.save_as(out, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def as_read(dataset: Dataset, *, implicit: bool = False) -> Dataset:
    """The data set as it is when it comes from a file: values not yet taken apart."""
    return dcmread(io.BytesIO(as_bytes(dataset, implicit=implicit)))


def traces(data: bytes, *texts: str) -> list[str]:
    """Which of these texts stand somewhere in the bytes, in any usual encoding, in capitals or not."""
    low = data.lower()
    return [
        text
        for text in texts
        if any(
            text.lower().encode(encoding, "ignore") in low
            for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "gb18030", "euc_kr")
            if text.lower().encode(encoding, "ignore")
        )
    ]
