"""A message that stays until it is dealt with: what happened, who must act, and the button that does it."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QWidget

from gui import words
from gui.icons import IconButton, IconLabel, IconToolButton
from gui.theme import STEP, Role, Tone
from gui.widgets.basics import CopyButton, clear, restyle, row

_ICONS = {
    Tone.AMBER: ("warning", Role.AMBER),
    Tone.RED: ("warning", Role.RED),
    Tone.BLUE: ("info", Role.ACCENT),
    Tone.GREEN: ("check", Role.GREEN),
    Tone.GREY: ("info", Role.SOFT),
}


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a banner."""

    title: str
    run: Callable[[], object]


class Banner(QFrame):
    """One message at a time, hidden when there is none.

    Attributes
    ----------
    closed : Signal()
        The person put it away.
    shown : Signal(bool)
        It has appeared or gone.
    """

    closed = Signal()
    shown = Signal(bool)

    def __init__(self, parent: QWidget | None = None, *, closable: bool = True) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(3 * STEP, 2 * STEP, 2 * STEP, 2 * STEP)
        layout.setSpacing(3 * STEP)
        self._icon = IconLabel("warning", Role.AMBER)
        self._text = QLabel()
        self._text.setTextFormat(Qt.TextFormat.RichText)
        self._text.setWordWrap(True)
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._buttons = row()
        self._close = IconToolButton("cross", "Put this message away")
        if not closable:  # to show it here would show it as a window of its own, for it lies in nothing yet
            self._close.hide()
        self._close.clicked.connect(self._put_away)
        layout.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        layout.addWidget(self._text, 1)
        layout.addLayout(self._buttons)
        layout.addWidget(self._close)
        self.lead = ""
        self.rest = ""
        self.hide()

    def say(self, lead: str, rest: str = "", *, tone: Tone = Tone.AMBER, actions: tuple[Action, ...] = ()) -> None:
        """Show a message: `lead` stands out, `rest` says more."""
        self.lead, self.rest = lead, rest
        self.setProperty("tone", tone.value)
        restyle(self)
        self._icon.set_icon_name(*_ICONS[tone])
        self._text.setText(f"<b>{html.escape(lead)}</b> {html.escape(rest).replace(chr(10), '<br>')}")
        self.setAccessibleName(f"{lead} {rest}")
        clear(self._buttons)
        for action in actions:
            button = IconButton(action.title)
            button.clicked.connect(lambda _=False, run=action.run: run())
            self._buttons.addWidget(button)
        self.show()
        self.shown.emit(True)

    def show_error(self, error: BaseException, *actions: Action) -> None:
        """Show an error as its sentence and next step; the raw detail can be copied."""
        sentence, next_step, detail = words.sentence_of(error)
        self.say(sentence, next_step, tone=Tone.RED, actions=actions)
        if detail:
            self._buttons.addWidget(CopyButton("Copy details", f"{sentence}\n{next_step}\n\n{detail}"))

    def put_away(self) -> None:
        self.lead = self.rest = ""
        self.hide()
        self.shown.emit(False)

    def _put_away(self) -> None:
        self.put_away()
        self.closed.emit()
