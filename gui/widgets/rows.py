"""A list whose entries are typed in parts, one entry a line."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from gui.icons import IconButton, IconLabel, IconToolButton
from gui.theme import STEP, Role
from gui.widgets.basics import label, row

_REMOVE_PX = 30


class EntryLine(QWidget):
    """One entry: a field for each part, and a button that removes it."""

    changed = Signal()
    left = Signal()
    removed = Signal()

    def __init__(self, columns: Sequence[tuple[str, str]], separator: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._separator = separator
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2 * STEP)
        self.parts: list[QLineEdit] = []
        for title, placeholder in columns:
            edit = QLineEdit()
            edit.setPlaceholderText(placeholder)
            edit.setAccessibleName(title)
            edit.textEdited.connect(self._spread)
            edit.textChanged.connect(lambda _: self.changed.emit())
            edit.editingFinished.connect(self.left)
            self.parts.append(edit)
            line.addWidget(edit, 1)
        remove = IconToolButton("remove", "Remove this line")
        remove.setFixedWidth(_REMOVE_PX)
        remove.clicked.connect(self.removed)
        self.remove = remove
        line.addWidget(remove)

    def entry(self) -> str:
        """The parts joined; empty where nothing was typed yet."""
        texts = [edit.text().strip() for edit in self.parts]
        return self._separator.join(texts) if any(texts) else ""

    def set_entry(self, entry: str) -> None:
        texts = entry.rsplit(self._separator, len(self.parts) - 1)
        for edit, text in zip(self.parts, texts, strict=False):
            edit.setText(text.strip())

    def _spread(self, text: str) -> None:
        """A whole entry that was pasted into one field goes into all of them; what is typed goes on in the next."""
        others = any(edit.text() for edit in self.parts if edit is not self.sender())
        if self._separator in text and not others:
            self.set_entry(text)
            after = next((edit for edit in self.parts if not edit.text()), self.parts[-1])
            after.setFocus()


class RowsEditor(QWidget):
    """Entries below each other, with a button that adds one.

    Parameters
    ----------
    columns : Sequence[tuple[str, str]]
        Titles and placeholders of the parts.
    separator : str
        What joins the parts of an entry.
    empty : str
        Said while there is no entry.

    Attributes
    ----------
    changed, left : Signal()
    """

    changed = Signal()
    left = Signal()

    def __init__(
        self, columns: Sequence[tuple[str, str]], separator: str, empty: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._columns, self._separator = tuple(columns), separator
        self.lines: list[EntryLine] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(STEP)
        self._heads = QWidget()
        heads = row()
        heads.setContentsMargins(0, 0, _REMOVE_PX + 2 * STEP, 0)
        for title, _ in columns:
            heads.addWidget(label(title, "small"), 1)
        self._heads.setLayout(heads)
        layout.addWidget(self._heads)
        self._place = QVBoxLayout()
        self._place.setSpacing(STEP)
        layout.addLayout(self._place)
        self._none = QWidget()
        none = row()
        none.addWidget(IconLabel("info", Role.SOFT))
        self.empty = label(empty, "soft", wrap=True)
        none.addWidget(self.empty, 1)
        self._none.setLayout(none)
        layout.addWidget(self._none)
        self.add = IconButton("Add", "plus", kind="small")
        self.add.clicked.connect(self._added)
        layout.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        self._told()

    def entries(self) -> list[str]:
        """Those in which something was typed."""
        return [entry for line in self.lines if (entry := line.entry())]

    def set_entries(self, entries: Sequence[str]) -> None:
        for line in list(self.lines):
            self._drop(line)
        for entry in entries:
            self._line().set_entry(entry)
        self._told()

    def _added(self) -> None:
        self._line().parts[0].setFocus()
        self._told()

    def _line(self) -> EntryLine:
        line = EntryLine(self._columns, self._separator)
        line.changed.connect(self.changed)
        line.left.connect(self.left)
        line.removed.connect(lambda: self._removed(line))
        self.lines.append(line)
        self._place.addWidget(line)
        return line

    def _removed(self, line: EntryLine) -> None:
        self._drop(line)
        self._told()
        self.changed.emit()

    def _drop(self, line: EntryLine) -> None:
        self.lines.remove(line)
        self._place.removeWidget(line)
        line.hide()
        line.deleteLater()

    def _told(self) -> None:
        self._heads.setVisible(bool(self.lines))
        self._none.setVisible(not self.lines and bool(self.empty.text()))
