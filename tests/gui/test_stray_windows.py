"""No part of a page is ever shown as a window of its own: on a real screen it would flash, and close what is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QApplication, QDialog, QMainWindow, QWidget

from core.app import App
from gui.widgets.form import Form
from tests.gui.hands import Hands


class Watcher(QObject):
    """Notes every window that is shown and is none."""

    def __init__(self) -> None:
        super().__init__()
        self.strays: list[str] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        shown = event.type() is QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow()
        if shown and not isinstance(watched, (QMainWindow, QDialog, Form)):
            self.strays.append(f"{type(watched).__name__} {getattr(watched, 'text', str)()!r}")
        return False


@pytest.fixture
def watcher(qapp: QApplication) -> Iterator[Watcher]:
    made = Watcher()
    qapp.installEventFilter(made)
    yield made
    qapp.removeEventFilter(made)


def test_all_pages_and_the_wizards(watcher: Watcher, hospital: Hands) -> None:
    for place in list(hospital.window.rail.buttons):
        hospital.go(place)
    wizard = hospital.window.new_transfer()
    hospital.wait(lambda: wizard.route.sources.checks)
    for kind in list(wizard.kind_page.choices):
        wizard.show_page(0)
        wizard.kind_page.choices[kind].click()
        wizard.show_page(1)
        for at in range(2, len(wizard.pages) - 1):
            wizard.show_page(at)
    wizard.reject()
    adding = hospital.window.nodes.open_wizard()
    for choice in adding.kind_page.choices.values():
        adding.show_page(0)
        choice.click()
        adding.show_page(1)
    adding.reject()
    assert not watcher.strays


def test_rules(watcher: Watcher, hospital: Hands) -> None:
    wizard = hospital.window.new_transfer()
    rule = wizard.what.rule
    rule.set_value("Modality in CT, MR and (StudyDate between 20200101 and 20210101 or (PatientID = 1 or Rows > 2))")
    rule.group.begin("PatientName")
    rule.set_value("StudyDate in last 7 days and PatientSex = F and Modality = CT and StudyTime is empty")
    wizard.reject()
    assert not watcher.strays


def test_forms_of_every_kind(watcher: Watcher, hospital: Hands) -> None:
    app: App = hospital.app
    for kind in (*app.node_kinds().values(), *app.job_kinds().values()):
        form = Form(kind.Fields, open_all=True)
        hospital.qtbot.addWidget(form)
        form.show()
    assert not watcher.strays
