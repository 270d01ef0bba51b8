"""Following a job to its end: progress on a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from core.app import App, EngineHandle
from core.cli_commands.speaking import INTERRUPTED, Speaker
from core.model.errors import FerryError
from core.model.events import Event, JobChanged, LogLevel, LogLine, NodeChanged, NodeHealth, StudyChanged
from core.model.job import JobRecord, JobState
from core.model.outcome import STUDY_STATE_WORDS, Counts, StudyState
from core.model.views import TransferFilter

_ENDED = frozenset({JobState.FINISHED, JobState.CANCELLED})
_SETTLED = frozenset(StudyState) - {StudyState.WAITING, StudyState.SENDING, StudyState.CONFIRMING}
_LOOK_EVERY = 0.5
_PLAIN_EVERY = 10.0
_SETTLE_SECONDS = 30.0
_COMMAND_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How following a job ended: its counts, the seconds of this run, and whether a person interrupted it."""

    job: JobRecord
    counts: Counts
    seconds: float
    interrupted: bool

    @property
    def exit_status(self) -> int:
        """0 all as wanted, 1 something failed, conflicts, was cancelled or is not proved, 130 interrupted."""
        if self.interrupted:
            return INTERRUPTED
        c = self.counts
        evidence = str(self.job.fields.get("evidence") or "verified")
        unproved = {"sent": 0, "verified": c.sent, "committed": c.sent + c.verified}.get(evidence, c.sent)
        wrong = c.failed + c.conflict + c.cancelled + c.planned + c.sending + unproved
        return 1 if wrong or self.job.problem or self.job.state is not JobState.FINISHED else 0


class Interruption:
    """SIGINT and SIGTERM as a flag, while it is entered. A second one ends the process at once.

    That loses nothing: what was not settled is taken up again by the next run.

    Parameters
    ----------
    then : Callable[[], object] | None
        Called at the first one, in the main thread.
    """

    def __init__(self, then: Callable[[], object] | None = None) -> None:
        self._then = then
        self.asked = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked.is_set():
            os._exit(INTERRUPTED)
        self.asked.set()
        if self._then is not None:
            self._then()


def follow(app: App, speaker: Speaker, job_id: int, *, began: float | None = None) -> Ending:
    """Run the engine (or attach to the one that runs) until this job has ended or a person interrupts.

    Raises
    ------
    FerryError
    """
    began = time.monotonic() if began is None else began
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with Interruption() as interruption:
        handle = app.engine(events.put, only=frozenset({job_id}))
        try:
            if handle.attached:
                speaker.remark("DICOM Ferry is running already; the job runs there.")
            with _shown(speaker, app, job_id) as shown:
                while not interruption.asked.is_set() and not _ended(app, handle, job_id):
                    _take(events, shown, job_id)
                    if handle.error is not None:
                        raise FerryError(
                            "The engine stopped before the job had ended.",
                            "Give the same command again to continue it.",
                            detail=repr(handle.error),
                            code="engine-stopped",
                        )
                interrupted = interruption.asked.is_set() and not _ended(app, handle, job_id)
                if interrupted and handle.attached:
                    speaker.remark(f"The job goes on there; to stop it: dicom-ferry job pause {job_id}")
                elif interrupted:
                    speaker.remark("Stopping: images on their way are being settled …")
                    handle.stop(_SETTLE_SECONDS)
                for event in _drain(events):
                    shown.show(event)
        finally:
            handle.stop(_SETTLE_SECONDS)
    return Ending(app.jobs.get(job_id), app.ledger.job_counts(job_id), time.monotonic() - began, interrupted)


def settle_command(app: App, job_id: int, until: frozenset[JobState]) -> bool:
    """Have a command that was written for a job obeyed, by the engine that runs or by one just for that.

    Parameters
    ----------
    until : frozenset[JobState]
        States in which the command has had its effect (or could have none).

    Returns
    -------
    bool
        False when it was not obeyed within 45 s; it stays written and will be.
    """
    handle = app.engine(lambda _event: None, only=frozenset())
    try:
        return app.wait_for(
            job_id, lambda: not _has_command(app, job_id) and app.jobs.get(job_id).state in until, _COMMAND_SECONDS
        )
    finally:
        handle.stop(_SETTLE_SECONDS)


def _ended(app: App, handle: EngineHandle, job_id: int) -> bool:
    """Whether the job has its end, and no command waits that would begin it anew."""
    job = app.jobs.get(job_id)
    broken = job.state is JobState.STOPPED and job.problem  # by something of ours; it goes on when started again
    if job.state not in _ENDED and not broken:
        return False
    return not handle.is_moving(job_id) and not _has_command(app, job_id)


def _has_command(app: App, job_id: int) -> bool:
    return any(c.job_id == job_id for c in app.ledger.open_commands())


def tell(app: App, speaker: Speaker, ending: Ending) -> None:
    """The last lines: what became of every image, why something failed, and what to do."""
    c, job = ending.counts, ending.job
    _failures(app, speaker, job)
    for sentence, style in ((job.problem, "red"), (job.note, "yellow")):
        if sentence:
            speaker.remark(sentence, style)
    parts = [
        f"{n:,} {word}"
        for n, word in (
            (c.committed, "committed"),
            (c.verified, "confirmed"),
            (c.sent, "sent, not confirmed"),
            (c.skipped, "already there"),
            (c.conflict, "different at the destination"),
            (c.failed, "failed"),
            (c.cancelled, "cancelled"),
            (c.planned + c.sending, "still to do"),
        )
        if n
    ]
    rate = f", {megabytes(c.bytes_done / ending.seconds)}/s" if ending.seconds > 0.5 and c.bytes_done else ""
    left_out = f" {job.left_out:,} were left out by the filter." if job.left_out else ""
    style = {0: "bold green", INTERRUPTED: "yellow"}.get(ending.exit_status, "bold red")
    speaker.say(
        f"{job.name}: {c.total:,} images in {job.studies:,} studies: {', '.join(parts) or 'nothing to do'}."
        f"{left_out} {megabytes(c.bytes_done)} in {duration(ending.seconds)}{rate}.",
        style,
    )
    if ending.interrupted:
        speaker.remark("Interrupted. The same command continues the job.")
    speaker.data(
        "finished",
        job=job.id,
        name=job.name,
        state=job.state.value,
        planned=c.total,
        sent=c.sent,
        verified=c.verified,
        committed=c.committed,
        skipped=c.skipped,
        conflict=c.conflict,
        failed=c.failed,
        cancelled=c.cancelled,
        bytes=c.bytes_done,
        seconds=round(ending.seconds, 3),
        left_out=job.left_out,
        problem=job.problem,
    )


def _failures(app: App, speaker: Speaker, job: JobRecord) -> None:
    for group in app.ledger.failure_groups(job_id=job.id):
        images = "1 image" if group.count == 1 else f"{group.count:,} images"
        speaker.remark(f"{images} failed at {group.node}: {group.failure.sentence}", "red")
        if group.failure.next_step:
            speaker.remark(f"→ {group.failure.next_step}")
        speaker.data(
            "failure",
            job=job.id,
            node=group.node,
            count=group.count,
            code=group.failure.code,
            sentence=group.failure.sentence,
            next_step=group.failure.next_step,
        )


def duration(seconds: float) -> str:
    """ "4.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(count: float) -> str:
    """Bytes in the unit that reads best (decimal)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} bytes"


def _take(events: queue.SimpleQueue[Event], shown: _Shown, job_id: int) -> None:
    """Show what has come, waiting a moment for the first."""
    deadline = time.monotonic() + _LOOK_EVERY
    while (left := deadline - time.monotonic()) > 0:
        try:
            event = events.get(timeout=min(left, 0.1))
        except queue.Empty:
            shown.tick()
            continue
        shown.show(event)
        if isinstance(event, JobChanged) and event.job_id == job_id and event.state in _ENDED:
            return


def _drain(events: queue.SimpleQueue[Event]) -> list[Event]:
    found = []
    while True:
        try:
            found.append(events.get_nowait())
        except queue.Empty:
            return found


class _Shown:
    """What a person or program sees while a job runs. Base: nothing."""

    def __init__(self, speaker: Speaker, app: App, job_id: int) -> None:
        self.speaker, self.app, self.job_id = speaker, app, job_id

    def show(self, event: Event) -> None:
        """An event of the engine; those of other jobs are let pass."""

    def tick(self) -> None:
        """Called some times a second while nothing comes."""


class _Lines(_Shown):
    """``--json``: one object for each event of this job."""

    def show(self, event: Event) -> None:
        if isinstance(event, JobChanged) and event.job_id == self.job_id:
            self.speaker.data(
                "job", job=event.job_id, name=event.name, kind=event.kind, state=event.state.value,
                planning=event.planning, studies=event.studies, **_counts(event.counts), speed=round(event.speed),
                seconds_left=event.seconds_left, note=event.note,
            )  # fmt: skip
        elif isinstance(event, StudyChanged) and event.row.job_id == self.job_id:
            row = event.row
            self.speaker.data(
                "study", job=row.job_id, transfer=row.id, study_uid=row.study.study_uid, source=row.source,
                destination=row.destination, state=row.state.value, path=row.path, path_reason=row.path_reason,
                attempt=row.attempt, next_attempt=row.next_attempt, **_counts(row.counts), reason=row.reason,
                next_step=row.next_step,
            )  # fmt: skip
        elif isinstance(event, NodeChanged):
            self.speaker.data(
                "node", name=event.name, health=event.health.value, since=event.since, reason=event.reason
            )
        elif isinstance(event, LogLine) and event.job_id in (None, self.job_id):
            self.speaker.data("log", level=event.level.value, at=event.at, text=event.text, node=event.node)


class _Plain(_Shown):
    """Not a terminal: a line when a study has ended, when something is wrong, and now and then the totals."""

    def __init__(self, speaker: Speaker, app: App, job_id: int) -> None:
        super().__init__(speaker, app, job_id)
        self._states: dict[int, StudyState] = {}
        self._next = time.monotonic() + _PLAIN_EVERY

    def show(self, event: Event) -> None:
        if isinstance(event, StudyChanged) and event.row.job_id == self.job_id:
            self._study(event)
        elif isinstance(event, JobChanged) and event.job_id == self.job_id and time.monotonic() > self._next:
            self._next = time.monotonic() + _PLAIN_EVERY
            c = event.counts
            self.say(f"{c.confirmed + c.sent:,} of {c.total:,} images, {megabytes(event.speed)}/s")
        elif isinstance(event, NodeChanged) and event.health is NodeHealth.DOWN:
            self.say(f"{event.name}: {event.reason}", "yellow")
        elif isinstance(event, LogLine) and event.level is not LogLevel.INFO and event.job_id in (None, self.job_id):
            self.say(event.text, "red" if event.level is LogLevel.ERROR else "yellow")

    def say(self, text: str, style: str = "") -> None:
        self.speaker.remark(text, style)

    def _study(self, event: StudyChanged) -> None:
        row = event.row
        if self._states.get(row.id) is row.state or row.state not in _SETTLED:
            return
        self._states[row.id] = row.state
        if len(self._states) > 10_000:
            self._states.clear()  # only against saying the same twice
        words = STUDY_STATE_WORDS[row.state]
        reason = f" ({row.reason})" if row.reason else ""
        # No names here: this goes to terminals, scrollback and the logs of schedulers.
        self.say(f"{row.source} → {row.destination}: study {row.study.study_uid}: {words}{reason}")


class _Terminal(_Plain):
    """A terminal: one bar that says how much is confirmed, how fast, and how long it will take."""

    def __init__(self, speaker: Speaker, app: App, job_id: int, progress: Progress) -> None:
        super().__init__(speaker, app, job_id)
        self._progress = progress
        self._task = progress.add_task("Looking what there is", total=None, amount="", speed="")

    def show(self, event: Event) -> None:
        if isinstance(event, JobChanged) and event.job_id == self.job_id:
            c = event.counts
            done = c.total - c.planned - c.sending
            if event.state is JobState.PAUSED:
                words = "Paused"
            elif event.planning:
                words = "Sending, still looking"
            else:
                words = "Sending and confirming"
            self._progress.update(
                self._task,
                description=words,
                total=c.total or None,
                completed=done,
                amount=f"{c.confirmed:,} confirmed of {c.total:,}",
                speed=f"{megabytes(event.speed)}/s" if event.speed else "",
            )
        elif isinstance(event, StudyChanged):
            if event.row.state in (StudyState.FAILED, StudyState.ATTENTION, StudyState.DIFFERENT):
                super().show(event)
        else:
            super().show(event)

    def say(self, text: str, style: str = "") -> None:
        self._progress.console.print(escape(text), style=style or None)


@contextmanager
def _shown(speaker: Speaker, app: App, job_id: int) -> Iterator[_Shown]:
    if speaker.json:
        yield _Lines(speaker, app, job_id)
    elif not speaker.live:
        yield _Plain(speaker, app, job_id)
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=28, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[amount]}", table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[speed]}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        )
        with Progress(*columns, console=speaker.err, transient=True) as progress:
            yield _Terminal(speaker, app, job_id, progress)


def _counts(c: Counts) -> dict[str, int]:
    return {
        "planned": c.total, "sent": c.sent, "verified": c.verified, "committed": c.committed, "skipped": c.skipped,
        "conflict": c.conflict, "failed": c.failed, "cancelled": c.cancelled, "bytes": c.bytes_done,
    }  # fmt: skip


def rows_of(app: App, job_id: int) -> Iterator[Any]:
    """All rows of a job's present pass, page by page."""
    offset = 0
    while page := app.ledger.transfers(TransferFilter(job_id=job_id), offset=offset, limit=500):
        yield from page
        offset += len(page)
