"""What arrives at a DICOMweb service, which keeps no log of it: its recent studies are listed time and again: `Follow`.

Studies of yesterday, today and tomorrow are looked at; of older ones that are brought in later, the inventory tells
that a job that follows takes every hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from core.model.job import Trigger
from core.model.study import Change, ChangeKind, ChangePage, InstanceRef, StudyInfo, StudyQuery
from core.nodes.dicomweb.inventory import DicomwebInventory
from core.nodes.search.answers import number
from core.wire.abort import Abort

_MOST_LOGGED = 20_000
_DAY = timedelta(days=1)


@dataclass
class _Watched:
    """A series as it was seen last.

    Attributes
    ----------
    count : int
        Images, 0 where the service doesn't count them.
    since : float
        `time.monotonic` of the last change.
    told : bool
        That it is complete was told since.
    """

    count: int
    since: float
    told: bool


@dataclass
class _WatchedStudy(_Watched):
    series: dict[str, _Watched] = field(default_factory=dict)


class DicomwebFollow(DicomwebInventory):
    """`Follow` of a DICOMweb service.

    Attributes
    ----------
    look_every : float
        Seconds between two looks, however often it is asked.
    """

    look_every = 5.0

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._watching = threading.Lock()
        self._studies: dict[str, _WatchedStudy] = {}
        self._log: list[Change] = []
        self._first = 0  # sequence number before which nothing is known; 0 while it was never looked
        self._last = 0
        self._looked_at = 0.0

    def cursor(self) -> int:
        """Milliseconds since 1970 as sequence numbers: they go on after a restart."""
        with self._watching:
            self._begin(None)
            return self._last

    def changes(self, since: int, *, abort: Abort | None = None) -> ChangePage:
        """What was seen to arrive after `since`; `reset` where this program was not there to see it."""
        with self._watching:
            began = not self._first
            self._begin(abort)
            if began or since < self._first or since > self._last:
                return ChangePage((), self._last, True, True)
            if time.monotonic() - self._looked_at >= self.look_every:
                self._look(abort)
            found = tuple(change for change in self._log if change.sequence > since)
            return ChangePage(found, self._last, True)

    def stable(self, kind: Trigger, ref: str) -> bool:
        """Whether no image has come for the time that the node's fields say, as far as was seen."""
        if kind is Trigger.INSTANCE:
            return True
        with self._watching:
            if kind is Trigger.STUDY:
                watched: _Watched | None = self._studies.get(ref)
            else:
                watched = next((s.series[ref] for s in self._studies.values() if ref in s.series), None)
            return watched is None or self._is_quiet(watched)

    def study_of(self, kind: Trigger, ref: str) -> StudyInfo | None:
        if kind is Trigger.SERIES:
            with self._watching:
                ref = next((uid for uid, study in self._studies.items() if ref in study.series), "")
        return self.study(ref)

    def describe(self, refs: Sequence[str]) -> Iterator[tuple[StudyInfo, Sequence[InstanceRef]]]:
        """All images of the studies in which some have arrived: what is known of them already is left alone."""
        for uid in dict.fromkeys(refs):
            study = self.study(uid)
            if study is not None:
                for page in self.instances(study):
                    yield study, page

    # --- looking; under the lock ---

    def _begin(self, abort: Abort | None) -> None:
        """What is there at the first look is no arrival, but may not be complete yet."""
        if self._first:
            return
        for study in self._recent(abort):
            self._compare(study, abort)
        self._log.clear()
        self._first = self._last = max(self._last + 1, int(time.time() * 1000))
        self._looked_at = time.monotonic()

    def _look(self, abort: Abort | None) -> None:
        seen = set()
        for study in self._recent(abort):
            seen.add(study.study_uid)
            self._compare(study, abort)
        for uid in [uid for uid in self._studies if uid not in seen]:
            del self._studies[uid]  # deleted, or no longer recent
        self._looked_at = time.monotonic()
        del self._log[:-_MOST_LOGGED]
        if self._log and self._log[0].sequence > self._first and len(self._log) == _MOST_LOGGED:
            self._first = self._log[0].sequence  # whoever has not read on until here needs an inventory

    def _recent(self, abort: Abort | None) -> Iterator[StudyInfo]:
        today = date.today()
        query = StudyQuery(date_from=f"{today - _DAY:%Y%m%d}", date_to=f"{today + _DAY:%Y%m%d}")
        yield from self.studies(query, abort=abort)

    def _compare(self, study: StudyInfo, abort: Abort | None) -> None:
        now = time.monotonic()
        uid, count = study.study_uid, study.instance_count or 0
        watched = self._studies.get(uid)
        if watched is None:
            watched = self._studies[uid] = _WatchedStudy(-1, now, told=False)
        if count != watched.count or not study.instance_count:
            self._compare_series(uid, watched, now, abort)
        if count != watched.count:
            watched.count, watched.since, watched.told = count, now, False
            self._tell(ChangeKind.NEW_INSTANCE, uid)
        for series_uid, series in watched.series.items():
            if not series.told and self._is_quiet(series):
                series.told = True
                self._tell(ChangeKind.STABLE_SERIES, series_uid)
        if not watched.told and self._is_quiet(watched):
            watched.told = True
            self._tell(ChangeKind.STABLE_STUDY, uid)

    def _compare_series(self, uid: str, watched: _WatchedStudy, now: float, abort: Abort | None) -> None:
        for answer in self.series_of(uid, abort=abort):
            series_uid = answer.get("SeriesInstanceUID", "")
            count = number(answer, "NumberOfSeriesRelatedInstances") or 0
            series = watched.series.get(series_uid)
            if series is None:
                watched.series[series_uid] = _Watched(count, now, told=False)
                watched.since, watched.told = now, False
            elif series.count != count:
                series.count, series.since, series.told = count, now, False
                watched.since, watched.told = now, False
                self._tell(ChangeKind.NEW_INSTANCE, uid)

    def _is_quiet(self, watched: _Watched) -> bool:
        return time.monotonic() - watched.since >= self.fields.stable_after

    def _tell(self, kind: ChangeKind, ref: str) -> None:
        self._last = max(self._last + 1, int(time.time() * 1000))
        self._log.append(Change(self._last, kind, ref))
