"""Letting the source server send by itself: C-MOVE of whole studies, jobs of an Orthanc.

Whatever such a job says of itself, the destination's own list of instances decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.engine.transfer import Chunk, Pipeline
from core.ledger.rows import Delivery, TransferTask
from core.model import clock
from core.model.errors import FerryError
from core.model.job import Path
from core.model.outcome import EvidenceLevel, Failure, FailureClass
from core.model.study import Holding, Presence
from core.nodes.base import Confirm, Push, PushResume, PushState, PushStatus

log = logging.getLogger(__name__)

MOST = 50_000  # instances of a study that one C-MOVE is asked for: so many light rows are held in memory
PAGE = 200  # instances that are looked for together
GENTLY = 4.0  # between two looks at the destination lies at least so many times what a look takes
LONGEST_STEP = 1.0  # seconds between two looks at the server's job
STALLED = 4 * 3600.0  # seconds in which nothing at all moves, even where images come from tapes

Stopped = Callable[[], bool]


@dataclass(slots=True)
class _Sending:
    """What one job of the source server is to bring; `left` is what the destination was not seen to hold yet."""

    task: TransferTask
    left: list[Delivery]
    stopped: Stopped
    looks: bool = False
    next_look: float = 0.0


class Pushing:
    """The pushes of one lane.

    Parameters
    ----------
    wait : Callable[[float], bool]
        Waits so many seconds; False when nothing new is to start. What is under way may go on all the same, until
        the job is aborted.
    is_planning : Callable[[int], bool]
        Whether more instances of a study (by its key) are still being listed.
    """

    def __init__(self, pipe: Pipeline, wait: Callable[[float], bool], is_planning: Callable[[int], bool]) -> None:
        self._pipe = pipe
        self._wait = wait
        self._is_planning = is_planning

    # in chunks ------------------------------------------------------------------------------------------

    def push(self, chunk: Chunk) -> None:
        """Let the source server send a chunk and follow its job to the real end; `Pipeline.confirm` comes next."""
        sending = _Sending(chunk.task, self._replaced(chunk, list(chunk.deliveries)), _never)
        try:
            if not self._others_ended(sending, sending.left) or not sending.left:
                return
            job, status = self._sent(sending, whole=False)
        except FerryError as error:
            self._pipe.all_failed(sending.left, self._pipe.source, error)
            return
        if status is not None:
            self._as_told(sending, job, status)

    def _as_told(self, sending: _Sending, job: str, status: PushStatus) -> None:
        """Nothing but the server's word is known so far."""
        if status.state is PushState.FAILED:
            # Some of it may have arrived all the same: the next attempt asks before it sends.
            failure = self._push_failed(sending, status)
            self._pipe.give_back([(d, failure) for d in sending.left])
            return
        for d in sending.left:
            self._acknowledged(d, job, d.instance.ref)

    def _acknowledged(self, delivery: Delivery, job: str, ref: str) -> None:
        delivery.newly_stored = True
        self._pipe.bytes_moved += delivery.size
        self._pipe.ledger.sent(delivery, f"sent by {self._pipe.source.name}, job {job}", ref)

    def _replaced(self, chunk: Chunk, deliveries: list[Delivery]) -> list[Delivery]:
        """Make room at the destination where other content is to be replaced; gives what can be sent."""
        try:
            for d in deliveries:
                if d.id in chunk.replace:
                    self._pipe.make_room(chunk.task.study, d.instance)
        except FerryError as error:
            self._pipe.all_failed(deliveries, self._pipe.destination, error)
            return []
        return deliveries

    # whole studies --------------------------------------------------------------------------------------

    def takes(self, task: TransferTask) -> bool:
        """Whether a study is best pushed by one job."""
        node = self._pipe.source.node
        return task.path == Path.PUSH.value and isinstance(node, Push) and node.pushes_studies

    def is_listed(self, task: TransferTask) -> bool:
        """A study that is still being listed would be pushed in pieces."""
        return not self._is_planning(task.study_id)

    def begin(self) -> bool:
        return self._pipe.source.begin_push(self._pipe.options.unconfirmed_pushes)

    def end(self) -> None:
        self._pipe.source.end_push()

    def run(self, task: TransferTask, stopped: Stopped) -> None:
        """Push what is missing of a study, and wait until the destination lists it."""
        missing = self._missing(task, stopped)
        if not missing or stopped():
            return
        whole = self._is_whole(task, missing)
        written = [self._pipe.ledger.sending(part, Path.PUSH.value) for part in _parts(missing)]
        written[-1].wait()  # in the order in which they were given: the last one is on the disk after all others
        sending = _Sending(task, missing, stopped, looks=self._pipe.can_confirm)
        try:
            job, status = self._sent(sending, whole=whole)
        except FerryError as error:
            self._pipe.all_failed(sending.left, self._pipe.source, error)
            return
        if status is None:
            return
        if sending.looks:
            self._until_arrived(sending, job, status)
        else:
            self._as_told(sending, job, status)

    def _missing(self, task: TransferTask, stopped: Stopped) -> list[Delivery]:
        """What the destination doesn't hold yet; what it does is recorded."""
        pipe = self._pipe
        claimed = self._claimed(task)
        try:
            if not self._others_ended(_Sending(task, [], stopped), claimed):
                return []
        except FerryError as error:
            pipe.check_failed(Chunk(task, claimed, Path.PUSH), error, pipe.source)
            return []
        missing: list[Delivery] = []
        for part in _parts(claimed):
            chunk = Chunk(task, part, Path.PUSH)
            try:
                found = pipe.check(chunk, overwrite=task.overwrite or pipe.options.overwrite)
            except FerryError as error:
                pipe.check_failed(chunk, error, pipe.destination)
                return []  # what was found missing is as it was, and looked for again
            missing += self._replaced(chunk, found)
        return missing

    def _claimed(self, task: TransferTask) -> list[Delivery]:
        """What is due of a study, as far as one job is to bring it."""
        claimed: list[Delivery] = []
        after, at = 0, clock.time()
        while len(claimed) < MOST:
            page = self._pipe.ledger.claim(task.id, after, PAGE, at, states=self._pipe.states)
            if not page:
                break
            after = page[-1].id
            claimed += page
        return claimed

    def _is_whole(self, task: TransferTask, missing: Sequence[Delivery]) -> bool:
        """Whether these are all instances of the study, as far as the source had told when it was listed."""
        o = self._pipe.options
        if o.filtered or o.follow or not self.is_listed(task):
            return False
        row = self._pipe.ledger.transfer(task.id)
        return row is not None and row.counts.total == len(missing)

    # the server's job -----------------------------------------------------------------------------------

    def _others_ended(self, sending: _Sending, deliveries: Sequence[Delivery]) -> bool:
        """Let end what an earlier run of this program, or somebody else, had begun; False when stopped meanwhile."""
        node = self._pipe.source.node
        if not isinstance(node, PushResume) or not any(d.tried for d in deliveries):
            return True
        instances = [d.instance for d in deliveries]
        target = self._pipe.push_target()
        while job := node.push_resume(instances, target):
            if self._followed(sending, job, own=False) is None:
                return False
            if sending.left and self._pipe.can_confirm:
                self._look(sending, job)
                instances = [d.instance for d in sending.left]
                if not instances:
                    return True
        return True

    def _sent(self, sending: _Sending, *, whole: bool) -> tuple[str, PushStatus | None]:
        node = self._pipe.source.node
        assert isinstance(node, Push)
        target = self._pipe.push_target()
        if not target:
            raise FerryError(
                f"{node.name} no longer knows {self._pipe.destination.name}, so it can't send there by itself.",
                f"Tell {node.name} about it again, or start a new job that sends through this computer.",
                code="push-target",
            )
        job = node.push([d.instance for d in sending.left], target, whole=whole)
        return job, self._followed(sending, job, own=True)

    def _followed(self, sending: _Sending, job: str, *, own: bool) -> PushStatus | None:
        """The end of the server's job; None when it was stopped, and all of it was given back."""
        node = self._pipe.source.node
        assert isinstance(node, Push)
        pause = 0.05
        sending.next_look = time.monotonic() + self._pipe.options.check_interval
        status = node.push_status(job)
        moved, seen = time.monotonic(), (status, len(sending.left))
        while status.state is PushState.RUNNING:
            if seen != (status, len(sending.left)):
                moved, seen = time.monotonic(), (status, len(sending.left))
            elif own and time.monotonic() - moved > STALLED:
                node.push_cancel(job)
                return PushStatus(
                    PushState.FAILED, status.progress, f"It has not moved for hours. {status.detail}".strip()
                )
            going_on = self._wait(pause)
            if (not going_on and self._pipe.abort.aborted) or sending.stopped():
                stopped = own and node.push_cancel(job)
                detail = f"job {job} " + ("was cancelled" if stopped else "is still running on the server")
                self._give_back_stopped(sending, detail)
                return None
            if sending.looks and time.monotonic() >= sending.next_look:
                if not sending.left:  # all is there, but it doesn't end: we need no more of it
                    if own:
                        node.push_cancel(job)
                    return PushStatus(PushState.DONE, 1.0, status.detail)
                self._look_if_told(sending, job)
            pause = min(pause * 1.5, LONGEST_STEP)
            status = node.push_status(job)
        self._pipe.require_not_fenced()
        return status

    def _give_back_stopped(self, sending: _Sending, detail: str) -> None:
        failure = _push_stopped(self._pipe.source.name, detail)
        self._pipe.give_back([(d, failure) for d in sending.left])

    # the destination's list -----------------------------------------------------------------------------

    def _until_arrived(self, sending: _Sending, job: str, status: PushStatus) -> None:
        """Ask the destination until all is there, or nothing more has come for as long as the job allows."""
        o = self._pipe.options
        longest = min(o.check_interval, o.arrival_wait) if status.state is PushState.FAILED else o.arrival_wait
        since = time.monotonic()
        trouble: FerryError | None = None
        while sending.left:
            before = len(sending.left)
            trouble = self._look_if_told(sending, job)
            if not sending.looks:
                self._as_told(sending, job, status)
                return
            now = time.monotonic()
            if len(sending.left) < before:
                since = now
            if not sending.left or now - since >= longest:
                break
            if not self._slept(sending, min(sending.next_look, since + longest) - now):
                self._give_back_stopped(sending, f"job {job} had ended; what had arrived is looked for")
                return
        if not sending.left:
            return
        if trouble is not None:
            self._pipe.all_failed(sending.left, self._pipe.destination, trouble)
            return
        self._never_came(sending, status)

    def _slept(self, sending: _Sending, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            going_on = self._wait(min(left, 0.5))
            if (not going_on and self._pipe.abort.aborted) or sending.stopped():
                return False
        return True

    def _look_if_told(self, sending: _Sending, job: str) -> FerryError | None:
        """A look that the destination may refuse: it is asked again, and only its last answer counts."""
        try:
            self._look(sending, job)
        except FerryError as error:
            log.info("asking %s: %s", self._pipe.destination.name, error.sentence)
            return error
        finally:
            self._pipe.require_not_fenced()
        return None

    def _look(self, sending: _Sending, job: str) -> None:
        """Ask for what is left; what is there is sent, and proved if that is wanted."""
        began = time.monotonic()
        left = sending.left
        try:
            for part in _parts(list(left)):
                chunk = Chunk(sending.task, part, Path.PUSH)
                held = self._pipe.ask(chunk)
                if all(h.presence is Presence.UNKNOWN for h in held) and self._proof_is_no_list:
                    sending.looks = False
                    return
                here = [(d, h) for d, h in zip(part, held, strict=True) if h.presence is Presence.PRESENT]
                if here:
                    self._arrived(sending.task, here, job)
                    arrived = {d.id for d, _h in here}
                    left = [d for d in left if d.id not in arrived]
        finally:
            sending.left = left
            took = time.monotonic() - began
            sending.next_look = time.monotonic() + max(self._pipe.options.check_interval, GENTLY * took)

    @property
    def _proof_is_no_list(self) -> bool:
        """Whether a destination that can't tell what it holds is good enough."""
        return self._pipe.options.evidence is not EvidenceLevel.VERIFIED

    def _arrived(self, task: TransferTask, here: Sequence[tuple[Delivery, Holding]], job: str) -> None:
        deliveries = [d for d, _h in here]
        for d, holding in here:
            self._acknowledged(d, job, holding.ref or d.instance.ref)
        self._pipe.prove(Chunk(task, deliveries, Path.PUSH), [h for _d, h in here])

    def _never_came(self, sending: _Sending, status: PushStatus) -> None:
        source, destination = self._pipe.source.name, self._pipe.destination.name
        if status.state is PushState.FAILED:
            failure = self._push_failed(sending, status)
        else:
            failure = _not_received(source, destination, status.detail)
        gone = self._gone(sending)
        missing = _not_found(source)
        self._pipe.give_back([(d, missing if d.instance.sop_uid in gone else failure) for d in sending.left])

    def _push_failed(self, sending: _Sending, status: PushStatus) -> Failure:
        here, there = self._pipe.source.name, self._pipe.destination.name
        if status.error is not None:
            return replace(self._pipe.source.node.failure(status.error, "source"), detail=status.detail)
        return _push_failed(here, there, status.detail, dicom=self.takes(sending.task))

    def _gone(self, sending: _Sending) -> set[str]:
        """SOP Instance UIDs that the source no longer holds; none where it can't be asked."""
        node = self._pipe.source.node
        if not isinstance(node, Confirm):
            return set()
        gone: set[str] = set()
        try:
            for part in _parts(sending.left):
                refs = [d.instance for d in part]
                held = node.confirm(sending.task.study, refs, digests=False, abort=self._pipe.abort)
                gone |= {h.sop_uid for h in held if h.presence is Presence.ABSENT}
        except FerryError as error:
            log.info("asking %s what it still holds: %s", self._pipe.source.name, error.sentence)
        return gone


def _parts(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    for start in range(0, len(deliveries), PAGE):
        yield list(deliveries[start : start + PAGE])


def _never() -> bool:
    return False


def _push_stopped(source: str, detail: str) -> Failure:
    return Failure(
        code="push-stopped",
        cls=FailureClass.ASK,
        sentence=f"{source} was told to stop sending.",
        detail=detail,
        side="source",
    )


def _push_failed(source: str, destination: str, detail: str, *, dicom: bool) -> Failure:
    known = "the AE title, host and port of the destination" if dicom else "the peer's address and password"
    return Failure(
        code="push-failed",
        cls=FailureClass.ASK,
        sentence=f"{source} could not send to {destination} by itself.",
        next_step=f"Check {known} in the settings of {source}, or send through this computer.",
        detail=detail,
        side="source",
    )


def _not_received(source: str, destination: str, detail: str) -> Failure:
    return Failure(
        code="not-received-in-time",
        cls=FailureClass.RETRY,
        sentence=f"{source} said that it had sent the image, but {destination} doesn't list it.",
        next_step=f"What is missing is sent again. If this lasts, look at the logs of {source} and {destination}, or "
        "send through this computer.",
        detail=detail,
        side="destination",
    )


def _not_found(source: str) -> Failure:
    return Failure(
        code="not-found-at-source",
        cls=FailureClass.GONE,
        sentence=f"{source} no longer holds the image.",
        next_step="Nothing was deleted by this job. Ask who else deletes images there.",
        side="source",
    )
