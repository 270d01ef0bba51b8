"""The studies of an Orthanc that match a query: the whole list, or a reason why it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from core.model.study import Listing, SeriesInfo, StudyInfo, StudyQuery
from core.nodes.orthanc.answers import JsonObject, UnexpectedShapeError, identifiers, number
from core.nodes.orthanc.describe import children, modalities, series_info, study_info
from core.nodes.orthanc.holdings import lookup
from core.nodes.orthanc.matching import constraints, exact, matches
from core.nodes.orthanc.resources import details, pages_of, shaped_children
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort

STUDY_PAGE = 100
_LOOKUP_LIMIT = 50  # UIDs: more are found faster by looking through the whole list
_SINGLY = 5  # studies whose details are asked for one by one rather than by pages


class OrthancStudies:
    """A listing of studies; iterate once, then ask `outcome`."""

    def __init__(self, rest: OrthancRest, query: StudyQuery, abort: Abort | None) -> None:
        self._rest = rest
        self._query = query
        self._abort = abort
        self._count = 0
        self._outcome: Listing | None = None

    @property
    def outcome(self) -> Listing:
        if self._outcome is None:
            return Listing(self._count, False, "The list was not read to its end.")
        return self._outcome

    def __iter__(self) -> Iterator[StudyInfo]:
        self._count, self._outcome = 0, None
        missing = ""
        listed, narrowed = self._identifiers()
        if narrowed == {}:
            missing = _short_of_statistics(self._rest, len(listed), self._abort)
        for study in studies_by_id(self._rest, listed, self._abort, narrowed):
            if matches(study, self._query):
                self._count += 1
                yield study
        self._outcome = Listing(self._count, not missing, missing)

    def _identifiers(self) -> tuple[Sequence[str], Mapping[str, str] | None]:
        """Identifiers of all that may match, and the question for them: empty for all, None for a few by name."""
        query, rest, abort = self._query, self._rest, self._abort
        if query.study_uids and len(query.study_uids) <= _LOOKUP_LIMIT:
            return [r for uid in dict.fromkeys(query.study_uids) for r in lookup(rest, uid, "Study", abort)], None
        if exact(query.patient_id):
            return _studies_of_patient(rest, query.patient_id, abort), None
        narrowed = constraints(query)
        if narrowed and rest.capabilities(abort=abort).extended_find:
            found = _found_whole(rest, narrowed, abort)
            if found is not None:
                return found, narrowed
        return rest.get_identifiers("/studies", abort=abort), {}


def studies_by_id(
    rest: OrthancRest,
    refs: Sequence[str],
    abort: Abort | None,
    narrowed: Mapping[str, str] | None = None,
) -> Iterator[StudyInfo]:
    """Details of these studies with modalities and count; those surely deleted meanwhile are left out.

    Parameters
    ----------
    narrowed : Mapping[str, str] | None
        What they were found by, where they are many: their details then come by the same question.
    """
    left = dict.fromkeys(refs)
    try:
        if narrowed is not None and rest.capabilities(abort=abort).extended_find and len(left) > _SINGLY:
            yield from _found_pages(rest, narrowed, left, abort)
        for page in pages_of(list(left), STUDY_PAGE):
            yield from _counted_by_series(rest, details(rest, "Study", page, abort), abort)
    except UnexpectedShapeError as error:
        rest.unexpected("/studies", str(error))


def _found_pages(
    rest: OrthancRest, narrowed: Mapping[str, str], left: dict[str, None], abort: Abort | None
) -> Iterator[StudyInfo]:
    """Pages of ``/tools/find`` (since 1.12.5), with modalities and counts from the database.

    Takes out of `left` what it gives. Pages shift when studies are deleted or arrive meanwhile: what they skip
    stays in `left`.
    """
    since = 0
    while left:
        question = {
            "Level": "Study",
            "Query": dict(narrowed),
            "CaseSensitive": False,
            "ResponseContent": ["MainDicomTags", "RequestedTags"],
            "RequestedTags": ["ModalitiesInStudy", "NumberOfStudyRelatedInstances"],
            "OrderBy": [{"Type": "DicomTag", "Key": "StudyInstanceUID", "Direction": "ASC"}],
            "Since": since,
            "Limit": STUDY_PAGE,
        }
        rows = rest.post_list("/tools/find", question, abort=abort)
        if not rows:
            return
        since += len(rows)
        for item in rows:
            if item.get("ID") in left:
                del left[item["ID"]]
                study = study_info(item)
                yield _with_counts(study, study.modalities, study.instance_count)


def _counted_by_series(rest: OrthancRest, items: Sequence[JsonObject], abort: Abort | None) -> Iterator[StudyInfo]:
    """With modalities and counts from the studies' series."""
    by_study = _series_of(rest, items, abort)
    for study in [study_info(item) for item in items]:
        series = by_study.get(study.ref, [])
        counts = [s.instance_count for s in series if s.instance_count is not None]
        yield _with_counts(study, modalities(series), sum(counts) if len(counts) == len(series) else None)


def _series_of(rest: OrthancRest, items: Sequence[JsonObject], abort: Abort | None) -> dict[str, list[SeriesInfo]]:
    """The series of these studies, by the study's identifier; their long lists of instances are gone with this call."""
    refs = [ref for item in items for ref in children(item, "Series")]
    by_study: dict[str, list[SeriesInfo]] = {}
    for part in pages_of(refs, STUDY_PAGE):
        for item in details(rest, "Series", part, abort):
            by_study.setdefault(str(item.get("ParentStudy")), []).append(series_info(item))
    return by_study


def _with_counts(study: StudyInfo, found: tuple[str, ...], count: int | None) -> StudyInfo:
    return StudyInfo(
        study_uid=study.study_uid,
        ref=study.ref,
        patient_name=study.patient_name,
        patient_id=study.patient_id,
        birth_date=study.birth_date,
        sex=study.sex,
        study_date=study.study_date,
        study_time=study.study_time,
        description=study.description,
        accession=study.accession,
        modalities=found,
        instance_count=count,
        tags=(*study.tags, ("ModalitiesInStudy", "\\".join(found))),
    )


def _found_whole(rest: OrthancRest, narrowed: Mapping[str, str], abort: Abort | None) -> Sequence[str] | None:
    """Identifiers found by the database (since 1.12.5); None where the server cuts answers off.

    ``LimitFindResults`` cuts silently; asking for what follows tells. The whole list is looked through then,
    because pages would shift when studies are deleted meanwhile.
    """
    question: JsonObject = {"Level": "Study", "Query": dict(narrowed), "CaseSensitive": False}
    found = rest.json("POST", "/tools/find", payload=question, abort=abort, idempotent=True)
    try:
        listed = identifiers(found)
        if not listed:
            return listed
        question |= {"Since": len(listed), "Limit": 1}
        more = identifiers(rest.json("POST", "/tools/find", payload=question, abort=abort, idempotent=True))
    except UnexpectedShapeError as error:
        rest.unexpected("/tools/find", str(error))
    return None if more else listed


def _studies_of_patient(rest: OrthancRest, patient_id: str, abort: Abort | None) -> list[str]:
    listed: list[str] = []
    for ref in lookup(rest, patient_id, "Patient", abort):
        path = f"/patients/{ref}"
        answer = rest.fetch("GET", path, abort=abort)
        if answer.status == 404 and rest.surely_absent(path, abort=abort):
            continue
        listed += shaped_children(rest, path, rest.parsed(path, answer), "Studies")
    return listed


def _short_of_statistics(rest: OrthancRest, listed: int, abort: Abort | None) -> str:
    """Why a list of all studies can't be all; empty when the server's own count agrees with it.

    The count is taken after the list: studies that arrive in between are no loss, so a difference is looked
    at again with a new list.
    """
    counted = number(rest.get_object("/statistics", abort=abort), "CountStudies")
    if counted is None or counted <= listed:
        return ""
    again = len(rest.get_identifiers("/studies", abort=abort))
    if counted <= again:
        return ""
    return f"The server counts {counted} studies, but lists only {again}."
