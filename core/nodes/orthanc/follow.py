"""The change log of an Orthanc, and what its entries belong to: `Follow`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.model.job import Trigger
from core.model.study import Change, ChangeKind, ChangePage, InstanceRef, StudyInfo
from core.nodes.orthanc.answers import JsonObject, UnexpectedShapeError, identifier, number, text
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.describe import children, series_info, study_info
from core.nodes.orthanc.inventory import below_series
from core.nodes.orthanc.studies import studies_by_id
from core.wire.http import Abort

CHANGES_PAGE = 500
_KINDS = {
    "NewInstance": ChangeKind.NEW_INSTANCE,
    "StableSeries": ChangeKind.STABLE_SERIES,
    "StableStudy": ChangeKind.STABLE_STUDY,
}
_FOLDERS = {Trigger.INSTANCE: "instances", Trigger.SERIES: "series", Trigger.STUDY: "studies"}


class OrthancFollow(OrthancBase):
    """`Follow` of an Orthanc."""

    def cursor(self) -> int:
        return self._last("/changes?last", self.rest.get_object("/changes?last"))

    def changes(self, since: int, *, abort: Abort | None = None) -> ChangePage:
        """``GET /changes``. Entries of deleted resources are missing from it; a cleared log is told as `reset`."""
        path = f"/changes?since={since}&limit={CHANGES_PAGE}"
        found = self.rest.get_object(path, abort=abort)
        last = self._last(path, found)
        listed = self.rest.resources(path, found.get("Changes"))
        if last < since or (self._begins_later(path, listed, since, last) and self._was_cleared(since)):
            return ChangePage((), last, True, True)
        changes = []
        for entry in listed:
            kind = _KINDS.get(text(entry, "ChangeType"))
            sequence = number(entry, "Seq")
            if kind is not None and sequence is not None:
                changes.append(Change(sequence, kind, identifier(entry), text(entry, "Date")))
        return ChangePage(tuple(changes), last, found.get("Done") is not False)

    def _begins_later(self, path: str, listed: list[JsonObject], since: int, last: int) -> bool:
        """Whether entries right after `since` are missing: their resources were deleted, or the log was cleared."""
        if not listed:
            return last > since
        first = number(listed[0], "Seq")
        if first is None:
            self.rest.unexpected(path, "a change without its number")
        return first > since + 1

    def _was_cleared(self, since: int) -> bool:
        """Whether the log has nothing any more of what was read: the numbers go on when it is cleared."""
        path = "/changes?since=0&limit=1"
        oldest = self.rest.get_object(path).get("Changes")
        if not isinstance(oldest, list):
            self.rest.unexpected(path, "no list of changes")
        first = number(oldest[0], "Seq") if oldest and isinstance(oldest[0], dict) else None
        return first is None or first > since

    def stable(self, kind: Trigger, ref: str) -> bool:
        """``IsStable``; an instance is always."""
        item = self._resource(f"/{_FOLDERS[kind]}/{ref}")
        return item is not None and (kind is Trigger.INSTANCE or item.get("IsStable") is True)

    def study_of(self, kind: Trigger, ref: str) -> StudyInfo | None:
        path = f"/studies/{ref}" if kind is Trigger.STUDY else f"/{_FOLDERS[kind]}/{ref}/study"
        item = self._resource(path)
        if item is None:
            return None
        for study in studies_by_id(self.rest, [identifier(item)], None):
            return study
        return None

    def describe(self, refs: Sequence[str]) -> Iterator[tuple[StudyInfo, Sequence[InstanceRef]]]:
        """Series by series, in pages; instances that arrived together mostly share their series."""
        left = dict.fromkeys(refs)
        studies: dict[str, StudyInfo | None] = {}
        while left:
            ref = next(iter(left))
            item = self._resource(f"/instances/{ref}/series")
            if item is None:
                del left[ref]
                continue
            try:
                mine = [other for other in children(item, "Instances") if other in left]
                series = series_info(item)
                parent = text(item, "ParentStudy")
                total = series.instance_count or 0
            except UnexpectedShapeError as error:
                self.rest.unexpected(f"/instances/{ref}/series", str(error))
            if ref not in mine:  # listed a moment before it was indexed
                mine.append(ref)
            for other in mine:
                del left[other]
            if parent not in studies:
                found = self._resource(f"/studies/{parent}")
                studies[parent] = None if found is None else self._study(found)
            study = studies[parent]
            if study is not None:
                for page in below_series(self.rest, study, series, mine, total):
                    yield study, page

    def _study(self, item: JsonObject) -> StudyInfo:
        try:
            return study_info(item)
        except UnexpectedShapeError as error:
            self.rest.unexpected("/studies", str(error))

    def _resource(self, path: str) -> JsonObject | None:
        """A resource; None when it is surely gone."""
        answer = self.rest.fetch("GET", path)
        if answer.status == 404 and (self.rest.says_absent(path, answer) or self.rest.surely_absent(path)):
            return None
        item = self.rest.parsed(path, answer)
        if not isinstance(item, dict) or not isinstance(item.get("ID"), str):
            self.rest.unexpected(path, "not a resource")
        return item

    def _last(self, path: str, found: JsonObject) -> int:
        last = number(found, "Last")
        if last is None:
            self.rest.unexpected(path, "no end of the change log")
        return last
