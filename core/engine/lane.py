"""A lane: the workers of one route (job, source → destination). A lane that hangs holds up no other.

Order of work: finish what was begun (confirm, settle), then what waits for its turn (a C-MOVE of a study, a storage
commitment: beside the workers that carry images), then prepare the next chunk of deliveries, then send.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from core.engine.committing import Committing
from core.engine.pushing import Pushing
from core.engine.retry import patience
from core.engine.transfer import Chunk, Pipeline
from core.engine.turns import Stage, Timers, Turns
from core.engine.workers import Work, Workers
from core.ledger.rows import Delivery, TransferTask
from core.model import clock
from core.model.errors import FerryError
from core.model.job import Path
from core.model.outcome import DeliveryState, EvidenceLevel, Failure

CHUNK = 400  # deliveries that are checked, intended and confirmed together
LOW_WATER = 300  # below so many queued sends the next chunk is prepared
IN_HAND = 1600  # deliveries that a lane holds at a time
PREPARING = 2
LISTED_SOON = 0.5  # seconds until a study that is still being listed is looked at again


class LaneOwner(Protocol):
    """What a lane asks of the job that it belongs to."""

    def may_run(self) -> bool: ...

    def has_room(self, destination: str) -> bool: ...

    def transfer_rested(self, task: TransferTask) -> None: ...

    def is_planning(self, study_id: int) -> bool: ...

    def lane_failed(self, error: FerryError) -> None: ...

    def lane_rests(self) -> None: ...

    def remark(self, words: str, *, node: str) -> None: ...


class Lane(Workers):
    """Workers for one route.

    Parameters
    ----------
    width : int
        Instances in parallel.
    """

    def __init__(self, name: str, owner: LaneOwner, pipeline: Pipeline, width: int) -> None:
        super().__init__(name, width)
        self.owner = owner
        self.pipe = pipeline
        self._ready: deque[int] = deque()
        self._queued: set[int] = set()  # transfers that are in _ready, being prepared, or current
        self._again: set[int] = set()  # offered once more while being prepared
        self._cursors: dict[int, int] = {}
        self._stale: set[int] = set()  # to be looked at anew: outcomes may still be on their way to the ledger
        self._sends: deque[tuple[Chunk, Delivery]] = deque()
        self._timed = Timers()
        self._turns = Turns()
        self.pushing = Pushing(pipeline, self._wait, owner.is_planning)
        asked = pipeline.options.evidence
        self.committing = Committing(pipeline) if asked is EvidenceLevel.COMMITTED else None
        self._in_flight: dict[int, int] = {}  # transfer -> chunks in flight
        self._in_hand: set[int] = set()  # deliveries in flight
        self._tasks: dict[int, TransferTask] = {}
        # Withdrawn transfers, and what follows once nothing of them is in hand (None: it is being done).
        self._then: dict[int, Work | None] = {}
        self._then_again: dict[int, Work] = {}
        self._preparing = 0
        self._claiming: set[int] = set()  # transfers whose next deliveries are being read from the ledger

    # from outside ---------------------------------------------------------------------------------------

    def offer(self, transfer_id: int, *, first: bool = False, restart: bool = False) -> None:
        """A transfer has something to do. `restart` looks at all of its deliveries again (retries)."""
        with self._cond:
            if restart:
                self._cursors.pop(transfer_id, None)
                self._stale.add(transfer_id)
                self._tasks.pop(transfer_id, None)  # a person may have asked for something else
            if transfer_id in self._queued or transfer_id in self._then:
                self._again.add(transfer_id)
                if first and transfer_id in self._ready:
                    self._ready.remove(transfer_id)
                    self._ready.appendleft(transfer_id)
                elif first:
                    self._turns.prefer(transfer_id)
                return
            self._queued.add(transfer_id)
            if first:
                self._ready.appendleft(transfer_id)
            else:
                self._ready.append(transfer_id)
            self._wake()

    def nudge(self) -> None:
        """Something changed outside (gate, pause, window): look again."""
        if not self._may_send:
            self.drop_queued()
        with self._cond:
            self._wake()

    @property
    def _may_send(self) -> bool:
        here, there = self.pipe.source, self.pipe.destination
        return self.owner.may_run() and here.is_open and there.is_open and self.owner.has_room(there.name)

    def drop_queued(self) -> None:
        """Nothing new starts: what was queued but not begun is planned again."""
        with self._cond:
            queued = list(self._sends)
            self._sends.clear()
        if queued:
            self.pipe.ledger.back([d for _c, d in queued])
            for chunk, delivery in queued:
                self._delivered(chunk, delivery)

    def end(self) -> None:
        self.drop_queued()
        super().end()

    @property
    def _beside(self) -> int:
        return self._turns.running

    @property
    def _has_more(self) -> bool:
        return bool(self._finish or self._sends or (self._ready and self._turns.running))

    @property
    def _has_begun(self) -> bool:
        return bool(self._in_flight)

    def _next_time(self) -> float | None:
        return self._timed.next if self._timed and self._may_send else None

    def _failed(self, error: FerryError) -> None:
        self.owner.lane_failed(error)

    def _at_rest_now(self) -> None:
        self.owner.lane_rests()

    @property
    def idle(self) -> bool:
        """Nothing to do now or at a later time."""
        with self._cond:
            return not (
                self._ready
                or self._sends
                or self._finish
                or self._timed
                or self._turns
                or self._busy
                or self._preparing
                or self._in_flight
                or self._then
            )

    @property
    def working(self) -> bool:
        """A worker holds something, or something begun waits for one."""
        with self._cond:
            return bool(self._busy or self._finish or self._in_flight)

    def take_waiting(self) -> list[int]:
        """Take all transfers that wait out of this lane (for a fallback, or to give them up)."""
        with self._cond:
            return self._take_waiting()

    def give_up_if_out_of_patience(self) -> bool:
        """Fail what waits when a node has been down for longer than all attempts would have taken."""
        o = self.pipe.options
        if o.follow:
            return False
        gates = [g for g in (self.pipe.source, self.pipe.destination) if g.down_since is not None]
        for gate in gates:
            since, failure = gate.down_since, gate.failure
            if since is None or failure is None:
                continue
            if clock.monotonic() - since >= patience(o.max_attempts, o.retry_delays) + gate.excused:
                self._fail_all(failure)
                return True
        return False

    def _fail_all(self, failure: Failure) -> None:
        if self.pipe.options.stop_at_error:
            self.pipe.on_given_up(failure)
            return
        with self._cond:
            if self._in_flight:
                return  # what is under way ends first
            waiting = self._take_waiting()
        if waiting:
            self.pipe.ledger.close_open(
                waiting, DeliveryState.FAILED, failure, wanted=self.pipe.options.evidence
            ).wait()
        for transfer_id in waiting:  # by a worker: what follows may talk to the source
            self.finish(lambda transfer_id=transfer_id: self._tell_rested(transfer_id))  # type: ignore[misc]

    def _tell_rested(self, transfer_id: int) -> None:
        task = self.pipe.ledger.task(transfer_id)
        if task:
            self.owner.transfer_rested(task)

    def _take_waiting(self) -> list[int]:
        waiting = dict.fromkeys((*self._ready, *self._timed.transfers(), *self._turns.transfers()))
        found = [i for i in waiting if i not in self._in_flight and i not in self._claiming and i not in self._then]
        for transfer_id in found:
            self._forget(transfer_id)
        return found

    def _forget(self, transfer_id: int) -> None:
        if transfer_id in self._queued and transfer_id in self._ready:
            self._ready.remove(transfer_id)
        self._turns.remove(transfer_id)
        self._timed.remove(transfer_id)
        self._cursors.pop(transfer_id, None)
        self._tasks.pop(transfer_id, None)
        self._stale.discard(transfer_id)
        if transfer_id not in self._claiming:
            self._queued.discard(transfer_id)
            self._again.discard(transfer_id)

    def withdraw(self, transfer_id: int, then: Work) -> None:
        """Take one transfer out of the lane; `then` is done once nothing of it is in flight."""
        with self._cond:
            if transfer_id in self._then:
                if self._then[transfer_id] is None:
                    self._then_again[transfer_id] = then  # more of it was planned while it is being done
                return
            self._then[transfer_id] = then
            self._forget(transfer_id)
            mine = [item for item in self._sends if item[0].task.id == transfer_id]
            self._sends = deque(item for item in self._sends if item[0].task.id != transfer_id)
            if self._is_at_rest(transfer_id):
                self._finish.append(lambda: self._at_rest(transfer_id))
            self._wake()
        if mine:
            self.pipe.ledger.back([d for _c, d in mine])
            for chunk, delivery in mine:
                self._delivered(chunk, delivery)

    # what a worker does -------------------------------------------------------------------------------

    def _choose(self) -> Work | None:
        if self._ended or not self._may_send:
            return None
        self._due_timers()
        turn = self._turns.take()
        if turn is not None:
            transfer_id, stage = turn
            self._in_flight[transfer_id] = self._in_flight.get(transfer_id, 0) + 1
            return lambda: self._take_turn(transfer_id, stage)
        if self._busy - self._turns.running >= self.width:
            return None
        room = len(self._in_hand) < IN_HAND and self._preparing < PREPARING
        if room and self._ready and len(self._sends) < LOW_WATER:
            transfer_id = self._ready.popleft()
            self._preparing += 1
            self._claiming.add(transfer_id)
            return lambda: self._prepare(transfer_id)
        if self._sends:
            chunk, deliveries = self._next_sends()
            return lambda: self._carry(chunk, deliveries)
        return None

    def _due_timers(self) -> None:
        for transfer_id in self._timed.due(clock.time()):
            self._cursors.pop(transfer_id, None)
            self._stale.add(transfer_id)
            if transfer_id not in self._queued:
                self._queued.add(transfer_id)
                self._ready.append(transfer_id)

    # steps ----------------------------------------------------------------------------------------------

    def _prepare(self, transfer_id: int) -> None:
        try:
            self._prepare_chunk(transfer_id)
        finally:
            with self._cond:
                self._preparing -= 1
                self._wake()

    def _prepare_chunk(self, transfer_id: int) -> None:
        if self._is_pushed_whole(transfer_id):
            return
        chunk = None
        try:
            chunk = self._claim(transfer_id)
        finally:
            self._leave(transfer_id, more=chunk is not None)
        if chunk is None or not chunk.deliveries:
            return
        try:
            queued = self._begin(chunk)
        except BaseException:
            self._chunk_over(chunk)  # or this transfer would count as in flight for ever
            raise
        if not queued:
            self._chunk_over(chunk)

    def _is_pushed_whole(self, transfer_id: int) -> bool:
        """Whether the source server is to send this study with one job; it then waits for its turn."""
        task = self._task(transfer_id)
        if task is None or task.destination != self.pipe.destination.name or not self.pushing.takes(task):
            return False
        self._settle_stale(transfer_id)
        count, due = self.pipe.ledger.next_due(transfer_id, states=self.pipe.states)
        if count and (due or 0.0) <= clock.time() and self.pushing.is_listed(task):
            self._await_turn(transfer_id, self.pushing)
        else:
            self._leave(transfer_id, more=False)
        return True

    def _await_turn(self, transfer_id: int, stage: Stage, *, from_rest: bool = False) -> None:
        with self._cond:
            if from_rest and not self._is_at_rest(transfer_id):
                return  # it has been taken up meanwhile, and comes to rest again
            self._claiming.discard(transfer_id)
            if transfer_id not in self._then:
                self._queued.add(transfer_id)
                self._turns.add(transfer_id, stage)
                self._wake()
                return
        self._leave(transfer_id, more=False)  # withdrawn meanwhile

    def _take_turn(self, transfer_id: int, stage: Stage) -> None:
        try:
            task = self._task(transfer_id)
            if task is not None and task.destination == self.pipe.destination.name:
                stage.run(task, lambda: self._is_withdrawn(transfer_id))
        finally:
            stage.end()
            with self._cond:
                self._turns.running -= 1
            try:
                self.pipe.ledger.writer.flush()
            finally:
                with self._cond:
                    self._one_flight_less(transfer_id)
                self._leave(transfer_id, more=False)

    def _settle_stale(self, transfer_id: int) -> None:
        """What is read from the ledger next must be what is known by now."""
        with self._cond:
            stale = transfer_id in self._stale
            self._stale.discard(transfer_id)
        if stale:
            self.pipe.ledger.writer.flush()

    def _claim(self, transfer_id: int) -> Chunk | None:
        """The next deliveries of a transfer, from here on in this lane's hands; None when there are none."""
        task = self._task(transfer_id)
        if task is None or task.destination != self.pipe.destination.name:
            return None  # another lane's by now: a fallback has taken it over
        with self._cond:
            cursor = self._cursors.get(transfer_id, 0)
            in_hand = set(self._in_hand)
            stale = transfer_id in self._stale
            self._stale.discard(transfer_id)
        if stale:
            self.pipe.ledger.writer.flush()
        claimed = self.pipe.ledger.claim(transfer_id, cursor, CHUNK, clock.time(), states=self.pipe.states)
        if not claimed:
            return None
        chunk = Chunk(task, [d for d in claimed if d.id not in in_hand], Path(task.path or Path.RELAY))
        with self._cond:
            if transfer_id in self._then:
                return None  # withdrawn meanwhile
            if transfer_id not in self._stale:  # else it is to be looked at from the start again
                self._cursors[transfer_id] = claimed[-1].id
            if chunk.deliveries:
                self._in_flight[transfer_id] = self._in_flight.get(transfer_id, 0) + 1
                self._in_hand.update(d.id for d in chunk.deliveries)
        return chunk

    def _begin(self, chunk: Chunk) -> bool:
        """Check a chunk, write down the intent and queue what is to be sent; False when nothing is."""
        task, claimed = chunk.task, chunk.deliveries
        try:
            if not task.path:
                task = chunk.task = self._choose_path(task)
                chunk.path = Path(task.path)
            if self.pushing.takes(task):
                self.offer(task.id)  # and not in chunks, as it was begun before the path was known
                return False
            to_send = self.pipe.check(chunk, overwrite=task.overwrite or self.pipe.options.overwrite)
        except FerryError as error:
            self.pipe.check_failed(chunk, error, self.pipe.destination)
            return False
        if not to_send or self._is_withdrawn(task.id):
            return False
        self.pipe.ledger.sending(to_send, chunk.path.value).wait()
        if chunk.path is Path.RELAY:
            self.pipe.read_ahead(to_send)
        with self._cond:
            withdrawn = task.id in self._then
            if not withdrawn:
                kept = {d.id for d in to_send}
                self._in_hand -= {d.id for d in claimed if d.id not in kept}
                chunk.deliveries = to_send
                chunk.left = len(to_send)
                if chunk.path is Path.RELAY:
                    self._sends.extend((chunk, d) for d in to_send)
                    for _ in range(min(self.width, len(to_send))):
                        self._wake()
        if withdrawn:
            self.pipe.ledger.back(to_send)
            return False
        if chunk.path is Path.PUSH:
            self.finish(lambda: self._push(chunk))
        elif not self.owner.may_run():
            self.drop_queued()
        return True

    def _is_withdrawn(self, transfer_id: int) -> bool:
        with self._cond:
            return transfer_id in self._then

    def _choose_path(self, task: TransferTask) -> TransferTask:
        path, reason = self.pipe.choose_path(task)
        if path is Path.RELAY and self.pipe.options.path_to(task.destination) is Path.PUSH:
            words = (
                f"{task.source} was to send to {task.destination} by itself: all comes through this computer instead"
            )
            self.owner.remark(f"{words} ({reason}).", node=task.source)
        self.pipe.ledger.note(task.id, path=path.value, path_reason=reason, started=clock.time())
        chosen = TransferTask(
            task.id, task.study_id, task.study, task.source, task.destination, path.value,
            task.overwrite, task.priority, task.mean_size, task.attempt,
        )  # fmt: skip
        self._tasks[task.id] = chosen
        return chosen

    def _next_sends(self) -> tuple[Chunk, list[Delivery]]:
        """The next to be sent; several where the destination takes them together, but each worker has its share."""
        chunk, first = self._sends.popleft()
        taken = [first]
        limits = self.pipe.batch_limits
        most = min(limits.count, 1 + len(self._sends) // self.width)
        size = self.pipe.size_of(first)
        if not size:
            most = 1  # nobody knows yet how large images are here: the first ones tell
        while len(taken) < most and self._sends and self._sends[0][0] is chunk:
            size += self.pipe.size_of(self._sends[0][1])
            if size > limits.size:
                break
            taken.append(self._sends.popleft()[1])
        return chunk, taken

    def _carry(self, chunk: Chunk, deliveries: list[Delivery]) -> None:
        try:
            if len(deliveries) == 1:
                self.pipe.carry(chunk, deliveries[0])
            else:
                self.pipe.carry_together(chunk, deliveries, lambda: self._may_send)
        finally:
            for delivery in deliveries:
                self._delivered(chunk, delivery)

    def _delivered(self, chunk: Chunk, delivery: Delivery) -> None:
        if chunk.one_done():
            self.finish(lambda: self._confirm(chunk))

    def _push(self, chunk: Chunk) -> None:
        if not self._may_send:  # paused, or a node went down, since it was queued
            self.pipe.ledger.back(chunk.deliveries)
            self._chunk_over(chunk)
            return
        try:
            self.pushing.push(chunk)
        except BaseException:
            self._chunk_over(chunk)
            raise
        self._confirm(chunk)

    def _wait(self, seconds: float) -> bool:
        return self._pause(seconds, self.owner.may_run)

    def _confirm(self, chunk: Chunk) -> None:
        try:
            self.pipe.confirm(chunk)
        finally:
            self._chunk_over(chunk)

    def _chunk_over(self, chunk: Chunk) -> None:
        transfer_id = chunk.task.id
        try:
            # What is claimed anew is judged by the ledger: it must know the outcomes before they leave our hands.
            self.pipe.ledger.writer.flush()
        finally:
            with self._cond:
                self._in_hand -= {d.id for d in chunk.deliveries}
                self._one_flight_less(transfer_id)
                rests = self._is_at_rest(transfer_id)
                self._wake()
        if rests:
            self._at_rest(transfer_id)

    def _one_flight_less(self, transfer_id: int) -> None:
        left = self._in_flight.get(transfer_id, 1) - 1
        if left:
            self._in_flight[transfer_id] = left
        else:
            self._in_flight.pop(transfer_id, None)

    def _leave(self, transfer_id: int, *, more: bool) -> None:
        """A chunk was taken from a transfer: it goes on at the front, or rests for now."""
        with self._cond:
            self._claiming.discard(transfer_id)
            if (more or transfer_id in self._again) and transfer_id not in self._then:
                self._again.discard(transfer_id)
                self._ready.appendleft(transfer_id)
                return
            self._queued.discard(transfer_id)
            rests = self._is_at_rest(transfer_id)
        if rests:
            self._at_rest(transfer_id)

    def _is_at_rest(self, transfer_id: int) -> bool:
        return transfer_id not in self._in_flight and transfer_id not in self._queued

    def _at_rest(self, transfer_id: int) -> None:
        """The last of a transfer has left our hands: do what was to follow, or see what is left of it."""
        with self._cond:
            withdrawn = transfer_id in self._then
            then = self._then.get(transfer_id)
            if withdrawn:
                self._then[transfer_id] = None
        if not withdrawn:
            task = self._task(transfer_id)
            if task:
                self._rest(task)
            return
        if then is None:
            return
        once_more = None
        try:
            then()
        finally:
            with self._cond:
                once_more = self._then_again.pop(transfer_id, None)
                again = once_more is None and transfer_id in self._again
                if once_more is None:
                    del self._then[transfer_id]
                    self._forget(transfer_id)
                else:
                    self._then[transfer_id] = once_more
        if once_more is not None:
            self._at_rest(transfer_id)
        if again:  # offered while it was on its way out: new images of the study
            self.offer(transfer_id, restart=True)

    def _rest(self, task: TransferTask) -> None:
        """Nothing of a transfer is in hand: wait for its next attempt, or tell that it is done."""
        if task.destination != self.pipe.destination.name:
            with self._cond:
                self._forget(task.id)
            return
        open_count, due = self.pipe.ledger.next_due(task.id, states=self.pipe.states)
        if self.committing is not None:
            awaiting, commit_due = self.committing.next_due(task.id)
            if awaiting and (commit_due or 0.0) <= clock.time():
                self._await_turn(task.id, self.committing, from_rest=True)
                return
            if awaiting:
                due = min(due or 0.0, commit_due or 0.0) if open_count else commit_due
                open_count += awaiting
        if open_count:
            whole = self.pushing.takes(task) and not self.pushing.is_listed(task)
            soonest = clock.time() + (LISTED_SOON if whole else 0.0)
            self.schedule(task.id, max(due or 0.0, soonest))
            self.pipe.ledger.rest([task.id])
            return
        with self._cond:
            if task.id not in self._queued and task.id not in self._in_flight:
                self._forget(task.id)
        self.pipe.ledger.rest([task.id], done=True)
        self.owner.transfer_rested(task)

    def schedule(self, transfer_id: int, due: float) -> None:
        """Look at a transfer again at `due` (seconds since 1970)."""
        with self._cond:
            if transfer_id in self._queued:
                return
            self._timed.set(transfer_id, due)
            self._wake()

    def _task(self, transfer_id: int) -> TransferTask | None:
        task = self._tasks.get(transfer_id)
        if task is None or not task.path:
            task = self.pipe.ledger.task(transfer_id)
            if task is not None:
                self._tasks[transfer_id] = task
        return task
