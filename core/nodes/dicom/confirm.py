"""Asking a DICOM node which images it holds: `Confirm`, by C-FIND at the level of images.

A node that lists an image holds it. That it doesn't hold one is believed only of a list that is whole, or of an
answer about this very image; anything else is `Presence.UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.model.errors import AnswerError
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.dicom.answers import number, presence_keys
from core.nodes.dicom.asking import Ask, DicomFind, images_in
from core.wire.abort import Abort
from core.wire.dimse.find import Found
from core.wire.dimse.identifier import Answer

_FEW = 25  # images up to which a list of UIDs is asked for, not the whole series
_ONE_BY_ONE = 500  # images looked for each by itself where the list of their series can't be trusted


class DicomConfirm(DicomFind):
    """`Confirm` of a DICOM node."""

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
                    looked = _Series(self, ask, study_uid, series_uid).look_for(uids) if not new else {}
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


class _Series:
    """One series at the node, while it is looked through."""

    def __init__(self, node: DicomFind, ask: Ask, study_uid: str, series_uid: str) -> None:
        self._node = node
        self._ask = ask
        self._study_uid = study_uid
        self._series_uid = series_uid

    def look_for(self, uids: Sequence[str]) -> dict[str, Presence]:
        """By a list of UIDs where few are asked for; else, and for what that doesn't show, by the whole series."""
        left = list(dict.fromkeys(uids))
        present: set[str] = set()
        if len(left) == 1 or (len(left) <= _FEW and self._node.takes_uid_lists):
            present = self._listed(left)
            left = [uid for uid in left if uid not in present]
        missing: dict[str, Presence] = {}
        if left:
            found = self._put(())
            listed = self._uids(found)
            left = [uid for uid in left if uid not in listed]
            if left:
                missing = self._judge(left, listed, ended_well=found.ended_well, any_present=bool(present or listed))
        return {uid: missing.get(uid, Presence.PRESENT) for uid in uids}

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
