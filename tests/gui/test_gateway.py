"""Gateways in the window, on real servers: made by the wizard, switched off and on, seen on two pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from core.app import App
from core.model.job import JobState
from gui.widgets.gateways import GatewayPanel
from gui.widgets.switch import Switch
from gui.wizards.send import SendWizard
from tests.gui.hands import Hands
from tests.support.gateways import AET, dcmsend, listens
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port
from tests.support.studies import small_study

Open = Callable[..., Hands]


@pytest.fixture
def here(tmp_path: Path, open_window: Open, orthanc_112: OrthancServer) -> Iterator[tuple[Hands, int]]:
    """A window whose engine runs, with this computer and a PACS; the port at which this computer listens."""
    app = App.open(tmp_path / "home")
    port = free_port()
    app.nodes.add(
        "this-computer",
        "Here",
        {"aet": AET, "port": port, "bind": "127.0.0.1", "callers": ["*@127.0.0.1"], "quiet": 1, "reserve": 0.1},
        {},
    )
    app.nodes.add("orthanc", "PACS", {"url": orthanc_112.url}, {})
    hands = open_window(app, engine=True)
    hands.wait(lambda: listens(port))
    yield hands, port
    hands.close()
    app.close()


def click_switch(hands: Hands, switch: Switch) -> None:
    hands.wait(lambda: switch.isVisible() and switch.isEnabled())
    hands.qtbot.mouseClick(switch, Qt.MouseButton.LeftButton)


def go_to_standing(hands: Hands, source: str, destination: str) -> SendWizard:
    """Order a gateway by the wizard, up to the page that only gateways have."""
    wizard = hands.window.new_transfer()
    hands.click(wizard.kind_page.choices["gateway"])
    hands.click(wizard.next)
    hands.wait(lambda: destination in wizard.route.destinations.checks)
    for side, wanted in ((wizard.route.sources, source), (wizard.route.destinations, destination)):
        for name, check in side.checks.items():
            check.setChecked(name == wanted)
    hands.click(wizard.next)
    assert not wizard.what.move_them.isVisible(), "what happens at the source has a page of its own"
    hands.click(wizard.next)
    assert wizard.page is wizard.standing
    return wizard


def on_to_summary(hands: Hands, wizard: SendWizard) -> None:
    while wizard.page is not wizard.summary:
        hands.click(wizard.next)
    hands.wait(lambda: not wizard.summary.counting)


def test_a_gateway_is_made_switched_and_watched(
    here: tuple[Hands, int], orthanc_112: OrthancServer, tmp_path: Path
) -> None:
    hands, port = here
    pulse = free_port()
    wizard = go_to_standing(hands, "Here", "PACS")
    page = wizard.standing
    assert page.delete.isChecked()
    assert page.delete.text() == "Delete it on this computer after"
    assert not page.servers.isVisible(), "there is no server to be emptied"
    page.number.setValue(3)
    page.unit.setCurrentText("days")
    assert page.beats is not None
    number = page.beats.editors["heartbeat_port"].main
    assert isinstance(number, QLineEdit)
    number.clear()
    hands.type(number, str(pulse))
    on_to_summary(hands, wizard)
    said = hands.read(wizard.summary)
    assert "Deleted on this computer 3 days later" in said
    assert f"port {pulse}" in said
    assert not wizard.summary.understood.isVisible()
    assert wizard.next.isEnabled()
    hands.finish(wizard)
    job = hands.app.jobs.gateways()[0]
    assert job.fields["keep_hours"] == 72
    assert job.fields["after"] == "move"
    assert job.follow

    dcmsend(port, small_study(4), tmp_path / "one")
    hands.wait(lambda: orthanc_112.count() == 4)
    hands.go("home")
    card = hands.window.home.gateways
    hands.wait(lambda: card.isVisible() and job.id in card.rows)
    row = card.rows[job.id]
    hands.wait(lambda: "4 images confirmed" in row.standing.text() and "1 study kept here" in row.standing.text())
    assert row.pill.text == "Routing"
    click_switch(hands, row.switch)
    hands.wait(lambda: row.pill.text == "Routing off")
    assert hands.app.jobs.get(job.id).fields["routing"] is False

    dcmsend(port, small_study(3, accession="LATER"), tmp_path / "two")
    hands.wait(lambda: hands.app.jobs.get(job.id).counts.planned == 3)
    hands.press(row, f"Open {job.name}")
    hands.wait(lambda: hands.window.page.name == "jobs")
    panel: GatewayPanel = hands.window.jobs.gateway
    hands.wait(lambda: panel.isVisible() and "1 study, 3 images" in hands.read(panel))
    said = hands.read(panel)
    assert "nothing is sent until it is on" in said
    assert f"http://127.0.0.1:{pulse}/" in said
    assert "each for 3 days" in said
    assert not panel.switch.isChecked()
    assert hands.window.jobs.pill.text == "Routing off"
    assert orthanc_112.count() == 4
    click_switch(hands, panel.switch)
    hands.wait(lambda: orthanc_112.count() == 7)
    hands.wait(lambda: "nothing" in hands.read(panel).split("\n"))
    assert panel.switch.isChecked()


def test_the_switch_is_followed_when_somebody_else_turns_it(here: tuple[Hands, int]) -> None:
    hands, _port = here
    job = hands.app.jobs.create("gateway", {"source": ["Here"], "destination": ["PACS"]})
    hands.wait(lambda: hands.app.jobs.get(job.id).state is JobState.RUNNING)
    hands.session.jobs_edited.emit()
    hands.go("jobs")
    panel = hands.window.jobs.gateway
    hands.wait(lambda: panel.isVisible() and panel.switch.isChecked())
    hands.app.jobs.route(job.id, on=False)
    hands.wait(lambda: not panel.switch.isChecked() and hands.window.jobs.pill.text == "Routing off")
    hands.app.jobs.route(job.id, on=True)
    hands.wait(lambda: panel.switch.isChecked() and hands.window.jobs.pill.text != "Routing off")


def test_emptying_a_server_wants_a_second_thought(
    here: tuple[Hands, int], start_orthanc: Callable[..., OrthancServer]
) -> None:
    hands, _port = here
    server = start_orthanc("1.12", name="FRONT")
    server.upload(small_study(2))
    hands.app.nodes.add("orthanc", "Front", {"url": server.url}, {})
    wizard = go_to_standing(hands, "Front", "PACS")
    page = wizard.standing
    assert page.delete.text() == "Delete it at Front after"
    assert page.keep.isChecked(), "what a server has is no store of ours"
    on_to_summary(hands, wizard)
    assert "Kept" in hands.read(wizard.summary)
    assert wizard.next.isEnabled()
    while wizard.page is not page:
        hands.click(wizard.back)
    page.delete.setChecked(True)
    on_to_summary(hands, wizard)
    assert "Deleted at Front" in hands.read(wizard.summary)
    assert wizard.summary.understood.isVisible()
    assert not wizard.next.isEnabled()
    wizard.summary.understood.setChecked(True)
    assert wizard.next.isEnabled()
    wizard.reject()


def test_the_switch_is_a_switch_for_the_keyboard_too(qtbot: QtBot) -> None:
    switch = Switch("Auto-routing")
    qtbot.addWidget(switch)
    switch.show()
    assert switch.accessibleName() == "Auto-routing"
    press = QTest.keyClick
    press(switch, Qt.Key.Key_Space)
    assert switch.isChecked()
    press(switch, Qt.Key.Key_Return)
    assert not switch.isChecked()
