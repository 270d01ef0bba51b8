"""What a person does at the window: click, type, wait for what is to be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from core.app import App
from gui.main_window import MainWindow
from gui.models.transfers import Column
from gui.session import Session
from gui.widgets.ask import Question
from gui.wizards.add_node import AddNode
from gui.wizards.send import SendWizard

W = TypeVar("W", bound=QWidget)


class Hands:
    """Drives one window."""

    def __init__(self, qtbot: QtBot, session: Session, window: MainWindow) -> None:
        self.qtbot = qtbot
        self.session = session
        self.window = window
        self._closed = False

    @property
    def app(self) -> App:
        return self.session.app

    # doing ----------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()))

    def click(self, button: QAbstractButton) -> None:
        """Click what can be seen and is enabled; waits until it is."""
        self.wait(lambda: button.isVisible() and button.isEnabled())
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def press(self, where: QWidget, words: str) -> None:
        """Click the button with these words."""
        self.click(self.button(where, words))

    def button(self, where: QWidget, words: str) -> QAbstractButton:
        found: list[QAbstractButton] = []

        def look() -> bool:
            found[:] = [b for b in where.findChildren(QAbstractButton) if _says(b, words) and b.isVisible()]
            return bool(found)

        self.wait(look)
        return found[0]

    def type(self, field: QWidget, text: str) -> None:
        self.qtbot.keyClicks(field, text)

    def go(self, place: str) -> None:
        self.click(self.window.rail.buttons[place])
        self.wait(lambda: self.window.page.name == place)

    def answer(self, words: str) -> None:
        """Answer the question that is open."""
        self.wait(lambda: self.question() is not None)
        question = self.question()
        assert question is not None
        self.press(question, words)

    def question(self) -> Question | None:
        return next((w for w in QApplication.topLevelWidgets() if isinstance(w, Question) and w.isVisible()), None)

    # reading --------------------------------------------------------------------------------------------

    def read(self, where: QWidget) -> str:
        """All texts that can be seen in there."""
        labels = [w.text() for w in where.findChildren(QLabel) if w.isVisible()]
        buttons = [b.text() for b in where.findChildren(QAbstractButton) if b.isVisible()]
        return "\n".join([*labels, *buttons])

    def states(self) -> list[str]:
        """The pills of the transfers page, from the top."""
        model = self.window.transfers.sorted
        return [str(model.index(r, Column.STATE).data()) for r in range(model.rowCount())]

    # wizards --------------------------------------------------------------------------------------------

    def add_orthanc(
        self, name: str, url: str, *, user: str = "", password: str = "", expect: str = "It works", save: bool = True
    ) -> AddNode:
        """Add an Orthanc by the wizard."""
        wizard = self.window.nodes.open_wizard()
        self.click(wizard.kind_page.choices["orthanc"])
        self.click(wizard.next)
        self.type(wizard.fields_page.name, name)
        form = wizard.fields_page.form
        assert form is not None
        self.type(form.editors["url"].main, url)
        if user:
            self.type(form.editors["username"].main, user)
            self.type(form.editors["password"].main, password)
        self.click(wizard.next)
        self.wait(lambda: not wizard.test_page.running)
        assert expect in wizard.test_page.verdict.lead
        if save:
            self.save(wizard, name)
        return wizard

    def save(self, wizard: AddNode, name: str) -> None:
        with self.qtbot.waitSignal(wizard.done_with):
            self.click(wizard.next)
        self.wait(lambda: self.window.nodes.model.row_of(name) is not None)

    def start_transfer(self, source: str, destination: str, *, kind: str = "forward", move: bool = False) -> SendWizard:
        """Order a transfer by the wizard, up to its start."""
        wizard = self.window.new_transfer()
        self.click(wizard.kind_page.choices[kind])
        self.click(wizard.next)
        self.wait(lambda: destination in wizard.route.destinations.checks)
        for name, check in wizard.route.sources.checks.items():
            check.setChecked(name == source)
        for name, check in wizard.route.destinations.checks.items():
            check.setChecked(name == destination)
        self.click(wizard.next)
        if move:
            wizard.what.move_them.setChecked(True)
        self.click(wizard.next)
        if wizard.page is wizard.steps:
            self.click(wizard.next)
        self.click(wizard.next)
        assert wizard.page is wizard.summary
        self.wait(lambda: not wizard.summary.counting)
        return wizard

    def finish(self, wizard: SendWizard) -> None:
        with self.qtbot.waitSignal(wizard.done_with):
            self.click(wizard.next)
        self.wait(lambda: self.window.page.name == "transfers")

    def close(self) -> None:
        """Close without the question, and wait for the engine."""
        if self._closed:
            return
        self._closed = True
        self.window._ended = True
        self.window.close()
        assert self.session.wait()
        # A window that is only hidden would be styled anew with each change of the theme.
        self.window.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def _says(button: QAbstractButton, words: str) -> bool:
    return words in (button.text().strip(), button.accessibleName())
