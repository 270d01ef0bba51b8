"""What a DICOMweb service holds: studies, series and images by QIDO-RS; a list is whole, or it is told or raised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from core.model.errors import AnswerError
from core.model.study import InstanceRef, SeriesInfo, StudyInfo, StudyQuery
from core.nodes.base import StudyListing
from core.nodes.dicomweb.query import DicomwebQuery
from core.nodes.dicomweb.tags import metadata_values
from core.nodes.search.answers import instance_ref, number, series_info
from core.nodes.search.studies import StudySearch
from core.wire.abort import Abort
from core.wire.found import Answer
from core.wire.status import answer_error

PAGE = 200
_NO_SUCH_SEARCH = frozenset({400, 404, 405, 501})


class DicomwebInventory(DicomwebQuery):
    """`Inventory` of a DICOMweb service."""

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> StudyListing:
        """Letters beyond ASCII are looked at here: services compare them in as many ways as there are databases."""
        return StudySearch(self.name, partial(self.ask, abort=abort), query, self.answer_limit, uid_lists=False)

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        """By Study Instance UID, which is the service's only handle."""
        return next(iter(self.studies(StudyQuery(study_uids=(ref,)), abort=abort)), None) if ref else None

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        """All of a study with one question, page by page; held against the numbers that the service tells.

        Raises
        ------
        AnswerError
            ``gone``, or ``incomplete``: a list can't be had whole.
        """
        listed = {a["SeriesInstanceUID"]: series_info(a) for a in self._series(study, series_ref, abort)}
        pages = _Refs(self, study, listed)
        keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study.study_uid}
        if not series_ref and len(listed) > 1:
            try:
                yield from pages.of(keys, abort)
            except AnswerError as error:
                if pages.count or error.status not in _NO_SUCH_SEARCH:
                    raise
            else:
                pages.require_all(listed.values())
                return
        for series in listed.values():
            yield from pages.of(keys | {"SeriesInstanceUID": series.series_uid}, abort)
        pages.require_all(listed.values())

    def _series(self, study: StudyInfo, series_ref: str, abort: Abort | None) -> list[Answer]:
        found = [a for a in self.series_of(study.study_uid, abort=abort) if a.get("SeriesInstanceUID")]
        if series_ref:
            found = [a for a in found if a["SeriesInstanceUID"] == series_ref]
        if not found:
            what = f"series {series_ref}" if series_ref else f"study {study.study_uid}"
            raise answer_error("gone", node=self.name, detail=f"{what} is not listed")
        said = study.instance_count
        counted = [number(a, "NumberOfSeriesRelatedInstances") for a in found]
        if not series_ref and said is not None and None not in counted:
            listed = sum(n for n in counted if n is not None)
            if listed < said:
                now = self.study(study.study_uid, abort=abort)  # the number may be of a while ago
                if now is not None and now.instance_count is not None and listed < now.instance_count:
                    detail = f"{now.instance_count} images of a study counted, {listed} in its series"
                    raise answer_error("incomplete", node=self.name, detail=detail)
        return found

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        """From the images' metadata (WADO-RS); by keyword."""
        return metadata_values(self.access, instances, keywords)


class _Refs:
    """The images of a study as they are listed, each once."""

    def __init__(self, node: DicomwebQuery, study: StudyInfo, series: dict[str, SeriesInfo]) -> None:
        self._node = node
        self._study = study
        self._series = series
        self._seen: dict[str, set[str]] = {}
        self._whole = True

    @property
    def count(self) -> int:
        return sum(len(uids) for uids in self._seen.values())

    def of(self, keys: Mapping[str, str], abort: Abort | None) -> Iterator[list[InstanceRef]]:
        listing = self._node.listed(keys, abort=abort)
        only = keys.get("SeriesInstanceUID", "")
        page: list[InstanceRef] = []
        for answer in listing:
            uid = answer.get("SOPInstanceUID", "")
            series_uid = answer.get("SeriesInstanceUID", "") or only
            if not uid or not series_uid:
                self._node.access.unexpected("/instances", "an image without its UIDs")
            if (only and series_uid != only) or uid in self._seen.setdefault(series_uid, set()):
                continue
            self._seen[series_uid].add(uid)
            page.append(instance_ref(answer, self._study, self._of_series(series_uid)))
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page
        if listing.failure is not None:
            raise listing.failure
        self._whole = listing.whole

    def _of_series(self, uid: str) -> SeriesInfo:
        """The series of an image; one that came while the study was listed is described by its UID alone."""
        found = self._series.get(uid)
        if found is None:
            untold = frozenset(("Modality", "SeriesNumber", "SeriesDescription"))
            found = self._series[uid] = SeriesInfo(uid, uid, untold=untold)
        return found

    def require_all(self, series: Iterable[SeriesInfo]) -> None:
        """Hold what was listed against the numbers that the service tells of its series."""
        for one in series:
            listed = len(self._seen.get(one.series_uid, ()))
            said = one.instance_count
            if said is not None and listed < said:
                said = self._counted_now(one.series_uid)
            if said is not None and listed < said:
                detail = f"{said} images of a series counted, {listed} listed"
                raise answer_error("incomplete", node=self._node.name, detail=detail)
            if said is None and not self._whole and self._node.answer_limit.suspects(listed):
                detail = f"{listed} images of a series listed, which may be all that it gives at once"
                raise answer_error("incomplete", node=self._node.name, detail=detail)

    def _counted_now(self, series_uid: str) -> int | None:
        for answer in self._node.series_of(self._study.study_uid):
            if answer.get("SeriesInstanceUID") == series_uid:
                return number(answer, "NumberOfSeriesRelatedInstances")
        return 0
