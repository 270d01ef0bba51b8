"""Following a job to its end: progress on a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.app import App, EngineHandle
from core.cli_commands.figures import counted, duration, megabytes
from core.cli_commands.interruption import Interruption
from core.cli_commands.progress import Shown, shown
from core.cli_commands.speaking import INTERRUPTED, Speaker
from core.model.errors import FerryError, LedgerError
from core.model.events import Event, JobChanged
from core.model.job import JobRecord, JobState
from core.model.outcome import Counts
from core.model.views import TransferFilter

_ENDED = frozenset({JobState.FINISHED, JobState.CANCELLED})
_LOOK_EVERY = 0.5
_SETTLE_SECONDS = 30.0
_COMMAND_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How following a job ended: its counts, the seconds of this run, and whether a person interrupted it.

    `broken` is what was wrong with the ledger meanwhile, if anything was.
    """

    job: JobRecord
    counts: Counts
    seconds: float
    interrupted: bool
    broken: LedgerError | None = None

    @property
    def exit_status(self) -> int:
        """0 all as wanted, 1 something failed, conflicts, was cancelled or is not proved, 130 interrupted.

        2 instead of 1 where the ledger could not be read or written meanwhile.
        """
        if self.interrupted:
            return INTERRUPTED
        c = self.counts
        evidence = str(self.job.fields.get("evidence") or "verified")
        unproved = {"sent": 0, "verified": c.sent, "committed": c.sent + c.verified}.get(evidence, c.sent)
        wrong = c.failed + c.conflict + c.cancelled + c.planned + c.sending + unproved
        if not wrong and not self.job.problem and self.job.state is JobState.FINISHED:
            return 0
        return 1 if self.broken is None else self.broken.exit_status


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
            with shown(speaker, job_id) as seen:
                while not interruption.asked.is_set() and not _ended(app, handle, job_id):
                    _take(events, seen, job_id)
                    if isinstance(handle.error, LedgerError):
                        raise handle.error
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
                    seen.show(event)
        finally:
            handle.stop(_SETTLE_SECONDS)
    job, counts = app.jobs.get(job_id), app.ledger.job_counts(job_id)
    return Ending(job, counts, time.monotonic() - began, interrupted, app.ledger.broken)


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
    handle = app.engine(lambda _event: None, only=frozenset(), listen=False)
    try:
        return app.wait_for(
            job_id, lambda: not _has_command(app, job_id) and app.jobs.get(job_id).state in until, _COMMAND_SECONDS
        )
    finally:
        handle.stop(_SETTLE_SECONDS)


def _ended(app: App, handle: EngineHandle, job_id: int) -> bool:
    """Whether the job has its end, and no command waits that would begin it anew."""
    job = app.jobs.get(job_id)
    # Stopped by something of ours, or paused at its first error; it goes on when started again.
    broken = job.state in (JobState.STOPPED, JobState.PAUSED) and job.problem
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
    size = f"{megabytes(c.bytes_done)} in " if c.bytes_done else ""  # not every source tells sizes
    left_out = f" {job.left_out:,} were left out by the filter." if job.left_out else ""
    style = {0: "bold green", INTERRUPTED: "yellow"}.get(ending.exit_status, "bold red")
    speaker.say(
        f"{job.name}: {counted(c.total, 'image')} in {counted(job.studies, 'study', 'studies')}: "
        f"{', '.join(parts) or 'nothing to do'}.{left_out} {size}{duration(ending.seconds)}{rate}.",
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


def _take(events: queue.SimpleQueue[Event], seen: Shown, job_id: int) -> None:
    """Show what has come, waiting a moment for the first."""
    deadline = time.monotonic() + _LOOK_EVERY
    while (left := deadline - time.monotonic()) > 0:
        try:
            event = events.get(timeout=min(left, 0.1))
        except queue.Empty:
            seen.tick()
            continue
        seen.show(event)
        if isinstance(event, JobChanged) and event.job_id == job_id and event.state in _ENDED:
            return


def _drain(events: queue.SimpleQueue[Event]) -> list[Event]:
    found = []
    while True:
        try:
            found.append(events.get_nowait())
        except queue.Empty:
            return found


def rows_of(app: App, job_id: int) -> Iterator[Any]:
    """All rows of a job's present pass, page by page."""
    offset = 0
    while page := app.ledger.transfers(TransferFilter(job_id=job_id), offset=offset, limit=500):
        yield from page
        offset += len(page)
