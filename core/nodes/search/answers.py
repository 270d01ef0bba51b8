"""Questions to a node and its answers in the program's own words: keys of each level, studies, series, images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from core.model.study import InstanceRef, SeriesInfo, StudyInfo, StudyQuery
from core.wire.found import Answer

STUDY_KEYS = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID", "PatientBirthDate",
    "PatientSex", "StudyID", "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)  # fmt: skip
"""No more than servers keep in their databases: for another one (such as the referring physician) they open files."""
SERIES_KEYS = (
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances",
)  # fmt: skip
IMAGE_KEYS = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber")

_TEXTS = (
    ("PatientID", "patient_id"),
    ("PatientName", "patient_name"),
    ("AccessionNumber", "accession"),
    ("StudyDescription", "description"),
)
_KEPT = tuple(k for k in STUDY_KEYS if not k.startswith("NumberOf"))
_NEVER_EMPTY = frozenset(("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"))
"""Type 1 in every image (PS3.3): from a node that gives them empty, nothing is known of them."""


# --- questions ---


def study_keys(query: StudyQuery, *, any_letters: bool) -> dict[str, str]:
    """The keys of a question at the level of studies, without date and time, never narrower than `query`.

    `any_letters`: the node surely understands letters beyond ASCII.
    """
    keys = {"QueryRetrieveLevel": "STUDY"} | dict.fromkeys(STUDY_KEYS, "")
    for keyword, name in _TEXTS:
        keys[keyword] = _pattern_for(getattr(query, name), any_letters=any_letters)
    if len(query.modalities) == 1:  # no lists in a key of this type (PS3.4 C.2.2.2)
        keys["ModalitiesInStudy"] = query.modalities[0]
    return keys


def series_keys(study_uid: str, series_uid: str = "", *, more: Sequence[str] = ()) -> dict[str, str]:
    """All series of a study, or one of them."""
    keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study_uid}
    return keys | dict.fromkeys((*SERIES_KEYS, *more), "") | {"SeriesInstanceUID": series_uid}


def image_keys(
    study_uid: str, series_uid: str, sop_uids: Sequence[str] = (), *, more: Sequence[str] = ()
) -> dict[str, str]:
    """All images of a series, or some of them by a list of UIDs (PS3.4 C.2.2.2.2)."""
    keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    return keys | dict.fromkeys((*IMAGE_KEYS, *more), "") | {"SOPInstanceUID": "\\".join(sop_uids)}


def presence_keys(study_uid: str, series_uid: str, sop_uids: Sequence[str] = ()) -> dict[str, str]:
    """As `image_keys`, for nothing but the UIDs: servers answer to that in half the time."""
    asked = image_keys(study_uid, series_uid, sop_uids)
    return {keyword: value for keyword, value in asked.items() if value or keyword == "SOPInstanceUID"}


def _pattern_for(value: str, *, any_letters: bool) -> str:
    """A value as it is asked for: with wildcards for what the node may write otherwise than we do.

    How a node compares letters beyond ASCII depends on the character set that it keeps names in; unless a person
    says which one that is, such letters are looked at here, in the answers.
    """
    value = value.replace("\\", "?")
    if not any_letters and not value.isascii():
        return re.sub(r"\*+", "*", "".join(c if c.isascii() else "*" for c in value))
    return value


# --- answers ---


def study_info(answer: Answer) -> StudyInfo:
    """A study from its answer; what isn't in it is empty."""
    text = answer.get
    return StudyInfo(
        study_uid=text("StudyInstanceUID", ""),
        ref=text("StudyInstanceUID", ""),
        patient_name=text("PatientName", ""),
        patient_id=text("PatientID", ""),
        birth_date=text("PatientBirthDate", ""),
        sex=text("PatientSex", ""),
        study_date=text("StudyDate", "").replace(".", ""),
        study_time=text("StudyTime", "").replace(":", "").split(".")[0],
        description=text("StudyDescription", ""),
        accession=text("AccessionNumber", ""),
        modalities=tuple(m for m in text("ModalitiesInStudy", "").split("\\") if m),
        instance_count=number(answer, "NumberOfStudyRelatedInstances"),
        tags=tuple((k, answer[k]) for k in _KEPT if k in answer),
        untold=frozenset(k for k in _KEPT if not tells(answer, k)),
    )


def series_info(answer: Answer) -> SeriesInfo:
    return SeriesInfo(
        series_uid=answer.get("SeriesInstanceUID", ""),
        ref=answer.get("SeriesInstanceUID", ""),
        modality=answer.get("Modality", ""),
        number=answer.get("SeriesNumber", ""),
        description=answer.get("SeriesDescription", ""),
        instance_count=number(answer, "NumberOfSeriesRelatedInstances"),
        untold=frozenset(k for k in SERIES_KEYS if not tells(answer, k)),
    )


def instance_ref(answer: Answer, study: StudyInfo, series: SeriesInfo) -> InstanceRef:
    return InstanceRef(
        sop_uid=answer["SOPInstanceUID"],
        series_uid=series.series_uid,
        study_uid=study.study_uid,
        ref=answer["SOPInstanceUID"],
        sop_class=answer.get("SOPClassUID", ""),
        patient_id=study.patient_id,
        series=series,
    )


def tells(answer: Answer, keyword: str) -> bool:
    """Whether an answer says something of this attribute, if only that it has no value."""
    return bool(answer.get(keyword)) if keyword in _NEVER_EMPTY else keyword in answer


def number(answer: Answer, keyword: str) -> int | None:
    """A whole number (VR IS), None where there is none."""
    value = answer.get(keyword, "")
    return int(value) if value.isascii() and value.removeprefix("+").isdigit() else None


# --- matching ---


def matches(query: StudyQuery, study: StudyInfo) -> bool:
    """Whether an answer is what was asked for (PS3.4 C.2.2.2); modalities aside, which may have to be asked for.

    Servers differ in what they compare, so that all is looked at again. A study without a date is in no range.
    """
    if query.study_uids and study.study_uid not in query.study_uids:
        return False
    if not all(_like(getattr(query, name), getattr(study, name)) for _, name in _TEXTS if name != "patient_name"):
        return False
    if query.patient_name and not _like_name(query.patient_name, study.patient_name):
        return False
    dated = bool(study.study_date)
    if query.date_from and not (dated and study.study_date >= query.date_from):
        return False
    return not query.date_to or (dated and study.study_date <= query.date_to)


def untold(query: StudyQuery, answer: Answer) -> str:
    """Keyword of something that is asked for and that the answer doesn't tell; empty where it tells all."""
    for keyword, name in _TEXTS:
        if getattr(query, name) and keyword not in answer:
            return keyword
    return "StudyDate" if (query.date_from or query.date_to) and "StudyDate" not in answer else ""


def wanted_modality(query: StudyQuery, modalities: Sequence[str]) -> bool:
    return not query.modalities or not set(query.modalities).isdisjoint(modalities)


def _like_name(wanted: str, value: str) -> bool:
    """The whole name or one of its component groups, empty components at the end being nothing (PS3.5 6.2.1)."""
    groups = [value, *value.split("=")] if "=" in value else [value]
    return any(_like(wanted.rstrip("^"), group.rstrip("^")) or _like(wanted, group) for group in groups)


def _like(wanted: str, value: str) -> bool:
    return not wanted or _expression(wanted.casefold()).fullmatch(value.casefold()) is not None


@lru_cache(maxsize=64)
def _expression(wanted: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted)
    return re.compile("".join(parts), re.DOTALL)
