"""The status line; its right end answers "safe to shut down?"."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from core.model.events import EngineChanged
from core.model.views import StateFilter
from gui import words
from gui.theme import STEP
from gui.widgets.basics import Elided, label, restyle


class StatusLine(QFrame):
    """Left: what goes on; right: whether the computer may be shut down."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("statusline")
        self.setFixedHeight(31)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(5 * STEP, 0, 5 * STEP, 0)
        layout.setSpacing(6 * STEP)
        self.left = Elided("", "soft")
        self.safe = label("", "soft")
        layout.addWidget(self.left, 1)
        layout.addWidget(self.safe)
        self._counts: dict[StateFilter, int] = {}
        self._engine = EngineChanged(running=False, speed=0.0, unconfirmed_studies=0, followers=0)
        self._page = ""

    def show_engine(self, state: EngineChanged, page: str = "") -> None:
        self._engine, self._page = state, page
        self._tell()

    def show_counts(self, counts: dict[StateFilter, int]) -> None:
        self._counts = counts
        self._tell()

    def _tell(self) -> None:
        parts = [f"{words.speed(self._engine.speed)} now" if self._engine.speed >= 1 else ""]
        if self._page:
            parts.append(self._page)
        else:
            total = self._counts.get(StateFilter.ALL, 0)
            parts.append(words.studies(total) if total else "")
            confirmed = self._counts.get(StateFilter.CONFIRMED, 0)
            parts.append(f"{words.count(confirmed)} confirmed" if confirmed else "")
        self.left.setText("     ".join(p for p in parts if p))
        waiting = self._engine.unconfirmed_studies
        text = "Safe to shut down? Yes"
        if waiting:
            text = f"Safe to shut down? No: {words.studies(waiting)} not yet confirmed"
        elif self._engine.running and self._engine.listeners:
            text = "Safe to shut down? Yes, but then nobody can send images here"
        if text != self.safe.text():
            self.safe.setText(text)
            self.safe.setAccessibleName(text)
            restyle(self.safe)
