"""A job while it runs: its planners, its lanes, what follows each study, and its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from core.engine.changing import ChangingPipeline, open_job_steps
from core.engine.disk_watch import DiskWatch
from core.engine.everyone import EveryoneWatch
from core.engine.gate import Gate
from core.engine.gateway import GatewaySide
from core.engine.lane import Lane
from core.engine.planner import Planner
from core.engine.retry import HOURLY
from core.engine.settle import Settling
from core.engine.throttle import Throttle
from core.engine.transfer import Pipeline
from core.jobs.base import TransferKind, TransferOptions
from core.ledger.ledger import Ledger
from core.ledger.rows import Planned, TransferTask
from core.model import clock
from core.model.errors import FerryError
from core.model.events import LogLevel
from core.model.everyone import Expanded
from core.model.job import JobRecord, TransferFields
from core.model.outcome import DeliveryState, EvidenceLevel, Failure
from core.steps.base import StepSurroundings
from core.wire.http import Abort

log = logging.getLogger(__name__)

PAUSE_SECONDS = 30.0  # instances in flight may end for so long before they are cut off
CUT_SECONDS = 5.0  # and so long they may take to notice that; what comes later is ignored
S = DeliveryState


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a running job stands; `halted` when it is to be paused because of `problem`, `anew` when begun anew."""

    planning: bool
    finished: bool
    broken: bool
    problem: str
    note: str
    halted: bool = False
    anew: bool = False


class JobRun:
    """Everything that lives while a transfer job runs; made anew at each start from what the ledger holds.

    Attributes
    ----------
    on_rest : Callable[[], None]
        Told when a lane has nothing to do any more and all is listed: the job may be at its end.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: JobRecord,
        kind: TransferKind,
        fields: TransferFields,
        gate_of: Callable[[str], Gate],
        clock: Callable[[], datetime],
        surroundings: StepSurroundings,
        now: Expanded | None = None,
    ) -> None:
        self.ledger = ledger
        self.job = job
        self.everyone = now or Expanded(fields.destination)
        self.watch: EveryoneWatch | None = None  # given by the engine where the job is to be kept current
        self.options = kind.options(fields, follow=job.follow)
        if self.everyone.titles:  # a study need not go everywhere as a whole
            self.options = replace(self.options, filtered=True)
        self.abort = Abort()
        self._clock = clock
        self._stopping = False
        self._window_open = self.options.schedule.is_open(clock())
        self._checked_window = 0.0
        self._lock = threading.Lock()
        self._settling_now: set[int] = set()
        self._later: dict[int, tuple[float, str]] = {}
        self._unwanted: dict[int, int] = {}  # cancelled while they are still being listed -> their study
        self._error: FerryError | None = None
        self._remarks: set[str] = set()
        self.on_rest: Callable[[], None] = lambda: None
        self._first_failure = ""  # set where the job stops at the first image that has failed for good
        chosen = [n for n in (*self.options.destinations, self.options.fallback) if n]
        earlier = ledger.destinations_in(job.id, job.pass_number)  # they may stand on a server's list no more
        targets = list(dict.fromkeys((*chosen, *earlier)))
        self.gates = {name: gate_of(name) for name in (*self.options.sources, *targets)}
        effective = self.options.between(self.gates[n].node for n in self.options.sources)
        self._steps = open_job_steps(effective, replace(surroundings, stopped=lambda: self.abort.aborted))
        self._throttle = Throttle(self.options.bandwidth)
        self._lanes: dict[tuple[str, str], Lane] = {}
        limit = self.options.disk_limit
        self._disks = {n: DiskWatch(self.gates[n], limit, self._room_changed) for n in targets} if limit else {}
        if self.options.evidence is EvidenceLevel.COMMITTED:
            ledger.writer.committing.add(job.id)
        there = {n: self.gates[n] for n in targets}
        self.gateway = GatewaySide(
            ledger, lambda: self.job, self.options, {n: self.gates[n] for n in self.options.sources}, there,
            self._look_at_kept, lambda: self._window_open,
        )  # fmt: skip
        self._settlings = {
            source: Settling(
                ledger, job.id, self._options_at(source), self.gates[source], there, self.abort,
                lambda source=source: self.gateway.keeps(source),  # type: ignore[misc]
            )
            for source in self.options.sources
        }  # fmt: skip
        for source in self.options.sources:
            for target in targets:
                self._lanes[source, target] = self._lane(source, target)
        self._planners = [
            Planner(
                ledger, job.id, job.pass_number, kind, fields, self.options, self.gates[source], self.abort,
                self._planned, self.may_look, self._listed, self.everyone.titles,
            )
            for source in self.options.sources
        ]  # fmt: skip
        self._planner_of = {p.source.name: p for p in self._planners}

    def _options_at(self, source: str) -> TransferOptions:
        """The options for what comes from a source: a move deletes only where it may."""
        return self.options.between([self.gates[source].node])

    def _lane(self, source: str, target: str) -> Lane:
        given = (
            self.ledger, self._options_at(source), self.gates[source], self.gates[target], self._throttle, self.abort,
            lambda: self._stopping,
        )  # fmt: skip
        pipeline = Pipeline(*given) if self._steps is None else ChangingPipeline(*given, self._steps)
        pipeline.on_given_up = self._stop_at_error
        return Lane(f"{source}-{target}", self, pipeline, self.options.workers)

    # life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what the ledger holds as open, and look for more."""
        job = self.job
        now = clock.time()
        longest = max(HOURLY, *self.options.retry_delays) * 1.2
        self.ledger.shorten_waits(job.id, job.pass_number, now + longest, now)  # the clock may have been set since
        self.ledger.rest(self.ledger.begun_transfers(job.id, job.pass_number)).wait()
        for (source, target), lane in self._lanes.items():
            for transfer_id in self.ledger.open_transfers(
                job.id, job.pass_number, source, target, wanted=self.options.evidence
            ):
                lane.offer(transfer_id, restart=True)
        self.settle_rest()
        for watch in self._disks.values():
            watch.start()
        for planner in self._planners:
            planner.start()
        self.gateway.start()
        if self.watch is not None:
            self.watch.start()

    def hold(self) -> None:
        """Nothing new starts from here on; `stop` or `cancel` follows."""
        self._stopping = True

    def stop(self, *, at_once: bool = False) -> None:
        """Nothing new starts; what is in flight ends within 30 s, or is cut off (`at_once`: now)."""
        self._stopping = True
        if at_once:
            self.abort.abort()
        for watch in self._disks.values():
            watch.stop()
        self.gateway.stop()
        if self.watch is not None:
            self.watch.stop()
        for planner in self._planners:
            planner.stop()
        for lane in self._lanes.values():
            lane.end()
        until = time.monotonic() + (0.0 if at_once else PAUSE_SECONDS)
        for lane in self._lanes.values():
            lane.join(max(0.1, until - time.monotonic()))
        if any(lane.working for lane in self._lanes.values()) or not all(p.done for p in self._planners):
            self.abort.abort()
        until = time.monotonic() + CUT_SECONDS
        for lane in self._lanes.values():
            lane.join(max(0.0, until - time.monotonic()))
        for planner in self._planners:
            if planner.thread.ident is not None:
                planner.thread.join(max(0.1, until - time.monotonic()))
        for lane in self._lanes.values():
            lane.pipe.fenced = True
        if self._steps is not None:
            self._steps.close()
        self.ledger.writer.flush()
        self.ledger.rest(self.ledger.begun_transfers(self.job.id, self.job.pass_number)).wait()

    def cancel(self) -> None:
        """Cut off what is in flight and give everything open its outcome: cancelled."""
        self.stop(at_once=True)
        self.ledger.close_open(self._open_transfers(), S.CANCELLED, wanted=self.options.evidence).wait()

    def _open_transfers(self) -> list[int]:
        return self.ledger.all_open_transfers(self.job.id, self.job.pass_number, wanted=self.options.evidence)

    # what lanes ask -------------------------------------------------------------------------------------

    def may_run(self) -> bool:
        return self.gateway.routing and self.may_look()

    def may_look(self) -> bool:
        """Whether what there is to carry may be looked for."""
        return not self._stopping and self._window_open and self._error is None and not self._first_failure

    def route(self, on: bool) -> None:
        """Switch auto-routing: off, what is in flight ends and nothing more is sent."""
        self.gateway.routing = on
        if not on:
            for lane in self._lanes.values():
                lane.drop_queued()

    def has_room(self, destination: str) -> bool:
        """Whether a destination's disk may take more."""
        watch = self._disks.get(destination)
        return watch is None or not watch.waiting

    def _room_changed(self) -> None:
        waiting = " ".join(w.waiting for w in self._disks.values() if w.waiting)
        level = LogLevel.WARNING if waiting else LogLevel.INFO
        self.ledger.add_log(level, waiting or "There is room at the destination.", job_id=self.job.id)

    def _stop_at_error(self, failure: Failure) -> None:
        if not self._first_failure:
            words = f"{failure.sentence} {failure.next_step}".strip()
            self._first_failure = f"Stopped at the first error, as chosen. {words} Resume the job to go on after it."
            self.ledger.add_log(LogLevel.ERROR, self._first_failure, job_id=self.job.id, detail=failure.detail)

    def is_planning(self, study_id: int) -> bool:
        return any(p.is_planning(study_id) for p in self._planners)

    def transfer_rested(self, task: TransferTask) -> None:
        self._settle_if_done(task.study_id, task.source)

    def lane_failed(self, error: FerryError) -> None:
        if error.code == "ledger-closed":
            return  # what had been cut off came to its end after all others
        self._error = error
        self.ledger.add_log(LogLevel.ERROR, str(error), job_id=self.job.id, detail=error.detail)

    def lane_rests(self) -> None:
        if all(p.done for p in self._planners):
            self.on_rest()

    def remark(self, words: str, *, node: str) -> None:
        """Something that whoever looks after the job wants to know; once, however many studies it holds for."""
        if words not in self._remarks:
            self._remarks.add(words)
            self.ledger.add_log(LogLevel.WARNING, words, job_id=self.job.id, node=node)

    # what planners tell ---------------------------------------------------------------------------------

    def _planned(self, planned: Planned) -> None:
        for transfer_id in planned.transfer_ids.values():
            if transfer_id in self._unwanted:
                self.cancel_transfer(transfer_id)
            else:
                self.offer(transfer_id)

    def offer(self, transfer_id: int, *, first: bool = False, restart: bool = False) -> None:
        """A transfer has something to do; see `Lane.offer`."""
        if restart:
            with self._lock:
                self._unwanted.pop(transfer_id, None)
        lane = self._lane_of(transfer_id)
        if lane is not None:
            lane.offer(transfer_id, first=first, restart=restart)

    def _lane_of(self, transfer_id: int) -> Lane | None:
        task = self.ledger.task(transfer_id)
        return None if task is None else self._lanes.get((task.source, task.destination))

    def _listed(self, study_id: int) -> None:
        with self._lock:
            self._unwanted = {k: study for k, study in self._unwanted.items() if study != study_id}
        if not self.ledger.study_is_done(study_id, wanted=self.options.evidence):
            return
        found = self.ledger.source_of(study_id)
        if found:
            self._settle_if_done(study_id, found, queue=True)

    # settling -------------------------------------------------------------------------------------------

    def settle_rest(self) -> None:
        """Settle what is done and was not settled: a stop came in between, or a person wants it tried again."""
        for study_id in self.ledger.unsettled_studies(self.job.id, self.job.pass_number, wanted=self.options.evidence):
            source = self.ledger.source_of(study_id)
            if source in self._settlings:
                self._settle_if_done(study_id, source, queue=True)

    def _settle_if_done(self, study_id: int, source: str, *, queue: bool = False) -> None:
        if self.is_planning(study_id) or not self.ledger.study_is_done(study_id, wanted=self.options.evidence):
            return
        with self._lock:
            if study_id in self._settling_now:
                self._later[study_id] = (clock.monotonic(), source)  # what has just changed may come too late for it
                return
            self._settling_now.add(study_id)
        if queue:
            next(lane for (s, _t), lane in self._lanes.items() if s == source).finish(
                lambda: self._settle(study_id, source)
            )
        else:
            self._settle(study_id, source)

    def _settle(self, study_id: int, source: str) -> None:
        again = None
        try:
            again = self._settlings[source].settle(study_id, self.may_run)
        finally:
            with self._lock:
                self._settling_now.discard(study_id)
                if again is not None:
                    self._later[study_id] = (clock.monotonic() + again, source)

    # the engine's tick ----------------------------------------------------------------------------------

    def tick(self) -> Progress:
        """Look after the job; called by the engine some times a second."""
        self._check_window()
        self.gateway.tick()
        self._retry_settling()
        for planner in self._planners:
            planner.offer_planned()
        for (_source, target), lane in self._lanes.items():
            if self._divert_if_down(target, lane):
                continue
            lane.give_up_if_out_of_patience()
        for lane in self._lanes.values():
            lane.nudge()
        planning = not all(p.inventoried or p.done for p in self._planners)
        problem = next((p.problem for p in self._planners if p.problem), "")
        if not problem and self._error is not None:
            problem = str(self._error)
        problem = problem or self._first_failure or self.everyone.left_out
        broken = self._error is not None and not any(lane.working for lane in self._lanes.values())
        halted = bool(self._first_failure)
        finished = not broken and not halted and self._is_finished()
        anew = self.watch is not None and self.watch.changed
        return Progress(planning, finished, broken, problem, self._note(), halted, anew)

    def _check_window(self) -> None:
        now = clock.monotonic()
        if now - self._checked_window < 1.0:
            return
        self._checked_window = now
        was = self._window_open
        self._window_open = self.options.schedule.is_open(self._clock())
        if was and not self._window_open:
            for lane in self._lanes.values():
                lane.drop_queued()

    def _note(self) -> str:
        if not self._window_open:
            change = self.options.schedule.next_change(self._clock())
            return f"Waiting for its hours, from {change:%a %H:%M}" if change else "Waiting for its hours"
        down = [g for g in self.gates.values() if g.failure is not None]
        words = [f"{g.failure.sentence} {g.failure.next_step}".strip() for g in down if g.failure]
        words += [s.others.note for s in self._settlings.values() if s.others.note]
        return " ".join((*self.gateway.notes, *words, *(w.waiting for w in self._disks.values() if w.waiting)))

    def _retry_settling(self) -> None:
        now = clock.monotonic()
        with self._lock:
            due = [(k, source) for k, (at, source) in self._later.items() if at <= now]
            for study_id, _source in due:
                del self._later[study_id]
        for study_id, source in due:
            if self.may_run() and (self.gates[source].is_open or not self.options.follow):
                self._settle_if_done(study_id, source, queue=True)
            else:
                with self._lock:
                    self._later[study_id] = (now + 1.0, source)

    def look_again(self) -> None:
        """Times that lanes wait for were moved in the ledger: look at everything open anew."""
        for transfer_id in self._open_transfers():
            self.offer(transfer_id, restart=True)
        self._look_at_kept()

    def _look_at_kept(self) -> None:
        """What waits for being deleted is looked at now: how long it may stay has changed."""
        now = clock.monotonic()
        with self._lock:
            self._later = {study_id: (now, source) for study_id, (_at, source) in self._later.items()}

    def _divert_if_down(self, target: str, lane: Lane) -> bool:
        o = self.options
        gate = self.gates[target]
        if not o.fallback or target == o.fallback or gate.down_since is None:
            return False
        if not self.gates[o.fallback].is_open:
            return False
        if clock.monotonic() - gate.down_since >= o.fallback_after:
            for transfer_id in lane.take_waiting():
                task = self.ledger.task(transfer_id)
                if task is None or task.destination != target:
                    continue  # it has been taken over already
                self.ledger.divert(transfer_id, o.fallback).wait()
                self._lanes[lane.pipe.source.name, o.fallback].offer(transfer_id, restart=True)
        return True

    def _is_finished(self) -> bool:
        if self._stopping or not all(p.done for p in self._planners) or self.options.follow:
            return False
        with self._lock:
            if self._later or self._settling_now:
                return False
        if not all(lane.idle for lane in self._lanes.values()):
            return False
        left = self.ledger.unsettled_studies(self.job.id, self.job.pass_number, wanted=self.options.evidence)
        for study_id in left:
            source = self.ledger.source_of(study_id)
            if source:
                self._settle_if_done(study_id, source, queue=True)
        if left:
            return False
        forgotten = self._open_transfers()  # a job that ends owes every delivery an outcome
        for transfer_id in forgotten:
            self.offer(transfer_id, restart=True)
        return not forgotten

    # a person's wishes ----------------------------------------------------------------------------------

    def prioritise(self, transfer_id: int) -> None:
        """Send this study next."""
        self.ledger.note(transfer_id, priority=int(clock.time())).wait()
        self.offer(transfer_id, first=True)

    def cancel_transfer(self, transfer_id: int) -> None:
        """Cancel one study; what is in flight of it ends first."""
        task = self.ledger.task(transfer_id)
        lane = None if task is None else self._lanes.get((task.source, task.destination))
        if task is not None and self.is_planning(task.study_id):
            with self._lock:
                self._unwanted[transfer_id] = task.study_id
        if lane is not None:
            lane.withdraw(transfer_id, lambda: self._cancelled(transfer_id))

    def _cancelled(self, transfer_id: int) -> None:
        self.ledger.close_open(transfer_id, S.CANCELLED, wanted=self.options.evidence).wait()
        task = self.ledger.task(transfer_id)
        if task:
            self.transfer_rested(task)

    @property
    def refused_deletions(self) -> int:
        return sum(s.refused for s in self._settlings.values())

    @property
    def settling_problem(self) -> str:
        """Why deletions or labels were given up, with the next step."""
        return next((s.problem for s in self._settlings.values() if s.problem), "")
