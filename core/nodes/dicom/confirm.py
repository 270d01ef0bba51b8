"""Asking a DICOM node which images it holds: `Confirm`, by C-FIND at the level of images.

A node that lists an image holds it. That it doesn't hold one is believed only of a list that is whole, or of an
answer about this very image; anything else is `Presence.UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.model.errors import AnswerError
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.base import OpenContext
from core.nodes.dicom.asking import Ask, DicomFind, images_in
from core.nodes.dicom.fields import DicomFields
from core.nodes.search.answers import number, presence_keys
from core.wire.abort import Abort
from core.wire.dimse.peer import Peer
from core.wire.found import Answer, Found

_FEW = 25  # images up to which a list of UIDs is asked for, not the whole series
_PORTION = 100  # images of a long series that are asked for with one list
_MOST_KNOWN = 50  # series that are remembered to be long
_ONE_BY_ONE = 500  # images looked for each by itself where the list of their series can't be trusted


class DicomConfirm(DicomFind):
    """`Confirm` of a DICOM node."""

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        super().__init__(fields, peer, context)
        self._long = _LongSeries()

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        """One question for each series, whatever the number of images; more only where some are missing.

        Raises
        ------
        TransportError, AnswerError
            The node could not be asked.
        """
        # What is asked about is mostly on its way there: the associations opened for it propose all kinds at once.
        self.associations.expect(
            (one.sop_class, one.transfer_syntax) for one in instances if one.sop_class and one.transfer_syntax
        )
        if not self.fields.image_find:
            return [Holding(one.sop_uid, Presence.UNKNOWN) for one in instances]
        by_study: dict[str, dict[str, list[str]]] = {}
        for one in instances:
            by_study.setdefault(one.study_uid or study.study_uid, {}).setdefault(one.series_uid, []).append(one.sop_uid)
        found: dict[tuple[str, str, str], Presence] = {}
        with self.asking(abort) as ask:
            for study_uid, by_series in by_study.items():
                new = len(by_series) > 1 and not self._has_study(ask, study_uid)
                for series_uid, uids in by_series.items():
                    looked = _Series(self, ask, study_uid, series_uid, self._long).look_for(uids) if not new else {}
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

    def _has_study(self, ask: Ask, study_uid: str) -> bool:
        """False only where the node lists neither the study nor a series of it."""
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_uid}
        found = ask(keys)
        if found.failure is not None:
            raise found.failure
        return bool(found.answers) or bool(self.series_of(ask, study_uid))


class _LongSeries:
    """Series of which a whole list brought much more than was asked about: lists of UIDs are cheaper for them.

    A series of thousands is sent and confirmed in parts: listed whole for each, it would be listed a dozen times.

    Attributes
    ----------
    proved : bool
        The node was seen to answer a list of UIDs with several images.
    """

    def __init__(self) -> None:
        self.proved = False
        self._known: dict[str, None] = {}

    def __contains__(self, series_uid: str) -> bool:
        return series_uid in self._known

    def listed(self, series_uid: str, count: int, asked_and_there: int) -> None:
        """A whole list had `count` images, so many of them among those that were asked about."""
        if count - asked_and_there >= _PORTION:
            while len(self._known) >= _MOST_KNOWN:
                self._known.pop(next(iter(self._known)), None)
            self._known[series_uid] = None

    def no_lists(self, series_uid: str) -> None:
        """A list of UIDs brought nothing where the whole list did."""
        self._known.pop(series_uid, None)


class _Series:
    """One series at the node, while it is looked through."""

    def __init__(self, node: DicomFind, ask: Ask, study_uid: str, series_uid: str, long: _LongSeries) -> None:
        self._node = node
        self._ask = ask
        self._long = long
        self._study_uid = study_uid
        self._series_uid = series_uid

    def look_for(self, uids: Sequence[str]) -> dict[str, Presence]:
        """By lists of UIDs where they are few for the series; else, and for what that doesn't show, by all of it."""
        left = list(dict.fromkeys(uids))
        present: set[str] = set()
        missing: dict[str, Presence] = {}
        by_list = self._series_uid in self._long and self._node.takes_uid_lists
        if len(left) == 1 or (len(left) <= _FEW and self._node.takes_uid_lists):
            present = self._listed(left)
        elif by_list:
            present, absent = self._in_portions(left)
            missing = dict.fromkeys(absent, Presence.ABSENT)
        left = [uid for uid in left if uid not in present and uid not in missing]
        if left:
            found = self._put(())
            listed = self._uids(found)
            seen = listed.intersection(left)
            if by_list and seen and not present:
                self._long.no_lists(self._series_uid)
            else:
                self._long.listed(self._series_uid, len(listed), len(seen))
            left = [uid for uid in left if uid not in listed]
            if left:
                missing |= self._judge(left, listed, ended_well=found.ended_well, any_present=bool(present or listed))
        return {uid: missing.get(uid, Presence.PRESENT) for uid in uids}

    def _in_portions(self, uids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Those that are listed, and those that are surely not: asked for with lists of UIDs.

        Nothing at all in answer to a list was cut off by no limit: from a node that answers such lists, that tells.
        """
        present: set[str] = set()
        absent: set[str] = set()
        for at in range(0, len(uids), _PORTION):
            portion = uids[at : at + _PORTION]
            found = self._put(portion)
            here = self._uids(found).intersection(portion)
            self._long.proved = self._long.proved or len(here) > 1
            present |= here
            if not self._long.proved:
                break
            if not here and not found.answers and found.ended_well:
                absent.update(portion)
        return present, absent

    def _judge(
        self, left: Sequence[str], listed: set[str], *, ended_well: bool, any_present: bool
    ) -> dict[str, Presence]:
        """What it means that the node's list of the series lacks these."""
        series = self._node.series_of(self._ask, self._study_uid, self._series_uid)
        if not any_present:
            # A series without images is none: this node lists series, and images not at all.
            return dict.fromkeys(left, Presence.UNKNOWN if series else Presence.ABSENT)
        if ended_well and series and self._is_whole(series[0], len(listed)):
            return dict.fromkeys(left, Presence.ABSENT)
        present = self._by_lists(left) if self._node.takes_uid_lists else set()
        unseen = [uid for uid in left if uid not in present]
        if len(unseen) > _ONE_BY_ONE:
            return dict.fromkeys(left, Presence.PRESENT) | dict.fromkeys(unseen, Presence.UNKNOWN)
        # The answer about one image is not cut off.
        absent = [uid for uid in unseen if uid not in self._listed([uid])]
        return dict.fromkeys(left, Presence.PRESENT) | dict.fromkeys(absent, Presence.ABSENT)

    def _by_lists(self, uids: Sequence[str]) -> set[str]:
        """Those of them that are listed, some at a time; nothing where the node takes no lists of UIDs."""
        present: set[str] = set()
        for at in range(0, len(uids), _FEW):
            portion = self._uids(self._put(uids[at : at + _FEW]))
            if not at and not portion:
                break
            present |= portion
        return present

    def _is_whole(self, series: Answer, listed: int) -> bool:
        said = number(series, "NumberOfSeriesRelatedInstances")
        if said is not None:
            return listed >= said
        return not self._node.answer_limit.suspects(listed)

    def _listed(self, uids: Sequence[str]) -> set[str]:
        """Which of these few are listed."""
        found = self._put(uids)
        present = self._uids(found)
        if found.failure is not None and not present.issuperset(uids):
            raise found.failure
        return present

    def _put(self, uids: Sequence[str]) -> Found:
        """Ask for the series, or for some of its images. What came before the node broke off is held for sure."""
        found = self._ask(presence_keys(self._study_uid, self._series_uid, uids))
        if found.failure is not None and not isinstance(found.failure, AnswerError):
            raise found.failure
        return found

    def _uids(self, found: Found) -> set[str]:
        images = images_in(Found(found.answers), self._study_uid, self._series_uid)
        return {image["SOPInstanceUID"] for image in images}
