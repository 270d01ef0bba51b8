"""Images from a DICOM node: by C-GET over our own association, or by C-MOVE to this computer. `Read`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from core.model.errors import AnswerError, ConfigurationError, FerryError
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Arrivals, ByteStream, Confirm, Landing, OpenContext
from core.nodes.dicom.base import DicomBase
from core.nodes.dicom.batches import BatchReader
from core.nodes.dicom.fields import DicomFields, Retrieve
from core.nodes.dicom.shelf import Held, Shelf
from core.wire.abort import Abort
from core.wire.dimse.association import Association, Incoming
from core.wire.dimse.get import NOT_ASKED_FOR, TAKEN, get, get_contexts
from core.wire.dimse.move import move, move_contexts
from core.wire.dimse.peer import Peer
from core.wire.dimse.retrieval import Model, Retrieval, Wanted
from core.wire.dimse.sop_classes import classes_of
from core.wire.dimse.status import Service, dimse_answer, dimse_error, status_row
from core.wire.status import answer_error

LATE = 10.0  # seconds without an arrival after which what a C-MOVE has announced as sent counts as missing
_LATE_FAILED = 2.0  # where the node itself says that not all was sent
_LOOK = 0.5
_TRIALS = 2  # images asked for one by one after nothing came of a list

Deliver = Callable[[Held], None]


class DicomRetrieve(DicomBase):
    """`Read` and `ReadAhead` of a DICOM node."""

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        super().__init__(fields, peer, context)
        self._shelf = Shelf(self.name, context.folder)
        self._ahead = BatchReader(self._shelf, self._fetch, parallel=max(1, fields.connections - 1))
        self._gets = fields.retrieve is not Retrieve.C_MOVE
        if fields.retrieve is Retrieve.AUTO and self.fact("retrieve") == Retrieve.C_MOVE.value:
            self._gets = False
        self._lists = fields.uid_lists and self.fact("uid-lists", "yes") == "yes"
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
                getting = _Getting(self, association, deliver, missing)
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


class _Asking:
    """Asks for images of one series, together or one by one, and finds the reason for each that did not come.

    Attributes
    ----------
    missing : dict[str, InstanceRef]
        What has not arrived; shared with the caller.
    """

    service: Service

    def __init__(self, node: DicomRetrieve, missing: dict[str, InstanceRef]) -> None:
        self.node = node
        self.missing = missing
        self.ended: dict[str, Retrieval] = {}

    def retrieve(self, wanted: Wanted) -> Retrieval:
        raise NotImplementedError

    def in_turn(self, part: Sequence[InstanceRef]) -> None:
        """Ask with a list of UIDs, and one by one where the node takes no lists."""
        before = len(self.missing)
        if self.node._lists or len(part) == 1:
            self._ask(part)
            if len(part) == 1 or len(self.missing) < before:
                return
            if status_row(self.service, self.ended[part[0].sop_uid].status).code.endswith(("a801", "0122", "0124")):
                return  # it would say the same of each
        for tried, one in enumerate(part):
            if tried == _TRIALS and len(self.missing) == before:
                break  # it was not for the list that nothing came
            if one.sop_uid in self.missing:
                self._ask([one])
        if self.node._lists and not any(one.sop_uid in self.missing for one in part):
            self.node._lists = False  # each came by itself, none came by a list

    def _ask(self, part: Sequence[InstanceRef]) -> None:
        first = part[0]
        uids = tuple(one.sop_uid for one in part)
        ended = self.retrieve(Wanted(first.study_uid, (first.series_uid,), uids, first.patient_id))
        for uid in uids:
            self.ended[uid] = ended

    def reasons(self, part: Sequence[InstanceRef]) -> dict[str, FerryError]:
        return {o.sop_uid: self._reason(o.sop_uid, self.ended[o.sop_uid]) for o in part if o.sop_uid in self.missing}

    def _reason(self, uid: str, ended: Retrieval) -> FerryError:
        name = self.node.name
        if not status_row(self.service, ended.status).is_done:
            return dimse_error(self.service, ended.status, node=name, comment=f"{ended.counts}. {ended.comment}")
        counts = ended.counts
        if counts.failed or uid in ended.failed_uids:
            word = "failed-some"
        elif not counts.completed and not counts.warning:
            word = "sent-none"
        else:
            word = "missing"
        return dimse_answer(f"{self.service}-{word}", node=name, status=ended.status, detail=str(ended))


class _Getting(_Asking):
    """By C-GET, on one association."""

    service = Service.GET

    def __init__(
        self, node: DicomRetrieve, association: Association, deliver: Deliver, missing: dict[str, InstanceRef]
    ) -> None:
        super().__init__(node, missing)
        self._association = association
        self._deliver = deliver

    def ask_for(self, part: Sequence[InstanceRef]) -> dict[str, FerryError]:
        self.in_turn(part)
        return self.reasons(part)

    def retrieve(self, wanted: Wanted) -> Retrieval:
        return get(self._association, wanted, self._take)

    def _take(self, sop_class: str, sop_uid: str, transfer_syntax: str, data: Incoming) -> int:
        one = self.missing.get(sop_uid)
        if one is None:
            return NOT_ASKED_FOR
        held = self.node._shelf.receive(sop_class, sop_uid, transfer_syntax, data)
        del self.missing[sop_uid]
        if not one.sop_class:
            self.node._kinds.add(one.series_uid, sop_class)
        self._deliver(held)
        return TAKEN


class Moving(_Asking):
    """By C-MOVE to this computer: what arrives is handed on while the node still sends."""

    service = Service.MOVE

    def __init__(
        self,
        node: DicomRetrieve,
        landing: Landing,
        arrivals: Arrivals,
        deliver: Deliver,
        missing: dict[str, InstanceRef],
    ) -> None:
        super().__init__(node, missing)
        self._landing = landing
        self._arrivals = arrivals
        self._deliver = deliver
        self._asked = len(missing)
        self._association: Association | None = None
        self._abort: Abort | None = None

    def ask_for(self, asked: Sequence[InstanceRef], abort: Abort | None) -> dict[str, FerryError]:
        self._abort = abort
        with self.node.associate(move_contexts(), abort=abort) as association:
            self._association = association
            self.in_turn(asked)
        return self.reasons(asked)

    def retrieve(self, wanted: Wanted) -> Retrieval:
        assert self._association is not None
        try:
            ended = move(self._association, wanted, self._landing.aet, on_progress=lambda counts: self._hand_on())
        finally:
            self._hand_on()  # what has arrived is here, however it ended
        self._wait_for_late(wanted.sop_uids, ended)
        return ended

    def _hand_on(self) -> None:
        for uid in list(self.missing):
            path = self._arrivals.path(uid)
            if path is not None:
                held = self.node._shelf.copy(uid, path)
                del self.missing[uid]
                self._deliver(held)

    def _wait_for_late(self, uids: Sequence[str], ended: Retrieval) -> None:
        """Images may come after the final response; how many the node has announced says how long to wait."""
        counts = ended.counts
        sent = (counts.completed or 0) + (counts.warning or 0)
        done = status_row(self.service, ended.status).is_done
        patience = LATE if done and (sent or counts.total is None) else _LATE_FAILED if sent else 0.0
        until = time.monotonic() + patience
        while any(uid in self.missing for uid in uids) and time.monotonic() < until:
            if self._abort is not None:
                self._abort.check()
            here = self._asked - len(self.missing)
            if self._arrivals.wait(here + 1, min(_LOOK, patience)) > here:
                self._hand_on()
                until = time.monotonic() + patience
