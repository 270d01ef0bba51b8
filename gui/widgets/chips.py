"""Filters as a line of chips, each with the count of what it would show."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QEnterEvent, QFont, QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QWidget

from gui import words
from gui.theme import Role, Tone, small_font, strong_font, tabular_font, theme
from gui.widgets.flow import FlowLayout

HEIGHT = 26
_PAD, _TIGHT_PAD = 12, 8
_GAP, _TIGHT_GAP = 8, 6
_SPACING, _TIGHT_SPACING = 6, 4


class Chip(QAbstractButton):
    """A filter's word and its count.

    Attributes
    ----------
    tight : bool
        Smaller, because the line is too short for all of them.
    """

    tight = False

    def __init__(self, title: str, tone: Tone = Tone.GREY, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self._tone = tone
        self._count: int | None = None
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setText(title)
        self.setAccessibleName(title)

    @property
    def count(self) -> int | None:
        return self._count

    def show_count(self, count: int | None) -> None:
        if count != self._count:
            self._count = count
            self.setAccessibleName(f"{self.title}, {words.count(count)}" if count is not None else self.title)
            self.updateGeometry()
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(self.width_if(tight=self.tight), HEIGHT)

    def width_if(self, *, tight: bool) -> int:
        """How wide it would be."""
        width = QFontMetrics(self._plain(tight)).horizontalAdvance(self.title) + 2 * (_TIGHT_PAD if tight else _PAD)
        if self._count is not None:
            figures = QFontMetrics(self._bold(tight)).horizontalAdvance(words.count(self._count))
            width += figures + (_TIGHT_GAP if tight else _GAP)
        return width

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        t = theme()
        alarmed = self._tone is Tone.RED and bool(self._count)
        text, number, back, edge = Role.SOFT, Role.INK, Role.PANEL, Role.LINE
        if alarmed:
            text = number = Role.RED
            back = edge = Role.RED_TINT
            if self.isChecked():
                edge = Role.RED
        elif self.isChecked():
            text = number = edge = Role.ACCENT
            back = Role.ACCENT_TINT
        elif self.underMouse():
            back = Role.HOVER
        if self.hasFocus():
            edge = Role.INK
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(t.colour(edge))
        painter.setBrush(t.colour(back))
        box = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)
        inner = box.adjusted((_TIGHT_PAD if self.tight else _PAD) - 0.5, 0, 0, 0)
        plain = self._plain(self.tight)
        painter.setPen(t.colour(text))
        painter.setFont(plain)
        painter.drawText(inner, int(Qt.AlignmentFlag.AlignVCenter), self.title)
        if self._count is not None:
            painter.setPen(t.colour(number))
            painter.setFont(self._bold(self.tight))
            shift = QFontMetrics(plain).horizontalAdvance(self.title) + (_TIGHT_GAP if self.tight else _GAP)
            painter.drawText(
                inner.adjusted(shift, 0, 0, 0), int(Qt.AlignmentFlag.AlignVCenter), words.count(self._count)
            )

    def _plain(self, tight: bool) -> QFont:
        return small_font(self.font()) if tight else self.font()

    def _bold(self, tight: bool) -> QFont:
        return tabular_font(strong_font(self._plain(tight)))


class ChipBar(QWidget):
    """Chips of which one is chosen.

    Parameters
    ----------
    chips : Sequence[tuple[str, str, Tone, bool]]
        Value, word, tone, and whether it is shown even when its count is 0.

    Attributes
    ----------
    chosen : Signal(str)
    """

    chosen = Signal(str)

    def __init__(self, chips: Sequence[tuple[str, str, Tone, bool]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = self._layout = FlowLayout(self, spacing=_SPACING)
        self._tight = False
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self.chips: dict[str, Chip] = {}
        self._always: set[str] = set()
        for value, title, tone, always in chips:
            chip = Chip(title, tone)
            chip.clicked.connect(lambda _=False, v=value: self.chosen.emit(v))
            if always:
                self._always.add(value)
            self._group.addButton(chip)
            layout.addWidget(chip)
            chip.setVisible(always)  # once it lies in something: before, it would be a window of its own
            self.chips[value] = chip
        next(iter(self.chips.values())).setChecked(True)

    @property
    def value(self) -> str:
        return next((v for v, c in self.chips.items() if c.isChecked()), "")

    def choose(self, value: str) -> None:
        self.chips[value].setChecked(True)
        self.chips[value].show()
        self._fit()

    def show_counts(self, counts: dict[str, int]) -> None:
        for value, chip in self.chips.items():
            number = counts.get(value, 0)
            chip.show_count(number)
            chip.setVisible(value in self._always or number > 0 or chip.isChecked())
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Make them smaller where that keeps all in one line."""
        shown = [chip for chip in self.chips.values() if not chip.isHidden()]
        wanted = sum(chip.width_if(tight=False) for chip in shown) + _SPACING * (len(shown) - 1)
        tight = wanted > self.width()
        if tight == self._tight:
            return
        self._tight = tight
        for chip in self.chips.values():
            chip.tight = tight
            chip.updateGeometry()
            chip.update()
        self._layout.setSpacing(_TIGHT_SPACING if tight else _SPACING)
        self._layout.invalidate()
