"""What is to be done to tags, one action a line: typed, or put together from what can be done, a tag and a value."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.basics import row
from gui.widgets.lines import LinesEdit
from gui.widgets.rule_tag import TagEdit


class TagActionsEdit(QWidget):
    """Lines of text with a line above them that adds to them.

    Parameters
    ----------
    verbs : Sequence[tuple[str, str]]
        What can be done, and in words; an "=" behind the first means that it takes a value.

    Attributes
    ----------
    changed, left : Signal()
    """

    changed = Signal()
    left = Signal()

    def __init__(self, verbs: Sequence[tuple[str, str]], placeholder: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * STEP)
        line = row()
        self.verb = QComboBox()
        self.verb.setAccessibleName("What to do")
        for verb, words in verbs:
            self.verb.addItem(words, verb)
        self.tag = TagEdit()
        self.value = QLineEdit()
        self.value.setPlaceholderText("Value")
        self.value.setAccessibleName("Value")
        self.add = IconButton("Add", "plus")
        self.add.setAutoDefault(False)
        line.addWidget(self.verb)
        line.addWidget(self.tag, 2)
        line.addWidget(self.value, 2)
        line.addWidget(self.add)
        layout.addLayout(line)
        self.text = LinesEdit()
        self.text.setPlaceholderText(placeholder)
        layout.addWidget(self.text)
        self.setFocusProxy(self.text)
        self.verb.currentIndexChanged.connect(lambda _: self._tell())
        self.tag.chosen.connect(self._tell)
        self.add.clicked.connect(self._add)
        for edit in (self.tag, self.value):
            edit.installEventFilter(self)
        self.text.textChanged.connect(self.changed)
        self.text.left.connect(self.left)
        self._tell()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Return goes on from the tag to the value, and adds the action; it is not for the whole dialog."""
        if not isinstance(event, QKeyEvent) or event.type() is not QEvent.Type.KeyPress:
            return super().eventFilter(watched, event)
        if event.key() not in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            return super().eventFilter(watched, event)
        if watched is self.tag:
            self.tag.editingFinished.emit()
            (self.value if self.value.isVisible() else self.add).setFocus()
        else:
            self._add()
        return True

    def _tell(self) -> None:
        takes = str(self.verb.currentData()).endswith("=")
        self.value.setVisible(takes)
        self.add.setEnabled(bool(self.tag.key))

    def _add(self) -> None:
        """Put the action behind what is there; the model judges it as if it had been typed."""
        if not self.tag.key:
            return
        verb = str(self.verb.currentData())
        action = f"{verb.removesuffix('=')} {self.tag.key}"
        if verb.endswith("="):
            value = self.value.text().strip()
            quoted = not value or any(c in value for c in ';"')
            action += "=" + ('"' + value.replace('"', '""') + '"' if quoted else value)
        before = self.text.toPlainText().rstrip()
        self.text.setPlainText(f"{before}\n{action}" if before else action)
        self.tag.set_key("")
        self.value.clear()
        self._tell()
        self.left.emit()
