"""Which kinds of image a node takes in which encodings, as a table that can be searched and copied."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QRectF,
    QSize,
    QSortFilterProxyModel,
    Qt,
)
from PySide6.QtGui import QFont, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QCheckBox, QFrame, QHeaderView, QLineEdit, QVBoxLayout, QWidget

from core.accepted import AcceptedKind, AcceptedTable, Cover
from gui import words
from gui.models.roles import ModelRole
from gui.theme import STEP, Role, small_font, theme
from gui.widgets.basics import CopyButton, label, row
from gui.widgets.cells import PAD, Cell, Plain
from gui.widgets.table import Share, Table

_NO_PARENT = QModelIndex()
Index = QModelIndex | QPersistentModelIndex
_ROW_PX = 28
_DOT = 10
_WIDTH = 32  # of a family's column
_HEAD_PX = 96
_SPOKEN = {Cover.ALL: "all", Cover.SOME: "some", Cover.NONE: "none"}


class AcceptedModel(QAbstractTableModel):
    """Rows are kinds of image, columns their name and the families of encodings."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.table: AcceptedTable | None = None

    def show(self, table: AcceptedTable | None) -> None:
        self.beginResetModel()
        self.table = table
        self.endResetModel()

    def kind(self, at: int) -> AcceptedKind:
        assert self.table is not None
        return self.table.kinds[at]

    def rowCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() or self.table is None else len(self.table.kinds)

    def columnCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() or self.table is None else 1 + len(self.table.families)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal or self.table is None:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.table.families[section - 1].title if section else "Kind of image"
        if role == Qt.ItemDataRole.ToolTipRole and section:
            return self.table.families[section - 1].meaning
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or self.table is None:
            return None
        kind = self.kind(index.row())
        if index.column() == 0:
            if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
                return kind.name
            return f"{kind.name}\n{kind.uid}" if role == Qt.ItemDataRole.ToolTipRole else None
        at = index.column() - 1
        cover, family = kind.covers[at], self.table.families[at]
        if role == ModelRole.RECORD:
            return cover.value
        if role == Qt.ItemDataRole.DisplayRole:
            return _SPOKEN[cover]
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{family.title}: {_SPOKEN[cover]}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(kind.encodings[at]) or f"Nothing of this: {family.meaning}"
        return None


class _Filter(QSortFilterProxyModel):
    """By words, and only what is taken unless the rest is wanted as well."""

    def __init__(self, source: AcceptedModel) -> None:
        super().__init__()
        self._source = source
        self._words: tuple[str, ...] = ()
        self._refused = False
        self.setSourceModel(source)

    def choose(self, text: str, *, refused: bool) -> None:
        self.beginResetModel()
        self._words, self._refused = tuple(text.casefold().split()), refused
        self.endResetModel()

    def filterAcceptsRow(self, at: int, _parent: Index) -> bool:
        kind = self._source.kind(at)
        if not (kind.is_taken or self._refused):
            return False
        text = f"{kind.name} {kind.uid}".casefold()
        return all(word in text for word in self._words)


class UprightHeader(QHeaderView):
    """The families' titles stand upright, so that their columns can be narrow."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.setFixedHeight(_HEAD_PX)
        self.setSectionsClickable(False)

    def paintSection(self, painter: QPainter, rect: QRect, section: int) -> None:
        title = str(self.model().headerData(section, Qt.Orientation.Horizontal) or "")
        font = small_font(self.font())
        painter.save()
        painter.setFont(font)
        painter.setPen(theme().colour(Role.LINE))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        painter.setPen(theme().colour(Role.SOFT))
        if section:
            painter.translate(rect.center().x(), rect.bottom() - 8)
            painter.rotate(-90)
            high = QFontMetrics(font).height()
            painter.drawText(QRectF(0, -high / 2, rect.height(), high), int(Qt.AlignmentFlag.AlignVCenter), title)
        else:
            below = rect.adjusted(PAD, 0, 0, -7)
            painter.drawText(below, int(Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft), title)
        painter.restore()


class CoverCell(Cell):
    """A full dot for all encodings of a family, a ring for some, a short line for none."""

    def paint_content(self, painter: QPainter, cell: Any, font: QFont, index: Index, *, selected: bool) -> None:
        paint_cover(painter, QRectF(cell), Cover(str(index.data(ModelRole.RECORD))))

    def sizeHint(self, option: Any, index: Index) -> QSize:
        return QSize(_WIDTH, _ROW_PX)


def paint_cover(painter: QPainter, cell: QRectF, cover: Cover) -> None:
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    box = QRectF(0, 0, _DOT, _DOT)
    box.moveCenter(cell.center())
    if cover is Cover.NONE:
        painter.setPen(QPen(theme().colour(Role.DISABLED), 1.5))
        painter.drawLine(box.center() - QPointF(3, 0), box.center() + QPointF(3, 0))
        return
    green = theme().colour(Role.GREEN)
    painter.setPen(QPen(green, 2))
    painter.setBrush(green if cover is Cover.ALL else Qt.BrushStyle.NoBrush)
    painter.drawEllipse(box.adjusted(1, 1, -1, -1))


class _Sign(QWidget):
    """A sign of the legend."""

    def __init__(self, cover: Cover) -> None:
        super().__init__()
        self._cover = cover
        self.setFixedSize(_DOT + 4, _DOT + 6)

    def paintEvent(self, _event: Any) -> None:
        paint_cover(QPainter(self), QRectF(self.rect()), self._cover)


class AcceptedView(QWidget):
    """The table with its search, its legend and its text to copy."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        head = row(spacing=3 * STEP)
        head.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 2 * STEP)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search: CT, ultrasound, encapsulated…")
        self.search.setAccessibleName("Search kinds of image")
        self.search.setClearButtonEnabled(True)
        self.refused = QCheckBox("Also what it refuses")
        self.copy = CopyButton("Copy as text")
        head.addWidget(self.search, 1)
        head.addWidget(self.refused)
        head.addWidget(self.copy)
        layout.addLayout(head)
        self.model = AcceptedModel()
        self.rows = _Filter(self.model)
        self.table: Table | None = None
        self._place = QVBoxLayout()
        layout.addLayout(self._place, 1)
        legend = row(spacing=STEP)
        legend.setContentsMargins(4 * STEP, 2 * STEP, 4 * STEP, 2 * STEP)
        for cover, text in (
            (Cover.ALL, "every encoding of that family"),
            (Cover.SOME, "some: point at it to see which"),
            (Cover.NONE, "none"),
        ):
            legend.addWidget(_Sign(cover))
            legend.addWidget(label(text, "small"))
            legend.addSpacing(2 * STEP)
        legend.addStretch(1)
        self.counted = label("", "small")
        legend.addWidget(self.counted)
        layout.addLayout(legend)
        self.search.textChanged.connect(lambda _: self._choose())
        self.refused.toggled.connect(lambda _: self._choose())

    def show_table(self, table: AcceptedTable | None) -> None:
        """Show this one; the search stays."""
        if table == self.model.table:
            return
        self.model.show(table)
        if table is None:
            return
        if self.table is None:
            families = len(table.families)
            cells = (Plain(), *(CoverCell() for _ in range(families)))
            shares = (Share(200, 1), *(Share(_WIDTH) for _ in range(families)))
            self.table = Table(self.rows, cells, shares, row_px=_ROW_PX, head=UprightHeader())
            self.table.setFrameShape(QFrame.Shape.NoFrame)
            self.table.setProperty("plain", "true")
            self.table.setAccessibleName("Kinds of image and their encodings")
            self._place.addWidget(self.table)
        self.copy.copied_text = table.text
        self.refused.setVisible(table.taken < len(table.kinds))
        self._choose()
        self.table.arrange()

    def _choose(self) -> None:
        self.rows.choose(self.search.text(), refused=self.refused.isChecked())
        shown, table = self.rows.rowCount(), self.model.table
        if table is not None:
            self.counted.setText(f"{words.count(shown)} of {words.plural(len(table.kinds), 'kind')}")
