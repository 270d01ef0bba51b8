"""Images that may show or say whose they are in a way that nobody can take out by rule: known before the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.steps.base import StepError
from core.steps.deidentify.values import is_empty, texts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PIXELS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
_SC = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture, and below it the multi-frame ones
_PHOTOGRAPHS = "1.2.840.10008.5.1.4.1.1.77.1."  # visible light: photographs, endoscopy, microscopy and video
_AUDIO = ("1.2.840.10008.5.1.4.1.1.9.4.", "1.2.840.10008.5.1.4.1.1.9.5.")  # voice recordings
_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
ENCAPSULATED_DOCUMENT = 0x00420011
# Of these, screens or photographs are usual, with the patient's name in or beside the picture.
_MODALITIES = frozenset({"US", "BDUS", "IVUS", "ES", "XC", "GM", "OT", "DOC", "HC", "BMD", "DMS", "OP", "PX", "LP"})
_SCREENS = frozenset(
    {"SCREEN", "SCREENSAVE", "SCREENSHOT", "DOSEINFO", "DOSEREPORT", "REPORT", "LABEL", "OVERVIEW", "PATIENTPROTOCOL"}
)
BLANK_PAGE = (
    b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n"
    b"3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>\nendobj\nxref\n0 4\n0000000000 65535 f \n"
    b"0000000009 00000 n \n0000000054 00000 n \n0000000105 00000 n \ntrailer\n<</Size 4/Root 1 0 R>>\nstartxref\n"
    b"170\n%%EOF\n"
)


def picture_doubt(dataset: Dataset) -> str:
    """Why the picture (or the sound) may tell who the patient is, in a few words; empty where nothing says so."""
    sop_class = _one(dataset, 0x00080016)
    if sop_class.startswith(_AUDIO):
        return "it is a voice recording"
    if not any(tag in dataset for tag in _PIXELS):
        return ""
    burned, modality = _one(dataset, 0x00280301).upper(), _one(dataset, 0x00080060).upper()
    if burned == "YES":
        return "it is marked as having burned-in text"
    if _one(dataset, 0x00280302).upper() == "YES":
        return "it is marked as showing a recognisable face"
    if _one(dataset, 0x00480010).upper() == "YES":
        return "the label of the specimen is in the picture"
    kinds = {"".join(c for c in part.upper() if c.isalnum()) for part in texts(dataset, 0x00080008)}
    if kinds & _SCREENS or any(kind.endswith("PROT") for kind in kinds):  # PROT: the patient protocol of Siemens' CT
        return "it is a screen, a report or a label"
    if burned == "NO":
        return ""
    if sop_class == _SC or sop_class.startswith(_SC + ".") or not is_empty(dataset, 0x00080064):
        return "it was captured from a screen, film or paper"
    if sop_class.startswith(_PHOTOGRAPHS) and modality != "SM":
        return "it is a photograph or an endoscopy"
    if modality in _MODALITIES:
        return f"images of modality {modality} often have text in them"
    return ""


def overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether drawings lie in unused bits of the pixel data (retired, PS3.3 C.9.2 of 2004): out of reach."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) in dataset and (group, 0x3000) not in dataset:
            position = dataset.get((group, 0x0102))
            if position is None or position.value != 0 or _one(dataset, group << 16 | 0x0040):
                return True
    return False


def refuse_what_is_elsewhere(dataset: Dataset) -> None:
    """Pixel data that lies on another server (JPIP, PS3.5 A.6) keeps its address, and so the way to the original.

    Raises
    ------
    StepError
    """
    if 0x00287FE0 in dataset:
        raise StepError(
            "The picture of this image lies on another server, so it can't be de-identified and is not sent.",
            "Fetch the image with its picture (not by JPIP) and send that.",
            code="deidentify-elsewhere",
        )


def is_document(dataset: Dataset) -> bool:
    return ENCAPSULATED_DOCUMENT in dataset or _one(dataset, 0x00080016).startswith(_ENCAPSULATED)


def is_pdf(dataset: Dataset) -> bool:
    return _one(dataset, 0x00080016) == _PDF and _one(dataset, 0x00420012).lower() in ("", "application/pdf")


def _one(dataset: Dataset, tag: int) -> str:
    found = texts(dataset, tag)
    return found[0].strip() if found else ""
