"""Going through the studies of a range of days, newest or oldest first, in parts that a node can tell whole."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from enum import StrEnum

from core.jobs.base import Discovery
from core.model.study import StudyInfo, StudyQuery
from core.nodes.base import Inventory

FEW = 250  # studies up to which twice as many days are asked for together next
MANY = 4000  # studies in memory at a time, where they are of more than one day
LONGEST = 4096  # days
_EARLIEST = dt.date(1890, 1, 1)  # no images before
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


def parse_day(text: str) -> dt.date:
    """A day written as YYYYMMDD or YYYY-MM-DD.

    Raises
    ------
    ValueError
        With a sentence for a person.
    """
    found = _DATE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"“{text}” is no date; write it as YYYYMMDD, such as 20240131")
    try:
        day = dt.date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError as error:
        raise ValueError(f"there is no day {found[1]}-{found[2]}-{found[3]}") from error
    if day < _EARLIEST:
        raise ValueError(f"{day} is before there were any images")
    return day


class DatedStudies:
    """The studies of some days (both ends included), one part after the other in the order wanted.

    A part is as many days as hold a few hundred studies: few questions where there is little, one day at a time
    where there is much, or where the node can't tell more whole. (A node that can't tell a day whole splits it
    itself, by hours and modalities.)

    Attributes
    ----------
    doubts : list[str]
        Why some of it may be missing: sentences.
    stopped : bool
        The job was stopped in between.
    """

    def __init__(self, discovery: Discovery, first: dt.date, last: dt.date, order: Order) -> None:
        self.doubts: list[str] = []
        self.stopped = False
        self._discovery = discovery
        self._first = first
        self._last = last
        self._newest = order is Order.NEWEST

    def __iter__(self) -> Iterator[StudyInfo]:
        span = 1
        left = (self._last - self._first).days + 1
        while left > 0:
            if not self._discovery.wait(0):
                self.stopped = True
                return
            span = min(span, left)
            begin, end = self._part(left, span)
            studies = self._listed(begin, end)
            if studies is None:
                span = max(1, span // 2)
                continue
            yield from studies
            left -= span
            if len(studies) < FEW:
                span = min(span * 2, LONGEST)
            elif len(studies) > MANY // 2:
                span = max(1, span // 2)

    def _part(self, left: int, span: int) -> tuple[dt.date, dt.date]:
        """The next `span` of the `left` days."""
        if self._newest:
            end = self._first + dt.timedelta(left - 1)
            return end - dt.timedelta(span - 1), end
        begin = self._last - dt.timedelta(left - 1)
        return begin, begin + dt.timedelta(span - 1)

    def _listed(self, begin: dt.date, end: dt.date) -> list[StudyInfo] | None:
        """What lies in a part, sorted; None where it is to be asked for in smaller ones."""
        source = self._discovery.source
        assert isinstance(source, Inventory)
        query = StudyQuery(date_from=f"{begin:%Y%m%d}", date_to=f"{end:%Y%m%d}")
        listing = source.studies(query, abort=self._discovery.abort)
        found: dict[str, StudyInfo] = {}
        for study in listing:
            # Whoever does not understand the question and lists everything must not make us carry that.
            if query.date_from <= day_of(study) <= query.date_to:
                found[study.study_uid] = study
            if len(found) > MANY and begin != end:
                return None
        if not listing.outcome.complete:
            if begin != end:
                return None
            doubt = listing.outcome.reason or f"{self._discovery.source.name} did not vouch for its list of {begin}."
            if doubt not in self.doubts:
                self.doubts.append(doubt)
        return sorted(found.values(), key=lambda s: (day_of(s), s.study_time, s.study_uid), reverse=self._newest)


def day_of(study: StudyInfo) -> str:
    """Study Date (0008,0020) as YYYYMMDD; servers of the nineties wrote YYYY.MM.DD."""
    return study.study_date.replace(".", "").strip()
