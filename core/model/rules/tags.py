"""How rules name tags: by keyword, by number, or by the path to one within sequences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.model.loading import load_pydicom

#: What most rules are about: keyword and the name that people know it by.
COMMON_TAGS = (
    ("Modality", "Modality"),
    ("ModalitiesInStudy", "Modalities in study"),
    ("StudyDate", "Study date"),
    ("StudyDescription", "Study description"),
    ("SeriesDescription", "Series description"),
    ("BodyPartExamined", "Body part"),
    ("ProtocolName", "Protocol"),
    ("PatientName", "Patient's name"),
    ("PatientID", "Patient ID"),
    ("IssuerOfPatientID", "Issuer of patient ID"),
    ("PatientBirthDate", "Patient's date of birth"),
    ("PatientSex", "Patient's sex"),
    ("PatientAge", "Patient's age"),
    ("AccessionNumber", "Accession number"),
    ("InstitutionName", "Institution"),
    ("InstitutionalDepartmentName", "Department"),
    ("ReferringPhysicianName", "Referring physician"),
    ("PerformingPhysicianName", "Performing physician"),
    ("StationName", "Station"),
    ("Manufacturer", "Manufacturer"),
    ("ManufacturerModelName", "Model of the device"),
    ("StudyTime", "Study time"),
    ("SeriesDate", "Series date"),
    ("AcquisitionDate", "Acquisition date"),
    ("SeriesNumber", "Series number"),
    ("InstanceNumber", "Image number"),
    ("NumberOfStudyRelatedInstances", "Number of images in study"),
    ("NumberOfSeriesRelatedInstances", "Number of images in series"),
    ("SliceThickness", "Slice thickness"),
    ("ImageType", "Image type"),
    ("SOPClassUID", "Kind of image (SOP class)"),
    ("TransferSyntaxUID", "Transfer syntax"),
    ("StudyInstanceUID", "Study Instance UID"),
    ("SeriesInstanceUID", "Series Instance UID"),
    ("SOPInstanceUID", "SOP Instance UID"),
    ("BurnedInAnnotation", "Burned-in annotation"),
    ("RequestedProcedureDescription", "Requested procedure"),
)

#: Of the patient, the study, the series and the equipment (PS3.3 C.7.1 to C.7.3 and C.7.5): the same in all images of
#: a series.
SAME_IN_SERIES = frozenset((
    "AccessionNumber", "BodyPartExamined", "DeviceSerialNumber", "FrameOfReferenceUID", "InstitutionAddress",
    "InstitutionName", "InstitutionalDepartmentName", "IssuerOfPatientID", "Laterality", "Manufacturer",
    "ManufacturerModelName", "ModalitiesInStudy", "Modality", "NumberOfSeriesRelatedInstances",
    "NumberOfStudyRelatedInstances", "OperatorsName", "OtherPatientIDs", "PatientAge", "PatientBirthDate",
    "PatientComments", "PatientID", "PatientName", "PatientPosition", "PatientSex", "PatientSize", "PatientWeight",
    "PerformedProcedureStepDescription", "PerformedProcedureStepID", "PerformedProcedureStepStartDate",
    "PerformingPhysicianName", "ProtocolName", "ReferringPhysicianName", "RequestingPhysician", "SeriesDate",
    "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesTime", "SoftwareVersions", "StationName",
    "StudyDate", "StudyDescription", "StudyID", "StudyInstanceUID", "StudyTime",
))  # fmt: skip

TEXT_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT", ""})
WHOLE_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT"})
"""A backslash is part of the text, not between values (PS3.5 6.4)."""
NUMBER_VRS = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
TEMPORAL_VRS = frozenset({"DA", "TM", "DT"})
_WITHOUT_TEXT = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT", "NONE"})

_NUMBER = r"\(?\s*([0-9A-Fa-f]{4})\s*,?\s*([0-9A-Fa-f]{4})\s*\)?"
_NUMBERED = re.compile(_NUMBER + r"\Z")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]{1,63}\Z")
_DEEPEST = 8
_TRANSFER_SYNTAX = 0x00020010
_ONLY_ANSWERED = re.compile(
    r"NumberOfPatientRelated|NumberOfStudyRelatedSeries|SOPClassesInStudy|QueryRetrieve|Retrieve"
)


class UnknownTagError(ValueError):
    """A name that stands for no tag that a rule could look at; the text says why, as the rest of a sentence."""


@dataclass(frozen=True, slots=True)
class TagChoice:
    """A tag as people look for it.

    Attributes
    ----------
    key : str
        As it stands in a rule: the keyword.
    title : str
        "Study date"; the standard's own name for those that few rules are about.
    number : str
        "(0008,0020)".
    """

    key: str
    title: str
    number: str

    @property
    def common(self) -> bool:
        return self.key in _common()


def tag_key(name: str) -> str:
    """What stands for a tag in a rule: its keyword, "(gggg,eeee)" where it has none, with dots between them a path.

    Parameters
    ----------
    name : str
        A keyword in any case, a number ("(0008,0060)", "0008,0060", "00080060"), the name that people know it by,
        or a path to a tag within sequences ("RequestAttributesSequence.ScheduledProcedureStepID").

    Raises
    ------
    UnknownTagError
    """
    name = name.strip()
    known = _by_title().get(" ".join(name.casefold().split()))
    if known:
        return known
    parts = name.split(".")
    if len(parts) > _DEEPEST:
        raise UnknownTagError("leads too deep into sequences")
    keys = [_one_key(part.strip(), shown=name) for part in parts]
    for key in keys[:-1]:
        if vr_of(key) not in ("SQ", ""):
            raise UnknownTagError(f"is not to be found: {key} is no sequence, so that nothing lies in it")
    return ".".join(keys)


def _one_key(name: str, *, shown: str) -> str:
    match = _NUMBERED.match(name)
    if match:
        return _numbered(int(match[1], 16), int(match[2], 16))
    if not _WORD.match(name):
        raise UnknownTagError("is not the name of a tag, such as Modality or StudyDate")
    found = _by_lower().get(name.casefold())
    if found is None:
        raise UnknownTagError("is not the name of a tag in DICOM" + _perhaps(name))
    if _ONLY_ANSWERED.match(found):
        raise UnknownTagError("is told in answers to some queries only, so that no rule can rely on it")
    tag = _number_of(found)
    if tag >> 16 < 8 and tag != _TRANSFER_SYNTAX:
        raise UnknownTagError("belongs to the file and not to the image")
    return _comparable(found)


def _numbered(group: int, element: int) -> str:

    tag = group << 16 | element
    if group < 8 and tag != _TRANSFER_SYNTAX:
        raise UnknownTagError("belongs to the file and not to the image")
    if element == 0:
        raise UnknownTagError("is a group length, which tells nothing of the image")
    if group % 2 == 0:
        keyword = _dictionary().keyword_for_tag(tag)
        if not keyword:
            raise UnknownTagError("is not a tag of DICOM")
        if _dictionary().tag_for_keyword(keyword) == tag:
            return _comparable(keyword)
    elif element < 0x10 or 0xFF < element < 0x1000:
        raise UnknownTagError("can't be a private tag: those are (gggg,0010) to (gggg,00FF) and (gggg,1000) on")
    return _comparable(f"({group:04X},{element:04X})")


def _comparable(key: str) -> str:
    if vr_of(key) in _WITHOUT_TEXT:
        raise UnknownTagError("holds no text or number that could be compared")
    return key


def _perhaps(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name.casefold(), _by_lower(), n=1, cutoff=0.75)
    return f"; perhaps {_by_lower()[near[0]]} is meant" if near else ""


@lru_cache(maxsize=1024)
def tag_path(key: str) -> tuple[int, ...]:
    """The tag's number, with those of the sequences that it lies in before it; nothing for what names no tag."""
    try:
        return tuple(_number_of(part) for part in key.split("."))
    except ValueError:
        return ()


def is_plain(key: str) -> bool:
    """Whether a key is a keyword, and not a number or a path."""
    return "." not in key and "(" not in key


def _number_of(part: str) -> int:

    match = _NUMBERED.match(part)
    if match:
        return int(match[1] + match[2], 16)
    tag = _dictionary().tag_for_keyword(part)
    if tag is None:
        raise ValueError(f"{part} is no keyword")
    return int(tag)


@lru_cache(maxsize=1024)
def vr_of(key: str) -> str:
    """Value representation (PS3.5 6.2) by the dictionary, the first of a choice; empty where it has none."""

    last = key.rpartition(".")[2]
    try:
        tag = _number_of(last)
        if tag >> 16 & 1:
            return "LO" if tag & 0xFFFF < 0x100 else ""  # a private creator (PS3.5 7.8.1)
        return str(_dictionary().dictionary_VR(tag)).split(" ")[0]
    except (KeyError, ValueError):
        return ""


@lru_cache(maxsize=1024)
def has_one_value(key: str) -> bool:
    """Whether an image has one value of it at most (its value multiplicity is 1)."""

    try:
        return "." not in key and vr_of(key) != "" and _dictionary().dictionary_VM(_number_of(key)) == "1"
    except (KeyError, ValueError):
        return False


@lru_cache(maxsize=1024)
def title_of(key: str) -> str:
    """The name that people know a tag by."""
    if "." in key:
        return " › ".join(title_of(part) for part in key.split("."))
    if key in _common():
        return _common()[key]
    if key.startswith("("):
        return f"Tag {key}"

    try:
        return str(_dictionary().dictionary_description(_number_of(key)))
    except (KeyError, ValueError):
        return key


def number_text(key: str) -> str:
    """ "(0008,0060)", for a path that of the tag itself."""
    tag = tag_path(key)[-1]
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=1)
def tag_choices() -> tuple[TagChoice, ...]:
    """Every tag of the dictionary that a rule can look at: those of most rules first, then by name."""

    found = {}
    for tag, (vr, _vm, title, retired, keyword) in _dictionary().DicomDictionary.items():
        usable = tag >> 16 >= 8 and vr.split(" ")[0] not in _WITHOUT_TEXT and vr != "SQ"
        if keyword and usable and not retired and not _ONLY_ANSWERED.match(keyword):
            found[keyword] = TagChoice(keyword, title, f"({tag >> 16:04X},{tag & 0xFFFF:04X})")
    common = [TagChoice(key, title, number_text(key)) for key, title in COMMON_TAGS]
    rest = sorted((c for c in found.values() if c.key not in _common()), key=lambda c: c.title.casefold())
    return (*common, *rest)


@lru_cache(maxsize=1)
def _dictionary() -> Any:
    """pydicom's data dictionary, loaded when it is asked for first."""
    load_pydicom()
    from pydicom import datadict

    return datadict


@lru_cache(maxsize=1)
def _common() -> dict[str, str]:
    return dict(COMMON_TAGS)


@lru_cache(maxsize=1)
def _by_title() -> dict[str, str]:
    """Names that are no keywords: those with a blank in them, and "Institution" and its kin."""
    spaced = {c.title.casefold(): c.key for c in reversed(tag_choices()) if " " in c.title}
    common = {title.casefold(): key for key, title in COMMON_TAGS if title.casefold() not in _by_lower()}
    return {title.replace("\u2019", "'"): key for title, key in {**spaced, **common}.items()}


@lru_cache(maxsize=1)
def _by_lower() -> dict[str, str]:
    """Keywords without regard to case."""

    return {entry[4].casefold(): entry[4] for entry in _dictionary().DicomDictionary.values() if entry[4]}
