"""`dicom-ferry demo`: everything once, with studies made for it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from core.app import App
from core.cli_commands.following import follow, rows_of, tell
from core.cli_commands.interruption import Interruption
from core.cli_commands.opening import opened
from core.cli_commands.speaking import INTERRUPTED, Speaker, exit_with, speaking
from core.home import HOME_VARIABLE
from core.model.events import TransferRow
from core.model.job import JobRecord
from core.model.outcome import STUDY_STATE_WORDS, StudyState
from core.reports import ReportFormat
from core.reports_page import METHOD_WORDS
from core.screen import has_display

if TYPE_CHECKING:
    from core.demo import Demo

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


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

    Makes studies of several modalities (one compressed, names in many scripts), registers two DICOM nodes of its own
    (and real Orthanc servers where installed), carries everything and shows the proof. Nothing of yours is touched.
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
    servers = ", and two real Orthanc servers" if made.servers else ""
    speaker.say(f"Synthetic studies of several modalities, {made.files} images, by DICOM between two nodes{servers}.")
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
            app.report(done[-1].id, ReportFormat.HTML, save_to)
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
