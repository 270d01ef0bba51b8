"""A declared choice with all its answers in sight, for the few that a person should think about."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QRadioButton, QVBoxLayout, QWidget

from core.model.fields import FormField
from gui.theme import STEP
from gui.widgets.basics import label


class RadioField(QWidget):
    """Title, answers and help of one field of the type CHOICE.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self, field: FormField, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.field = field
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(STEP)
        layout.addWidget(label(field.title, "strong"))
        layout.addWidget(label(field.help, "small", wrap=True))
        self._group = QButtonGroup(self)
        self.buttons: dict[str, QRadioButton] = {}
        default = str(getattr(field.default, "value", field.default))
        for value, text in field.choices:
            button = QRadioButton(text)
            button.setChecked(value == default)
            button.toggled.connect(self._toggled)
            self._group.addButton(button)
            self.buttons[value] = button
            layout.addWidget(button)

    @property
    def value(self) -> str:
        return next((v for v, b in self.buttons.items() if b.isChecked()), "")

    @property
    def words(self) -> str:
        """What was chosen, as it is read."""
        return next((b.text() for b in self.buttons.values() if b.isChecked()), "")

    def choose(self, value: str) -> None:
        self.buttons[value].setChecked(True)

    def _toggled(self, on: bool) -> None:
        if on:
            self.changed.emit()
