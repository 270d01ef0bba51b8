"""Asking a DICOMweb service which images it holds: `Confirm`, by QIDO-RS at the level of images.

A service that lists an image holds it, and so does one that gives it (small images come sooner than their list).
That it doesn't hold one is believed only of a list that is whole, or of an answer about this very image; anything else
is `Presence.UNKNOWN`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from core.model.errors import AnswerError
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.dicomweb.query import DicomwebQuery
from core.nodes.search.answers import number
from core.wire.abort import Abort

_FEW = 3  # images that are asked for one by one
_PORTION = 50  # UIDs in one question: with 64 characters each they fit into the shortest limit for an address
_NO_LISTS = frozenset({400, 404, 414, 422, 431, 501})
_MOST_LACKED = 10_000
_ONE_BY_ONE = 200  # images looked for each by itself where the list of their series can't be trusted


class DicomwebConfirm(DicomwebQuery):
    """`Confirm` of a DICOMweb service."""

    takes_uid_lists: bool | None = None
    """Whether it was seen to understand several UIDs in one question; None while that isn't known."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.lacked: dict[str, None] = {}  # studies of which it was seen to lack something

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        """One question for each series, whatever the number of images; more only where some are missing.

        Raises
        ------
        TransportError, AnswerError
            The service could not be asked.
        """
        by_study: dict[str, dict[str, list[str]]] = {}
        for one in instances:
            by_study.setdefault(one.study_uid or study.study_uid, {}).setdefault(one.series_uid, []).append(one.sop_uid)
        found: dict[tuple[str, str, str], Presence] = {}
        for study_uid, by_series in by_study.items():
            there = self._series_there(study_uid, abort) if len(by_series) > _FEW else None
            for series_uid, uids in by_series.items():
                looked: Mapping[str, Presence] = {}
                if there is None or series_uid in there:
                    looked = _Series(self, study_uid, series_uid, abort).look_for(uids)
                for uid in uids:
                    found[study_uid, series_uid, uid] = looked.get(uid, Presence.ABSENT)
        self.lacked |= {key[0]: None for key, presence in found.items() if presence is Presence.ABSENT}
        while len(self.lacked) > _MOST_LACKED:
            self.lacked.pop(next(iter(self.lacked)), None)
        keys = ((one.study_uid or study.study_uid, one.series_uid, one.sop_uid) for one in instances)
        return [Holding(sop_uid, found[study_uid, series, sop_uid], ref=sop_uid) for study_uid, series, sop_uid in keys]

    @property
    def gives_digests(self) -> bool:
        return False

    @property
    def digests_in_bulk(self) -> bool:
        return False

    def _series_there(self, study_uid: str, abort: Abort | None) -> dict[str, int | None] | None:
        """The series that it lists of a study, with their numbers of images; None where the list may lack some."""
        try:
            listed = self.series_of(study_uid, abort=abort)
        except AnswerError as error:
            if error.code == "incomplete":
                return None
            raise
        return {a.get("SeriesInstanceUID", ""): number(a, "NumberOfSeriesRelatedInstances") for a in listed}

    def counted(self, study_uid: str, series_uid: str, abort: Abort | None) -> int | None:
        """How many images the service says that a series has; None where it doesn't say."""
        return (self._series_there(study_uid, abort) or {}).get(series_uid)


class _Series:
    """One series at the service, while it is looked through."""

    def __init__(self, node: DicomwebConfirm, study_uid: str, series_uid: str, abort: Abort | None) -> None:
        self._node = node
        self._study_uid = study_uid
        self._series_uid = series_uid
        self._keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        self._abort = abort

    def look_for(self, uids: Sequence[str]) -> dict[str, Presence]:
        """By lists of UIDs, where the service takes them: a long series is then not listed whole for each part."""
        left = list(dict.fromkeys(uids))
        found: dict[str, Presence] = {}
        back = self._node.reading_back
        if back.is_worth_it(left):
            come = back.present(self._node.access, self._study_uid, self._series_uid, left, self._abort)
            found = dict.fromkeys(come, Presence.PRESENT)
            left = [uid for uid in left if uid not in come]
        if left:
            began = time.monotonic()
            found |= self._listed_of(left)
            back.took(len(left), time.monotonic() - began, reading=False)
        return {uid: found.get(uid, Presence.UNKNOWN) for uid in uids}

    def _listed_of(self, left: list[str]) -> dict[str, Presence]:
        found: dict[str, Presence] = {}
        if len(left) <= _FEW:
            found = self._one_by_one(left)
        elif self._node.takes_uid_lists is not False:
            found = self._by_lists(left)
        rest = [uid for uid in left if uid not in found]
        return found | self._by_whole(rest) if rest else found

    def _by_lists(self, uids: Sequence[str]) -> dict[str, Presence]:
        """Those that are listed, and of a service that surely takes lists those that are not."""
        found: dict[str, Presence] = {}
        if self._node.takes_uid_lists is None:
            self._try_lists()
        for at in range(0, len(uids), _PORTION):
            portion = uids[at : at + _PORTION]
            try:
                listed, whole = self._listed("\\".join(portion), portion)
            except AnswerError as error:
                if error.status not in _NO_LISTS or found:
                    raise
                self._node.takes_uid_lists = False
                return found
            if len(listed) > 1:
                self._node.takes_uid_lists = True
            elif not self._node.takes_uid_lists:  # not known, or another thread has learned meanwhile that it doesn't
                # Taken for one UID that there is not, or for the first of them; or none of them is there.
                return found | dict.fromkeys(listed, Presence.PRESENT)
            for uid in portion:
                if uid in listed:
                    found[uid] = Presence.PRESENT
                elif whole:
                    found[uid] = Presence.ABSENT
        return found

    def _try_lists(self) -> None:
        """Ask for two images together that the service has just said to have stored."""
        two = [one.sop_uid for one in self._node.stored_lately if one.series_uid == self._series_uid][:2]
        if len(two) == 2:
            with suppress(AnswerError):
                self._node.takes_uid_lists = len(self._listed("\\".join(two), two)[0]) == 2 or None

    def _by_whole(self, uids: Sequence[str]) -> dict[str, Presence]:
        """All of the series, up to where all that is looked for was seen."""
        listed, whole = self._listed("", uids)
        if self._node.takes_uid_lists is None and len(listed.intersection(uids[:_PORTION])) > 1:
            self._node.takes_uid_lists = False  # it lists them, but not where it is asked for them
        left = [uid for uid in uids if uid not in listed]
        found = dict.fromkeys(uids, Presence.PRESENT)
        if not left:
            return found
        if whole:
            return found | dict.fromkeys(left, Presence.ABSENT)
        return found | (self._one_by_one(left) if len(left) <= _ONE_BY_ONE else dict.fromkeys(left, Presence.UNKNOWN))

    def _one_by_one(self, uids: Sequence[str]) -> dict[str, Presence]:
        found = {}
        for uid in uids:
            listed, whole = self._listed(uid, [uid])
            found[uid] = Presence.PRESENT if listed else Presence.ABSENT if whole else Presence.UNKNOWN
        return found

    def _listed(self, asked: str, uids: Sequence[str]) -> tuple[set[str], bool]:
        """Which of them are listed, and whether the list was whole; it is not read further than needed."""
        wanted = set(uids)
        seen: set[str] = set()
        listing = self._node.listed(self._keys | {"SOPInstanceUID": asked}, abort=self._abort)
        count = 0
        try:
            for answer in listing:
                count += 1
                uid = answer.get("SOPInstanceUID", "")
                if uid in wanted:
                    seen.add(uid)
                    if len(seen) == len(wanted):
                        break
        except AnswerError as error:
            if count or error.status != 404 or not self._node.is_here(abort=self._abort):
                raise
            return seen, True  # not as the standard has it, but what some services answer for "none"
        if len(seen) == len(wanted):
            return seen, True
        whole = listing.whole and listing.failure is None
        if whole and count and not asked:
            said = self._node.counted(self._study_uid, self._series_uid, self._abort)
            whole = said is None or count >= said  # else it counts more than it lists
        return seen, whole
