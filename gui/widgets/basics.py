"""The plain parts of a page: labels in their roles, cards, dividers, copy buttons."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from gui.icons import IconButton
from gui.theme import STEP


def label(text: str = "", role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A label; `role` is "title", "heading", "strong", "soft", "small", "group", "error", "good", "warning"."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("text_role", role)
    made.setWordWrap(wrap)
    if selectable:
        made.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        made.setCursor(Qt.CursorShape.IBeamCursor)
        made.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    return made


class Elided(QLabel):
    """A label of one line that is cut with "…" and then shows its whole text as a tool tip."""

    def __init__(self, text: str = "", role: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._mode = mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        if role:
            self.setProperty("text_role", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setMinimumWidth(40)
        self.setText(text)

    def paintEvent(self, event: QPaintEvent) -> None:
        metrics = self.fontMetrics()
        shown = metrics.elidedText(self.text(), self._mode, self.width())
        self.setToolTip(self.text() if shown != self.text() else "")
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)


def restyle(widget: QWidget) -> None:
    """Let the style sheet look at the widget's properties again."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


def card(parent: QWidget | None = None) -> QFrame:
    frame = QFrame(parent)
    frame.setProperty("card", "true")
    return frame


def as_card(frame: QFrame) -> QVBoxLayout:
    """Make a frame a card of its own; the column that its content goes into."""
    frame.setProperty("card", "true")
    layout = QVBoxLayout(frame)
    layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
    layout.setSpacing(STEP)
    return layout


def divider(*, vertical: bool = False) -> QFrame:
    line = QFrame()
    line.setProperty("divider", "true")
    if vertical:
        line.setFixedWidth(1)
    else:
        line.setFixedHeight(1)
    return line


def column(*, margins: int = 0, spacing: int = 2 * STEP) -> QVBoxLayout:
    layout = QVBoxLayout()
    layout.setContentsMargins(margins, margins, margins, margins)
    layout.setSpacing(spacing)
    return layout


def row(*, margins: int = 0, spacing: int = 2 * STEP) -> QHBoxLayout:
    layout = QHBoxLayout()
    layout.setContentsMargins(margins, margins, margins, margins)
    layout.setSpacing(spacing)
    return layout


def clear(layout: QLayout) -> None:
    """Take everything out of a layout and let it go."""
    while (item := layout.takeAt(0)) is not None:
        inner = item.layout()
        if inner is not None:
            clear(inner)
        widget = item.widget()
        if widget is not None:
            widget.hide()
            widget.setParent(None)
            widget.deleteLater()


def scrolled(content: QWidget) -> QScrollArea:
    """`content` in a scroll area that scrolls only downwards and shows no frame."""
    content.setObjectName("scrolled")
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(content)
    area.viewport().setAutoFillBackground(False)
    content.setAutoFillBackground(False)
    return area


def scroll_area_of(widget: QWidget) -> QScrollArea | None:
    """The scroll area that a widget lies in."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QScrollArea):
        parent = parent.parentWidget()
    return parent


def copy(text: str) -> None:
    QGuiApplication.clipboard().setText(text)


class CopyButton(IconButton):
    """Copies a text and says so for two seconds."""

    def __init__(self, title: str, text: str = "", *, kind: str = "small", parent: QWidget | None = None) -> None:
        super().__init__(title, "copy", parent, kind=kind)
        self._title = title
        self.copied_text = text
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(2000)
        self._timer.timeout.connect(self._back)
        self.clicked.connect(self._copy)

    def _copy(self) -> None:
        copy(self.copied_text)
        self.setMinimumWidth(self.width())
        self.setText("Copied")
        self.set_icon_name("check")
        self._timer.start()

    def _back(self) -> None:
        self.setText(self._title)
        self.set_icon_name("copy")
