"""A table of rows without a grid, whose columns share the width they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QAbstractItemModel, QItemSelection, Qt, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from gui.theme import COMPACT_ROW_PX, ROW_PX
from gui.widgets.basics import copy
from gui.widgets.cells import Cell


@dataclass(frozen=True, slots=True)
class Share:
    """How a column takes part in the width: at least `least` pixels, and `weight` of what is left over."""

    least: int
    weight: int = 0


class Table(QTableView):
    """Rows are selected whole; ↑ ↓ move, Ctrl+C copies what is read in the row.

    Attributes
    ----------
    picked : Signal()
        The selection changed.
    """

    picked = Signal()

    def __init__(
        self,
        model: QAbstractItemModel,
        cells: Sequence[Cell],
        shares: Sequence[Share],
        *,
        row_px: int = ROW_PX,
        several: bool = False,
        header: bool = True,
        head: QHeaderView | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setModel(model)
        self._cells = tuple(cells)  # a view doesn't own its delegates
        self._shares = tuple(shares)
        self._row_px = row_px
        self._own_widths = False
        self._arranging = False
        for column, cell in enumerate(self._cells):
            self.setItemDelegateForColumn(column, cell)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setAlternatingRowColors(False)
        self.setMouseTracking(True)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        mode = QAbstractItemView.SelectionMode
        self.setSelectionMode(mode.ExtendedSelection if several else mode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTabKeyNavigation(False)  # Tab leaves the table, arrows move in it
        self.setCornerButtonEnabled(False)
        vertical = self.verticalHeader()
        vertical.hide()
        vertical.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        vertical.setMinimumSectionSize(20)
        vertical.setDefaultSectionSize(row_px)
        if head is not None:
            self.setHorizontalHeader(head)
        horizontal = self.horizontalHeader()
        horizontal.setVisible(header)
        horizontal.setHighlightSections(False)
        horizontal.setMinimumSectionSize(24 if head is not None else 40)
        horizontal.setSectionsMovable(False)
        horizontal.sectionResized.connect(self._dragged)
        self.selectionModel().selectionChanged.connect(self._selected)
        self.copied: Callable[[], str] | None = None

    def set_compact(self, compact: bool) -> None:
        for cell in self._cells:
            cell.compact = compact
        self.verticalHeader().setDefaultSectionSize(COMPACT_ROW_PX if compact else self._row_px)
        self.viewport().update()

    def selected_rows(self) -> list[int]:
        return sorted(i.row() for i in self.selectionModel().selectedRows())

    def copy_rows(self) -> None:
        """Copy the rows that are selected: as they are read, or what `copied` makes of them."""
        if self.copied is not None:
            copy(self.copied())
            return
        columns = range(self.model().columnCount())
        lines = []
        for row in self.selected_rows():
            texts = [str(self.model().index(row, c).data() or "") for c in columns]
            lines.append("\t".join(texts))
        copy("\n".join(lines))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_rows()
            return
        super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.arrange()

    def arrange(self) -> None:
        """Share the width among the columns, unless the person has set widths."""
        if self._own_widths:
            return
        shown = [c for c in range(len(self._shares)) if not self.isColumnHidden(c)]
        least = sum(self._shares[c].least for c in shown)
        weights = sum(self._shares[c].weight for c in shown)
        over = self.viewport().width() - least
        self._arranging = True
        for c in shown:
            share = self._shares[c]
            extra = over * share.weight // weights if over > 0 and weights else 0
            if over < 0:
                extra = over * share.least // least
            self.setColumnWidth(c, share.least + extra)
        self._arranging = False

    def _dragged(self, _section: int, _old: int, _new: int) -> None:
        if not self._arranging and self.isVisible():
            self._own_widths = True

    def _selected(self, _now: QItemSelection, _before: QItemSelection) -> None:
        self.picked.emit()
