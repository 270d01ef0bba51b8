"""Pictures of a migration: each step of its wizard, and its studies on their way; called by `pictures`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet
from PySide6.QtCore import QDate, QEventLoop, QTimer
from sqlalchemy import insert, update

from core.app import App
from core.ledger import schema as t
from core.ledger.store import open_database
from core.model.events import EngineChanged, StudyChanged
from core.model.outcome import Counts, StudyState
from core.model.views import Preview
from gui.theme import Appearance, theme
from tests.gui.hospital import Case, _case, _Ids

if TYPE_CHECKING:
    from gui.wizards.send import SendWizard
    from tests.gui.pictures import Photographer

SOURCE, DESTINATION = "Old archive", "PACS West"
LATE = f"{SOURCE} said that it had sent the image, but {DESTINATION} doesn't list it."
LATE_STEP = "What is missing is sent again. If this lasts, look at the logs of both, or send through this computer."
FULL = f"Waiting: {DESTINATION}'s disk is 91 % full."


def _study(name: str, who: str, what: str, state: StudyState, images: Counts, *series: tuple[str, str, int]) -> Case:
    number, sex, born = who.split()
    modality, _, description = what.partition(" ")
    late = state is StudyState.ATTENTION
    return Case(
        name, number, sex, born, modality, description, SOURCE, DESTINATION, state, images,
        LATE if late else "", LATE_STEP if late else "", series=series,
    )  # fmt: skip


CASES = (
    _study("LINDQVIST^Astrid", "7741-03 F 1961", "CT Thorax / Abdomen", StudyState.SENDING,
           Counts(planned=412, sent=96, verified=704), ("2", "Thorax 1 mm", 812), ("3", "Abdomen 3 mm", 400)),
    _study("ONYANGO^Grace", "K-20931 F 1988", "MR Knee right", StudyState.CONFIRMING,
           Counts(verified=402), ("1", "PD FS sagittal", 402)),
    _study("OKONKWO^Ada", "N-3310 F 2003", "MR Brain", StudyState.WAITING,
           Counts(planned=1120), ("1", "T1", 400), ("2", "T2 FLAIR", 720)),
    _study("BIANCHI^Marco", "1200417 M 1955", "CT Angiography coronary", StudyState.COMMITTED,
           Counts(committed=640), ("4", "CTA 0.5 mm", 632), ("9", "Dose report", 8)),
    _study("DUBOIS^Claire", "0091882 F 1990", "US Abdomen", StudyState.ATTENTION,
           Counts(committed=46, failed=2), ("1", "Abdomen", 48)),
    _study("SATŌ^Yui", "SY-0441 F 1979", "MG Screening bilateral", StudyState.COMMITTED,
           Counts(committed=8), ("1", "R MLO", 4), ("2", "L MLO", 4)),
    _study("KOWALSKI^Jan", "PL-771 M 1948", "CR Hand left", StudyState.ALREADY_THERE,
           Counts(skipped=2), ("1", "AP", 2)),
    _study("HOFFMANN^Jörg", "D-9920 M 1972", "CT Head without contrast", StudyState.WAITING,
           Counts(planned=212), ("1", "Head 1 mm", 212)),
)  # fmt: skip


def take_migration(camera_of: Callable[[App], Photographer], folder: Path, *, everything: bool) -> None:
    """The pictures of a migration, from a home of their own in `folder`."""
    app = App.open(folder / "migration")
    nodes: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (SOURCE, "dicom", {"aet": "ARCHIVE", "host": "127.0.0.1", "port": 9}),
        (DESTINATION, "dicom", {"aet": "PACS_WEST", "host": "127.0.0.1", "port": 9}),
        ("Cloud archive", "orthanc", {"url": "http://127.0.0.1:9"}),
    )
    for name, kind, fields in nodes:
        app.nodes.add(kind, name, fields, {})
    _fill(app)
    for appearance in (Appearance.LIGHT, Appearance.DARK) if everything else (Appearance.LIGHT,):
        theme().choose(appearance)
        suffix = "-dark" if appearance is Appearance.DARK else ""
        camera = camera_of(app)
        _running(camera, suffix, everything=everything)
        _wizard(camera, folder, suffix, everything=everything)
        camera.close()
    app.close()


def _fill(app: App) -> None:
    now = time.time()
    database = open_database(app.home.ledger_file)
    with database.begin() as connection:
        fields = {
            "source": [SOURCE], "destination": [DESTINATION], "evidence": "committed", "path": "push", "after": "keep",
            "date_from": "20240101", "date_to": "20241231",
        }  # fmt: skip
        connection.execute(
            insert(t.jobs).values(
                id=1, name=f"Migrate {SOURCE} to {DESTINATION}", kind="migrate", fields=fields, fingerprint="1",
                follow=False, state="running", pass_number=1, planning=False, created=now - 4000, started=now - 3900,
                finished=None, note=FULL,
            )
        )  # fmt: skip
        ids = _Ids()
        for at, case in enumerate(reversed(CASES)):
            _case(connection, ids, case, now - 1800 + 60 * at)
        begun = t.transfers.c.state != StudyState.WAITING.value
        reason = f"as chosen; {SOURCE} sends to “PACS_WEST”"
        connection.execute(update(t.transfers).where(begun).values(path="push", path_reason=reason))
        connection.execute(update(t.deliveries).values(path="push"))
        connection.execute(
            update(t.failures).values(code="not-received-in-time", detail="job 118 of 640 sub-operations")
        )
        answered = t.deliveries.c.answer != ""
        connection.execute(update(t.deliveries).where(answered).values(answer=f"sent by {SOURCE}, job 118"))
    database.dispose()


def _until(condition: Callable[[], object]) -> None:
    """Let the window work until something holds."""
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        _pause(40)
    assert condition()


def _pause(ms: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(ms, loop.quit)
    loop.exec()


def _running(camera: Photographer, suffix: str, *, everything: bool) -> None:
    camera.engine(unconfirmed=4, speed=0.0)
    page = camera.window.transfers
    camera.window.go("transfers")
    _until(lambda: page.model.rowCount() == len(CASES))
    place = next(i for i in range(len(CASES)) if page.model.record(i).state is StudyState.COMMITTED)
    page.table.selectRow(place)
    page.detail.show_images()
    _until(lambda: page.detail.images.rowCount() and page.trouble.isVisible())
    moving = next(r for r in camera._rows() if r.state is StudyState.SENDING)
    camera.session._sort([StudyChanged(replace(moving, seconds_left=95.0)), EngineChanged(True, 0.0, 4, 0)])
    _pause(900)
    camera.take(f"migration{suffix}")
    if not everything:
        return
    page.detail.overview_tab.click()
    _pause(600)
    camera.take(f"migration-overview{suffix}")
    page.table.selectRow(next(i for i in range(len(CASES)) if page.model.record(i).state is StudyState.ATTENTION))
    page.detail.show_images()
    _pause(900)
    camera.take(f"migration-late{suffix}")
    camera.window.go("jobs")
    _pause(600)
    camera.take(f"migration-job{suffix}")
    page._close_detail()


def _wizard(camera: Photographer, folder: Path, suffix: str, *, everything: bool) -> None:
    wizard = camera.window.new_transfer()

    def take(name: str) -> None:
        _pause(300)
        if everything:
            camera.take(f"migrate-{name}{suffix}", wizard)

    wizard.kind_page.choices["migrate"].click()
    take("kind")
    wizard.go_on()
    _until(lambda: SOURCE in wizard.route.sources.checks)
    wizard.route.sources.checks[SOURCE].setChecked(True)
    wizard.route.destinations.checks[DESTINATION].setChecked(True)
    _until(lambda: wizard.route.answers_known)
    take("route")
    wizard.go_on()
    wizard.studies.days.first.setDate(QDate(2024, 12, 31))
    wizard.studies.days.last.setDate(QDate(2024, 1, 1))
    take("days-reversed")
    wizard.studies.days.first.setDate(QDate(2024, 1, 1))
    wizard.studies.days.last.setDate(QDate(2024, 12, 31))
    take("days")
    _list(wizard, folder, take)
    wizard.go_on()
    wizard.how.choices["path"].choose("push")
    wizard.how.choices["evidence"].choose("committed")
    take("how")
    wizard.go_on()
    wizard.go_on()
    take("limits")
    for form in wizard.limits.forms:
        form.set_values({"disk_limit": "", "unconfirmed_pushes": 4})
    wizard.go_on()
    summary = wizard.summary
    summary.leave()
    summary.stop.hide()
    summary.problem.put_away()
    sample = tuple(f"{c.name.replace('^', ', ')} · 2024 {c.modality} {c.description}" for c in CASES[:3])
    remark = f"{SOURCE} has 3 studies without a date, which lie in no range of days."
    summary._show(Preview(412, 1630, 248_118, 0, 1204, 0, 0, True, "", 5400.0, sample, (remark,)), done=True)
    summary.refused = False
    summary.changed.emit()
    _pause(200)
    camera.take(f"migrate-wizard{suffix}" if not everything else f"migrate-summary{suffix}", wizard)
    wizard.reject()
    _pause(100)


def _list(wizard: SendWizard, folder: Path, take: Callable[[str], None]) -> None:
    page = wizard.studies
    page.by_list.click()
    take("list-empty")
    book = Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    for row in (
        ("Name", "Accession"), ("Bianchi", "0091442"), ("Dubois", "0091443"), ("Dubois", "0091443"), (None, None),
        ("all of May", "00915*"), ("Satō", "0091460"), ("Kowalski", "9,15E+12"), ("Onyango", "0091477"),
    ):  # fmt: skip
        sheet.append(row)
    file = folder / "studies.xlsx"
    book.save(file)
    page.list.file_tab.click()
    page.list.file.setText(str(file))
    _until(lambda: page.list.preview is not None and not page.list.reading)
    take("list")
    page.by_days.click()
