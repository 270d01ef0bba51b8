"""How a node stands right now: what it is called, what it holds, and what others must be told."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from core.model.diagnosis import Standing
from gui.theme import STEP
from gui.widgets.basics import CopyButton, clear, divider, label, row

_TITLE_PX = 104


class StandingView(QWidget):
    """Titles and words; with what others must be told, one button that copies it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        self._lines = QGridLayout()
        self._lines.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 2 * STEP)
        self._lines.setHorizontalSpacing(3 * STEP)
        self._lines.setVerticalSpacing(STEP + 2)
        self._lines.setColumnMinimumWidth(0, _TITLE_PX)
        self._lines.setColumnStretch(1, 1)
        outer.addLayout(self._lines)
        foot = row()
        foot.setContentsMargins(4 * STEP, 0, 4 * STEP, 3 * STEP)
        self.copy = CopyButton("Copy this for your PACS administrator")
        foot.addSpacing(_TITLE_PX + 3 * STEP)
        foot.addWidget(self.copy)
        foot.addStretch(1)
        outer.addLayout(foot)
        outer.addWidget(divider())
        self.shown: Standing | None = None
        self.hide()

    def show_standing(self, standing: Standing | None) -> None:
        """Show it, or nothing."""
        self.setVisible(standing is not None)
        if standing == self.shown:
            return
        self.shown = standing
        clear(self._lines)
        if standing is None:
            return
        for at, (title, words) in enumerate(standing.lines):
            self._lines.addWidget(label(title, "soft"), at, 0, Qt.AlignmentFlag.AlignTop)
            self._lines.addWidget(label(words, wrap=True, selectable=True), at, 1)
        self.copy.copied_text = standing.tell
        self.copy.setToolTip(standing.tell)
        self.copy.setVisible(bool(standing.tell))
