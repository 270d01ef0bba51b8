"""How the cells of tables are painted: two lines, a pill, a bar with figures, a figure."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from gui.icons import pixmap
from gui.models.roles import Bar, ModelRole
from gui.theme import COMPACT_ROW_PX, ROW_PX, Role, Tone, small_font, strong_font, tabular_font, theme
from gui.widgets.pill import paint_pill, pill_width

Index = QModelIndex | QPersistentModelIndex
PAD = 10
BAR_HEIGHT = 5
BAR_WIDTH = 120
ICON_SIDE = 20


class Cell(QStyledItemDelegate):
    """Background, selection and the line below; one line of text unless a subclass paints more.

    Attributes
    ----------
    compact : bool
        Rows of one line.
    """

    compact = False

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        t = theme()
        painter.save()
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        rect = option.rect
        if selected:
            painter.fillRect(rect, t.colour(Role.SELECTION))
        elif option.state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, t.colour(Role.HOVER))
        painter.setPen(t.colour(Role.LINE))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        painter.setClipRect(rect)
        self.paint_content(painter, rect.adjusted(PAD, 0, -PAD, -1), option.font, index, selected=selected)
        painter.restore()

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        self.line(painter, cell, str(index.data() or ""), font, Role.INK)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(80, COMPACT_ROW_PX if self.compact else ROW_PX)

    @staticmethod
    def line(
        painter: QPainter,
        cell: QRect,
        text: str,
        font: QFont,
        role: Role,
        *,
        side: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft,
    ) -> None:
        """One line, elided, vertically centred in `cell`."""
        painter.setFont(font)
        painter.setPen(theme().colour(role))
        shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, cell.width())
        painter.drawText(cell, int(Qt.AlignmentFlag.AlignVCenter | side), shown)


class TwoLines(Cell):
    """What is looked for, and below it in small what helps to be sure."""

    def __init__(self, *, strong: bool = False) -> None:
        super().__init__()
        self._strong = strong

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        first = str(index.data() or "")
        second = str(index.data(ModelRole.SECOND) or "")
        upper = strong_font(font) if self._strong else font
        if self.compact or not second:
            self.line(painter, cell, first, upper, Role.INK)
            return
        small = small_font(font)
        above, below = QFontMetrics(upper).height(), QFontMetrics(small).height()
        top = cell.y() + (cell.height() - above - below) // 2
        self.line(painter, QRect(cell.x(), top, cell.width(), above), first, upper, Role.INK)
        self.line(painter, QRect(cell.x(), top + above, cell.width(), below), second, small, Role.SOFT)


class WithIcon(TwoLines):
    """The same behind the icon of what it is."""

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        name = str(index.data(ModelRole.ICON) or "")
        if name:
            role = Role.ACCENT if selected else Role.SOFT
            ratio = painter.device().devicePixelRatioF()
            top = cell.y() + (cell.height() - ICON_SIDE) // 2
            painter.drawPixmap(cell.x() + 2, top, pixmap(name, theme().colour(role), ICON_SIDE, ratio))
            cell = cell.adjusted(ICON_SIDE + PAD + 2, 0, 0, 0)
        super().paint_content(painter, cell, font, index, selected=selected)


class Route(TwoLines):
    """From → to; on two lines where one is too short for it."""

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        text = str(index.data() or "")
        second = str(index.data(ModelRole.SECOND) or "")
        start, arrow, end = text.partition(" → ")
        if self.compact or second or not arrow or QFontMetrics(font).horizontalAdvance(text) <= cell.width():
            super().paint_content(painter, cell, font, index, selected=selected)
            return
        high = QFontMetrics(font).height()
        top = cell.y() + (cell.height() - 2 * high) // 2
        self.line(painter, QRect(cell.x(), top, cell.width(), high), start, font, Role.INK)
        self.line(painter, QRect(cell.x(), top + high, cell.width(), high), f"→ {end}", font, Role.INK)


class PillCell(Cell):
    """A state; with a second line where the model has one."""

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        text = str(index.data() or "")
        tone = index.data(ModelRole.TONE)
        second = str(index.data(ModelRole.SECOND) or "")
        if not text:
            return
        tone = Tone(tone) if tone else Tone.GREY  # Qt hands a StrEnum back as plain text
        if self.compact or not second:
            paint_pill(painter, cell, text, tone, font, selected=selected)
            return
        half = cell.height() // 2
        paint_pill(painter, QRect(cell.x(), cell.y() + 2, cell.width(), half), text, tone, font, selected=selected)
        below = QRect(cell.x(), cell.y() + half + 3, cell.width(), half - 4)
        self.line(painter, below, second, small_font(font), Role.SOFT)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        size = super().sizeHint(option, index)
        return QSize(pill_width(str(index.data() or ""), option.font) + 2 * PAD, size.height())


class BarCell(Cell):
    """A thin bar of coloured parts above its figures."""

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        made = index.data(ModelRole.BAR)
        text = str(index.data() or "")
        width = min(BAR_WIDTH, cell.width())
        small = tabular_font(small_font(font))
        if self.compact:
            self.line(painter, cell, text, small, Role.SOFT)
            return
        figures = QFontMetrics(small).height()
        top = cell.y() + (cell.height() - BAR_HEIGHT - 4 - figures) // 2
        if isinstance(made, Bar):
            paint_bar(painter, QRectF(cell.x(), top, width, BAR_HEIGHT), made, selected=selected)
        below = QRect(cell.x(), top + BAR_HEIGHT + 4, cell.width(), figures)
        self.line(painter, below, text, small, Role.SOFT)


def paint_bar(painter: QPainter, box: QRectF, made: Bar, *, selected: bool = False) -> None:
    t = theme()
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(t.colour(Role.LINE if selected else Role.TRACK))
    radius = box.height() / 2
    painter.drawRoundedRect(box, radius, radius)
    x = box.x()
    for place, (fraction, role) in enumerate(made.parts):
        # Even one image of ten thousand is seen.
        width = min(max(fraction * box.width(), 3.0), box.right() - x)
        part = QRectF(x, box.y(), width, box.height())
        painter.setBrush(t.colour(role))
        painter.drawRoundedRect(part, radius, radius)
        if place:  # parts touch: only the ends of the whole are round
            painter.drawRect(QRectF(x, box.y(), min(radius, width), box.height()))
        if place < len(made.parts) - 1:
            painter.drawRect(QRectF(part.right() - min(radius, width), box.y(), min(radius, width), box.height()))
        x += width
    painter.restore()


class Figure(Cell):
    """A number, right-aligned, in figures of one width."""

    def __init__(self, *, soft: bool = False) -> None:
        super().__init__()
        self._role = Role.SOFT if soft else Role.INK

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        text = str(index.data() or "")
        self.line(painter, cell, text, tabular_font(font), self._role, side=Qt.AlignmentFlag.AlignRight)


class Plain(Cell):
    """One line, soft or not, in figures of one width where it is a time or an identifier."""

    def __init__(self, *, soft: bool = False, tabular: bool = False) -> None:
        super().__init__()
        self._role = Role.SOFT if soft else Role.INK
        self._tabular = tabular

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        used = tabular_font(font) if self._tabular else font
        self.line(painter, cell, str(index.data() or ""), used, self._role)
