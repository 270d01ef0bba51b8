"""The fields of one processing step, checked before they are taken."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from core import step_book
from core.model.steps import StepChoice
from gui.background import Operation
from gui.icons import IconButton
from gui.theme import STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import divider, label, row, scrolled
from gui.widgets.form import Form


class StepDialog(QDialog):
    """Asks for the fields of a step.

    Attributes
    ----------
    made : Signal(object)
        The `StepChoice`, checked.
    """

    made = Signal(object)

    def __init__(self, choice: StepChoice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        kind = step_book.kinds()[choice.kind]
        self._kind = choice.kind
        self.setWindowTitle(kind.title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setModal(True)
        self.resize(660, 600)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6 * STEP, 5 * STEP, 4 * STEP, 4 * STEP)
        layout.setSpacing(3 * STEP)
        layout.addWidget(label(kind.title, "title"))
        layout.addWidget(label(kind.summary, "soft", wrap=True))
        self.banner = Banner()
        layout.addWidget(self.banner)
        self.form = Form(kind.Fields, headings=True)
        self.form.set_values(choice.fields)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 3 * STEP, 0)
        column.addWidget(self.form)
        layout.addWidget(scrolled(inner), 1)
        layout.addWidget(divider())
        buttons = row()
        buttons.addStretch(1)
        self.cancel = IconButton("Cancel")
        self.cancel.setAutoDefault(False)
        self.done_button = IconButton("Change step" if choice.fields else "Add step", kind="primary")
        self.done_button.setDefault(True)
        self.cancel.clicked.connect(self.reject)
        self.done_button.clicked.connect(self._finish)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.done_button)
        layout.addLayout(buttons)
        self.form.setFocus()

    def _finish(self) -> None:
        """What it needs (a table, a program) is looked at in the background: it may lie on a share that hangs."""
        self.banner.put_away()
        if not self.form.check():
            of_all = self.form.problems().get("")
            if of_all:
                self.banner.say(of_all, tone=Tone.RED)
            return
        choice = StepChoice(kind=self._kind, fields=self.form.values())
        self.done_button.setEnabled(False)
        Operation(self, lambda: step_book.tried(choice)).success(self._take).failure(self._refuse).run()

    def _take(self, choice: StepChoice) -> None:
        self.made.emit(choice)
        self.accept()

    def _refuse(self, error: Exception) -> None:
        self.done_button.setEnabled(True)
        self.banner.show_error(error)
