"""The field that a tag is chosen in: by its plain name, its keyword or its number."""

from __future__ import annotations

from functools import cache

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QAction, QFont, QFontMetrics, QKeyEvent, QPainter
from PySide6.QtWidgets import QCompleter, QLineEdit, QListView, QWidget

from core.model.rules.tags import TagChoice, UnknownTagError, number_text, tag_choices, tag_key, title_of
from gui.icons import icon
from gui.theme import Role, small_font
from gui.widgets.basics import restyle
from gui.widgets.cells import Cell

_SEARCH = Qt.ItemDataRole.UserRole + 20
_NO_PARENT = QModelIndex()
_ROW_PX = 28
_POPUP_PX = 440
Index = QModelIndex | QPersistentModelIndex


class TagsModel(QAbstractListModel):
    """Every tag that a rule can look at; those of most rules first."""

    def __init__(self) -> None:
        super().__init__()
        self._choices = tag_choices()
        self._search = [f"{c.title} {c.key} {c.number}" for c in self._choices]

    def choice(self, at: int) -> TagChoice:
        return self._choices[at]

    def rowCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._choices)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        choice = self._choices[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return choice.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{choice.title} · {choice.key} {choice.number}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{choice.title}, {choice.number}"
        return self._search[index.row()] if role == _SEARCH else (choice.number if role == _SEARCH + 1 else None)


@cache
def tags_model() -> TagsModel:
    """One for all fields: it holds some four thousand tags."""
    return TagsModel()


class _TagCell(Cell):
    """The name, and at the right its number."""

    def paint_content(self, painter: QPainter, cell: QRect, font: QFont, index: Index, *, selected: bool) -> None:
        number = str(index.data(_SEARCH + 1) or "")
        small = small_font(font)
        wide = QFontMetrics(small).horizontalAdvance(number) + 12
        self.line(painter, cell.adjusted(0, 0, -wide, 0), str(index.data() or ""), font, Role.INK)
        self.line(painter, cell, number, small, Role.SOFT, side=Qt.AlignmentFlag.AlignRight)

    def sizeHint(self, option: object, index: Index) -> QSize:
        return QSize(200, _ROW_PX)


class _TagCompleter(QCompleter):
    """Finds a tag by any part of its name, keyword or number, and writes its name."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setModel(tags_model())
        self.setCompletionRole(_SEARCH)
        self.setFilterMode(Qt.MatchFlag.MatchContains)
        self.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.setMaxVisibleItems(12)
        view = QListView()
        view.setUniformItemSizes(True)
        view.setMinimumWidth(_POPUP_PX)
        self._cell = _TagCell()  # a view doesn't own its delegate
        self.setPopup(view)
        view.setItemDelegate(self._cell)

    def pathFromIndex(self, index: Index) -> str:
        return str(index.data() or "")


class TagEdit(QLineEdit):
    """One tag.

    Attributes
    ----------
    chosen : Signal()
        Another tag, or none any more.
    key : str
        As it stands in the rule; empty while there is none.
    """

    chosen = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.key = ""
        self.wrong = ""
        self.setPlaceholderText("Choose a tag…")
        self.setAccessibleName("Tag")
        completer = _TagCompleter(self)
        self.setCompleter(completer)
        completer.activated[QModelIndex].connect(self._picked)  # type: ignore[index]
        self._open = QAction(icon("down", Role.SOFT, size=14), "Show all tags", self)
        self._open.triggered.connect(self.show_all)
        self.addAction(self._open, QLineEdit.ActionPosition.TrailingPosition)
        self.editingFinished.connect(self._finish)
        self.textEdited.connect(lambda _: self._mark(""))

    def set_key(self, key: str) -> None:
        """Show this tag; nothing is told."""
        self.key = key
        self.setText(title_of(key) if key else "")
        self.setCursorPosition(0)
        self.setToolTip(f"{key} {number_text(key)}" if key and "(" not in key else key)
        self._mark("")

    def show_all(self) -> None:
        """Open the list of all tags, those of most rules first."""
        self.setFocus()
        completer = self.completer()
        completer.setCompletionPrefix("")
        completer.complete()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        popup = self.completer().popup()
        if event.key() == Qt.Key.Key_Down and not (popup is not None and popup.isVisible()):
            self.show_all()
            return
        super().keyPressEvent(event)

    def _picked(self, index: Index) -> None:
        key = str(index.data(_SEARCH) or "").split(" ")[-2]
        self._take(key)

    def _finish(self) -> None:
        """What was typed is a name, a keyword, a number or a path; or it is none of these."""
        typed = self.text().strip()
        if self.key and typed == title_of(self.key):
            return
        if not typed:
            self._take("")
            return
        try:
            self._take(tag_key(typed))
        except UnknownTagError as error:
            self._take("", shown=typed)
            self._mark(f"“{typed}” {error}.")

    def _take(self, key: str, *, shown: str = "") -> None:
        other = key != self.key
        self.set_key(key)
        if shown:
            self.setText(shown)
        if other:
            self.chosen.emit()

    def _mark(self, wrong: str) -> None:
        if wrong != self.wrong:
            self.wrong = wrong
            self.setProperty("wrong", "true" if wrong else "false")
            restyle(self)
