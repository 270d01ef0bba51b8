"""`dicom-ferry job`: save, list and command jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from core.cli_commands.fields import build, gather
from core.cli_commands.figures import megabytes
from core.cli_commands.following import settle_command
from core.cli_commands.opening import opened
from core.cli_commands.run import EPILOG, carry, check_before_start, job_options
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.job_book import rule_field
from core.jobs.base import JobKind
from core.jobs.registry import job_kinds
from core.model.job import JobRecord, JobState
from core.model.rules import parse_rule
from core.model.rules.words import in_words

app = typer.Typer(
    help="Save, list, start, pause, resume, cancel, retry and remove jobs, and change their rules.",
    no_args_is_help=True,
)
save = typer.Typer(
    help="Save a job without starting it. Each kind has its own options: dicom-ferry job save KIND --help.",
    no_args_is_help=True,
)
app.add_typer(save, name="save")

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Number or name of a job (dicom-ferry job list).")]
_CLOSED = frozenset({JobState.FINISHED, JobState.CANCELLED, JobState.SAVED})
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Don't carry it out here: leave it to the DICOM Ferry that runs (next).")
]


def add_kinds() -> None:
    """Make `job save KIND` for every registered kind of job."""
    for kind in job_kinds.all().values():
        save.command(kind.name, help=f"{kind.title}. {kind.summary}", epilog=EPILOG)(_save_command(kind))


def _save_command(kind: JobKind) -> Any:
    def body(json: bool, name: str, job_file: Path | None, follow: bool = False, **arguments: Any) -> None:
        with speaking(json=json) as speaker:
            given = gather(kind.Fields, arguments, file=job_file, kind=kind.name)
            follow = follow or bool(given.follow)
            with opened() as app:
                check_before_start(app, kind, given, follow=follow, probe=False)
                job = app.jobs.create(kind.name, given.values, name=name or given.name, follow=follow, start=False)
                _data(speaker, job)
                speaker.say(f"Saved as job {job.id}, “{job.name}”. Start it: dicom-ferry job start {job.id}")

    return build(f"save_{kind.name}", kind.summary, job_options(kind), body)


@app.command("list")
def list_jobs(json: Json = False) -> None:
    """List the jobs, newest first, with what became of their images."""
    with speaking(json=json) as speaker, opened() as app:
        table = Table("Job", "Name", "State", "Studies", "Images", "Confirmed", "Open", "Failed", "Size", box=None,
                      header_style="bold", pad_edge=False)  # fmt: skip
        for column in table.columns[3:]:
            column.justify = "right"
        jobs = app.jobs.all()
        for job in jobs:
            c = job.counts
            numbers = (job.studies, c.total, c.confirmed, c.planned + c.sending + c.sent, c.failed + c.conflict)
            table.add_row(
                str(job.id), escape(job.name), job.state.value, *(f"{n:,}" for n in numbers), megabytes(c.bytes_total)
            )
            _data(speaker, job)
        if jobs:
            speaker.show(table)
        else:
            speaker.say("No jobs yet. Carry studies from node to node: dicom-ferry run --help")


@app.command()
def start(job: Job, no_wait: NoWait = False, json: Json = False) -> None:
    """Start a saved or stopped job and carry it to its end; a finished one begins a new pass."""
    _go("start", job, no_wait, json)


@app.command()
def resume(job: Job, no_wait: NoWait = False, json: Json = False) -> None:
    """Go on with a paused job, to its end."""
    _go("resume", job, no_wait, json)


@app.command()
def retry(job: Job, no_wait: NoWait = False, json: Json = False) -> None:
    """Send again what failed or was cancelled, and only that."""
    _go("retry", job, no_wait, json)


@app.command()
def pause(job: Job, json: Json = False) -> None:
    """Pause a job: nothing new begins, images on their way are settled."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.jobs.get(job)
        app.jobs.pause(record.id)
        _settled(
            speaker, settle_command(app, record.id, _CLOSED | {JobState.PAUSED}), app.jobs.get(record.id), "Paused"
        )


@app.command("rule")
def change_rule(
    job: Job,
    rule: Annotated[str | None, typer.Argument(metavar="[RULE]", help="The new one, in quotes; '' for everything.")] = (
        None
    ),
    json: Json = False,
) -> None:
    """Say which rule a job has, or give it another one: for what is found from its next start on."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.jobs.get(job)
        if rule is not None:
            record = app.jobs.change_rule(record.id, rule)
        text = str(record.fields.get(rule_field(app.job_kinds()[record.kind])) or "")
        speaker.data("rule", job=record.id, name=record.name, text=text)
        for line in in_words(parse_rule(text)):
            speaker.say("  " * line.depth + line.text)


@app.command()
def cancel(job: Job, json: Json = False) -> None:
    """Cancel a job: what is not yet done will not be done; what was proved stays proved."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.jobs.get(job)
        app.jobs.cancel(record.id)
        _settled(speaker, settle_command(app, record.id, _CLOSED), app.jobs.get(record.id), "Cancelled")


@app.command()
def remove(job: Job, json: Json = False) -> None:
    """Remove a finished or cancelled job together with its evidence. Export a report first to keep the proof."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.jobs.get(job)
        app.jobs.remove(record.id)
        speaker.data("removed", job=record.id, name=record.name)
        speaker.say(f"Removed job {record.id}, “{record.name}”.")


def _go(verb: str, key: str, no_wait: bool, json: bool) -> None:
    status = 0
    with speaking(json=json) as speaker, opened() as app:
        record = app.jobs.get(key)
        getattr(app.jobs, verb)(record.id)
        if no_wait:
            _data(speaker, app.jobs.get(record.id))
            speaker.say(f"“{record.name}” goes on in the DICOM Ferry that runs, or in the next one that is started.")
        else:
            status = carry(app, speaker, record.id)
    exit_with(status)


def _settled(speaker: Speaker, obeyed: bool, job: JobRecord, word: str) -> None:
    _data(speaker, job)
    if not obeyed:
        speaker.remark("The running DICOM Ferry has not answered yet; it will obey when it does.", "yellow")
    elif job.state in (JobState.PAUSED, JobState.CANCELLED):
        speaker.say(f"{word}: “{job.name}”.")
    else:
        speaker.say(f"“{job.name}” is {job.state.value}; there was nothing to be {word.lower()}.")


def _data(speaker: Speaker, job: JobRecord) -> None:
    c = job.counts
    speaker.data(
        "job", job=job.id, name=job.name, kind=job.kind, state=job.state.value, pass_number=job.pass_number,
        follow=job.follow, fields=job.fields, studies=job.studies, planned=c.total, sent=c.sent, verified=c.verified,
        committed=c.committed, skipped=c.skipped, conflict=c.conflict, failed=c.failed, cancelled=c.cancelled,
        bytes=c.bytes_done, note=job.note, problem=job.problem, created=job.created, finished=job.finished,
    )  # fmt: skip
