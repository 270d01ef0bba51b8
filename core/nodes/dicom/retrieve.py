"""Images from a DICOM node: by C-GET over our own association, or by C-MOVE to this computer. `Read`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from core.model.errors import AnswerError, ConfigurationError, FerryError
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import ByteStream, Confirm, OpenContext
from core.nodes.dicom.base import DicomBase
from core.nodes.dicom.batches import BatchReader
from core.nodes.dicom.fetching import Deliver, Getting, Moving
from core.nodes.dicom.fields import DicomFields, Retrieve
from core.nodes.dicom.shelf import Held, Shelf
from core.wire.abort import Abort
from core.wire.dimse.association import Association
from core.wire.dimse.get import get_contexts
from core.wire.dimse.peer import Peer
from core.wire.dimse.retrieval import Model
from core.wire.dimse.sop_classes import classes_of
from core.wire.dimse.status import dimse_answer
from core.wire.status import answer_error


class DicomRetrieve(DicomBase):
    """`Read` and `ReadAhead` of a DICOM node."""

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        super().__init__(fields, peer, context)
        self._shelf = Shelf(self.name, context.folder)
        self._ahead = BatchReader(self._shelf, self._fetch, parallel=max(1, fields.connections - 1))
        self._gets = fields.retrieve is not Retrieve.C_MOVE
        if fields.retrieve is Retrieve.AUTO and self.fact("retrieve") == Retrieve.C_MOVE.value:
            self._gets = False
        self._lists = self.takes_uid_lists
        self._kinds = _KindsOfSeries()

    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> AbstractContextManager[ByteStream]:
        """The data set as the node sends it, as a DICOM file; retrieved on entering.

        The node decides in which of the encodings that were agreed on it sends: each that is known is agreed on by
        itself, so that it can send what it holds.

        Raises
        ------
        AnswerError
            ``gone``; ``get-…`` and ``move-…``: it didn't come; ``association-no-context``.
        ConfigurationError
            ``no-landing``: it can be had by C-MOVE only, and nothing here takes it in.
        TransportError, LocalError
        """
        return _Opened(self._ahead, instance, abort)

    def read_ahead(self, instances: Sequence[InstanceRef]) -> None:
        """These will be opened soon, in this order: they are fetched together."""
        self._ahead.expect(instances)

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        """None: DIMSE has no digests."""
        return {}

    @property
    def keeps_digests(self) -> bool:
        return False

    def close(self) -> None:
        self._ahead.close()
        super().close()

    # fetching -------------------------------------------------------------------------------------------

    def _fetch(self, asked: Sequence[InstanceRef], deliver: Deliver, abort: Abort | None) -> dict[str, FerryError]:
        """Some images of one series; the reasons for those that did not come."""
        if self._gets:
            try:
                return self._get(asked, deliver, abort)
            except AnswerError as error:
                if error.code != "association-no-service" or self.fields.retrieve is Retrieve.C_GET:
                    raise
                self._gets = False  # from now on by C-MOVE, where this computer can take it in
        return self._move_here(asked, deliver, abort)

    # C-GET ----------------------------------------------------------------------------------------------

    def _get(self, asked: Sequence[InstanceRef], deliver: Deliver, abort: Abort | None) -> dict[str, FerryError]:
        """On an association for each three kinds of image; where the kind is not known, the likely ones first."""
        missing = {one.sop_uid: one for one in asked}
        reasons: dict[str, FerryError] = {}
        syntax = next((one.transfer_syntax for one in asked if one.transfer_syntax), "")
        for contexts in get_contexts(self._classes(asked), first=syntax):
            classes = {proposed.abstract_syntax for proposed in contexts if proposed.scp}
            part = [one for one in missing.values() if not one.sop_class or one.sop_class in classes]
            if not part:
                continue
            with self.associate(contexts, abort=abort) as association:
                if all(association.context(model.get) is None for model in Model):
                    raise dimse_answer("association-no-service", node=self.name, detail="C-GET")
                if not any(context.abstract_syntax in classes for context in association.contexts):
                    reasons |= dict.fromkeys((o.sop_uid for o in part), self._no_context(association, classes))
                    continue
                getting = Getting(self, association, deliver, missing)
                reasons |= getting.ask_for(part)
            if not missing:
                break
        if missing:
            self._see_what_is_gone(list(missing.values()), reasons, abort)
        return {uid: reasons[uid] for uid in missing if uid in reasons}

    def _classes(self, asked: Sequence[InstanceRef]) -> list[str]:
        told = [one.sop_class for one in asked if one.sop_class]
        if len(told) == len(asked):
            return told
        one = next(one for one in asked if not one.sop_class)
        seen = self._kinds.of(one.series_uid)
        return [*told, *seen, *classes_of(one.series.modality if one.series is not None else "")]

    def _no_context(self, association: Association, classes: set[str]) -> FerryError:
        reasons = sorted({r.value for proposed, r in association.refused.items() if proposed.scp})
        return dimse_answer(
            "association-no-context",
            node=self.name,
            detail=f"C-GET of {', '.join(sorted(classes))}: {'; '.join(reasons)}",
        )

    def _see_what_is_gone(
        self, missing: Sequence[InstanceRef], reasons: dict[str, FerryError], abort: Abort | None
    ) -> None:
        """What the node says it does not hold (any more) is no failure of the retrieval."""
        if not isinstance(self, Confirm):
            return
        study = StudyInfo(study_uid=missing[0].study_uid, patient_id=missing[0].patient_id)
        try:
            held = self.confirm(study, missing, digests=False, abort=abort)
        except FerryError:
            return  # what is known already is the better reason
        for one in held:
            if one.presence is Presence.ABSENT:
                reasons[one.sop_uid] = answer_error("gone", node=self.name)

    # C-MOVE ---------------------------------------------------------------------------------------------

    def _move_here(self, asked: Sequence[InstanceRef], deliver: Deliver, abort: Abort | None) -> dict[str, FerryError]:
        landing = self.context.landing()
        if landing is None:
            raise self._no_landing()
        missing = {one.sop_uid: one for one in asked}
        with landing.expect(list(missing), sender=self.fields.aet, originator=self.fields.calling_aet) as arrivals:
            moving = Moving(self, landing, arrivals, deliver, missing)
            reasons = moving.ask_for(asked, abort)
        if missing:
            self._see_what_is_gone(list(missing.values()), reasons, abort)
        return {uid: reasons[uid] for uid in missing if uid in reasons}

    def _no_landing(self) -> ConfigurationError:
        why = "" if self.fields.retrieve is Retrieve.C_MOVE else " It offers no C-GET to us."
        return ConfigurationError(
            f"{self.name} can send its images here by C-MOVE only, and nothing here takes them in.{why}",
            "Add a “This computer” node, keep the program running, and let the PACS administrator enter its AE title, "
            "address and port.",
            code="no-landing",
        )


class _KindsOfSeries:
    """SOP classes that were seen in series whose listing doesn't tell them; the last few hundred."""

    _MOST = 500

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, dict[str, None]] = {}

    def add(self, series_uid: str, sop_class: str) -> None:
        with self._lock:
            self._seen.setdefault(series_uid, {})[sop_class] = None
            while len(self._seen) > self._MOST:
                del self._seen[next(iter(self._seen))]

    def of(self, series_uid: str) -> list[str]:
        with self._lock:
            return list(self._seen.get(series_uid, ()))


class _Opened:
    """The file of an instance, fetched on entering."""

    def __init__(self, ahead: BatchReader, instance: InstanceRef, abort: Abort | None) -> None:
        self._ahead = ahead
        self._instance = instance
        self._abort = abort
        self._held: Held | None = None

    def __enter__(self) -> ByteStream:
        self._held = self._ahead.take(self._instance, self._abort)
        return self._held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._ahead.give_back(self._held)
            self._held = None
