"""What a C-FIND asks for, and the entities of the catalogue that match, level by level (PS3.4 Annex C)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from core.nodes.this_computer.matching import Matcher, UnusableKeyError, matcher
from core.spool.attributes import INSTANCE, SERIES, STUDY
from core.spool.catalogue import Catalogue
from core.spool.record import InstanceRecord, SeriesRecord, StudyRecord

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"

_AT_ONCE = 300  # UIDs asked of the catalogue in one statement
_ABOUT_THE_QUESTION = frozenset(
    ("QueryRetrieveLevel", "SpecificCharacterSet", "TimezoneOffsetFromUTC", "RetrieveAETitle", "InstanceAvailability",
     "QueryRetrieveView")
)  # fmt: skip


class QueryLevel(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def unique_key(self) -> str:
        return _UNIQUE[self]


_UNIQUE = {
    QueryLevel.PATIENT: "PatientID",
    QueryLevel.STUDY: "StudyInstanceUID",
    QueryLevel.SERIES: "SeriesInstanceUID",
    QueryLevel.IMAGE: "SOPInstanceUID",
}
_LEVELS = tuple(QueryLevel)
_OF_PATIENT = ("NumberOfPatientRelatedStudies", "NumberOfPatientRelatedSeries", "NumberOfPatientRelatedInstances")
_OWN: dict[QueryLevel, frozenset[str]] = {
    QueryLevel.PATIENT: frozenset(
        (*(k for k in STUDY if k.startswith("Patient")), "IssuerOfPatientID", "EthnicGroup", *_OF_PATIENT)
    ),
    QueryLevel.STUDY: frozenset(
        (*STUDY, "ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries",
         "NumberOfStudyRelatedInstances")
    ),
    QueryLevel.SERIES: frozenset((*SERIES, "NumberOfSeriesRelatedInstances")),
    QueryLevel.IMAGE: frozenset(INSTANCE),
}  # fmt: skip


@cache
def keys_of(level: QueryLevel) -> frozenset[str]:
    """Attributes that can be asked for at this level: its own and those of the levels above."""
    return frozenset().union(*(_OWN[one] for one in _LEVELS[: _LEVELS.index(level) + 1]))


@dataclass(frozen=True, slots=True)
class Question:
    """An identifier, understood.

    Attributes
    ----------
    level : QueryLevel
    keys : Mapping[str, str]
        Keyword → what is asked for, of those attributes that are kept here; empty where it is only wanted back.
    matchers : Mapping[str, Matcher]
        Those that leave something out.
    all_supported : bool
        Every key of the identifier is among `keys`.
    """

    level: QueryLevel
    keys: Mapping[str, str]
    matchers: Mapping[str, Matcher]
    all_supported: bool = True

    def exact(self, keyword: str) -> tuple[str, ...]:
        """The values that alone can match; empty where others can as well."""
        value = self.keys.get(keyword, "")
        parts = tuple(p for p in (part.strip() for part in value.split("\\")) if p)
        return parts if keyword in self.matchers and not any(c in value for c in "*?") else ()

    def admits(self, level: QueryLevel, attributes: Mapping[str, str]) -> bool:
        """Whether an entity of `level` matches as far as that level's own attributes go."""
        own = _OWN[level]
        return all(matches(attributes.get(k, "")) for k, matches in self.matchers.items() if k in own)


def understood(root: str, identifier: Mapping[str, str]) -> Question:
    """The question that an identifier puts.

    Keys that are not kept here match everything and are not answered (PS3.4 C.2.2.1.3). Identifiers that leave out
    unique keys of higher levels are taken as relational queries, whether or not that was negotiated.

    Parameters
    ----------
    root : str
        `PATIENT_ROOT` or `STUDY_ROOT`.

    Raises
    ------
    UnusableKeyError
        It has no level that the model knows, or a value that its attribute can't have.
    """
    level = level_of(root, identifier)
    kept = keys_of(level)
    keys = {k: v for k, v in identifier.items() if k in kept}
    matchers = {k: m for k, v in keys.items() if (m := matcher(k, v)) is not None}
    strange = [k for k in identifier if k not in kept and k not in _ABOUT_THE_QUESTION]
    return Question(level, keys, matchers, not strange)


def level_of(root: str, identifier: Mapping[str, str]) -> QueryLevel:
    """The level of a query or retrieval.

    Raises
    ------
    UnusableKeyError
    """
    try:
        level = QueryLevel(identifier.get("QueryRetrieveLevel", "").strip())
    except ValueError:
        raise UnusableKeyError("QueryRetrieveLevel is missing or unknown") from None
    if level is QueryLevel.PATIENT and root != PATIENT_ROOT:
        raise UnusableKeyError("QueryRetrieveLevel PATIENT needs the Patient Root model")
    return level


class Finder:
    """Answers one question from the catalogue, entity by entity."""

    def __init__(self, catalogue: Catalogue, question: Question) -> None:
        self._catalogue = catalogue
        self._question = question
        self._patients: dict[str, Mapping[str, str]] = {}
        self._seen: dict[str, tuple[StudyRecord | None, dict[str, SeriesRecord]]] = {}

    def matches(self) -> Generator[dict[str, str], None, None]:
        """Attributes of each entity that matches; those asked for, empty where it lacks them."""
        found = {
            QueryLevel.PATIENT: self._found_patients,
            QueryLevel.STUDY: self._found_studies,
            QueryLevel.SERIES: self._found_series,
            QueryLevel.IMAGE: self._found_images,
        }[self._question.level]()
        wanted = (*self._question.keys, self._question.level.unique_key)
        for attributes in found:
            yield {keyword: attributes.get(keyword, "") for keyword in wanted}

    def records(self) -> Generator[InstanceRecord, None, None]:
        """All instances of the entities that match: what a retrieval sends."""
        q = self._question
        if q.level is QueryLevel.IMAGE:
            for record, _ in self._images():
                yield record
        elif q.level is QueryLevel.SERIES:
            for study, _ in self._studies():
                for series, _ in self._series_of(study, {}):
                    for page in self._catalogue.instances(study.study_uid, series.series_uid):
                        yield from page
        else:
            for study, _ in self._studies():
                for page in self._catalogue.instances(study.study_uid):
                    yield from page

    # patients and studies -------------------------------------------------------------------------------

    def _found_patients(self) -> Iterator[Mapping[str, str]]:
        """Studies with the same Patient ID and issuer are one patient's; so are those without, by their name."""
        patients: dict[tuple[str, ...], list[StudyRecord]] = {}
        for study, _ in self._studies():
            a = study.attributes
            number = a.get("PatientID", "")
            key = (number, a.get("IssuerOfPatientID", "")) if number else ("", "", a.get("PatientName", ""))
            patients.setdefault(key, []).append(study)
        for studies in patients.values():
            attributes = {**studies[-1].attributes, **_patient_counts(studies)}
            if self._question.admits(QueryLevel.PATIENT, attributes):
                yield attributes

    def _found_studies(self) -> Iterator[Mapping[str, str]]:
        return (attributes for _, attributes in self._studies())

    def _studies(self) -> Iterator[tuple[StudyRecord, Mapping[str, str]]]:
        q = self._question
        counted = any(k in q.keys for k in _OF_PATIENT) and q.level is not QueryLevel.PATIENT
        for study in self._candidates():
            attributes = study_attributes(study)
            if counted:
                attributes |= self._counts_of_patient(attributes.get("PatientID", ""))
            above = QueryLevel.PATIENT
            if (q.level is above or q.admits(above, attributes)) and q.admits(QueryLevel.STUDY, attributes):
                yield study, attributes

    def _candidates(self) -> Iterator[StudyRecord]:
        """What the catalogue's indexes leave of all studies."""
        q = self._question
        patient, accession = q.exact("PatientID"), q.exact("AccessionNumber")
        first, last = _dates(q)
        uids: Sequence[str] = q.exact("StudyInstanceUID")
        portions = [uids[n : n + _AT_ONCE] for n in range(0, len(uids), _AT_ONCE)] if uids else [()]
        for portion in portions:
            yield from self._catalogue.studies(
                study_uids=portion,
                patient_id=patient[0] if len(patient) == 1 else "",
                accession=accession[0] if len(accession) == 1 else "",
                date_from=first,
                date_to=last,
            )

    def _counts_of_patient(self, number: str) -> Mapping[str, str]:
        if number not in self._patients:
            studies = list(self._catalogue.studies(patient_id=number)) if number else []
            self._patients[number] = _patient_counts(studies)
        return self._patients[number]

    # series and images ----------------------------------------------------------------------------------

    def _found_series(self) -> Iterator[Mapping[str, str]]:
        for study, above in self._studies():
            for _, attributes in self._series_of(study, above):
                yield attributes

    def _series_of(
        self, study: StudyRecord, above: Mapping[str, str]
    ) -> Iterator[tuple[SeriesRecord, Mapping[str, str]]]:
        for series in self._catalogue.series(study.study_uid):
            attributes = series_attributes(series)
            if self._question.admits(QueryLevel.SERIES, attributes):
                yield series, {**above, **attributes}

    def _found_images(self) -> Iterator[Mapping[str, str]]:
        return (attributes for _, attributes in self._images())

    def _images(self) -> Iterator[tuple[InstanceRecord, Mapping[str, str]]]:
        uids = self._question.exact("SOPInstanceUID")
        if uids:
            for start in range(0, len(uids), _AT_ONCE):
                for record in self._catalogue.find(uids[start : start + _AT_ONCE]).values():
                    yield from self._with_context(record)
            return
        for study, above in self._studies():
            for series, both in self._series_of(study, above):
                for page in self._catalogue.instances(study.study_uid, series.series_uid):
                    for record in page:
                        attributes = instance_attributes(record)
                        if self._question.admits(QueryLevel.IMAGE, attributes):
                            yield record, {**both, **attributes}

    def _with_context(self, record: InstanceRecord) -> Iterator[tuple[InstanceRecord, Mapping[str, str]]]:
        """An instance that was named, if its study and series are those asked for too."""
        if record.study_uid not in self._seen:
            if len(self._seen) > _AT_ONCE:
                self._seen.clear()
            every = self._catalogue.series(record.study_uid)
            self._seen[record.study_uid] = self._catalogue.study(record.study_uid), {s.series_uid: s for s in every}
        study, its_series = self._seen[record.study_uid]
        series = its_series.get(record.series_uid)
        if study is None or series is None:
            return  # deleted just now
        q = self._question
        parts = (study_attributes(study), series_attributes(series), instance_attributes(record))
        if q.admits(QueryLevel.PATIENT, parts[0]) and all(
            q.admits(level, own) for level, own in zip(_LEVELS[1:], parts, strict=True)
        ):
            yield record, {**parts[0], **parts[1], **parts[2]}


def for_retrieval(root: str, identifier: Mapping[str, str]) -> Question:
    """The entities that a C-MOVE or C-GET names by the unique key of its level (PS3.4 C.4.2.2.1).

    Raises
    ------
    UnusableKeyError
        It names none, or uses wildcards: nobody means to retrieve everything.
    """
    level = level_of(root, identifier)
    keys = {k: identifier[k] for one in _LEVELS if (k := one.unique_key) in identifier and _above(one, level)}
    question = understood(root, {"QueryRetrieveLevel": level, **keys})
    if not question.exact(level.unique_key):
        raise UnusableKeyError(f"{level.unique_key} is missing or has wildcards")
    return replace(question, matchers={k: m for k, m in question.matchers.items() if keys.get(k)})


def _above(one: QueryLevel, level: QueryLevel) -> bool:
    return _LEVELS.index(one) <= _LEVELS.index(level)


def study_attributes(study: StudyRecord) -> dict[str, str]:
    return {
        **study.attributes,
        "StudyInstanceUID": study.study_uid,
        "ModalitiesInStudy": "\\".join(study.modalities),
        "SOPClassesInStudy": "\\".join(study.sop_classes),
        "NumberOfStudyRelatedSeries": str(study.series),
        "NumberOfStudyRelatedInstances": str(study.instances),
    }


def series_attributes(series: SeriesRecord) -> dict[str, str]:
    return {
        **series.attributes,
        "SeriesInstanceUID": series.series_uid,
        "NumberOfSeriesRelatedInstances": str(series.instances),
    }


def instance_attributes(record: InstanceRecord) -> dict[str, str]:
    return {**record.attributes, "SOPInstanceUID": record.sop_uid, "SOPClassUID": record.sop_class}


def _patient_counts(studies: Sequence[StudyRecord]) -> dict[str, str]:
    numbers = (len(studies), sum(s.series for s in studies), sum(s.instances for s in studies))
    return {keyword: str(number) for keyword, number in zip(_OF_PATIENT, numbers, strict=True)}


def _dates(question: Question) -> tuple[str, str]:
    """First and last study date, for the catalogue; a coarse filter, matching looks again."""
    value = question.keys.get("StudyDate", "").replace(".", "").strip()
    if "StudyDate" not in question.matchers or "\\" in value:
        return "", ""
    first, dash, last = value.partition("-")
    return (first.strip(), last.strip()) if dash else (first, first)
