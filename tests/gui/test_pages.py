"""Pages on a hospital's day: what is read on them, and what clicking does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QCheckBox, QLineEdit
from pytestqt.qtbot import QtBot

from core.app import App
from core.ledger.book import Verb
from core.model.events import EngineChanged, LogLevel, LogLine, NodeChanged, NodeHealth, StudyChanged
from core.model.outcome import StudyState
from core.model.views import StateFilter
from gui.models.transfers import Column
from tests.gui.hands import Hands
from tests.gui.hospital import CASES, US_NEXT, US_REASON, open_hospital


def _verbs(app: App) -> list[tuple[Verb, int | None, int | None]]:
    return [(c.verb, c.job_id, c.transfer_id) for c in app.ledger.open_commands()]


@pytest.fixture
def transfers(hospital: Hands) -> Hands:
    hospital.go("transfers")
    hospital.wait(lambda: hospital.window.transfers.model.rowCount() == len(CASES))
    hospital.wait(lambda: hospital.window.transfers.chips.chips["all"].count == len(CASES))
    return hospital


def _row(hands: Hands, patient: str) -> int:
    model = hands.window.transfers.sorted
    return next(r for r in range(model.rowCount()) if str(model.index(r, 0).data()).startswith(patient))


def _pick(hands: Hands, patient: str) -> None:
    hands.window.transfers.table.selectRow(_row(hands, patient))
    detail = hands.window.transfers.detail
    hands.wait(lambda: detail.isVisible() and detail.name.text().startswith(patient))


# transfers ----------------------------------------------------------------------------------------------


def test_rows_say_who_what_where_and_how_far(transfers: Hands) -> None:
    model = transfers.window.transfers.sorted
    row = _row(transfers, "MÜLLER")
    texts = [model.index(row, c).data() for c in Column]
    assert texts[Column.PATIENT] == "MÜLLER, Anna"
    assert texts[Column.ROUTE] == "CT 2 → Cloud archive"
    assert texts[Column.IMAGES] == "1,204 / 1,788"
    assert set(transfers.states()) >= {"Sending", "Confirmed", "Committed", "Needs attention", "Waiting (window 19:00)"}


def test_chips_filter_and_count(transfers: Hands) -> None:
    page = transfers.window.transfers
    assert page.chips.chips["attention"].count == 3
    transfers.click(page.chips.chips["attention"])
    transfers.wait(lambda: sorted(transfers.states()) == ["Different at destination", "Failed", "Needs attention"])
    transfers.click(page.chips.chips["all"])
    transfers.wait(lambda: len(transfers.states()) == len(CASES))


def test_search_and_nothing_found(transfers: Hands) -> None:
    page = transfers.window.transfers
    page.search.setText("müller")  # QTest types ASCII only
    transfers.wait(lambda: transfers.states() == ["Sending"])
    transfers.type(page.search, "xyz")
    transfers.wait(lambda: "Nothing matches" in transfers.read(page))
    transfers.press(page.empty, "Show all")
    transfers.wait(lambda: len(transfers.states()) == len(CASES))


def test_the_banner_counts_equal_errors_and_its_button_acts(transfers: Hands) -> None:
    page = transfers.window.transfers
    transfers.wait(lambda: page.trouble.isVisible())
    assert page.trouble.lead.startswith("96 images: PACS West does not answer")
    assert "2 other problems" in page.trouble.rest
    transfers.press(page.trouble, "Try again")
    transfers.wait(lambda: Verb.RETRY_TRANSFER in [v for v, _, _ in _verbs(transfers.app)])
    transfers.wait(lambda: page.trouble.lead.startswith(f"2 images: {US_REASON}"))
    transfers.press(page.trouble, "Put this message away")
    transfers.wait(lambda: "PACS West holds other content" in page.trouble.lead)
    transfers.press(page.trouble, "Replace…")
    transfers.answer("Replace 1 image")
    transfers.wait(lambda: Verb.OVERWRITE_TRANSFER in [v for v, _, _ in _verbs(transfers.app)])


def test_details_of_the_banner_show_the_failed_images(transfers: Hands) -> None:
    page = transfers.window.transfers
    transfers.wait(lambda: page.trouble.isVisible())
    transfers.press(page.trouble, "Details")
    transfers.wait(lambda: page.detail.isVisible() and page.detail.images.rowCount() == 96)
    assert page.detail.images.index(0, 1).data() == "Failed"


def test_the_detail_tells_path_proof_series_and_every_image(transfers: Hands) -> None:
    _pick(transfers, "MÜLLER")
    detail = transfers.window.transfers.detail
    transfers.wait(lambda: "Proof wanted" in detail.facts.toPlainText())
    text = detail.facts.toPlainText()
    assert "through this computer" in text
    assert "before it is deleted at the source" in text
    assert "1,004 confirmed" in text
    transfers.wait(lambda: "Series 2 · Thorax 1 mm" in transfers.read(detail))
    transfers.click(detail.images_tab)
    transfers.wait(lambda: detail.images.rowCount() == 200)
    detail.images_table.scrollToBottom()
    transfers.wait(lambda: detail.images.rowCount() > 200)
    image = detail.images.record(0)
    detail.images_table.selectRow(0)
    transfers.qtbot.keyClick(detail.images_table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert "by digest" in QGuiApplication.clipboard().text()
    detail.images_table.doubleClicked.emit(detail.images.index(0, 0))
    copied = QGuiApplication.clipboard().text()
    assert image.sop_uid in copied
    assert image.evidence is not None
    assert image.evidence.digest in copied


def test_a_failed_image_shows_sentence_next_step_and_answer(transfers: Hands) -> None:
    _pick(transfers, "OKAFOR")
    detail = transfers.window.transfers.detail
    transfers.wait(lambda: US_REASON in detail.facts.toPlainText())
    assert US_NEXT in detail.facts.toPlainText()
    transfers.click(detail.images_tab)
    transfers.wait(lambda: detail.images.rowCount() == 48)
    first = detail.images.record(0)
    assert first.failure is not None
    assert first.failure.detail == "0122 SOP Class not supported"
    transfers.press(detail, "Try again")
    transfers.wait(lambda: (Verb.RETRY_TRANSFER, None, first.transfer_id) in _verbs(transfers.app))


def test_orders_for_one_study(transfers: Hands) -> None:
    _pick(transfers, "ROSSI")
    detail = transfers.window.transfers.detail
    assert detail.row is not None
    number = detail.row.id
    transfers.press(detail, "Send first")
    transfers.press(detail, "Cancel")
    transfers.wait(
        lambda: (
            {(Verb.PRIORITISE_TRANSFER, None, number), (Verb.CANCEL_TRANSFER, None, number)}
            <= set(_verbs(transfers.app))
        )
    )
    transfers.press(detail, "Resume job")
    transfers.wait(lambda: (Verb.RESUME, 3, None) in _verbs(transfers.app))


def test_replacing_asks_first_and_says_how_many(transfers: Hands) -> None:
    _pick(transfers, "ΠΑΠΑΔΟΠΟΥΛΟΣ")
    detail = transfers.window.transfers.detail
    transfers.press(detail, "Replace there")
    transfers.wait(lambda: transfers.question() is not None)
    question = transfers.question()
    assert question is not None
    assert "Replace 1 image at PACS West?" in transfers.read(question)
    assert question.no.isDefault()
    transfers.answer("Leave them")
    transfers.wait(lambda: transfers.question() is None)
    assert Verb.OVERWRITE_TRANSFER not in [v for v, _, _ in _verbs(transfers.app)]
    transfers.press(detail, "Replace there")
    transfers.answer("Replace 1 image")
    transfers.wait(lambda: Verb.OVERWRITE_TRANSFER in [v for v, _, _ in _verbs(transfers.app)])


def test_live_changes_move_a_row_and_keep_the_selection(transfers: Hands) -> None:
    _pick(transfers, "DUPONT")
    page = transfers.window.transfers
    row = page.detail.row
    assert row is not None
    changed = replace(row, state=StudyState.CONFIRMED, counts=replace(row.counts, sent=0, verified=212), speed=4e6)
    transfers.session._bridge.post(StudyChanged(changed))
    transfers.wait(lambda: transfers.states()[_row(transfers, "DUPONT")] == "Confirmed")
    assert [r.id for r in page.selected()] == [row.id]


def test_rows_copy_and_compact(transfers: Hands) -> None:
    page = transfers.window.transfers
    page.table.selectRow(_row(transfers, "SMITH"))
    page.table.copy_rows()
    assert QGuiApplication.clipboard().text().startswith("SMITH, John Q.\t")
    high = page.table.rowHeight(0)
    page.set_compact(True)
    assert page.table.rowHeight(0) < high


# jobs, nodes, log, home, settings -----------------------------------------------------------------------


def test_jobs_are_commanded(hospital: Hands) -> None:
    hospital.go("jobs")
    jobs = hospital.window.jobs
    hospital.wait(lambda: jobs.model.rowCount() == 4)
    jobs.table.selectRow(jobs.model.row_of(2) or 0)
    hospital.press(jobs.panel, "Pause")
    hospital.wait(lambda: (Verb.PAUSE, 2, None) in _verbs(hospital.app))
    hospital.press(jobs.panel, "Cancel")
    hospital.answer("Cancel the job")
    hospital.wait(lambda: (Verb.CANCEL, 2, None) in _verbs(hospital.app))
    jobs.table.selectRow(jobs.model.row_of(4) or 0)
    hospital.press(jobs.panel, "Remove")
    hospital.answer("Remove job and proof")
    hospital.wait(lambda: jobs.model.rowCount() == 3)


def test_a_job_leads_to_its_studies(hospital: Hands) -> None:
    hospital.go("jobs")
    jobs = hospital.window.jobs
    hospital.wait(lambda: jobs.model.rowCount() == 4)
    jobs.table.selectRow(jobs.model.row_of(3) or 0)
    hospital.press(jobs.panel, "Show its studies")
    hospital.wait(lambda: hospital.window.page.name == "transfers" and len(hospital.states()) == 2)
    hospital.wait(lambda: hospital.window.transfers.job_filter.text().startswith("Clone Orthanc MRI"))


def test_a_node_in_use_is_not_removed(hospital: Hands) -> None:
    hospital.go("nodes")
    nodes = hospital.window.nodes
    hospital.wait(lambda: nodes.model.rowCount() == 6)
    nodes.table.selectRow(nodes.model.row_of("CT 2") or 0)
    hospital.press(nodes.panel, "Remove")
    hospital.wait(lambda: "CT 2 can't be removed" in nodes.banner.lead)
    nodes.table.selectRow(nodes.model.row_of("Orthanc MG") or 0)
    hospital.press(nodes.panel, "Remove")
    hospital.answer("Remove")
    hospital.wait(lambda: nodes.model.rowCount() == 5)


def test_a_node_s_health_and_checklist(hospital: Hands) -> None:
    hospital.go("nodes")
    nodes = hospital.window.nodes
    hospital.wait(lambda: nodes.model.rowCount() == 6)
    verdicts = {n.record.name: n.verdict[0] for n in nodes.model.records}
    assert verdicts["CT 2"] == "Not tested"
    assert verdicts["PACS West"] == "Doesn't work"
    nodes.table.selectRow(nodes.model.row_of("PACS West") or 0)
    hospital.press(nodes.panel, "What to tell the administrator")
    assert "May write" in QGuiApplication.clipboard().text()
    hospital.session._bridge.post(NodeChanged("CT 2", NodeHealth.DOWN, reason="It does not answer."))
    hospital.wait(lambda: {n.record.name: n.verdict[0] for n in nodes.model.records}["CT 2"] == "Unreachable")


def test_the_log_filters_merges_and_copies(hospital: Hands) -> None:
    hospital.go("log")
    log = hospital.window.log
    hospital.wait(lambda: log.model.rowCount() == 6)
    hospital.click(log.chips.chips["error"])
    assert log.lines.rowCount() == 2
    log.search.setText("ultrasound")
    assert log.lines.rowCount() == 1
    log.table.selectRow(0)
    hospital.click(log.copy)
    assert "0122 SOP Class not supported" in QGuiApplication.clipboard().text()
    line = LogLine(99, hospital.app.ledger.log(limit=1)[0].at, LogLevel.ERROR, "Ultrasound again", node="X")
    hospital.session._bridge.post(line)
    hospital.wait(lambda: log.lines.rowCount() == 2)


def test_home_tells_what_needs_a_person(hospital: Hands) -> None:
    home = hospital.window.home
    hospital.wait(lambda: "Needs attention" in hospital.read(home))
    assert US_REASON in hospital.read(home)
    hospital.press(home, "Show them")
    hospital.wait(lambda: hospital.window.page.name == "transfers" and len(hospital.states()) == 3)
    assert hospital.window.transfers.chips.value == StateFilter.ATTENTION.value


def test_the_computer_may_be_let_sleep_in_mid_transfer(hospital: Hands) -> None:
    hospital.go("settings")
    assert hospital.app.wants_awake()
    box = next(b for b in hospital.window.settings.findChildren(QCheckBox) if b.text() == "Keep the computer awake")
    box.click()
    hospital.wait(lambda: not hospital.app.wants_awake())
    box.click()
    hospital.wait(hospital.app.wants_awake)


@pytest.mark.posix  # Windows always has a keyring
def test_settings_are_kept(hospital: Hands) -> None:
    hospital.go("settings")
    settings = hospital.window.settings
    settings.form.editors["compact_rows"].set_value(True)
    hospital.wait(lambda: hospital.app.settings.compact_rows)
    assert hospital.window.transfers.table.rowHeight(0) < 40
    hospital.wait(lambda: settings.keyring_pill.text == "Not available")
    assert settings.keyring.text()


# everywhere ---------------------------------------------------------------------------------------------


def test_rail_badge_engine_and_safe_to_shut_down(hospital: Hands) -> None:
    window = hospital.window
    hospital.wait(lambda: window.rail.buttons["transfers"].badge == 3)
    hospital.session._bridge.post(EngineChanged(True, 86e6, 3, 2))
    hospital.wait(lambda: window.status.safe.text() == "Safe to shut down? No: 3 studies not yet confirmed")
    assert "86 MB/s now" in window.status.left.text()
    hospital.session._bridge.post(EngineChanged(True, 0.0, 0, 0))
    hospital.wait(lambda: window.status.safe.text() == "Safe to shut down? Yes")


def test_keys_go_everywhere(hospital: Hands, qtbot: QtBot) -> None:
    window = hospital.window
    for number, name in enumerate(("home", "transfers", "jobs", "nodes", "log", "settings"), 1):
        action = next(a for a in window.actions() if a.shortcut().toString() == f"Ctrl+{number}")
        action.trigger()
        assert window.page.name == name
    next(a for a in window.actions() if a.shortcut().toString() == "Ctrl+N").trigger()
    assert window.wizard is not None
    window.wizard.reject()


def test_everything_that_takes_keys_has_a_name(hospital: Hands) -> None:
    window = hospital.window
    for page in ("home", "transfers", "jobs", "nodes", "log", "settings"):
        hospital.go(page)
        from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QComboBox

        for kind in (QAbstractButton, QLineEdit, QAbstractItemView, QComboBox):
            for widget in window.page.findChildren(kind):
                if widget.isVisible() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
                    spoken = widget.accessibleName() or (widget.text() if isinstance(widget, QAbstractButton) else "")
                    assert spoken or widget.objectName().startswith("qt_"), (page, widget)


def test_a_newcomer_is_led(tmp_path: Path, open_window: Callable[..., Hands]) -> None:
    app = open_hospital(tmp_path / "new", filled=False)
    hands = open_window(app)
    hands.go("transfers")
    page = hands.window.transfers
    hands.wait(lambda: "Add the server your studies come from" in hands.read(page))
    assert not page.new.isVisible()
    wizard = hands.window.new_transfer()
    hands.click(wizard.next)
    hands.wait(lambda: "A transfer needs two nodes" in hands.read(wizard))
    assert not wizard.next.isEnabled()
    hands.press(wizard, "Add node…")
    hands.wait(lambda: hands.window.page.name == "nodes" and hands.window.nodes.wizard is not None)
    assert hands.window.nodes.wizard is not None
    hands.window.nodes.wizard.reject()
    hands.close()
    app.close()
