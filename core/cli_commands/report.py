"""`dicom-ferry report`: the proof of a job, to a file or to standard output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from core.app import App
from core.cli_commands.opening import opened
from core.cli_commands.speaking import speaking
from core.model.job import JobRecord
from core.reports import ReportFormat, write_report


def report(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Number or name of a job (dicom-ferry job list).")],
    form: Annotated[ReportFormat, typer.Option("--format", help="For a spreadsheet, a program, or to print.")] = (
        ReportFormat.CSV
    ),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output when left out.")
    ] = None,
    mapping: Annotated[
        bool,
        typer.Option(
            "--mapping",
            help="Tell under which UIDs and patient ID images were sent that processing steps changed. Sensitive: "
            "with it, a pseudonym is none any more.",
        ),
    ] = False,
    failed_list: Annotated[
        Path | None,
        typer.Option("--failed-list", help="Write the studies that are not as wanted to this file: a list to migrate."),
    ] = None,
) -> None:
    """Export the proof of a job: for each image when, how, what the destination answered, how it was verified.

    A report holds patient data: a file is written so that only you can read it.
    """
    with speaking() as speaker, opened() as app:
        record = app.jobs.get(job)
        if failed_list is not None:
            listed = app.failed_list(record.id, failed_list)
            speaker.say(f"Wrote {listed:,} studies that are not as wanted to {failed_list}.")
            if output is None:
                return
        if output is None:
            _to_standard_output(app, record, form, mapping=mapping)
            return
        count = app.report(record.id, form, output, mapping=mapping)
        speaker.say(f"Wrote {count:,} images of “{record.name}” to {output}.")


def _to_standard_output(app: App, job: JobRecord, form: ReportFormat, *, mapping: bool) -> None:
    out: TextIO = sys.stdout
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None and not out.isatty():
        reconfigure(encoding="utf-8", newline="" if form is ReportFormat.CSV else "\n")
    write_report(app.ledger, job, form, out, mapping=mapping)
    out.flush()
