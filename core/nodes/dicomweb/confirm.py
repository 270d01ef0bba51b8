"""Asking a DICOMweb service which images it holds: `Confirm`, by QIDO-RS at the level of images.

A service that lists an image holds it. That it doesn't hold one is believed only of a list that is whole, or of an
answer about this very image; anything else is `Presence.UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.model.errors import AnswerError
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.dicomweb.query import DicomwebQuery
from core.nodes.search.answers import number
from core.wire.abort import Abort

_FEW = 3  # images that are asked for one by one
_PORTION = 50  # UIDs in one question: with 64 characters each they fit into the shortest limit for an address
_BEYOND = 200  # images of a series beyond those asked about, from which on lists of UIDs are cheaper than all of it
_ONE_BY_ONE = 200  # images looked for each by itself where the list of their series can't be trusted


class DicomwebConfirm(DicomwebQuery):
    """`Confirm` of a DICOMweb service."""

    takes_uid_lists: bool | None = None
    """Whether it was seen to understand several UIDs in one question; None while that isn't known."""

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        """The series of the study with one question, then each series that matters with as few as are needed.

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
            counts = self._series_there(study_uid, abort)
            for series_uid, uids in by_series.items():
                looked: Mapping[str, Presence] = {}
                if counts is None or series_uid in counts:
                    count = counts.get(series_uid) if counts is not None else None
                    looked = _Series(self, study_uid, series_uid, count, abort).look_for(uids)
                for uid in uids:
                    found[study_uid, series_uid, uid] = looked.get(uid, Presence.ABSENT)
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


class _Series:
    """One series at the service, while it is looked through.

    Parameters
    ----------
    count : int | None
        Images that the service says it has, where it does.
    """

    def __init__(
        self, node: DicomwebConfirm, study_uid: str, series_uid: str, count: int | None, abort: Abort | None
    ) -> None:
        self._node = node
        self._keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        self._count = count
        self._abort = abort

    def look_for(self, uids: Sequence[str]) -> dict[str, Presence]:
        left = list(dict.fromkeys(uids))
        found: dict[str, Presence] = {}
        if len(left) <= _FEW:
            found = self._one_by_one(left)
        else:
            long = self._count is not None and self._count - len(left) > _BEYOND
            if long and self._node.takes_uid_lists is not False:
                found = self._by_lists(left)
            left = [uid for uid in left if uid not in found]
            if left:
                found |= self._by_whole(left)
        return {uid: found.get(uid, Presence.UNKNOWN) for uid in uids}

    def _by_lists(self, uids: Sequence[str]) -> dict[str, Presence]:
        """Those that are listed, and of a service that surely takes lists those that are not."""
        found: dict[str, Presence] = {}
        for at in range(0, len(uids), _PORTION):
            portion = uids[at : at + _PORTION]
            listed, whole = self._listed("\\".join(portion), portion)
            if len(listed) > 1:
                self._node.takes_uid_lists = True
            elif self._node.takes_uid_lists is None:
                # Taken for one UID that there is not, or for the first of them; or none of them is there.
                return found | dict.fromkeys(listed, Presence.PRESENT)
            for uid in portion:
                if uid in listed:
                    found[uid] = Presence.PRESENT
                elif whole:
                    found[uid] = Presence.ABSENT
        return found

    def _by_whole(self, uids: Sequence[str]) -> dict[str, Presence]:
        """All of the series, up to where all that is looked for was seen."""
        listed, whole = self._listed("", uids)
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
        for answer in listing:
            count += 1
            uid = answer.get("SOPInstanceUID", "")
            if uid in wanted:
                seen.add(uid)
                if len(seen) == len(wanted):
                    return seen, True
        whole = listing.whole and listing.failure is None
        if not asked and self._count is not None and count < self._count:
            whole = False  # it counts more than it lists
        return seen, whole
