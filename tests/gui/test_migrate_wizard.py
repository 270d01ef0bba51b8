"""Migrations ordered in the window: what a person clicks, on DCMTK's archive, Orthanc and an Excel list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet
from PySide6.QtCore import QDate, QLocale, QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QApplication
from pytestqt.qtbot import QtBot

from core.model.events import JobChanged
from core.model.job import JobRecord, JobState
from core.model.outcome import Counts, Method, StudyState
from gui.models.deliveries import method_text
from gui.models.jobs import JobsModel, state_words, wanted
from gui.models.roles import ModelRole
from gui.models.transfers import Column
from gui.theme import Tone
from gui.widgets.day import DayEdit
from gui.wizards.send import SendWizard
from tests.gui.hands import Hands
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import free_port
from tests.support.studies import Study, make_study, merged_digests

Start = Callable[..., OrthancServer]

OPEN = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}


@pytest.fixture
def west(start_orthanc: Start) -> OrthancServer:
    return start_orthanc("1.12", name="WEST", config=OPEN)


@pytest.fixture
def archive(tmp_path: Path, west: OrthancServer) -> Iterator[QueryRetrieveServer]:
    """An archive that may send to the other one by itself."""
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE", hosts={"WEST": west.dicom_port}) as server:
        yield server


def dated(*days: str, instances: int = 3) -> list[Study]:
    return [
        make_study(patient_id=f"P{n}", accession=f"{n:05}", study_date=day, instances=instances, size_bytes=600)
        for n, day in enumerate(days)
    ]


def dicom(hands: Hands, name: str, aet: str, port: int, **fields: object) -> None:
    given = {"aet": aet, "host": "127.0.0.1", "port": port, "calling_aet": "FERRY", **fields}
    hands.app.nodes.add("dicom", name, given, {})  # type: ignore[arg-type]


def fill(hands: Hands, tmp_path: Path, studies: list[Study], destination: str) -> None:
    """Bring studies into a node by a job of its own."""
    for n, study in enumerate(studies):
        study.write(tmp_path / "filling" / str(n))
    hands.app.nodes.add("folder", "filling", {"path": str(tmp_path / "filling")}, {})
    job = hands.app.jobs.create("forward", {"source": ["filling"], "destination": [destination]})
    hands.wait(lambda: hands.app.jobs.get(job.id).state is JobState.FINISHED)
    assert hands.app.jobs.get(job.id).counts.verified == sum(map(len, studies))
    hands.app.jobs.remove(job.id)
    hands.session.jobs_edited.emit()
    hands.wait(lambda: not hands.states())


def tick(hands: Hands, button: QAbstractButton) -> None:
    """Click the box itself, which stands at the left of its words."""
    hands.wait(lambda: button.isVisible() and button.isEnabled())
    hands.qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=QPoint(8, button.height() // 2))


def open_wizard(hands: Hands, source: str, destination: str) -> SendWizard:
    """Up to the question which studies."""
    wizard = hands.window.new_transfer()
    hands.click(wizard.kind_page.choices["migrate"])
    hands.click(wizard.next)
    hands.wait(lambda: destination in wizard.route.destinations.checks)
    for side, chosen in ((wizard.route.sources, source), (wizard.route.destinations, destination)):
        for name, check in side.checks.items():
            if check.isChecked() != (name == chosen):
                tick(hands, check)
    for side, chosen in ((wizard.route.sources, source), (wizard.route.destinations, destination)):
        hands.wait(lambda s=side, c=chosen: s.answers[c].text() == "It answers.")
    hands.click(wizard.next)
    assert wizard.page is wizard.studies
    return wizard


def choose_days(hands: Hands, wizard: SendWizard, first: str, last: str) -> None:
    """Type both days."""
    for edit, text in ((wizard.studies.days.first, first), (wizard.studies.days.last, last)):
        edit.setFocus()
        edit.lineEdit().selectAll()
        edit.setDate(QDate.fromString(text, "yyyy-MM-dd"))
    hands.wait(wizard.next.isEnabled)


def on_to_summary(hands: Hands, wizard: SendWizard) -> None:
    while wizard.page is not wizard.summary:
        hands.click(wizard.next)
    hands.wait(lambda: not wizard.summary.counting)


def test_a_range_of_days_sent_by_the_archive_itself_until_all_is_confirmed(
    empty: Hands, archive: QueryRetrieveServer, west: OrthancServer, tmp_path: Path
) -> None:
    dicom(empty, "Archive", "ARCHIVE", archive.port, connections=1)
    empty.app.nodes.add("orthanc", "West", {"url": west.url}, {})
    studies = dated("20231231", "20240101", "20240229", "20241231", "20250101")
    fill(empty, tmp_path, studies, "Archive")
    wizard = open_wizard(empty, "Archive", "West")
    choose_days(empty, wizard, "2024-01-01", "2024-12-31")
    empty.click(wizard.next)
    tick(empty, wizard.how.choices["path"].buttons["push"])
    empty.click(wizard.next)
    wizard.limits.forms[0].set_values({"check_interval": 0.2})
    wizard.limits.forms[1].set_values({"check_interval": 0.2})
    on_to_summary(empty, wizard)
    told = empty.read(wizard)
    assert "3 studies · 9 images" in told
    assert wizard.summary.found.text == "Complete"
    assert "Studies from 1 Jan 2024 to 31 Dec 2024, newest first" in told
    assert "The source sends directly (C-MOVE)" in told
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"] * 3)
    assert west.digests().keys() == merged_digests(studies[1:4]).keys()
    assert {r.path for r in empty.window.transfers.model._rows} == {"push"}
    # What is there is not sent again.
    again = open_wizard(empty, "Archive", "West")
    choose_days(empty, again, "2024-01-01", "2024-12-31")
    on_to_summary(empty, again)
    assert "9 already there" in again.summary.more.text()
    again.reject()


def test_a_move_that_stands_on_commitment_shows_its_evidence(
    empty: Hands, start_orthanc: Start, tmp_path: Path
) -> None:
    here = free_port()
    pacs = start_orthanc("1.12", name="PACS", config={**OPEN, "DicomModalities": {"f": ["FERRY", "127.0.0.1", here]}})
    empty.app.nodes.add("this-computer", "Here", {"aet": "FERRY", "port": here}, {})
    empty.session.command(empty.window, empty.app.jobs.nodes_changed)
    empty.wait(lambda: empty.session.state.listeners)
    dicom(empty, "PACS", "PACS", pacs.dicom_port, commitment_timeout=20)
    study = dated("20240301")[0]
    study.write(tmp_path / "inbox")
    empty.app.nodes.add("folder", "Inbox", {"path": str(tmp_path / "inbox")}, {})
    wizard = open_wizard(empty, "Inbox", "PACS")
    choose_days(empty, wizard, "2024-03-01", "2024-03-01")
    empty.click(wizard.next)
    tick(empty, wizard.how.choices["evidence"].buttons["committed"])
    tick(empty, wizard.how.choices["after"].buttons["move"])
    on_to_summary(empty, wizard)
    assert not wizard.next.isEnabled()
    assert "Delete 3 images at Inbox, each once it is confirmed" in empty.read(wizard)
    tick(empty, wizard.summary.understood)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Committed"])
    page = empty.window.transfers
    page.table.selectRow(0)
    empty.click(page.detail.images_tab)
    empty.wait(lambda: page.detail.images.rowCount() == 3)
    assert {method_text(r) for r in page.detail.images.records} == {"by storage commitment"}
    assert {r.evidence.method for r in page.detail.images.records if r.evidence} == {Method.COMMITMENT}
    empty.wait(lambda: not list((tmp_path / "inbox").rglob("*.dcm")))


def test_an_excel_list_shows_every_row_that_is_left_out_and_why(
    empty: Hands, start_orthanc: Start, tmp_path: Path
) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    studies = dated("20240101", "20240102", "20240103")
    source.upload([i for s in studies for i in s])
    empty.app.nodes.add("orthanc", "A", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "B", {"url": destination.url}, {})
    file = workbook(tmp_path / "list.xlsx")
    wizard = open_wizard(empty, "A", "B")
    page = wizard.studies
    tick(empty, page.by_list)
    empty.click(page.list.file_tab)
    assert not wizard.next.isEnabled()
    empty.type(page.list.file, str(file))
    empty.wait(lambda: "Choose it above" in page.list.problem.text())
    offered = [page.list.column.itemText(i) for i in range(page.list.column.count())]
    assert offered == ["Recognise it", "1: Name", "2: Order"]
    assert page.list.identifier is not None
    page.list.identifier.set_value("accession")
    page.list.column.setCurrentIndex(2)
    empty.wait(lambda: not page.list.reading and page.list.preview is not None)
    shown = {x.row: (x.state[0], x.value) for x in page.list.model.records}
    assert shown == {
        1: ("Not needed", "Order"),
        2: ("Looked for", "00000"),
        3: ("Looked for", "00001"),
        4: ("Not needed", ""),  # merged with the one above
        5: ("Not needed", ""),  # blank
        6: ("Not needed", "00000"),  # named already
        7: ("Left out", "0*"),
        8: ("Looked for", "00777"),
    }
    assert page.list.model.records[0].row == 7, "what is lost stands first"
    assert "wildcard" in page.list.model.records[0].reason
    empty.click(page.list.copy)
    copied = QApplication.clipboard().text()
    assert copied.startswith("5 rows were left out:\n")
    assert "Row 7\t0*\tIt has a wildcard" in copied
    assert "merged with row 3" in copied
    empty.click(page.list.chips.chips["lost"])
    assert [x.row for x in page.list.model.records] == [7]
    on_to_summary(empty, wizard)
    told = empty.read(wizard)
    assert "3 accession numbers of list.xlsx; 1 row left out" in told
    assert wizard.summary.found.text == "Not proven complete"
    assert "1 of 3 accession numbers of list.xlsx were not found at A: row 8." in told
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"] * 2)
    assert destination.digests() == merged_digests(studies[:2])
    # What failed is told on the jobs page, and can be saved as the next list.
    empty.go("jobs")
    jobs = empty.window.jobs
    empty.wait(lambda: "were not found at A: row 8." in jobs.trouble.text())
    assert jobs.model.index(0, 0).data(ModelRole.SECOND) == "Migrate · A → B · list list.xlsx"
    empty.wait(lambda: jobs.model.data(jobs.model.index(0, 1)) == "Needs attention")


def workbook(path: Path) -> Path:
    """As people make them: a heading, a merged cell, a blank line, a number as text, something twice, a wildcard."""
    book = Workbook()
    page = book.active
    assert isinstance(page, Worksheet)
    for row in (
        ("Name", "Order"), ("a", "00000"), ("b", "00001"), ("c", None), (None, None), ("d", "00000"), ("e", "0*"),
    ):  # fmt: skip
        page.append(row)
    page.merge_cells("B3:B4")
    number = page.cell(8, 2, 777)
    number.number_format = "00000"
    book.save(path)
    return path


def test_a_typed_list_with_several_on_a_line(empty: Hands, start_orthanc: Start) -> None:
    source = start_orthanc("1.12")
    source.upload(make_study(patient_id="P1", instances=2))
    empty.app.nodes.add("orthanc", "A", {"url": source.url}, {})
    empty.app.nodes.add("orthanc", "B", {"url": "http://127.0.0.1:9"}, {})
    wizard = empty.window.new_transfer()
    empty.click(wizard.kind_page.choices["migrate"])
    empty.click(wizard.next)
    empty.wait(lambda: "B" in wizard.route.destinations.checks)
    # Two nodes are ticked by themselves; the one that is down says so where it is chosen.
    empty.wait(lambda: "connection was refused" in wizard.route.destinations.answers["B"].text())
    empty.click(wizard.next)
    tick(empty, wizard.studies.by_list)
    empty.type(wizard.studies.list.text, "P1; P2, P1")
    empty.wait(lambda: "Choose above what the list has." in wizard.studies.list.problem.text())
    assert not wizard.next.isEnabled()
    assert wizard.studies.list.identifier is not None
    wizard.studies.list.identifier.set_value("patient-id")
    empty.wait(wizard.next.isEnabled)
    assert wizard.studies.list.chips.chips["taken"].count == 2
    assert wizard.studies.values()["entries"] == ["P1", "P2", "P1"]
    wizard.reject()


def test_reversed_days_are_said_at_the_field(hospital: Hands) -> None:
    wizard = hospital.window.new_transfer()
    hospital.click(wizard.kind_page.choices["migrate"])
    hospital.click(wizard.next)
    hospital.wait(lambda: "CT 2" in wizard.route.sources.checks)
    tick(hospital, wizard.route.sources.checks["CT 2"])
    tick(hospital, wizard.route.destinations.checks["PACS West"])
    hospital.click(wizard.next)
    days = wizard.studies.days
    days.last.setDate(QDate(2024, 1, 1))
    days.first.setDate(QDate(2024, 12, 31))
    assert days.problem.isVisible()
    assert days.problem.text() == "The first day (2024-12-31) is after the last (2024-01-01)."
    assert not wizard.next.isEnabled()
    assert days.first.property("wrong") == "true"
    hospital.click(days.quick["Last year"])
    assert days.problem.isHidden()
    assert wizard.next.isEnabled()
    last_year = QDate.currentDate().year() - 1
    assert days.values()["date_from"] == f"{last_year}0101"
    assert days.values()["date_to"] == f"{last_year}1231"
    hospital.click(days.quick["Everything"])
    assert days.values()["undated"] == "carry"
    # By the keyboard as well: a day that doesn't exist can't be typed.
    days.first.setFocus()
    days.first.setDate(QDate(2024, 2, 1))
    hospital.qtbot.keyClick(days.first, Qt.Key.Key_Up)
    assert days.first.date().isValid()
    wizard.reject()


def test_what_a_node_cannot_do_is_said_where_it_is_chosen(hospital: Hands) -> None:
    """A DICOM node deletes nothing, and a folder commits to nothing."""
    dicom(hospital, "PACS East", "PACS_EAST", 104)
    hospital.session.nodes_edited.emit()
    wizard = hospital.window.new_transfer()
    hospital.click(wizard.kind_page.choices["migrate"])
    hospital.click(wizard.next)
    hospital.wait(lambda: "PACS East" in wizard.route.sources.checks)
    tick(hospital, wizard.route.sources.checks["PACS East"])
    tick(hospital, wizard.route.destinations.checks["Inbox"])
    hospital.click(wizard.next)
    hospital.click(wizard.next)
    how = wizard.how
    tick(hospital, how.choices["after"].buttons["move"])
    hospital.wait(lambda: "PACS East can't delete images." in how.problem.lead)
    assert not wizard.next.isEnabled()
    tick(hospital, how.choices["after"].buttons["keep"])
    hospital.wait(how.problem.isHidden)
    tick(hospital, how.choices["evidence"].buttons["committed"])
    hospital.wait(lambda: "Inbox doesn't offer storage commitment." in how.problem.lead)
    tick(hospital, how.choices["evidence"].buttons["verified"])
    hospital.wait(wizard.next.isEnabled)
    hospital.click(wizard.next)
    assert wizard.page is wizard.steps
    hospital.click(wizard.next)
    form = next(f for f in wizard.limits.forms if "disk_limit" in f.editors)
    form.set_values({"disk_limit": "very full"})
    hospital.click(wizard.next)
    assert wizard.page is wizard.limits
    assert form.editors["disk_limit"].problem.isVisible()
    form.set_values({"disk_limit": "90 %", "unconfirmed_pushes": 3})
    hospital.click(wizard.next)
    assert wizard.page is wizard.summary
    # A DICOM node doesn't say how full it is: that is said where the limit is given, and nowhere before.
    for _ in range(5):
        hospital.click(wizard.back)
    tick(hospital, wizard.route.sources.checks["PACS East"])
    tick(hospital, wizard.route.sources.checks["CT 2"])
    tick(hospital, wizard.route.destinations.checks["Inbox"])
    tick(hospital, wizard.route.destinations.checks["PACS East"])
    for _ in range(4):
        hospital.click(wizard.next)
    assert wizard.page is wizard.limits
    hospital.wait(lambda: "PACS East can't say how full its disk is." in wizard.limits.problem.lead)
    assert not wizard.next.isEnabled()
    form.set_values({"disk_limit": ""})
    hospital.click(wizard.next)
    assert wizard.page is wizard.summary
    hospital.wait(lambda: "Unconfirmed C-MOVEs" in hospital.read(wizard).splitlines())
    wizard.reject()


def test_what_failed_is_saved_as_a_list_that_the_wizard_takes(hospital: Hands, tmp_path: Path) -> None:
    hospital.go("jobs")
    jobs = hospital.window.jobs
    hospital.wait(lambda: jobs.model.rowCount() == 4)
    at = next(i for i in range(4) if jobs.model.record(i).id == 1)
    jobs.table.selectRow(at)
    hospital.wait(jobs.save_list.isVisible)
    file = tmp_path / "failed.txt"
    jobs.save_failed(file)
    hospital.wait(lambda: "The list has" in hospital.window.banner.lead)
    wizard = hospital.window.new_transfer()
    hospital.click(wizard.kind_page.choices["migrate"])
    hospital.click(wizard.next)
    hospital.wait(lambda: "CT 2" in wizard.route.sources.checks)
    tick(hospital, wizard.route.sources.checks["CT 2"])
    tick(hospital, wizard.route.destinations.checks["PACS West"])
    hospital.click(wizard.next)
    tick(hospital, wizard.studies.by_list)
    hospital.click(wizard.studies.list.file_tab)
    hospital.type(wizard.studies.list.file, str(file))
    hospital.wait(wizard.next.isEnabled)
    expected = len(file.read_text(encoding="utf-8").splitlines())
    assert expected
    assert wizard.studies.sentence() == f"{expected} Study Instance UIDs of failed.txt"
    wizard.reject()


def test_what_a_migration_takes_is_read_in_the_list_of_jobs() -> None:
    job = JobRecord(
        1, "M", "migrate", {"source": ["A"], "destination": ["B"], "date_from": "20240101", "date_to": "20241231"},
        JobState.SAVED, 1, False, datetime.now(UTC), None, None, False, Counts(), 0,
    )  # fmt: skip
    systems = QLocale()
    QLocale.setDefault(QLocale.c())
    try:
        assert wanted(job) == ["1 Jan 2024 to 31 Dec 2024"]
        assert wanted(replace(job, fields={"date_from": "20240101", "date_to": ""})) == ["1 Jan 2024 to today"]
    finally:
        QLocale.setDefault(systems)
    assert wanted(replace(job, fields={"entries": ["1", "2"], "date_from": ""})) == ["2 entries"]
    assert wanted(replace(job, fields={"filter": "Modality = CT"})) == []


def test_an_end_with_something_missing_is_not_green() -> None:
    job = JobRecord(
        1, "M", "migrate", {}, JobState.RUNNING, 1, False, datetime.now(UTC), None, None, False, Counts(verified=3), 1
    )
    model = JobsModel()
    model.show([job])
    end = JobChanged(1, "M", "migrate", JobState.FINISHED, Counts(verified=3), 1, planning=False)
    model.apply(replace(end, note="1 of 3 accession numbers were not found."))
    assert state_words(model.record(0)) == ("Needs attention", Tone.RED)
    assert model.record(0).problem == "1 of 3 accession numbers were not found."
    model.apply(end)
    assert state_words(model.record(0)) == ("Finished", Tone.GREEN)


def test_the_wheel_scrolls_the_page_and_changes_no_day(qtbot: QtBot) -> None:
    day = DayEdit(QDate(2024, 1, 31), "First day")
    qtbot.addWidget(day)
    day.show()
    qtbot.waitExposed(day)
    day.clearFocus()
    at, scroll = QPointF(20, 10), QPoint(0, -120)
    nothing = (Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase)
    wheel = QWheelEvent(at, day.mapToGlobal(at), QPoint(), scroll, *nothing, False)
    QApplication.sendEvent(day, wheel)
    assert day.date() == QDate(2024, 1, 31)


def test_why_a_study_waits_stands_below_its_state(hospital: Hands) -> None:
    hospital.go("transfers")
    page = hospital.window.transfers
    hospital.wait(lambda: "Waiting (window 19:00)" in hospital.states())
    waiting = next(r for r in page.model._rows if r.state is StudyState.WAITING)
    at = page.model.row_of(waiting.id)
    assert at is not None
    index = page.model.index(at, Column.STATE)
    counts = Counts()
    full = JobChanged(
        waiting.job_id, "Job", "migrate", JobState.RUNNING, counts, 3, planning=False,
        note=f"Waiting: {waiting.destination}'s disk is 91 % full.",
    )  # fmt: skip
    hospital.session.jobs.emit([full])
    assert index.data(ModelRole.SECOND) == f"{waiting.destination}'s disk is 91 % full"
    hospital.session.jobs.emit([replace(full, note="Waiting for its hours, from Mon 19:00")])
    assert index.data(ModelRole.SECOND) == "For its hours, from Mon 19:00"
    hospital.session.jobs.emit([replace(full, note="Another node does not answer.")])
    assert not index.data(ModelRole.SECOND)
    moving = replace(waiting, state=StudyState.SENDING, path="push", reason="")
    page.model.apply([moving])
    assert index.data(ModelRole.SECOND) == f"{waiting.source} sends by itself"
    page.model.apply([replace(moving, state=StudyState.ATTENTION, reason="A long story of what happened there.")])
    assert index.data(ModelRole.SECOND) == "A long story of what happened there."
    page.model.show_outcomes({waiting.id: "Not received in time"})
    assert index.data(ModelRole.SECOND) == "Not received in time"
