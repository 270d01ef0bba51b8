"""A thin bar of coloured parts, as a widget."""

from __future__ import annotations

from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.models.roles import Bar
from gui.widgets.cells import BAR_HEIGHT, paint_bar


class BarLine(QWidget):
    def __init__(self, bar: Bar, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = bar
        self.setFixedHeight(BAR_HEIGHT)
        self.setMinimumWidth(60)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_bar(self, bar: Bar) -> None:
        if bar != self._bar:
            self._bar = bar
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        paint_bar(QPainter(self), QRectF(self.rect()), self._bar)
