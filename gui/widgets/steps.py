"""The list of processing steps of a job: added, configured, put in order, removed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydantic import JsonValue
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from core import step_book
from core.model.job import JobRecord
from core.model.steps import StepChoice
from gui.icons import IconButton, IconLabel, IconToolButton, icon
from gui.theme import STEP, Role
from gui.widgets.basics import Elided, card, clear, label, row
from gui.widgets.step_dialog import StepDialog


def step_words(job: JobRecord) -> str:
    """What a job does to images on their way, in a line; empty where that is nothing."""
    given = job.fields.get("step")
    known = step_book.kinds()
    choices = (
        [StepChoice.model_validate(one) for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    )
    words = [step_book.describe(c) if c.kind in known else c.kind for c in choices]
    return f"On the way: {'; then '.join(words)}" if words else ""


class StepCard(QWidget):
    """One step: which, what it does, and what can be done with it.

    Attributes
    ----------
    edited, removed, moved : Signal(), Signal(), Signal(int)
        `moved` by one place, -1 up or 1 down.
    """

    edited = Signal()
    removed = Signal()
    moved = Signal(int)

    def __init__(self, choice: StepChoice, number: int, count: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        kind = step_book.kinds()[choice.kind]
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        box = card()
        outer.addWidget(box)
        line = row(margins=3 * STEP, spacing=3 * STEP)
        box.setLayout(line)
        place = label(f"{number}", "soft")
        place.setFixedWidth(4 * STEP)
        line.addWidget(place)
        line.addWidget(IconLabel(kind.icon, Role.ACCENT))
        texts = QVBoxLayout()
        texts.setSpacing(0)
        texts.addWidget(label(kind.title, "strong"))
        self.about = Elided(step_book.describe(choice), "soft")
        texts.addWidget(self.about)
        line.addLayout(texts, 1)
        self.up = IconToolButton("up", f"Do step {number} earlier")
        self.down = IconToolButton("down", f"Do step {number} later")
        self.edit = IconToolButton("edit", f"Change step {number}")
        self.remove = IconToolButton("remove", f"Remove step {number}")
        self.up.setEnabled(number > 1)
        self.down.setEnabled(number < count)
        self.up.clicked.connect(lambda: self.moved.emit(-1))
        self.down.clicked.connect(lambda: self.moved.emit(1))
        self.edit.clicked.connect(self.edited)
        self.remove.clicked.connect(self.removed)
        for button in (self.up, self.down, self.edit, self.remove):
            line.addWidget(button)


class StepsEditor(QWidget):
    """A job's steps in their order.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: list[StepChoice] = []
        self.cards: list[StepCard] = []
        self.dialog: StepDialog | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * STEP)
        self.nothing = label("No steps: images are sent exactly as they are.", "soft")
        layout.addWidget(self.nothing)
        self._place = QVBoxLayout()
        self._place.setSpacing(2 * STEP)
        layout.addLayout(self._place)
        self.add = IconButton("Add a step", "plus")
        self.add.setAutoDefault(False)
        menu = QMenu(self.add)
        menu.setToolTipsVisible(True)
        for name, kind in step_book.kinds().items():
            action = menu.addAction(icon(kind.icon), kind.title, partial(self.add_step, name))
            action.setToolTip(kind.summary)
        self.add.setMenu(menu)
        layout.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        self._show()

    # values ---------------------------------------------------------------------------------------------

    @property
    def choices(self) -> tuple[StepChoice, ...]:
        return tuple(self._choices)

    def set_choices(self, choices: Sequence[StepChoice]) -> None:
        self._choices = [c for c in choices if c.kind in step_book.kinds()]
        self._show()
        self.changed.emit()

    def value(self) -> list[JsonValue]:
        """As the field of a job."""
        return [choice.model_dump(mode="json") for choice in self._choices]

    # doing ----------------------------------------------------------------------------------------------

    def add_step(self, kind: str) -> None:
        """Ask for the fields of a new step, and put it last."""
        self._open(StepChoice(kind=kind), lambda made: self.set_choices([*self._choices, made]))

    def _edit(self, at: int) -> None:
        def put(made: StepChoice) -> None:
            self.set_choices([*self._choices[:at], made, *self._choices[at + 1 :]])

        self._open(self._choices[at], put)

    def _open(self, choice: StepChoice, then: object) -> None:
        assert callable(then)
        self.dialog = StepDialog(choice, self.window())
        self.dialog.made.connect(then)
        self.dialog.open()

    def _remove(self, at: int) -> None:
        self.set_choices([*self._choices[:at], *self._choices[at + 1 :]])

    def _move(self, at: int, by: int) -> None:
        moved = list(self._choices)
        moved[at], moved[at + by] = moved[at + by], moved[at]
        self.set_choices(moved)

    def _show(self) -> None:
        clear(self._place)
        self.cards = []
        for at, choice in enumerate(self._choices):
            one = StepCard(choice, at + 1, len(self._choices))
            one.edited.connect(partial(self._edit, at))
            one.removed.connect(partial(self._remove, at))
            one.moved.connect(partial(self._move, at))
            self.cards.append(one)
            self._place.addWidget(one)
        self.nothing.setVisible(not self._choices)
