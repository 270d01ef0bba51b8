"""A state as a word on a tint of its colour."""

from __future__ import annotations

from PySide6.QtCore import QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from gui.theme import Role, Tone, small_font, theme

HEIGHT = 22
_PAD = 10


def pill_font(font: QFont) -> QFont:
    made = small_font(font)
    made.setWeight(QFont.Weight.Medium)
    return made


def pill_width(text: str, font: QFont) -> int:
    return QFontMetrics(pill_font(font)).horizontalAdvance(text) + 2 * _PAD


def paint_pill(painter: QPainter, cell: QRect, text: str, tone: Tone, font: QFont, *, selected: bool = False) -> None:
    """Paint at the left of `cell`, vertically centred; elided when the cell is too narrow."""
    colours = theme().tone(tone)
    made = pill_font(font)
    width = min(pill_width(text, font), cell.width())
    box = QRectF(cell.x(), cell.center().y() - HEIGHT / 2 + 1, width, HEIGHT)
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme().colour(Role.PANEL) if selected else colours.tint)
    painter.drawRoundedRect(box, HEIGHT / 2, HEIGHT / 2)
    painter.setPen(colours.text)
    painter.setFont(made)
    inner = box.adjusted(_PAD - 1, 0, 1 - _PAD, 0)
    shown = QFontMetrics(made).elidedText(text, Qt.TextElideMode.ElideRight, int(inner.width()) + 1)
    painter.drawText(inner, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), shown)
    painter.restore()


class Pill(QWidget):
    """The same as a widget."""

    def __init__(self, text: str = "", tone: Tone = Tone.GREY, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text, self._tone = text, tone
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(text)

    @property
    def text(self) -> str:
        return self._text

    def show_state(self, text: str, tone: Tone) -> None:
        if (text, tone) != (self._text, self._tone):
            self._text, self._tone = text, tone
            self.setAccessibleName(text)
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(pill_width(self._text, self.font()), HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        paint_pill(painter, self.rect().adjusted(0, -1, 0, -1), self._text, self._tone, self.font())
