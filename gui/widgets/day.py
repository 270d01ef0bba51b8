"""A day: typed as YYYY-MM-DD or chosen from a calendar in the theme's colours."""

from __future__ import annotations

from PySide6.QtCore import QDate, Qt
from PySide6.QtGui import QIcon, QTextCharFormat, QTransform, QWheelEvent
from PySide6.QtWidgets import QCalendarWidget, QDateEdit, QToolButton, QWidget

from gui.icons import pixmap
from gui.theme import Role, theme

FIRST = QDate(1890, 1, 1)  # no images before


class DayEdit(QDateEdit):
    """One day, with a calendar that opens below it."""

    def __init__(self, date: QDate, name: str, parent: QWidget | None = None) -> None:
        super().__init__(date, parent)
        self.setAccessibleName(name)
        self.setDisplayFormat("yyyy-MM-dd")
        self.setMinimumDate(FIRST)
        self.setMinimumWidth(138)
        self.lineEdit().setTextMargins(6, 0, 0, 0)
        self.setCalendarPopup(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        calendar = self.calendarWidget()
        calendar.setVerticalHeaderFormat(QCalendarWidget.VerticalHeaderFormat.NoVerticalHeader)
        calendar.setGridVisible(False)
        theme().changed.connect(self._colour)
        self._colour()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """The wheel scrolls the page; it changes only a day that a person is at."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def _colour(self) -> None:
        """Weekends are as black as other days: studies come on all of them."""
        plain, soft = QTextCharFormat(), QTextCharFormat()
        plain.setForeground(theme().colour(Role.INK))
        soft.setForeground(theme().colour(Role.SOFT))
        calendar = self.calendarWidget()
        after = pixmap("right", theme().colour(Role.INK), 16, self.devicePixelRatioF())
        before = after.transformed(QTransform().scale(-1, 1))
        for name, arrow, words in (("prev", before, "The month before"), ("next", after, "The month after")):
            button = calendar.findChild(QToolButton, f"qt_calendar_{name}month")
            if button is not None:
                button.setIcon(QIcon(arrow))
                button.setToolTip(words)
        for day in Qt.DayOfWeek:
            calendar.setWeekdayTextFormat(day, plain)
        calendar.setHeaderTextFormat(soft)
