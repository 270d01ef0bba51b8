"""Asking a DICOM node which images it holds: `Confirm`, by C-FIND at the level of images.

A node that lists an image holds it. That it doesn't hold one is believed only of a list that is whole, or of an
answer about this very image; anything else is `Presence.UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.dicom.answers import number, presence_keys
from core.nodes.dicom.asking import Ask, DicomFind, images_in
from core.wire.abort import Abort
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
        if len(left) == 1 or (len(left) <= _FEW and self._node.fields.uid_lists):
            present = self._listed(left)
            left = [uid for uid in left if uid not in present]
        missing: dict[str, Presence] = {}
        if left:
            listed = self._listed()
            left = [uid for uid in left if uid not in listed]
            if left:
                missing = self._judge(left, listed, any_present=bool(present or listed))
        return {uid: missing.get(uid, Presence.PRESENT) for uid in uids}

    def _judge(self, left: Sequence[str], listed: set[str], *, any_present: bool) -> dict[str, Presence]:
        """What it means that the node's list of the series lacks these."""
        series = self._node.series_of(self._ask, self._study_uid, self._series_uid)
        if not any_present:
            # A series without images is none: this node lists series, and images not at all.
            return dict.fromkeys(left, Presence.UNKNOWN if series else Presence.ABSENT)
        if series and self._is_whole(series[0], len(listed)):
            return dict.fromkeys(left, Presence.ABSENT)
        if len(left) > _ONE_BY_ONE:
            return dict.fromkeys(left, Presence.UNKNOWN)
        # The answer about one image is not cut off.
        return {uid: Presence.PRESENT if uid in self._listed([uid]) else Presence.ABSENT for uid in left}

    def _is_whole(self, series: Answer, listed: int) -> bool:
        said = number(series, "NumberOfSeriesRelatedInstances")
        if said is not None:
            return listed >= said
        return not self._node.answer_limit.suspects(listed)

    def _listed(self, uids: Iterable[str] = ()) -> set[str]:
        found = self._ask(presence_keys(self._study_uid, self._series_uid, tuple(uids)))
        return {image["SOPInstanceUID"] for image in images_in(found, self._study_uid, self._series_uid)}
