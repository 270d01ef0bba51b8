"""The engine: one for each home folder. Reads commands, runs jobs, and tells what happens.

Plain Python: `run` is a loop for a thread of the caller's (a QThread in the window, the main thread of an
unattended engine). All work is done by lanes, planners and the ledger's writer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from core.engine.applying import sweep
from core.engine.everyone import EveryoneWatch
from core.engine.gate import Gate
from core.engine.job_run import JobRun, Progress
from core.engine.listening import LOOK_SECONDS, Listeners
from core.engine.pace import Pace
from core.engine.standfast import Comebacks, Jumps
from core.jobs.base import TransferKind
from core.jobs.registry import job_kinds
from core.ledger.book import Command, Verb
from core.ledger.ledger import Ledger
from core.model import clock
from core.model.errors import ConfigurationError, FerryError, LedgerError
from core.model.events import (
    EngineChanged,
    Event,
    JobChanged,
    LogLevel,
    NodeChanged,
    NodeHealth,
    StudyChanged,
    TransferRow,
)
from core.model.everyone import Expand, as_named, nobody
from core.model.fields import explain
from core.model.gateway import GatewayStanding
from core.model.job import After, JobRecord, JobState
from core.model.node import NodeRecord
from core.model.outcome import DeliveryState, EvidenceLevel, StudyState
from core.nodes.base import Landing, Node
from core.steps.base import StepSurroundings

log = logging.getLogger(__name__)

TICK = 0.05
COMMANDS_EVERY = 0.25
ROW_EVERY = 0.2  # seconds between two events of one row
ROWS_A_TICK = 300
LOOK_ANYWAY = 5.0  # seconds after which jobs are looked at although nothing is known to have changed
SPARING = 20  # looking how jobs stand takes at most this part of the time
RESUMED = frozenset({JobState.RUNNING, JobState.STOPPED})
STARTS = frozenset({Verb.START, Verb.RESUME, Verb.RETRY, Verb.RETRY_TRANSFER, Verb.OVERWRITE_TRANSFER})  # or may


def local_now() -> datetime:
    """Wall-clock time of this computer."""
    return clock.now()


class Engine:
    """Runs jobs until stopped.

    Parameters
    ----------
    ledger : Ledger
    open_node : Callable[[str], Node]
        Opens a registered node by name.
    on_event : Callable[[Event], None]
        Told what happens, from several threads.
    only : frozenset[int] | None
        Take up only these unfinished jobs at the start (a command line that runs one job); None takes up all.
    listening : Callable[[], Sequence[str]]
        Names of the registered nodes that are called by others; asked again and again.
    surroundings : StepSurroundings | None
        What processing steps are given; their folder is emptied of what a killed program left there.
    expanded : Expand
        Tells the nodes that destinations stand for; may ask servers.

    Attributes
    ----------
    ready : threading.Event
        Set once these nodes listen, or have failed to.
    """

    def __init__(
        self,
        ledger: Ledger,
        open_node: Callable[[str], Node],
        on_event: Callable[[Event], None],
        *,
        only: frozenset[int] | None = None,
        clock: Callable[[], datetime] = local_now,
        listening: Callable[[], Sequence[str]] = lambda: (),
        surroundings: StepSurroundings | None = None,
        expanded: Expand = as_named,
    ) -> None:
        self.ledger = ledger
        self._open_node = open_node
        self._on_event = on_event
        self._only = only
        self._clock = clock
        self._expanded = expanded
        self._surroundings = surroundings or StepSurroundings()
        if self._surroundings.folder is not None:
            sweep(self._surroundings.folder)
        self._gates: dict[str, Gate] = {}
        self._listeners = Listeners(ledger, listening, self._gate, self._drop_gate, on_event)
        self._renewing: threading.Thread | None = None
        self._saved: dict[str, float] = {}  # when each node was saved that is used now
        self._jumps = Jumps()
        self._again = Comebacks()
        self.ready = threading.Event()
        self._runs: dict[int, JobRun] = {}
        self._moving: dict[int, threading.Thread] = {}  # jobs that are being stopped
        self._lock = threading.Lock()
        self._gate_lock = threading.Lock()
        self._changed: dict[int, float] = {}
        self._speeds: dict[int, Pace] = {}
        self._said: dict[int, JobChanged] = {}
        self._jobs_to_say: set[int] = set()
        self._news = True  # the ledger has changed since jobs were looked at
        self._looked = 0.0
        self._unconfirmed = 0
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._next_commands = 0.0
        self._next_jobs = 0.0
        self._next_look = 0.0
        self._engine_said: EngineChanged | None = None
        self._idle_since: datetime | None = local_now()
        ledger.writer.on_commit = self._committed
        ledger.writer.on_trouble = self._ledger_trouble
        self._trouble_said = 0.0

    # the loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`; then settle the instances in flight and let go of the nodes."""
        try:
            self.ledger.writer.take_over()
            self._saved = self.ledger.nodes_saved()
            self._listeners.start()  # before the jobs: some wait for what is brought here
            self.ready.set()
            self._read_commands()  # what a person wanted while no engine ran
            if self._renewing is not None:
                self._renewing.join(40.0)
            self._take_up()
            while not self._stop.is_set():
                try:
                    self._turn()
                except LedgerError as error:
                    self._ledger_trouble(error)  # it may be readable again soon; until then nothing is lost
                self._wake.wait(TICK)
                self._wake.clear()
        finally:
            self._shut_down()

    def stop(self) -> None:
        """Ask the loop to end; returns at once."""
        self._stop.set()
        self._wake.set()

    def nudge(self) -> None:
        """A command was written: look for it now."""
        self._next_commands = 0.0
        self._wake.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_commands:
            self._next_commands = now + COMMANDS_EVERY
            self._read_commands()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._look_after_listeners()
        if jump := self._jumps.look():
            self._clock_jumped(jump)
        if not self._nodes_change():
            for job_id in self._again.due():
                self._come_back(job_id)
        for gate in list(self._gates.values()):
            gate.probe_if_due()
        for job_id, run in list(self._runs.items()):
            if job_id not in self._moving:
                self._look_after(job_id, run)
        for job_id in [k for k, thread in self._moving.items() if not thread.is_alive()]:
            del self._moving[job_id]
        self._say_rows(now)
        if now >= self._next_jobs:
            began = time.monotonic()
            self._say_jobs()
            self._say_engine()
            took = time.monotonic() - began  # long in the ledger of a gateway that has stood for years
            self._next_jobs = began + max(0.5, SPARING * took)

    def _take_up(self) -> None:
        for job in self.ledger.jobs():
            if job.state in RESUMED and (self._only is None or job.id in self._only):
                self._start(job.id)

    def _shut_down(self) -> None:
        for thread in list(self._moving.values()):
            thread.join(40.0)
        stoppers = []
        for job_id, run in list(self._runs.items()):
            thread = threading.Thread(target=run.stop, name=f"stop-{job_id}", daemon=True)
            thread.start()
            stoppers.append((job_id, thread))
        for job_id, thread in stoppers:
            thread.join(45.0)
            self.ledger.update_job(job_id, state=JobState.STOPPED.value)
        self._runs.clear()
        self._next_jobs = 0.0
        self._news = True
        self._say_rows(time.monotonic() + 1.0)
        self._say_jobs()
        if self._renewing is not None:
            self._renewing.join(40.0)
        self._listeners.stop()  # after the jobs: what they wait for may still arrive until then
        for gate in self._gates.values():
            gate.node.close()
        self._gates.clear()
        self._on_event(EngineChanged(False, 0.0, self.ledger.unconfirmed_studies(), 0))

    # commands -------------------------------------------------------------------------------------------

    def _read_commands(self) -> None:
        """Obey what was commanded: in its order, but no job holds up another, and a pause waits for no edit."""
        done = []
        nodes_change = self._nodes_change()  # or an edit waits: what is started now would get the nodes as they were
        waiting: set[int | None] = set()  # jobs one of whose commands waits: their later ones do too
        for command in self.ledger.open_commands():
            job_id = self._job_of(command)
            if command.verb is Verb.NODE_CHANGED:
                if nodes_change or self._moving:  # when all have started or stopped
                    nodes_change = True
                    continue
            elif job_id in waiting or job_id in self._moving or (nodes_change and command.verb in STARTS):
                waiting.add(job_id)
                continue
            try:
                self._obey(command, job_id)
            except FerryError as error:
                self.ledger.add_log(LogLevel.ERROR, str(error), job_id=job_id, detail=error.detail)
                if job_id is not None:
                    self._note_problem(job_id, str(error))
            done.append(command.id)
            nodes_change = nodes_change or self._nodes_change()
        if done:
            self.ledger.handled(done)
            self._next_jobs = 0.0

    def _nodes_change(self) -> bool:
        """Whether edited nodes are being opened anew: a job that started now might get one that is about to close."""
        return self._renewing is not None and self._renewing.is_alive()

    def _job_of(self, command: Command) -> int | None:
        if command.job_id is None and command.transfer_id is not None:
            row = self.ledger.transfer(command.transfer_id)
            return row.job_id if row else None
        return command.job_id

    def _obey(self, command: Command, job_id: int | None) -> None:
        if command.verb is Verb.NODE_CHANGED:
            self._renew_nodes()
            return
        if job_id is None:
            return
        self._jobs_to_say.add(job_id)
        verb = command.verb
        if verb in (Verb.START, Verb.RESUME):
            # Who starts a job marks it as running first; if it has ended since, it was taken up already.
            if self._job(job_id).state not in (JobState.FINISHED, JobState.CANCELLED):
                self._start(job_id)
        elif verb is Verb.PAUSE:
            self._stop_run(job_id, JobState.PAUSED, cancel=False)
        elif verb is Verb.CANCEL:
            self._stop_run(job_id, JobState.CANCELLED, cancel=True)
        elif verb is Verb.REMOVE:
            self.ledger.remove_job(job_id)
        elif verb is Verb.RETRY:
            self._retry_job(self._job(job_id))
        elif verb is Verb.ROUTE:
            if job_id in self._runs:
                self._runs[job_id].route(self._job(job_id).fields.get("routing") is not False)
        elif command.transfer_id is not None:
            self._obey_transfer(verb, job_id, command.transfer_id)

    def _obey_transfer(self, verb: Verb, job_id: int, transfer_id: int) -> None:
        if verb is Verb.RETRY_TRANSFER:
            self._retry(job_id, [transfer_id])
        elif verb is Verb.OVERWRITE_TRANSFER:
            self._retry(job_id, [transfer_id], overwrite=True)
        elif job_id in self._runs:
            if verb is Verb.PRIORITISE_TRANSFER:
                self._runs[job_id].prioritise(transfer_id)
            elif verb is Verb.CANCEL_TRANSFER:
                self._runs[job_id].cancel_transfer(transfer_id)
        elif verb is Verb.CANCEL_TRANSFER:
            self.ledger.close_open(transfer_id, DeliveryState.CANCELLED, wanted=_evidence(self._job(job_id))).wait()

    def _retry_job(self, job: JobRecord) -> None:
        states = [DeliveryState.FAILED, DeliveryState.CANCELLED]
        found = self.ledger.transfers_with(job.id, job.pass_number, states)
        waiting = self.ledger.waiting_transfers(job.id, job.pass_number, wanted=_evidence(job))
        if job.fields.get("after") == After.MOVE.value:
            self.ledger.reconsider_refused(job.id, job.pass_number).wait()
        self._retry(job.id, list(dict.fromkeys((*found, *waiting))))
        if job.id in self._runs:
            self._runs[job.id].settle_rest()

    def _retry(self, job_id: int, transfer_ids: list[int], *, overwrite: bool = False) -> None:
        """Plan again what failed or was cancelled; with `overwrite` also what is different at the destination."""
        states = [DeliveryState.FAILED, DeliveryState.CANCELLED]
        if overwrite:
            states.append(DeliveryState.CONFLICT)
        self.ledger.reopen(transfer_ids, states, overwrite=overwrite).wait()
        run = self._runs.get(job_id)
        if run is None:
            self._start(job_id)
            return
        for transfer_id in transfer_ids:
            run.offer(transfer_id, first=len(transfer_ids) == 1, restart=True)

    def _job(self, job_id: int) -> JobRecord:
        job = self.ledger.job(job_id)
        if job is None:
            raise ConfigurationError(f"There is no job {job_id}.", "See the jobs page, or `dicom-ferry job list`.")
        return job

    # starting and stopping ------------------------------------------------------------------------------

    def _start(self, job_id: int) -> None:
        """Start a job on a thread of its own: opening nodes may wait for the keyring."""
        if job_id in self._runs or job_id in self._moving:
            return
        self._job(job_id)
        thread = threading.Thread(target=lambda: self._start_now(job_id), name=f"start-job-{job_id}", daemon=True)
        self._moving[job_id] = thread
        thread.start()

    def _start_now(self, job_id: int) -> None:
        self._jobs_to_say.add(job_id)
        try:
            job = self._job(job_id)
            kind = job_kinds.get(job.kind)
            if not isinstance(kind, TransferKind):
                raise ConfigurationError(f"Jobs of the kind “{job.kind}” can't be run by this version.")
            try:
                fields = kind.Fields.model_validate(job.fields)
            except ValidationError as error:
                raise explain(error, kind.Fields) from error
            wanted = fields
            now = self._expanded(wanted.destination, wanted.source, register=True)
            if not now.names:
                raise nobody(wanted.destination, now)
            fields = wanted.model_copy(update={"destination": now.names})
            options = kind.options(fields, follow=job.follow)
            names = [n for n in (*options.sources, *options.destinations, options.fallback) if n]
            kind.check(fields, {name: self._gate(name).node for name in names}, follow=job.follow)
            run = JobRun(self.ledger, job, kind, fields, self._gate, self._clock, self._surroundings, now)
            if job.follow and now.names != wanted.destination:
                run.watch = EveryoneWatch(self._expanded, wanted.destination, wanted.source, now)
            run.on_rest = self._wake.set
            self.ledger.update_job(
                job_id,
                state=JobState.RUNNING.value,
                started=job.started.timestamp() if job.started else clock.time(),
                finished=None,
                note="",
                problem="",
            )
            run.start()
            self._runs[job_id] = run
            self._again.forget(job_id)
        except FerryError as error:
            self._cannot_start(job_id, str(error), error.detail)
        except Exception as error:
            log.exception("job %s", job_id)
            self._cannot_start(
                job_id, "This job could not be started: something went wrong inside DICOM Ferry.", repr(error)
            )

    def _cannot_start(self, job_id: int, sentence: str, detail: str) -> None:
        job = self.ledger.job(job_id)
        if job is None or job.problem != sentence:
            self.ledger.add_log(LogLevel.ERROR, sentence, job_id=job_id, detail=detail)
        open_count = job.counts.planned + job.counts.sending + job.counts.sent if job else 0
        stands = job is not None and job.follow and (job.studies > 0 or _always_follows(job))
        if stands:
            self._again.plan(job_id)
        if open_count or stands:  # it goes on at the next start
            self.ledger.update_job(job_id, problem=sentence, state=JobState.STOPPED.value)
        else:
            self.ledger.update_job(
                job_id, problem=sentence, state=JobState.FINISHED.value, finished=clock.time(), planning=False
            )
        self._jobs_to_say.add(job_id)

    def _come_back(self, job_id: int) -> None:
        """Start a following job again that could not be started, or broke, unless a person stopped it meanwhile."""
        job = self.ledger.job(job_id)
        if job is not None and job.state is JobState.STOPPED:
            self._start(job_id)

    def _stop_run(self, job_id: int, state: JobState, *, cancel: bool) -> None:
        self._again.forget(job_id)
        run = self._runs.get(job_id)
        if run is None:
            job = self._job(job_id)
            if cancel and job.state not in (JobState.FINISHED, JobState.SAVED):
                wanted = _evidence(job)
                waiting = self.ledger.all_open_transfers(job_id, job.pass_number, wanted=wanted)
                self.ledger.close_open(waiting, DeliveryState.CANCELLED, wanted=wanted).wait()
                self.ledger.update_job(job_id, state=state.value, finished=clock.time())
            elif not cancel and job.state in RESUMED:
                self.ledger.update_job(job_id, state=state.value)
            return
        run.hold()

        def work() -> None:
            if cancel:
                run.cancel()
                self.ledger.update_job(job_id, state=state.value, finished=clock.time(), planning=False, note="")
            else:
                run.stop()
                self.ledger.update_job(job_id, state=state.value, note="")
            self._runs.pop(job_id, None)
            self._jobs_to_say.add(job_id)

        thread = threading.Thread(target=work, name=f"stop-job-{job_id}", daemon=True)
        self._moving[job_id] = thread
        thread.start()

    def standing(self, job_id: int) -> GatewayStanding | None:
        """Where a gateway stands; None where it doesn't run."""
        run = self._runs.get(job_id)
        return run.gateway.standing() if run is not None and run.gateway.is_gateway else None

    def is_moving(self, job_id: int) -> bool:
        """Whether a job is being started or stopped right now."""
        return job_id in self._moving

    def _look_after(self, job_id: int, run: JobRun) -> None:
        try:
            progress = run.tick()
        except LedgerError as error:
            self._ledger_trouble(error)
            return
        values: dict[str, object] = {}
        job = run.job
        if progress.planning != job.planning:
            values["planning"] = progress.planning
        if progress.note != job.note:
            values["note"] = progress.note
        if progress.problem != job.problem:
            values["problem"] = progress.problem
        if progress.finished:
            values |= self._finished(job_id, run, progress)
        elif progress.broken:
            run.stop()
            self._runs.pop(job_id, None)
            values |= {"state": JobState.STOPPED.value, "note": ""}
            if job.follow:
                self._again.plan(job_id)
        elif progress.halted:
            self._stop_run(job_id, JobState.PAUSED, cancel=False)
        elif progress.anew:
            self._begin_anew(job_id, run)
        if values:
            self.ledger.update_job(job_id, **values)
            run.job = replace(
                job,
                planning=progress.planning,
                note=progress.note,
                problem=str(values.get("problem", progress.problem)),
            )
            self._jobs_to_say.add(job_id)

    def _begin_anew(self, job_id: int, run: JobRun) -> None:
        """A server knows others by now than those that a job sends to."""
        run.hold()

        def work() -> None:
            run.stop()
            self._runs.pop(job_id, None)
            self._start_now(job_id)

        thread = threading.Thread(target=work, name=f"anew-{job_id}", daemon=True)
        self._moving[job_id] = thread
        words = f"“{run.job.name}” goes on with the destinations that are known by now."
        self.ledger.add_log(LogLevel.INFO, words, job_id=job_id)
        thread.start()

    def _finished(self, job_id: int, run: JobRun, progress: Progress) -> dict[str, object]:
        run.stop()
        self._runs.pop(job_id, None)
        problem = progress.problem
        if not problem:
            problem = run.settling_problem
        if count := run.refused_deletions:
            images = "1 image was" if count == 1 else f"{count:,} images were"
            problem = f"{images} confirmed but could not be deleted at the source. {problem or 'See the log.'}"
        return {
            "state": JobState.FINISHED.value,
            "finished": clock.time(),
            "planning": False,
            "note": "",
            "problem": problem,
        }

    def _note_problem(self, job_id: int, sentence: str) -> None:
        self.ledger.update_job(job_id, note=sentence)
        self._jobs_to_say.add(job_id)

    # nodes ----------------------------------------------------------------------------------------------

    def _gate(self, name: str) -> Gate:
        with self._gate_lock:
            if name not in self._gates:
                if name not in self._saved:
                    self._saved |= {n: at for n, at in self.ledger.nodes_saved().items() if n == name}
                self._gates[name] = Gate(self._open_node(name), self._gate_changed)
            return self._gates[name]

    def _drop_gate(self, name: str) -> None:
        with self._gate_lock:
            gate = self._gates.pop(name, None)
        if gate is not None:
            gate.node.close()

    def _gate_changed(self, gate: Gate) -> None:
        since = local_now() if gate.failure else None
        unheard = self._listeners.problem_of(gate.name)
        if gate.failure is None and unheard is not None:  # jobs can use it, but nobody can call it
            self._on_event(NodeChanged(gate.name, NodeHealth.DOWN, since, unheard.sentence))
            return
        self._on_event(NodeChanged(gate.name, gate.health, since, gate.failure.sentence if gate.failure else ""))
        if gate.health is NodeHealth.DOWN and gate.failure:
            words = f"{gate.failure.sentence} {gate.failure.next_step}".strip()
            self.ledger.add_log(LogLevel.WARNING, words, node=gate.name, detail=gate.failure.detail)
        elif gate.health is NodeHealth.WORKS:
            self.ledger.add_log(LogLevel.INFO, f"{gate.name} works.", node=gate.name)
        self._wake.set()

    def _renew_nodes(self) -> None:
        """A node was edited: jobs that use it start anew with it; all others, and who listens, go on undisturbed."""
        changed = self._changed_nodes()
        saved = dict(self._saved)
        running = {job_id: run for job_id, run in list(self._runs.items()) if not changed.isdisjoint(run.gates)}
        for run in running.values():
            run.hold()

        def work() -> None:
            for run in running.values():
                run.stop()
            for job_id in running:
                self._runs.pop(job_id, None)
            kept = self._listeners.keep(saved)
            for name in changed - kept:
                self._drop_gate(name)
            self._listeners.look()
            for job_id in running:
                self._start_now(job_id)

        thread = threading.Thread(target=work, name="renew-nodes", daemon=True)
        self._renewing = thread
        for job_id in running:
            self._moving[job_id] = thread
        thread.start()

    def _changed_nodes(self) -> frozenset[str]:
        """Opened nodes that were saved anew since they were last looked at, or are reached through such a one."""
        before, self._saved = self._saved, self.ledger.nodes_saved()
        changed = {name for name in {*before, *self._saved} if before.get(name) != self._saved.get(name)}
        records = self.ledger.nodes()
        while more := {r.name for r in records if r.name not in changed and _mentions(r, changed)}:
            changed |= more
        return frozenset(name for name in list(self._gates) if name in changed or name not in self._saved)

    # nodes that listen ----------------------------------------------------------------------------------

    def landing(self) -> Landing | None:
        """This computer as the destination of a C-MOVE; None while it doesn't listen."""
        return self._listeners.landing()

    def _look_after_listeners(self) -> None:
        if self._nodes_change():
            return
        if self._listeners.changed() and not self._moving:
            self._renew_nodes()
        else:
            self._listeners.look()

    # time -----------------------------------------------------------------------------------------------

    def _clock_jumped(self, seconds: float) -> None:
        """The computer's clock was set, or the computer slept: no retry waits longer for that, and nodes are asked."""
        if seconds < 0:
            words = f"The clock of this computer was set back by {-seconds:.0f} s; what waits was moved along."
            self.ledger.add_log(LogLevel.INFO, words)
            self.ledger.shift_waits(seconds, clock.time())
        for gate in list(self._gates.values()):
            gate.probe_soon()
        for run in list(self._runs.values()):
            run.look_again()

    # telling --------------------------------------------------------------------------------------------

    def _committed(self, transfer_ids: set[int]) -> None:
        now = time.monotonic()
        with self._lock:
            self._news = True
            for transfer_id in transfer_ids:
                self._changed.setdefault(transfer_id, now)

    def _ledger_trouble(self, error: LedgerError) -> None:
        now = time.monotonic()
        if now - self._trouble_said < 10.0:
            return
        self._trouble_said = now
        log.error("ledger: %s (%s)", error.sentence, error.detail)
        for job_id, said in list(self._said.items()):
            self._on_event(replace(said, note=str(error)))
            del self._said[job_id]

    def _say_rows(self, now: float) -> None:
        with self._lock:
            due = [k for k, at in self._changed.items() if now - at >= ROW_EVERY][:ROWS_A_TICK]
            for transfer_id in due:
                del self._changed[transfer_id]
        if not due:
            return
        for row in self.ledger.transfers_by_id(due):
            self._on_event(StudyChanged(self._with_speed(row, now)))

    def _with_speed(self, row: TransferRow, now: float) -> TransferRow:
        if row.state not in (StudyState.SENDING, StudyState.CONFIRMING):
            self._speeds.pop(row.id, None)
            return row
        speed, left = self._speeds.setdefault(row.id, Pace()).measure(now, row.counts)
        return replace(row, speed=speed, seconds_left=left)

    def _say_jobs(self) -> None:
        with self._lock:
            news, self._news = self._news or time.monotonic() - self._looked > LOOK_ANYWAY, False
        if news:
            self._looked = time.monotonic()
            self._unconfirmed = self.ledger.unconfirmed_studies()
        for job_id in {*self._runs, *self._jobs_to_say}:
            said = self._said.get(job_id)
            if not news and job_id not in self._jobs_to_say and said is not None and not said.speed:
                continue
            self._jobs_to_say.discard(job_id)
            job = self.ledger.job(job_id)
            if job is None:
                continue
            event = self._job_event(job)
            if self._said.get(job_id) != event:
                self._said[job_id] = event
                self._on_event(event)

    def _job_event(self, job: JobRecord) -> JobChanged:
        if job.state is JobState.RUNNING:
            speed, left = self._speeds.setdefault(-job.id, Pace()).measure(time.monotonic(), job.counts)
            left = None if job.planning else left
        else:
            speed, left = 0.0, None
            self._speeds.pop(-job.id, None)
        return JobChanged(
            job.id, job.name, job.kind, job.state, job.counts, job.studies, job.planning, job.left_out,
            job.problem or job.note, speed, left,
        )  # fmt: skip

    def _say_engine(self) -> None:
        running = [e for k, e in self._said.items() if k in self._runs]
        speed = sum(e.speed for e in running)
        working = speed > 0 or any(e.counts.sending for e in running)  # a server may send by itself
        if working:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = local_now()
        followers = sum(1 for run in list(self._runs.values()) if run.options.follow)
        event = EngineChanged(True, speed, self._unconfirmed, followers, self._idle_since, self._listeners.count)
        if event != self._engine_said:
            self._engine_said = event
            self._on_event(event)


def _mentions(record: NodeRecord, names: Collection[str]) -> bool:
    """Whether a node's fields name one of these."""
    values = (v for value in record.fields.values() for v in (value if isinstance(value, list) else [value]))
    return any(isinstance(value, str) and value in names for value in values)


def _always_follows(job: JobRecord) -> bool:
    kind = job_kinds.all().get(job.kind)
    return kind is not None and kind.always_follows


def _evidence(job: JobRecord) -> EvidenceLevel:
    return EvidenceLevel(str(job.fields.get("evidence") or EvidenceLevel.VERIFIED))
