"""What an empty page says: what to do first, with the button that does it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from gui.icons import IconButton, IconLabel
from gui.theme import STEP, Role
from gui.widgets.basics import label

WIDTH = 440


class EmptyState(QWidget):
    """An icon, a heading, a sentence and (mostly) a button, in the middle.

    Attributes
    ----------
    acted : Signal()
        The button was pressed.
    """

    acted = Signal()

    def __init__(self, icon: str, title: str, text: str, action: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6 * STEP, 6 * STEP, 6 * STEP, 6 * STEP)
        layout.setSpacing(2 * STEP)
        layout.addStretch(2)
        layout.addWidget(IconLabel(icon, Role.ACCENT, 44), 0, Qt.AlignmentFlag.AlignHCenter)
        layout.addSpacing(STEP)
        self.title = label(title, "heading", wrap=True)
        self.text = label(text, "soft", wrap=True)
        for part in (self.title, self.text):
            part.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            part.setFixedWidth(WIDTH)
            layout.addWidget(part, 0, Qt.AlignmentFlag.AlignHCenter)
        layout.addSpacing(2 * STEP)
        self.button = IconButton(action, kind="primary")
        self.button.clicked.connect(self.acted)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        self.button.setVisible(bool(action))  # once it lies in something: before, it would be a window of its own
        layout.addStretch(3)
        self._fit()

    def _fit(self) -> None:
        """A label that wraps doesn't tell a centring layout how high it is."""
        for part in (self.title, self.text):
            part.setMinimumHeight(max(0, part.heightForWidth(WIDTH)))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fit()

    def say(self, title: str, text: str, action: str = "") -> None:
        self.title.setText(title)
        self.text.setText(text)
        self.button.setText(action)
        self.button.setVisible(bool(action))
        self._fit()
