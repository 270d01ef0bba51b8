"""Jobs as rows: what they carry from where to where, their state and their counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.model.events import JobChanged
from core.model.job import JobRecord, JobState
from core.model.outcome import Counts
from gui import words
from gui.models.keyed import Field, KeyedModel
from gui.models.roles import Bar
from gui.theme import Role, Tone


def state_words(job: JobRecord) -> tuple[str, Tone]:
    """The pill of a job: a finished one is green only when nothing failed and nothing is missing."""
    text, tone = words.JOB_WORDS[job.state]
    c = job.counts
    if job.state is JobState.RUNNING:
        if job.fields.get("routing") is False:
            return "Routing off", Tone.AMBER
        if job.planning and not c.total:
            return "Looking", Tone.BLUE
        if job.follow and not c.planned and not c.sending and not c.sent:
            return "Routing" if "routing" in job.fields else "Watching", Tone.GREEN
        return text, tone
    if job.state is JobState.FINISHED:
        if c.failed or c.conflict or job.problem:
            return "Needs attention", Tone.RED
        if not c.total:
            return "Nothing to do", Tone.GREY
    return text, tone


def bar(counts: Counts) -> Bar:
    total = counts.total or 1
    parts = (
        ((counts.verified + counts.committed + counts.skipped) / total, Role.GREEN),
        (counts.sent / total, Role.ACCENT),
        (counts.conflict / total, Role.AMBER),
        (counts.failed / total, Role.RED),
    )
    return Bar(tuple(p for p in parts if p[0] > 0))


def route(job: JobRecord) -> str:
    return f"{', '.join(job.sources)} → {', '.join(job.destinations)}"


def wanted(job: JobRecord) -> list[str]:
    """Which studies a job takes, where that is a range of days or a list."""
    f = job.fields
    if first := str(f.get("date_from") or ""):
        last = str(f.get("date_to") or "")
        return [f"{words.dicom_date(first)} to {words.dicom_date(last) if last else 'today'}"]
    if file := str(f.get("list") or ""):
        return [f"list {Path(file).name}"]
    entries = f.get("entries")
    return [words.plural(len(entries), "entry", "entries")] if isinstance(entries, list) and entries else []


def second(job: JobRecord) -> str:
    parts = [job.kind.capitalize(), route(job), *wanted(job)]
    if job.follow:
        parts.append("keeps following")
    if job.fields.get("after") == "move" and "routing" not in job.fields:
        parts.append("move")
    return " · ".join(parts)


def images(job: JobRecord) -> str:
    c = job.counts
    if not c.total:
        return "counting…" if job.planning and job.state is JobState.RUNNING else "–"
    return f"{words.images(c)} · {words.studies(job.studies)}"


def trouble(job: JobRecord) -> str:
    c = job.counts
    parts = []
    if c.failed:
        parts.append(f"{words.count(c.failed)} failed")
    if c.conflict:
        parts.append(f"{words.count(c.conflict)} different")
    return ", ".join(parts)


FIELDS: tuple[Field[JobRecord], ...] = (
    Field("Job", lambda j: j.name, second=second, tip=lambda j: f"{j.name}\n{route(j)}"),
    Field(
        "State",
        lambda j: state_words(j)[0],
        tone=lambda j: state_words(j)[1],
        tip=lambda j: j.problem or j.note or None,
    ),
    Field("Images", images, bar=lambda j: bar(j.counts)),
    Field("Problems", trouble),
    Field("Begun", lambda j: words.ago(j.started) if j.started else "–"),
)
STATE_COLUMN, IMAGES_COLUMN = 1, 2


class JobsModel(KeyedModel[JobRecord]):
    """Newest first, brought up to date by the engine's events."""

    def __init__(self) -> None:
        super().__init__(lambda j: j.id, FIELDS)

    def apply(self, change: JobChanged) -> bool:
        """Take in a change; False when the job is not known here."""
        at = self.row_of(change.job_id)
        if at is None:
            return False
        # A job that has ended notes nothing but what is missing: such an end is not green.
        ended = change.state is JobState.FINISHED
        self.change(
            at,
            replace(
                self.record(at),
                state=change.state,
                counts=change.counts,
                studies=change.studies,
                planning=change.planning,
                left_out=change.left_out,
                note="" if ended else change.note,
                problem=change.note if ended else self.record(at).problem,
            ),
        )
        return True
