"""What an Orthanc holds: studies, series and instances, each list whole or an error.

Lists of identifiers (``GET /studies``, ``GET /series/{id}``) come whole in one answer whatever limits the server
has, so they are the truth; details follow page by page, and every identifier of the list is accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, TypeVar

from core.model.study import InstanceRef, Listing, SeriesInfo, StudyInfo, StudyQuery
from core.nodes.orthanc.answers import JsonObject, UnexpectedShapeError, identifier, identifiers, number
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.describe import children, instance_ref, modalities, series_info, study_info
from core.nodes.orthanc.holdings import lookup
from core.nodes.orthanc.matching import constraints, exact, matches
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort
from core.wire.status import answer_error

STUDY_PAGE = 100
INSTANCE_PAGE = 200
FIND_PAGE = 500
_LOOKUP_LIMIT = 50  # UIDs: more are found faster by looking through the whole list
_SINGLY = 5  # studies whose details are asked for one by one rather than by pages
_SMALL_SERIES = 500  # instances: series up to this are asked for together, by their study
_FIND_GAIN = 40  # so much cheaper is an instance in a page of /tools/find than asked for by itself (1.12)
_T = TypeVar("_T")


class OrthancInventory(OrthancBase):
    """`Inventory` of an Orthanc."""

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> OrthancStudies:
        return OrthancStudies(self.rest, query, abort)

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        """By Orthanc identifier or Study Instance UID."""
        for found in studies_by_id(self.rest, _candidates(self.rest, ref, abort), abort):
            return found
        return None

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        """Series by series; the digest comes with it where the server gives digests in bulk."""
        rest = self.rest
        if series_ref:
            series, listed = _one_series(rest, series_ref, abort) or _gone(rest, f"series {series_ref}")
            yield from below_series(rest, study, series, listed, len(listed), abort)
            return
        ref = study.ref or _the_study(rest, study, abort)
        wanted = _listed(rest, f"/studies/{ref}", "Series", abort)
        known = _series_below(rest, ref, abort) if rest.capabilities(abort=abort).extended_find else {}
        small = {sid: known.pop(sid) for sid in wanted if sid in known and len(known[sid][1]) <= _SMALL_SERIES}
        if len(small) > 1:
            yield from _found_instances(
                rest, study, ("ParentStudy", ref), {i: series for series, ids in small.values() for i in ids}, abort
            )
        else:
            known |= small
            small = {}
        for one in wanted:
            if one in small:
                continue
            entry = known.pop(one, None) or _one_series(rest, one, abort)
            if entry is not None:  # else deleted since the study listed it
                yield from below_series(rest, study, entry[0], entry[1], len(entry[1]), abort)

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        """All wanted tags from each DICOM file (``/instances/{id}/simplified-tags``), by keyword."""
        paths = [f"/instances/{one.ref}/simplified-tags" for one in instances]
        found: list[Mapping[str, str]] = []
        for path, answer in zip(paths, self.rest.pipeline(paths), strict=True):
            item = self.rest.parsed(path, answer)
            if not isinstance(item, dict):
                self.rest.unexpected(path, "not the tags of an instance")
            found.append({k: v.strip(" \0") for k, v in item.items() if k in keywords and isinstance(v, str)})
        return found


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

    def _identifiers(self) -> tuple[list[str], Mapping[str, str] | None]:
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
        for page in _pages(list(left), STUDY_PAGE):
            items = _details(rest, "Study", page, abort)
            yield from _counted_by_series(rest, [study_info(item) for item in items], items, abort)
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


def _counted_by_series(
    rest: OrthancRest, page: list[StudyInfo], items: Sequence[JsonObject], abort: Abort | None
) -> Iterator[StudyInfo]:
    """With modalities and counts from the studies' series."""
    refs = [ref for item in items for ref in children(item, "Series")]
    by_study: dict[str, list[SeriesInfo]] = {}
    for part in _pages(refs, STUDY_PAGE):
        for item in _details(rest, "Series", part, abort):
            by_study.setdefault(str(item.get("ParentStudy")), []).append(series_info(item))
    for study in page:
        series = by_study.get(study.ref, [])
        counts = [s.instance_count for s in series if s.instance_count is not None]
        yield _with_counts(study, modalities(series), sum(counts) if len(counts) == len(series) else None)


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


def _details(rest: OrthancRest, level: str, refs: Sequence[str], abort: Abort | None) -> list[JsonObject]:
    """The objects of these identifiers in the order asked, without those that the server says are gone."""
    found: dict[str, JsonObject] = {}
    folder = {"Study": "studies", "Series": "series", "Instance": "instances"}[level]
    if rest.capabilities(abort=abort).bulk_content and len(refs) > 1:
        payload = {"Resources": list(refs), "Level": level, "Metadata": True}
        for item in rest.post_list("/tools/bulk-content", payload, abort=abort):
            found[identifier(item)] = item
    left = [ref for ref in refs if ref not in found]
    paths = [f"/{folder}/{ref}" for ref in left]
    for ref, path, answer in zip(left, paths, rest.pipeline(paths, abort=abort) if paths else (), strict=True):
        if answer.status == 404 and (rest.says_absent(path, answer) or rest.surely_absent(path, abort=abort)):
            continue
        item = rest.parsed(path, answer)
        if not isinstance(item, dict) or item.get("ID") != ref:
            rest.unexpected(path, "not the resource that was asked for")
        found[ref] = item
    return [found[ref] for ref in refs if ref in found]


def below_series(
    rest: OrthancRest,
    study: StudyInfo,
    series: SeriesInfo,
    listed: list[str],
    total: int,
    abort: Abort | None = None,
) -> Iterator[list[InstanceRef]]:
    """Pages with the details of some or all (`total`) instances of a series, by their identifiers."""
    if rest.capabilities(abort=abort).extended_find and len(listed) * _FIND_GAIN > total:
        wanted = dict.fromkeys(listed, series)
        yield from _found_instances(rest, study, ("ParentSeries", series.ref), wanted, abort)
    else:
        yield from _bulk_pages(rest, study, series, listed, abort)


def _found_instances(
    rest: OrthancRest, study: StudyInfo, parent: tuple[str, str], left: dict[str, SeriesInfo], abort: Abort | None
) -> Iterator[list[InstanceRef]]:
    """Pages of ``/tools/find`` below a study or series; what they leave out of the list is asked for one by one.

    The pages shift when instances are deleted meanwhile, and end early where the server limits answers:
    neither loses anything, because the list says what there has to be.
    """
    since = 0
    while left:
        question = {
            "Level": "Instance",
            "Query": {},
            parent[0]: parent[1],
            "ResponseContent": ["MainDicomTags", "Attachments", "Metadata"],
            "Since": since,
            "Limit": FIND_PAGE,
        }
        rows = rest.post_list("/tools/find", question, abort=abort)
        page = []
        for item in rows:
            series = left.pop(identifier(item), None)
            if series is not None:
                page.append(_shape(rest, item, study, series))
        since += len(rows)
        if page:
            yield page
        if not rows:
            break
    by_series: dict[SeriesInfo, list[str]] = {}
    for ref, series in left.items():
        by_series.setdefault(series, []).append(ref)
    for series, refs in by_series.items():
        yield from _bulk_pages(rest, study, series, refs, abort)


def _series_below(rest: OrthancRest, study_ref: str, abort: Abort | None) -> dict[str, tuple[SeriesInfo, list[str]]]:
    """The series of a study with their instances' identifiers (since 1.12.5); some, where the server limits answers."""
    question = {
        "Level": "Series",
        "Query": {},
        "ParentStudy": study_ref,
        "ResponseContent": ["MainDicomTags", "Children"],
    }
    found = {}
    for item in rest.post_list("/tools/find", question, abort=abort):
        series = _series("/tools/find", rest, item)
        found[series.ref] = series, _shaped(rest, "/tools/find", item, "Instances")
    return found


def _one_series(rest: OrthancRest, ref: str, abort: Abort | None) -> tuple[SeriesInfo, list[str]] | None:
    """A series with its instances' identifiers, or None when it is surely gone."""
    path = f"/series/{ref}"
    answer = rest.fetch("GET", path, abort=abort)
    if answer.status == 404 and rest.surely_absent(path, abort=abort):
        return None
    item = rest.parsed(path, answer)
    return _series(path, rest, item), _shaped(rest, path, item, "Instances")


def _listed(rest: OrthancRest, path: str, key: str, abort: Abort | None) -> list[str]:
    return _shaped(rest, path, rest.get_object(path, abort=abort), key)


def _gone(rest: OrthancRest, what: str) -> NoReturn:
    raise answer_error("gone", node=rest.node, status=404, detail=what)


def _bulk_pages(
    rest: OrthancRest, study: StudyInfo, series: SeriesInfo, listed: list[str], abort: Abort | None
) -> Iterator[list[InstanceRef]]:
    """Pages of ``/tools/bulk-content``, or of single pipelined questions before Orthanc 1.9.4."""
    for refs in _pages(listed, INSTANCE_PAGE):
        page = [_shape(rest, item, study, series) for item in _details(rest, "Instance", refs, abort)]
        if page:
            yield page


def _series(path: str, rest: OrthancRest, item: object) -> SeriesInfo:
    try:
        if not isinstance(item, dict):
            raise UnexpectedShapeError("not an object")
        return series_info(item)
    except UnexpectedShapeError as error:
        rest.unexpected(path, str(error))


def _shape(rest: OrthancRest, item: JsonObject, study: StudyInfo, series: SeriesInfo) -> InstanceRef:
    try:
        return instance_ref(item, study, series)
    except UnexpectedShapeError as error:
        rest.unexpected(f"/series/{series.ref}", str(error))


def _shaped(rest: OrthancRest, path: str, item: object, key: str) -> list[str]:
    try:
        if not isinstance(item, dict):
            raise UnexpectedShapeError("not an object")
        return children(item, key)
    except UnexpectedShapeError as error:
        rest.unexpected(path, str(error))


def _found_whole(rest: OrthancRest, narrowed: Mapping[str, str], abort: Abort | None) -> list[str] | None:
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
        listed += _shaped(rest, path, rest.parsed(path, answer), "Studies")
    return listed


def _candidates(rest: OrthancRest, ref: str, abort: Abort | None) -> list[str]:
    if "." in ref or "-" not in ref:
        return lookup(rest, ref, "Study", abort)
    return [ref]


def _the_study(rest: OrthancRest, study: StudyInfo, abort: Abort | None) -> str:
    for ref in lookup(rest, study.study_uid, "Study", abort):
        return ref
    _gone(rest, f"study {study.study_uid}")


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


def _pages(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
