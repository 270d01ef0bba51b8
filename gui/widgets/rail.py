"""The rail: where one can go, with a count only where a person is needed, and the engine's state at its foot."""

from __future__ import annotations

from datetime import datetime

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QButtonGroup, QFrame, QVBoxLayout, QWidget

from core.model.events import EngineChanged
from gui import words
from gui.icons import IconButton, IconLabel
from gui.theme import STEP, Role, small_font, strong_font, theme
from gui.widgets.basics import label, restyle, row

WIDTH = 188
PLACES = (
    ("home", "Home", "home"),
    ("transfers", "Transfers", "transfers"),
    ("jobs", "Jobs", "jobs"),
    ("nodes", "Nodes", "nodes"),
    ("log", "Log", "log"),
)


class RailButton(IconButton):
    """A place; may carry a count of what needs a person."""

    def __init__(self, title: str, name: str) -> None:
        super().__init__(f"  {title}", name, kind="rail", checked=Role.ACCENT)
        self._title = title
        self._badge = 0
        self.setCheckable(True)
        self.setIconSize(QSize(18, 18))
        self.setAccessibleName(title)

    @property
    def badge(self) -> int:
        return self._badge

    def show_badge(self, number: int) -> None:
        if number != self._badge:
            self._badge = number
            self.setAccessibleName(f"{self._title}, {number} need attention" if number else self._title)
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._badge:
            return
        text = words.count(self._badge) if self._badge < 1000 else "999+"
        font = strong_font(small_font(self.font()))
        font.setPixelSize(11)
        width = max(19, QFontMetrics(font).horizontalAdvance(text) + 11)
        box = QRectF(self.width() - width - 10, (self.height() - 16) / 2, width, 16)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme().colour(Role.RED))
        painter.drawRoundedRect(box, 8, 8)
        painter.setPen(theme().colour(Role.ON_RED))
        painter.setFont(font)
        painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)


class Rail(QFrame):
    """Attributes
    ----------
    chosen : Signal(str)
        Name of a page.
    """

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("rail")
        self.setFixedWidth(WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 3 * STEP, 10, 4 * STEP)
        layout.setSpacing(2)
        brand = row(spacing=2 * STEP)
        brand.setContentsMargins(8, 2, 0, 3 * STEP)
        brand.addWidget(IconLabel("ferry", Role.ACCENT, 22))
        brand.addWidget(label("DICOM Ferry", "heading"), 1)
        layout.addLayout(brand)
        self._group = QButtonGroup(self)
        self.buttons: dict[str, RailButton] = {}
        for name, title, icon in PLACES:
            layout.addWidget(self._button(name, title, icon))
        layout.addStretch(1)
        layout.addWidget(self._button("settings", "Settings", "settings"))
        layout.addSpacing(STEP)
        self.receiving = label("", "small", wrap=True)
        self.receiving.setContentsMargins(10, 0, 4, 0)
        self.receiving.hide()
        layout.addWidget(self.receiving)
        self.engine = label("", "small", wrap=True)
        self.engine.setContentsMargins(10, 0, 4, 0)
        layout.addWidget(self.engine)

    def _button(self, name: str, title: str, icon: str) -> RailButton:
        button = RailButton(title, icon)
        button.clicked.connect(lambda: self.chosen.emit(name))
        self._group.addButton(button)
        self.buttons[name] = button
        return button

    def choose(self, name: str) -> None:
        self.buttons[name].setChecked(True)

    def show_badge(self, name: str, number: int) -> None:
        self.buttons[name].show_badge(number)

    def show_receiving(self, text: str, *, trouble: bool) -> None:
        """Whether this computer can be sent to; empty where no node of it listens."""
        self.receiving.setProperty("text_role", "error" if trouble else "small")
        restyle(self.receiving)
        self.receiving.setText(text)
        self.receiving.setVisible(bool(text))

    def show_engine(self, state: EngineChanged, *, attached: bool, known: bool, unattended: bool = False) -> None:
        """What the engine does, in two lines at the foot."""
        first = f"{words.plural(state.followers, 'job')} watching" if state.followers else ""
        if not known:
            second = "Engine starting"
        elif unattended:
            second = "Unattended engine runs" if state.running else "Unattended engine stopped"
        elif not state.running:
            second = "Engine stopped"
        elif attached:
            second = "Engine runs in another process"
        elif state.idle_since is not None:
            idle = (datetime.now().astimezone() - words.local(state.idle_since)).total_seconds()
            second = "Engine running · idle" if idle < 60 else f"Engine running · {words.roughly(idle)} idle"
        else:
            second = "Engine running"
        self.engine.setText("\n".join(t for t in (first, second) if t))
