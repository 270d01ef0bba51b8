"""What is seen while a job runs: a bar on a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from core.cli_commands.figures import megabytes
from core.cli_commands.speaking import Speaker
from core.model.events import Event, JobChanged, LogLevel, LogLine, NodeChanged, NodeHealth, StudyChanged
from core.model.job import JobState
from core.model.outcome import STUDY_STATE_WORDS, Counts, StudyState

_SETTLED = frozenset(StudyState) - {StudyState.WAITING, StudyState.SENDING, StudyState.CONFIRMING}
_PLAIN_EVERY = 10.0


class Shown:
    """What a person or program sees while a job runs. Base: nothing."""

    def __init__(self, speaker: Speaker, job_id: int) -> None:
        self.speaker, self.job_id = speaker, job_id

    def show(self, event: Event) -> None:
        """An event of the engine; those of other jobs are let pass."""

    def tick(self) -> None:
        """Called some times a second while nothing comes."""


class _Lines(Shown):
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


class _Plain(Shown):
    """Not a terminal: a line when a study has ended, when something is wrong, and now and then the totals."""

    def __init__(self, speaker: Speaker, job_id: int) -> None:
        super().__init__(speaker, job_id)
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

    def __init__(self, speaker: Speaker, job_id: int, progress: Progress) -> None:
        super().__init__(speaker, job_id)
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
def shown(speaker: Speaker, job_id: int) -> Iterator[Shown]:
    if speaker.json:
        yield _Lines(speaker, job_id)
    elif not speaker.live:
        yield _Plain(speaker, job_id)
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
            yield _Terminal(speaker, job_id, progress)


def _counts(c: Counts) -> dict[str, int]:
    return {
        "planned": c.total, "sent": c.sent, "verified": c.verified, "committed": c.committed, "skipped": c.skipped,
        "conflict": c.conflict, "failed": c.failed, "cancelled": c.cancelled, "bytes": c.bytes_done,
    }  # fmt: skip
