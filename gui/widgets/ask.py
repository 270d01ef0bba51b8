"""A question before something that can't be undone."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.basics import label, row


class Question(QDialog):
    """Says what would happen and asks; "Keep" (or the like) is what Return does."""

    def __init__(self, parent: QWidget, title: str, text: str, action: str, refuse: str, *, danger: bool) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(5 * STEP, 5 * STEP, 5 * STEP, 4 * STEP)
        layout.setSpacing(2 * STEP)
        layout.addWidget(label(title, "heading", wrap=True))
        body = label(text, wrap=True)
        body.setMinimumWidth(380)
        body.setMaximumWidth(480)
        layout.addWidget(body)
        layout.addSpacing(2 * STEP)
        buttons = row()
        buttons.addStretch(1)
        self.no = IconButton(refuse)
        self.yes = IconButton(action, kind="danger" if danger else "primary")
        self.no.clicked.connect(self.reject)
        self.yes.clicked.connect(self.accept)
        buttons.addWidget(self.no)
        buttons.addWidget(self.yes)
        layout.addLayout(buttons)
        (self.no if danger else self.yes).setDefault(True)
        (self.no if danger else self.yes).setFocus()


def ask(
    parent: QWidget,
    title: str,
    text: str,
    action: str,
    then: Callable[[], object],
    *,
    refuse: str = "Cancel",
    danger: bool = True,
) -> Question:
    """Ask without stopping the event loop; `then` runs when the answer is yes."""
    question = Question(parent.window(), title, text, action, refuse, danger=danger)
    question.accepted.connect(then)
    question.open()
    return question
