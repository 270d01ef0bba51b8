"""Letting a DICOM node send by itself to a destination that it knows, by C-MOVE: `Push`."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace

from core.model.errors import FerryError, NotSupportedError, TransportError, TransportFault
from core.model.study import InstanceRef
from core.nodes.base import Dimse, Node, OpenContext, PushState, PushStatus
from core.nodes.dicom.base import DicomBase
from core.nodes.dicom.fields import DicomFields
from core.wire.abort import Abort
from core.wire.dimse.association import Association
from core.wire.dimse.move import CANCEL_WAIT, move, move_contexts
from core.wire.dimse.peer import Peer
from core.wire.dimse.retrieval import MOST_UIDS, Retrieval, SubOperations, Wanted, portions
from core.wire.dimse.status import Meaning, Service, dimse_answer, dimse_error, status_row

log = logging.getLogger(__name__)

_REMEMBERED = 500  # ended jobs whose state can still be asked for
#: What a node answers that can't be asked for single images (PS3.4 C.4.2.1.5): the level is not supported.
_NOT_UNDERSTOOD = frozenset(("move-a9xx", "move-cxxx", "move-0110", "move-0105"))
#: Times the usual silence: many nodes say nothing until the whole of a C-MOVE has been done.
_SAYS_NOTHING = 10
_TO_END = 5.0  # seconds in which a thread ends once its association is cut

#: Jobs of this process; one of another process, from before a restart, has another beginning.
_PROCESS = f"{os.getpid()}-{secrets.token_hex(4)}"
_numbers = itertools.count(1)


class ByMove(DicomBase):
    """What every `Push` by C-MOVE shares, whoever commands it."""

    def push_target(self, destination: Node) -> str:
        """The AE title of a destination that takes images by C-STORE; the node has to know it under this name.

        A destination with the node's own AE title can't be told from the node itself.
        """
        if not isinstance(destination, Dimse):
            return ""
        try:
            aet = destination.dicom_address().aet
        except NotSupportedError:
            return ""
        return "" if aet == self.fields.aet else aet

    @property
    def pushes_studies(self) -> bool:
        return True

    @property
    def most_uids(self) -> int:
        """How many images one request may name."""
        return MOST_UIDS if self.takes_uid_lists else 1


class DicomPush(ByMove):
    """`Push` of a DICOM node: third-party C-MOVE (PS3.4 C.4.2), commanded by us and followed to its end."""

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        super().__init__(fields, peer, context)
        self._moves = _Moves()

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """Start the C-MOVEs on an association and a thread of their own.

        A whole study is one request at STUDY level. Else images are named, some hundred at a time; or one by one
        where the node takes no lists of UIDs.
        """
        job = _Move(self, plan(instances, whole=whole, most=self.most_uids), target)
        self._moves.add(job)
        return job.id

    def push_status(self, job: str) -> PushStatus:
        found = self._moves.get(job)
        if found is None:
            return PushStatus(PushState.GONE, detail="The request was made before the program was started again.")
        return found.status

    def push_cancel(self, job: str) -> bool:
        """C-CANCEL, and wait for the node to end; False when it doesn't, or can't be asked."""
        found = self._moves.get(job)
        return found is None or found.cancel()

    def close(self) -> None:
        self._moves.close()
        super().close()


def plan(instances: Sequence[InstanceRef], *, whole: bool, most: int = MOST_UIDS) -> list[tuple[Wanted, int]]:
    """The requests for some images, each with the number of images that it is about."""
    studies: dict[str, dict[str, list[InstanceRef]]] = {}
    for one in instances:
        studies.setdefault(one.study_uid, {}).setdefault(one.series_uid, []).append(one)
    found: list[tuple[Wanted, int]] = []
    for study_uid, series in studies.items():
        patient_id = next((one.patient_id for some in series.values() for one in some if one.patient_id), "")
        if whole:
            count = sum(len(some) for some in series.values())
            found.append((Wanted(study_uid, patient_id=patient_id), count))
            continue
        for series_uid, some in series.items():
            for part in portions([one.sop_uid for one in some], most):
                found.append((Wanted(study_uid, (series_uid,), tuple(part), patient_id), len(part)))
    return found


class _Move:
    """The C-MOVEs of one job, one after the other on one association, by a thread that ends with them.

    Attributes
    ----------
    id : str
        Unique also beyond this process.
    """

    def __init__(self, node: DicomPush, requests: Sequence[tuple[Wanted, int]], target: str) -> None:
        self.id = f"{_PROCESS}-{next(_numbers)}"
        self._node = node
        self._requests = requests
        self._target = target
        self._total = sum(count for _wanted, count in requests)
        self._cancel = threading.Event()
        self._abort = Abort()
        self._lock = threading.Lock()
        self._ended = SubOperations()  # of the requests that are over
        self._status = PushStatus(PushState.RUNNING, 0.0, "waits for a free association")
        self._begun = False
        self._heeded = True
        self._thread = threading.Thread(target=self._run, name=f"C-MOVE {self.id}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> PushStatus:
        with self._lock:
            return self._status

    def cancel(self) -> bool:
        """C-CANCEL, and whether the node has ended since; what waits for its turn is never begun."""
        self._cancel.set()
        with self._lock:
            if not self._begun:
                self._abort.abort()
        self._thread.join(CANCEL_WAIT + _TO_END)
        if self._thread.is_alive():
            self.cut()
            return False
        return self._heeded

    def cut(self) -> None:
        """End the association, whatever the node makes of that."""
        self._abort.abort()
        self._thread.join(_TO_END)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            found = self._move_all()
        except FerryError as error:
            found = self._broken(error)
        except Exception as error:
            log.exception("C-MOVE %s", self.id)
            found = PushStatus(
                PushState.FAILED, self._progress(), f"Something went wrong inside DICOM Ferry. {error!r}"
            )
        with self._lock:
            self._status = found

    def _move_all(self) -> PushStatus:
        """All requests; a failed one doesn't stop the others, which may be about images that are not in trouble.

        Of a node that can't be asked for single images, the whole series is asked for.
        """
        ends: list[Retrieval] = []
        in_one: set[str] = set()
        peer = self._node.peer
        patient = replace(peer, answer_timeout=peer.answer_timeout * _SAYS_NOTHING)
        with self._node.associate(move_contexts(), peer=patient, abort=self._abort) as association:
            with self._lock:
                self._begun = True
            for wanted, _count in self._requests:
                if self._cancel.is_set():
                    return self._cancelled()
                if wanted.series_uids and wanted.series_uids[0] in in_one:
                    continue
                ended = self._move_one(association, wanted)
                if (
                    wanted.sop_uids
                    and status_row(Service.MOVE, ended.status).code in _NOT_UNDERSTOOD
                    and not _moved(ended)
                ):
                    in_one.add(wanted.series_uids[0])
                    ended = self._move_one(association, replace(wanted, sop_uids=()))
                self._ended = _sum(self._ended, ended.counts)
                ends.append(ended)
                row = status_row(Service.MOVE, ended.status)
                if row.meaning is Meaning.CANCELLED:
                    return self._cancelled() if self._cancel.is_set() else self._judge(ends)
                if not row.is_done and self._ended.ended == 0:
                    break  # an unknown destination, no right: it would be the same for the others
        return self._judge(ends)

    def _move_one(self, association: Association, wanted: Wanted) -> Retrieval:
        self._show(SubOperations())
        return move(association, wanted, self._target, on_progress=self._show, cancel=self._cancel)

    def _judge(self, ends: Sequence[Retrieval]) -> PushStatus:
        """What to think of the node's words; what really arrived, the destination is asked."""
        name = self._node.name
        counts = self._ended
        moved = (counts.completed or 0) + (counts.warning or 0)
        said = "; ".join(dict.fromkeys(str(end) for end in ends))
        bad = next((end for end in ends if not status_row(Service.MOVE, end.status).is_done), None)
        if bad is not None:
            error = dimse_error(Service.MOVE, bad.status, node=name, comment=bad.comment)
        elif counts.failed:
            error = dimse_answer("move-failed-some", node=name)
        elif counts.total is not None and not moved:
            error = dimse_answer("move-sent-none", node=name)
        elif counts.total is not None and moved < self._total:
            error = dimse_answer("move-missing", node=name)
        else:
            return PushStatus(PushState.DONE, 1.0, said)
        # Some may have arrived all the same: the destination's list tells which.
        return PushStatus(PushState.FAILED, self._progress(), f"{error.sentence} ({said})", error)

    def _cancelled(self) -> PushStatus:
        return PushStatus(PushState.FAILED, self._progress(), f"Cancelled ({self._ended}).")

    def _broken(self, error: FerryError) -> PushStatus:
        """The association ended without a final response, or never came about."""
        if not self._begun and self._cancel.is_set():
            return self._cancelled()
        self._heeded = error.code != "move-still-sending" and not self._cancel.is_set()
        if isinstance(error, TransportError) and error.fault is TransportFault.TIMEOUT and error.request_sent:
            no_end = dimse_answer("move-no-end", node=self._node.name)
            said = f"{no_end.sentence} ({error.sentence} {self._ended})"
            error = no_end
        else:
            said = f"{error.sentence} {error.next_step}".strip() + (f" ({error.detail})" if error.detail else "")
        return PushStatus(PushState.FAILED, self._progress(), said, error)

    # counters -------------------------------------------------------------------------------------------

    def _show(self, counts: SubOperations) -> None:
        together = _sum(self._ended, counts)
        progress = min(together.ended / self._total, 1.0) if self._total else 0.0
        with self._lock:
            self._status = PushStatus(PushState.RUNNING, progress, str(together) if together.total is not None else "")

    def _progress(self) -> float:
        with self._lock:
            return self._status.progress


class _Moves:
    """The jobs of a node: those at work, and how the last ones ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, _Move] = {}

    def add(self, job: _Move) -> None:
        with self._lock:
            self._jobs[job.id] = job
            over = [i for i, one in self._jobs.items() if not one.running]
            for known in over[: max(0, len(over) - _REMEMBERED)]:
                del self._jobs[known]

    def get(self, job: str) -> _Move | None:
        with self._lock:
            return self._jobs.get(job)

    def close(self) -> None:
        """End what is at work: nobody would follow it any more."""
        with self._lock:
            running = [job for job in self._jobs.values() if job.running]
        for job in running:
            job.cut()


def _moved(ended: Retrieval) -> int:
    return (ended.counts.completed or 0) + (ended.counts.warning or 0)


def _sum(one: SubOperations, other: SubOperations) -> SubOperations:
    def plus(a: int | None, b: int | None) -> int | None:
        return None if a is None and b is None else (a or 0) + (b or 0)

    return SubOperations(
        other.remaining,
        plus(one.completed, other.completed),
        plus(one.failed, other.failed),
        plus(one.warning, other.warning),
    )
