"""All studies that match: one question where that is enough, and parts of it where the answer isn't whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import date
from typing import Protocol

from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.study import Listing, StudyInfo, StudyQuery
from core.nodes.search.answers import matches, series_keys, study_info, study_keys, untold, wanted_modality
from core.nodes.search.limit import AnswerLimit
from core.nodes.search.parts import Part, as_date, beyond
from core.wire.found import MOST_ANSWERS, Answer, Found

log = logging.getLogger(__name__)

_UIDS_AT_ONCE = 100
_WORTH_A_LOOK = 50  # answers from which on it is looked whether something lies before and after them
_FAILURES = 5  # in a row and without a single answer: asking for less does not help
_NO_VALUE = '""'  # empty value matching (PS3.4 C.2.2.2.7), which few servers know
_CUT_OFF = "incomplete"
_TOO_MUCH = {"find-a7xx", "find-cxxx", "find-fe00", "find-other", "find-0110", "find-0213", "find-no-identifier",
    _CUT_OFF, "too-large", "server-error", "bad-gateway",
}  # fmt: skip

_UNLIMITED = 1 << 62


class Ask(Protocol):
    """Puts one question to the node, on an association of its own."""

    def __call__(self, keys: dict[str, str], *, most: int = ..., keep: Callable[[Answer], bool] = ...) -> Found: ...


class StudySearch:
    """Iterate for the studies; afterwards `outcome` says whether that was all (`StudyListing`).

    Nothing of the node is held between two studies, so that others can be done meanwhile, or hours later.

    Parameters
    ----------
    ask : Ask
    query : StudyQuery
    limit : AnswerLimit
    uid_lists : bool
        The node can be asked for several UIDs at once.
    any_letters : bool
        The node surely understands letters beyond ASCII; else they are looked at here, in the answers.
    """

    def __init__(
        self,
        node: str,
        ask: Ask,
        query: StudyQuery,
        limit: AnswerLimit,
        *,
        uid_lists: bool = True,
        any_letters: bool = False,
    ) -> None:
        self._node = node
        self._ask = ask
        self._query = query
        self._limit = limit
        self._uid_lists = uid_lists
        self._keys = study_keys(query, any_letters=any_letters)
        self._today = date.today()
        self._seen: set[str] = set()
        self._count = 0
        self._failures = 0
        self._doubts: dict[str, None] = {}
        self._outcome = Listing(complete=False, reason="The list was not read to its end.")

    @property
    def outcome(self) -> Listing:
        return self._outcome

    def __iter__(self) -> Iterator[StudyInfo]:
        self._seen.clear()
        self._doubts.clear()
        self._count = self._failures = 0
        self._outcome = Listing(complete=False, reason="The list was not read to its end.")
        for part in self._first_parts():
            yield from self._whole(part)
        self._outcome = Listing(self._count, not self._doubts, " ".join(self._doubts))

    def _first_parts(self) -> list[Part]:
        first, last = as_date(self._query.date_from), as_date(self._query.date_to)
        uids = tuple(dict.fromkeys(self._query.study_uids))
        if not uids:
            return [Part(first, last)]
        step = _UIDS_AT_ONCE if self._uid_lists else 1
        return [Part(first, last, uids=uids[at : at + step]) for at in range(0, len(uids), step)]

    # --- parts ---

    def _whole(self, part: Part) -> Iterator[StudyInfo]:
        """All studies of a part, asked for in smaller ones where the answer may lack some."""
        found = self._found(part.keys())
        yield from self._fresh(found.answers)
        if found.ended_well and (yield from self._is_whole(part, found)):
            return
        if _is_unheeded(part, found) and (found.failure is None or found.failure.code == _CUT_OFF):
            self._doubt("there may be more studies than it lists, and does not look at what is asked for")
            return
        smaller = part.smaller(today=self._today, by_modality=not self._query.modalities)
        if not smaller:
            self._cannot_be_smaller(found)
            return
        known = len(self._seen)
        for one in smaller:
            yield from self._whole(one)
        if found.ended_well and len(self._seen) == known:
            self._limit.whole_with(found.count)  # the parts add nothing to what looked like a limit
            return
        if found.ended_well:
            self._limit.cut_at(found.count)
        yield from self._in_no_part(part, smaller[0], found)

    def _is_whole(self, part: Part, found: Found) -> Generator[StudyInfo, None, bool]:
        """Whether an answer that the node calls its whole list can be believed."""
        if part.uids:
            return (yield from self._all_uids_told(part, found))
        if found.whole:
            return True
        if self._limit.suspects(found.count):
            return False
        if found.count >= _WORTH_A_LOOK and part.any_time:
            known = len(self._seen)
            dates = [d for d in (as_date(a.get("StudyDate", "").replace(".", "")) for a in found.answers) if d]
            for other in beyond(part, min(dates), max(dates)) if dates else ():
                yield from self._fresh(self._found(other.keys()).answers)
            if len(self._seen) > known:  # most lists that are cut off lack the newest or the oldest
                self._limit.cut_at(found.count)
                return False
        self._limit.whole_with(found.count)
        return True

    def _all_uids_told(self, part: Part, found: Found) -> Generator[StudyInfo, None, bool]:
        """A list of UIDs may be understood as one UID that there is not, or as its first."""
        told = {a.get("StudyInstanceUID") for a in found.answers}
        left = [uid for uid in part.uids if uid not in told]
        if not left or len(part.uids) == 1:
            return True
        if self._limit.suspects(found.count):
            return False
        if len(told) < 2:
            for uid in left:
                yield from self._whole(Part(part.first, part.last, uids=(uid,)))
        return True

    def _in_no_part(self, part: Part, smaller: Part, found: Found) -> Iterator[StudyInfo]:
        """What a part holds and none of its smaller ones: studies without the date, time or kind they ask for."""
        if part.uids:
            return
        if smaller.modality:
            self._doubt("studies of unusual kinds (modalities) may be missing")
        elif not smaller.any_time:
            if part.any_time:
                yield from self._without(part.keys() | {"StudyTime": _NO_VALUE}, "StudyTime", "a time")
        elif part.any_date:
            if (yield from self._without({"StudyDate": _NO_VALUE}, "StudyDate", "a date", doubt=not found.broken_off)):
                return
            if found.broken_off:  # by us: a list of any length may be had, but is not kept
                rest = self._found({}, most=_UNLIMITED, keep=lambda answer: not answer.get("StudyDate"))
                yield from self._fresh(rest.answers)
                if not rest.ended_well or self._limit.suspects(rest.count):
                    self._doubt("studies without a date may be missing")

    def _without(
        self, keys: dict[str, str], keyword: str, what: str, *, doubt: bool = True
    ) -> Generator[StudyInfo, None, bool]:
        """Studies without a date or time, by empty value matching; whether they can be asked for in that way."""
        try:
            found = self._ask(self._keys | keys)
        except FerryError as error:
            if not isinstance(error, AnswerError) and not _may_be_too_much(error):
                raise
            found = Found([])  # a node that does not know this may well call it an error, or break off
        empty = [a for a in found.answers if a.get(keyword) == ""]
        yield from self._fresh(empty)
        if empty and len(empty) == found.count and found.ended_well and not self._limit.suspects(found.count):
            return True
        if doubt:
            self._doubt(f"studies without {what} may be missing")
        return False

    def _cannot_be_smaller(self, found: Found) -> None:
        if found.failure is not None and found.failure.code != _CUT_OFF:
            raise found.failure
        self._doubt("there may be more studies at the same minute than it lists")

    def _doubt(self, what: str) -> None:
        limit = self._limit.known
        why = f"gives at most {limit} answers to one question" if limit else "does not give its whole list at once"
        self._doubts[f"{self._node} {why}: {what}."] = None

    # --- questions and answers ---

    def _found(
        self, keys: dict[str, str], *, most: int = MOST_ANSWERS, keep: Callable[[Answer], bool] = lambda answer: True
    ) -> Found:
        """One question; a failure that asking for less may avoid is told, not raised."""
        try:
            found = self._ask(self._keys | keys, most=most, keep=keep)
        except FerryError as error:
            self._failures += 1
            if self._failures >= _FAILURES or not _may_be_too_much(error):
                raise
            log.info("%s: a query failed (%s); it is asked for less", self._node, error.code)
            return Found([], failure=error)
        self._failures = 0
        return found

    def _fresh(self, answers: Sequence[Answer]) -> Iterator[StudyInfo]:
        """Those that were not given yet and are what was asked for."""
        for answer in answers:
            study = study_info(answer)
            if not study.study_uid:
                self._doubts[f"{self._node} lists a study without a Study Instance UID, which can't be asked for."] = (
                    None
                )
            elif study.study_uid not in self._seen:
                self._seen.add(study.study_uid)
                missing = untold(self._query, answer)
                if missing:
                    self._doubts[f"{self._node} does not tell {missing}, so it can't be searched by it."] = None
                elif matches(self._query, study):
                    study = self._with_modalities(study, answer)
                    if wanted_modality(self._query, study.modalities):
                        self._count += 1
                        yield study

    def _with_modalities(self, study: StudyInfo, answer: Answer) -> StudyInfo:
        """With those of its series, where they decide and the node doesn't tell them of studies."""
        if not self._query.modalities or study.modalities:
            return study
        found = self._ask(series_keys(study.study_uid))
        if found.failure is not None:
            raise found.failure
        return study.with_modalities(tuple(sorted({a["Modality"] for a in found.answers if a.get("Modality")})))


def _is_unheeded(part: Part, found: Found) -> bool:
    """Whether studies of other days, times or kinds came than were asked for: to ask for still fewer is in vain."""
    return any(_is_beside(part, answer) for answer in found.answers)


def _is_beside(part: Part, answer: Answer) -> bool:
    day = as_date(answer.get("StudyDate", "").replace(".", ""))
    if day and ((part.first and day < part.first) or (part.last and day > part.last)):
        return True
    clock = answer.get("StudyTime", "").replace(":", "")
    if clock[:4].isdigit() and len(clock) >= 4 and not part.begin <= int(clock[:2]) * 60 + int(clock[2:4]) <= part.end:
        return True
    kinds = answer.get("ModalitiesInStudy", "")
    return bool(part.modality and kinds and part.modality not in kinds.split("\\"))


def _may_be_too_much(error: FerryError) -> bool:
    """Out of resources, unable to process, broken off, or no answer in time: perhaps because it was asked for much."""
    if isinstance(error, TransportError):
        return error.request_sent and error.fault in (TransportFault.TIMEOUT, TransportFault.CUT)
    return isinstance(error, AnswerError) and error.code in _TOO_MUCH
