"""What an Orthanc holds: studies, series and instances, each list whole or an error.

Lists of identifiers (``GET /studies``, ``GET /series/{id}``) come whole in one answer whatever limits the server
has, so they are the truth; details follow page by page, and every identifier of the list is accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from core.model.rules.tags import tag_path
from core.model.study import InstanceRef, SeriesInfo, StudyInfo, StudyQuery
from core.nodes.orthanc.answers import JsonObject, UnexpectedShapeError, identifier
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.describe import instance_ref, series_info
from core.nodes.orthanc.holdings import lookup
from core.nodes.orthanc.identifiers import ListSieve, Outstanding
from core.nodes.orthanc.resources import details, pages_of, shaped_children
from core.nodes.orthanc.rest import OrthancRest
from core.nodes.orthanc.studies import OrthancStudies, studies_by_id
from core.wire.http import Abort
from core.wire.status import answer_error

INSTANCE_PAGE = 200
FIND_PAGE = 500
_SMALL_SERIES = 500  # instances: where no series has more, all are asked for together, by their study
_TRANSFER_SYNTAX = "TransferSyntaxUID"
_FIND_GAIN = 40  # so much cheaper is an instance in a page of /tools/find than asked for by itself (1.12)
_Listed = tuple[SeriesInfo, Sequence[str]]
"""A series, and the identifiers of its instances."""


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
        """Short series together, long ones one by one; with digests where the server gives them in bulk."""
        rest = self.rest
        if series_ref:
            series, listed = _one_series(rest, series_ref, abort) or _gone(rest, f"series {series_ref}")
            yield from below_series(rest, study, series, listed, len(listed), abort)
            return
        ref = study.ref or _the_study(rest, study, abort)
        wanted = _listed(rest, f"/studies/{ref}", "Series", abort)
        known = _series_below(rest, ref, abort) if rest.capabilities(abort=abort).extended_find else {}
        if len(known) > 1 and known.keys() == set(wanted) and _all_short(known.values()):
            yield from _found_instances(rest, study, ("ParentStudy", ref), list(known.values()), abort)
            return
        for one in wanted:
            entry = known.pop(one, None) or _one_series(rest, one, abort)
            if entry is not None:  # else deleted since the study listed it
                yield from below_series(rest, study, entry[0], entry[1], len(entry[1]), abort)

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        """All wanted tags from each DICOM file (``/instances/{id}/tags?short``), by what rules call them."""
        wanted = {key: tags for key in keywords if (tags := tag_path(key))}
        paths = [f"/instances/{one.ref}/tags?short" for one in instances]
        found: list[Mapping[str, str]] = []
        for path, answer in zip(paths, self.rest.pipeline(paths), strict=True):
            item = self.rest.parsed(path, answer)
            if not isinstance(item, dict):
                self.rest.unexpected(path, "not the tags of an instance")
            values = {key: list(_along(item, tags)) for key, tags in wanted.items()}
            found.append({key: "\\".join(texts) for key, texts in values.items() if texts})
        if _TRANSFER_SYNTAX in wanted:  # is no part of the data set
            return [{**known, **told} for known, told in zip(found, self._transfer_syntaxes(instances), strict=True)]
        return found

    def _transfer_syntaxes(self, instances: Sequence[InstanceRef]) -> list[dict[str, str]]:
        answers = self.rest.pipeline([f"/instances/{one.ref}/metadata/TransferSyntax" for one in instances])
        return [
            {_TRANSFER_SYNTAX: answer.body.decode("ascii", "replace").strip()} if answer.status == 200 else {}
            for answer in answers
        ]


def _along(item: object, path: tuple[int, ...]) -> Iterator[str]:
    """The values at the end of a path of tags, in all items of the sequences on the way."""
    value = item.get(f"{path[0] >> 16:04x},{path[0] & 0xFFFF:04x}") if isinstance(item, dict) else None
    if len(path) == 1:
        if isinstance(value, str):
            yield value.strip(" \0")
        elif isinstance(value, list):
            yield str(len(value)) if value else ""  # of a sequence a rule asks only whether there is something in it
    elif isinstance(value, list):
        for inner in value:
            yield from _along(inner, path[1:])


def _all_short(series: Iterable[_Listed]) -> bool:
    return all(len(listed) <= _SMALL_SERIES for _, listed in series)


def below_series(
    rest: OrthancRest,
    study: StudyInfo,
    series: SeriesInfo,
    listed: Sequence[str],
    total: int,
    abort: Abort | None = None,
) -> Iterator[list[InstanceRef]]:
    """Pages with the details of some or all (`total`) instances of a series, by their identifiers."""
    if rest.capabilities(abort=abort).extended_find and len(listed) * _FIND_GAIN > total:
        yield from _found_instances(rest, study, ("ParentSeries", series.ref), [(series, listed)], abort)
    else:
        yield from _bulk_pages(rest, study, series, listed, abort)


def _found_instances(
    rest: OrthancRest, study: StudyInfo, parent: tuple[str, str], below: Sequence[_Listed], abort: Abort | None
) -> Iterator[list[InstanceRef]]:
    """Pages of ``/tools/find`` below a study or series; what they leave out of the list is asked for one by one.

    The pages shift when instances are deleted meanwhile, and end early where the server limits answers:
    neither loses anything, because the list says what there has to be.
    """
    left = Outstanding([listed for _, listed in below])
    since = 0
    while left.count:
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
            number = left.take(identifier(item))
            if number is not None:
                page.append(_shape(rest, item, study, below[number][0]))
        since += len(rows)
        if page:
            yield page
        if not rows:
            break
    for series, listed in below:
        if left.count and (refs := [ref for ref in dict.fromkeys(listed) if ref in left]):
            yield from _bulk_pages(rest, study, series, refs, abort)


def _series_below(rest: OrthancRest, study_ref: str, abort: Abort | None) -> dict[str, _Listed]:
    """The series of a study with their instances' identifiers (since 1.12.5); some, where the server limits answers."""
    question = {
        "Level": "Series",
        "Query": {},
        "ParentStudy": study_ref,
        "ResponseContent": ["MainDicomTags", "Children"],
    }
    found = {}
    for item in rest.post_list("/tools/find", question, abort=abort, sieve=ListSieve()):
        series = _series("/tools/find", rest, item)
        found[series.ref] = series, shaped_children(rest, "/tools/find", item, "Instances")
    return found


def _one_series(rest: OrthancRest, ref: str, abort: Abort | None) -> _Listed | None:
    """A series with its instances' identifiers, or None when it is surely gone."""
    path = f"/series/{ref}"
    sieve = ListSieve()
    answer = rest.fetch("GET", path, abort=abort, sieve=sieve)
    if answer.status == 404 and rest.surely_absent(path, abort=abort):
        return None
    item = rest.parsed(path, answer, sieve)
    return _series(path, rest, item), shaped_children(rest, path, item, "Instances")


def _listed(rest: OrthancRest, path: str, key: str, abort: Abort | None) -> Sequence[str]:
    return shaped_children(rest, path, rest.get_object(path, abort=abort), key)


def _gone(rest: OrthancRest, what: str) -> NoReturn:
    raise answer_error("gone", node=rest.node, status=404, detail=what)


def _bulk_pages(
    rest: OrthancRest, study: StudyInfo, series: SeriesInfo, listed: Sequence[str], abort: Abort | None
) -> Iterator[list[InstanceRef]]:
    """Pages of ``/tools/bulk-content``, or of single pipelined questions before Orthanc 1.9.4."""
    for refs in pages_of(listed, INSTANCE_PAGE):
        page = [_shape(rest, item, study, series) for item in details(rest, "Instance", refs, abort)]
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


def _candidates(rest: OrthancRest, ref: str, abort: Abort | None) -> list[str]:
    if "." in ref or "-" not in ref:
        return lookup(rest, ref, "Study", abort)
    return [ref]


def _the_study(rest: OrthancRest, study: StudyInfo, abort: Abort | None) -> str:
    for ref in lookup(rest, study.study_uid, "Study", abort):
        return ref
    _gone(rest, f"study {study.study_uid}")
