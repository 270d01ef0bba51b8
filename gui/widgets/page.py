"""What every page has: a title line with its one primary button, a banner, and room below."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.banner import Banner
from gui.widgets.basics import label


class Page(QWidget):
    """Base of the pages.

    Attributes
    ----------
    name : str
        By which it is gone to.
    status : str
        What the status line says on its left while this page is shown; empty leaves that to the window.
    status_changed : Signal()
    """

    status_changed = Signal()
    name = ""
    status = ""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAccessibleName(title)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(5 * STEP, 3 * STEP + 2, 5 * STEP, 3 * STEP)
        self.body.setSpacing(2 * STEP + 2)
        self.top = QHBoxLayout()
        self.top.setSpacing(2 * STEP + 2)
        self.title = label(title, "title")
        self.title.setMinimumHeight(32)
        self.top.addWidget(self.title)
        self.top.addStretch(1)
        self.body.addLayout(self.top)
        self.banner = Banner()
        self.body.addWidget(self.banner)

    def button(self, text: str, icon: str = "", *, kind: str = "") -> IconButton:
        """A button at the right of the title line."""
        made = IconButton(text, icon, kind=kind)
        self.top.addWidget(made)
        return made

    def say_status(self, text: str) -> None:
        """Let the status line say something else."""
        if text != self.status:
            self.status = text
            self.status_changed.emit()

    def entered(self, wish: object) -> None:
        """The page is shown; `wish` is what the caller wants to see there, or None."""

    def refresh(self) -> None:
        """F5."""
