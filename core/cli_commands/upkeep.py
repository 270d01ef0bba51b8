"""`dicom-ferry report | demo | self-test | support-bundle | engine`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.markup import escape
from rich.table import Table

from core.app import App
from core.cli_commands.following import Interruption, follow, rows_of, tell
from core.cli_commands.node import show_steps
from core.cli_commands.opening import opened
from core.cli_commands.screen import has_display
from core.cli_commands.speaking import INTERRUPTED, Speaker, exit_with, speaking
from core.home import HOME_VARIABLE, make_private_file
from core.model.errors import FerryError, LocalError
from core.model.events import EngineChanged, Event, LogLevel, LogLine, NodeChanged, NodeHealth, TransferRow
from core.model.job import JobRecord
from core.model.outcome import STUDY_STATE_WORDS, StudyState
from core.reports import ReportFormat, write_report
from core.reports_page import METHOD_WORDS
from core.self_test import self_test
from core.support import write_support_bundle

if TYPE_CHECKING:
    from core.demo import Demo

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(report)
    app.command()(demo)
    app.command("self-test")(check_installation)
    app.command("support-bundle")(support_bundle)
    app.command()(engine)


# report -------------------------------------------------------------------------------------------------


def report(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Number or name of a job (dicom-ferry job list).")],
    form: Annotated[ReportFormat, typer.Option("--format", help="For a spreadsheet, a program, or to print.")] = (
        ReportFormat.CSV
    ),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output when left out.")
    ] = None,
) -> None:
    """Export the proof of a job: for each image when, how, what the destination answered, how it was verified.

    A report holds patient data: a file is written so that only you can read it.
    """
    with speaking() as speaker, opened() as app:
        record = app.jobs.get(job)
        if output is None:
            _to_standard_output(app, record, form)
            return
        count = save_report(app, record, form, output)
        speaker.say(f"Wrote {count:,} images of “{record.name}” to {output}.")


def save_report(app: App, job: JobRecord, form: ReportFormat, path: Path) -> int:
    """Write a report to a file of the owner's alone; the number of images in it.

    Raises
    ------
    LocalError
        The file can't be written.
    """
    encoding = "utf-8-sig" if form is ReportFormat.CSV else "utf-8"  # so that Excel takes it for UTF-8
    try:
        make_private_file(path)
        with path.open("w", encoding=encoding, newline="" if form is ReportFormat.CSV else "\n") as out:
            return write_report(app.ledger, job, form, out)
    except OSError as error:
        raise LocalError(
            f"The report can't be written to {path} ({error.strerror or error}).",
            "Choose another file with --output, and check that the disk is not full.",
            detail=repr(error),
            code="report",
        ) from error


def _to_standard_output(app: App, job: JobRecord, form: ReportFormat) -> None:
    out: TextIO = sys.stdout
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None and not out.isatty():
        reconfigure(encoding="utf-8", newline="" if form is ReportFormat.CSV else "\n")
    write_report(app.ledger, job, form, out)
    out.flush()


# demo ---------------------------------------------------------------------------------------------------


def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="On the terminal, even where there is a screen.")
    ] = False,
    servers: Annotated[
        bool, typer.Option("--servers/--no-servers", help="With real Orthanc servers, where Orthanc is installed.")
    ] = True,
    save_to: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Keep the proof as a page (HTML). On the terminal only."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what DICOM Ferry does, with synthetic studies, in a throw-away folder.

    Makes studies of several modalities (one compressed, names in many scripts), registers nodes of its own (real
    Orthanc servers where installed), carries everything and shows the proof. Nothing of yours is touched.
    """
    from core.demo import Demo  # here, for it alone brings pydicom and numpy

    status = 0
    with speaking(json=json) as speaker:
        in_window = not (headless or json or save_to) and _can_show_windows()
        # Whatever ends the demo, its servers end with it: SIGTERM too has to come through here.
        with Interruption(_give_up), Demo(with_servers=servers) as made, _home_of(made.home):
            status = _demo_in_window(made) if in_window else _demo_on_terminal(made, speaker, save_to)
    exit_with(status)


def _give_up() -> None:
    raise KeyboardInterrupt


def _can_show_windows() -> bool:
    """Whether there are a screen and Qt; without them the demo goes to the terminal."""
    return has_display() and importlib.util.find_spec("PySide6") is not None


@contextlib.contextmanager
def _home_of(folder: Path) -> Iterator[None]:
    """Everything that opens the home meanwhile opens this one."""
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[HOME_VARIABLE]
        else:
            os.environ[HOME_VARIABLE] = before


def _demo_in_window(made: Demo) -> int:
    app = App.open()
    try:
        for number, job in enumerate(made.jobs):
            # The second reads what the first brings, so it follows its source.
            app.jobs.create(job.kind, job.fields, name=job.name, follow=number > 0)
    finally:
        app.close()
    # A process of its own: when it has ended, nothing of it writes into the home that is removed then.
    program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "core"]
    window = subprocess.Popen(  # noqa: S603 - this very program
        program, env={**os.environ, HOME_VARIABLE: str(made.home)}, start_new_session=os.name == "posix"
    )
    with Interruption(window.terminate) as interruption:
        status = window.wait()
        return INTERRUPTED if interruption.asked.is_set() else status


def _demo_on_terminal(made: Demo, speaker: Speaker, save_to: Path | None) -> int:
    where = "two real Orthanc servers" if made.servers else "two folders"
    speaker.say(f"Synthetic studies of several modalities, {made.files} images, between {where}.")
    with opened() as app:
        for node in app.nodes.all():
            speaker.data("node", name=node.name, kind=node.kind, address=app.nodes.address(node))
            speaker.say(f"  {node.name}: {node.kind}, {app.nodes.address(node)}")
        done: list[JobRecord] = []
        for job in made.jobs:
            created = app.jobs.create(job.kind, job.fields, name=job.name)
            done.append(created)
            ending = follow(app, speaker, created.id)
            if ending.exit_status == 0 and job is made.jobs[-1]:
                _show_proof(app, speaker, done)
            tell(app, speaker, ending)
            if ending.exit_status:
                return ending.exit_status
        if save_to is not None:
            save_report(app, app.jobs.get(done[-1].id), ReportFormat.HTML, save_to)
            speaker.remark(f"The proof of the last transfer is in {save_to}.")
    return 0


def _show_proof(app: App, speaker: Speaker, jobs: list[JobRecord]) -> None:
    """Every study at every destination, with how its images were proved."""
    table = Table("Patient", "Modality", "Study", "From → to", "Images", "State", "Proof", box=None,
                  header_style="bold", pad_edge=False)  # fmt: skip
    table.columns[4].justify = "right"
    for job in jobs:
        for row in sorted(rows_of(app, job.id), key=lambda r: r.study.study_date):
            methods = sorted({m for series in app.ledger.series(row.id) for m in series.methods})
            good = row.state in (StudyState.CONFIRMED, StudyState.COMMITTED, StudyState.ALREADY_THERE)
            table.add_row(
                escape(_name(row)),
                "/".join(row.study.modalities),
                escape(row.study.description),
                f"{escape(row.source)} → {escape(row.destination)}",
                f"{row.counts.confirmed}/{row.counts.total}",
                f"[{'green' if good else 'red'}]{STUDY_STATE_WORDS[row.state]}[/]",
                ", ".join(METHOD_WORDS[m] for m in METHOD_WORDS if m.value in methods),
            )
            speaker.data(
                "proof", job=job.id, study_uid=row.study.study_uid, source=row.source, destination=row.destination,
                images=row.counts.total, confirmed=row.counts.confirmed, methods=methods, state=row.state.value,
            )  # fmt: skip
    speaker.show(table)


def _name(row: TransferRow) -> str:
    groups = [", ".join(p for p in g.split("^")[:2] if p) for g in row.study.patient_name.split("=")[:2]]
    return " · ".join(g for g in groups if g)


# self-test, support bundle, engine ----------------------------------------------------------------------


def check_installation(json: Json = False) -> None:
    """Check this installation: kinds, resources, ledger, keyring, web requests, window. Exit status 1 on failure."""
    with speaking(json=json) as speaker:
        failed = show_steps(speaker, self_test())
        speaker.data("tested", works=not failed)
        speaker.say("Something is wrong with this installation." if failed else "All is well.",
                    "bold red" if failed else "bold green")  # fmt: skip
    exit_with(1 if failed else 0)


def support_bundle(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="ZIP file to write.")] = None,
) -> None:
    """Pack versions, settings, nodes, job counts and logs for whoever helps you: no patient data, no secrets."""
    with speaking() as speaker, opened() as app:
        path = output or Path(f"dicom-ferry-support-{datetime.now().astimezone():%Y%m%d-%H%M%S}.zip")
        names = write_support_bundle(app, path)
        speaker.say(f"Wrote {path} with {', '.join(names)}. Look through it before you pass it on.")


def engine(json: Json = False) -> None:
    """Carry out all started jobs, unattended, until interrupted (SIGINT or SIGTERM).

    The window and the command line attach to it and command it. It ends with exit status 0 when it was asked to.
    """
    with speaking(json=json) as speaker, opened() as app, Interruption() as interruption:
        shown = _Unattended(speaker)
        handle = app.engine(shown.event)
        if handle.attached:
            handle.stop()
            raise FerryError(
                "DICOM Ferry is running already on this home folder.",
                "Nothing needs to be done; or stop that one first.",
                code="engine-runs",
            )
        speaker.data("engine", running=True, process=os.getpid())
        speaker.remark("The engine runs. Ctrl-C settles what is on its way and ends it.")
        while not interruption.asked.wait(0.5):
            if handle.error is not None:
                raise FerryError(
                    "The engine stopped by itself.", "The log has the details; start it again.",
                    detail=repr(handle.error), code="engine-stopped",
                )  # fmt: skip
        speaker.remark("Stopping: images on their way are being settled …")
        handle.stop()
        speaker.data("engine", running=False, process=os.getpid())


class _Unattended:
    """Says what an unattended engine meets: nodes that go and come, warnings and errors."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, NodeChanged) and event.health is not NodeHealth.UNKNOWN:
                self._speaker.data("node", name=event.name, health=event.health.value, reason=event.reason)
                self._speaker.remark(f"{event.name}: {event.reason or event.health.value}")
            elif isinstance(event, LogLine) and event.level is not LogLevel.INFO:
                self._speaker.data("log", level=event.level.value, at=event.at, text=event.text, node=event.node)
                self._speaker.remark(event.text)
            elif isinstance(event, EngineChanged):
                self._speaker.data(
                    "engine", running=event.running, speed=round(event.speed), unconfirmed=event.unconfirmed_studies
                )
