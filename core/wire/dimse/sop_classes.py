"""Kinds of image (storage SOP classes) and their encodings, for proposing contexts without having seen an image."""

from __future__ import annotations

from functools import cache
from typing import Final

from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom.presentation import AllStoragePresentationContexts

_ROOT = "1.2.840.10008.5.1.4.1.1."

CT: Final = _ROOT + "2"
SECONDARY_CAPTURE: Final = _ROOT + "7"
VIDEO_ENDOSCOPIC: Final = _ROOT + "77.1.1.1"

#: Kinds by the modality of their series (0008,0060), most frequent first; the ending of the SOP Class UID.
_OF_MODALITY = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.3", "4.4", "4.2"),
    "CR": ("1",),
    "DX": ("1.1", "1.1.1", "1"),
    "DR": ("1.1", "1"),
    "RG": ("1", "1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3", "13.1.4", "13.1.5"),
    "IO": ("1.3", "1.3.1"),
    "PX": ("1.1", "1.1.1", "7"),
    "NM": ("20",),
    "PT": ("128", "130", "128.1"),
    "US": ("6.1", "3.1", "6.2"),
    "IVUS": ("6.1", "3.1"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1"),
    "OT": ("7", "7.1", "7.2", "7.3", "7.4"),
    "SC": ("7", "7.4"),
    "ES": ("77.1.1", "77.1.1.1"),
    "GM": ("77.1.2", "77.1.2.1"),
    "SM": ("77.1.6", "77.1.3"),
    "XC": ("77.1.4", "77.1.4.1"),
    "OP": ("77.1.5.1", "77.1.5.2"),
    "OPT": ("77.1.5.4",),
    "SR": ("88.22", "88.33", "88.11", "88.67", "88.34", "88.50", "88.65"),
    "KO": ("88.59",),
    "PR": ("11.1", "11.2", "11.3", "11.4"),
    "DOC": ("104.1", "104.2"),
    "REG": ("66.1", "66.3"),
    "SEG": ("66.4", "66.5"),
    "ECG": ("9.1.1", "9.1.2", "9.1.3"),
    "HD": ("9.2.1",),
    "RTIMAGE": ("481.1",),
    "RTDOSE": ("481.2",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5", "481.8"),
    "RTRECORD": ("481.4", "481.6", "481.7", "481.9"),
}

_FIRST = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_LIVE_VIDEO = "1.2.840.10008.1.2.7."  # SMPTE ST 2110 is never stored

#: Every transfer syntax in which images are stored. Explicit VR stands first: some peers (DCMTK's) convert to the
#: first uncompressed one that was agreed on, and from implicit to explicit VR nothing is lost.
SYNTAXES: Final[tuple[str, ...]] = (
    *_FIRST,
    *(str(s) for s in AllTransferSyntaxes if s not in _FIRST and not s.startswith(_LIVE_VIDEO)),
)
#: Those of objects without pixels.
UNCOMPRESSED: Final[tuple[str, ...]] = tuple(s for s in SYNTAXES if not UID(s).is_encapsulated)


def _storage_classes() -> tuple[str, ...]:
    common = [_ROOT + ending for endings in _OF_MODALITY.values() for ending in endings]
    return tuple(dict.fromkeys((*common, *(str(c.abstract_syntax) for c in AllStoragePresentationContexts))))


#: All that are known, the more frequent ones first.
STORAGE_CLASSES: Final[tuple[str, ...]] = _storage_classes()


def classes_of(modality: str) -> tuple[str, ...]:
    """All kinds of image, those that a series of this modality usually holds first."""
    likely = tuple(_ROOT + ending for ending in _OF_MODALITY.get(modality.strip().upper(), ()))
    return tuple(dict.fromkeys((*likely, *STORAGE_CLASSES)))


@cache
def has_pixels(sop_class: str) -> bool:
    """Whether objects of this kind can be compressed: images, videos, and whatever is not known."""
    name = UID(sop_class).name
    return name == sop_class or any(word in name for word in ("Image", "Segmentation", "Parametric", "Dose", "Volume"))


def syntaxes_of(sop_class: str) -> tuple[str, ...]:
    return SYNTAXES if has_pixels(sop_class) else UNCOMPRESSED


def name_of(uid: str) -> str:
    """The name of a SOP class or transfer syntax as people know it; the UID where it has none."""
    name = UID(uid).name
    return name.removesuffix(" Storage")
