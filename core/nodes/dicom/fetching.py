"""Asking a DICOM node for images of a series, by C-GET or C-MOVE to this computer, until each came or has a reason."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.model.errors import FerryError
from core.model.study import InstanceRef
from core.nodes.base import Arrivals, Landing
from core.nodes.dicom.shelf import Held
from core.wire.abort import Abort
from core.wire.dimse.association import Association, Incoming
from core.wire.dimse.get import NOT_ASKED_FOR, TAKEN, get
from core.wire.dimse.move import move, move_contexts
from core.wire.dimse.retrieval import Retrieval, Wanted
from core.wire.dimse.status import Service, dimse_answer, dimse_error, status_row

if TYPE_CHECKING:
    from core.nodes.dicom.retrieve import DicomRetrieve

LATE = 10.0  # seconds without an arrival after which what a C-MOVE has announced as sent counts as missing
_LATE_FAILED = 2.0  # where the node itself says that not all was sent
_LOOK = 0.5
_TRIALS = 2  # images asked for one by one after nothing came of a list

Deliver = Callable[[Held], None]
"""Takes an image as it arrives."""


class Asking(ABC):
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

    @abstractmethod
    def retrieve(self, wanted: Wanted) -> Retrieval:
        """Ask once; gives how that ended."""

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


class Getting(Asking):
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


class Moving(Asking):
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
