"""A text of several lines, in a form."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QFocusEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

SHOWN = 6  # lines


class LinesEdit(QPlainTextEdit):
    """Tab leaves it, as it leaves every other field.

    Attributes
    ----------
    left : Signal()
        The person has gone on to another field.
    """

    left = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        self.setFixedHeight(SHOWN * self.fontMetrics().lineSpacing() + 16)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.left.emit()
