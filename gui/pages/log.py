"""The log page: what happened, without patient data; equal lines are one with a count."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QSortFilterProxyModel
from PySide6.QtWidgets import QLineEdit, QStackedWidget, QVBoxLayout, QWidget

from core.model.events import LogLevel, LogLine
from gui import words
from gui.models.log import LEVEL_WORDS, LogEntry, LogModel
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.basics import CopyButton, card, label, row
from gui.widgets.cells import PillCell, Plain
from gui.widgets.chips import ChipBar
from gui.widgets.empty import EmptyState
from gui.widgets.page import Page
from gui.widgets.table import Share, Table

CHIPS = (
    ("", "All", Tone.GREY, True),
    (LogLevel.WARNING.value, "Warnings and errors", Tone.AMBER, True),
    (LogLevel.ERROR.value, "Errors", Tone.RED, True),
)
_LEVELS = {
    "": frozenset(LogLevel),
    LogLevel.WARNING.value: frozenset({LogLevel.WARNING, LogLevel.ERROR}),
    LogLevel.ERROR.value: frozenset({LogLevel.ERROR}),
}


class _Chosen(QSortFilterProxyModel):
    """Lines of some levels that hold the words looked for."""

    def __init__(self, model: LogModel) -> None:
        super().__init__()
        self._model = model
        self._levels = frozenset(LogLevel)
        self._text = ""
        self.setSourceModel(model)

    def choose(self, levels: frozenset[LogLevel], text: str) -> None:
        self._levels, self._text = levels, text.casefold()
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: QModelIndex | QPersistentModelIndex) -> bool:
        line = self._model.record(row).line
        if line.level not in self._levels:
            return False
        return not self._text or self._text in f"{line.text} {line.node} {line.detail}".casefold()


class LogPage(Page):
    name = "log"

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Log", parent)
        self._session = session
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search…")
        self.search.setAccessibleName("Search the log")
        self.search.setClearButtonEnabled(True)
        self.search.setMaximumWidth(230)
        self.search.textChanged.connect(lambda _: self._choose())
        self.top.addWidget(self.search, 1)
        self.chips = ChipBar(CHIPS)
        self.chips.chosen.connect(lambda _: self._choose())
        self.body.insertWidget(1, self.chips)
        self.model = LogModel()
        self.lines = _Chosen(self.model)
        cells = (Plain(soft=True, tabular=True), PillCell(), Plain(), Plain(soft=True))
        shares = (Share(130), Share(96), Share(200, 5), Share(90, 1))
        self.table = Table(self.lines, cells, shares, several=True, row_px=32)
        self.table.setAccessibleName("Log")
        self.table.picked.connect(self._show)
        self.empty = EmptyState("log", "Nothing was logged", "What jobs and nodes have to say appears here.")
        self.stack = QStackedWidget()
        self.stack.addWidget(self.table)
        self.stack.addWidget(self.empty)
        self.body.addWidget(self.stack, 1)
        self.body.addWidget(self._build_detail())
        session.log.connect(self._take)
        self.refresh()

    def _build_detail(self) -> QWidget:
        self.panel = card()
        layout = QVBoxLayout(self.panel)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(STEP)
        head = row()
        self.heading = label("", "strong", wrap=True, selectable=True)
        self.copy = CopyButton("Copy")
        head.addWidget(self.heading, 1)
        head.addWidget(self.copy)
        layout.addLayout(head)
        self.about = label("", "small", wrap=True)
        self.detail = label("", "soft", wrap=True, selectable=True)
        layout.addWidget(self.about)
        layout.addWidget(self.detail)
        self.panel.hide()
        return self.panel

    def refresh(self) -> None:
        ledger = self._session.app.ledger
        self._session.read(self, lambda: ledger.log(limit=500), self._take)

    def _take(self, lines: list[LogLine]) -> None:
        self.model.take(lines)
        counts = {"": 0, LogLevel.WARNING.value: 0, LogLevel.ERROR.value: 0}
        for entry in self.model.records:
            for value, levels in _LEVELS.items():
                counts[value] += entry.line.level in levels
        self.chips.show_counts(counts)
        self._choose()

    def _choose(self) -> None:
        self.lines.choose(_LEVELS[self.chips.value], self.search.text().strip())
        nothing = self.lines.rowCount() == 0
        if nothing and self.model.rowCount():
            self.empty.say("Nothing matches", "No line has this level and these words.")
        self.stack.setCurrentWidget(self.empty if nothing else self.table)
        self._show()

    def _show(self) -> None:
        rows = self.table.selected_rows()
        entry = self.model.record(self.lines.mapToSource(self.lines.index(rows[0], 0)).row()) if rows else None
        self.panel.setVisible(entry is not None)
        if entry is None:
            return
        line = entry.line
        self.heading.setText(line.text)
        parts = [LEVEL_WORDS[line.level][0], words.exact(line.at), line.node]
        if entry.count > 1:
            parts.append(f"{words.count(entry.count)} times, the last one is shown")
        self.about.setText(" · ".join(p for p in parts if p))
        self.detail.setText(line.detail)
        self.detail.setVisible(bool(line.detail))
        self.copy.copied_text = _copied(entry)


def _copied(entry: LogEntry) -> str:
    line = entry.line
    head = f"{words.exact(line.at)} {line.level.value}: {line.text}"
    return "\n".join(t for t in (head, line.node, line.detail) if t)
