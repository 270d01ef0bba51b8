"""The fields that the value of a condition is given in: text, days, spans of time, modalities."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from PySide6.QtCore import QDate, QEvent, QObject, QPoint, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QFrame,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from core.model.rules import Operator
from core.model.rules.modalities import MODALITIES
from core.model.rules.rule import LISTS, RELATIVE, WITHOUT_VALUE
from core.model.rules.tags import NUMBER_VRS, vr_of
from core.model.rules.words import Phrase, is_modality
from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.basics import label, row
from gui.widgets.day import FIRST, DayEdit

Values = tuple[str, ...]
_UNITS = (("days", "days"), ("weeks", "weeks"), ("months", "months"), ("years", "years"))
_PLACEHOLDERS = {
    "TM": "09:30", "DT": "2024-03-15 09:30", "AS": "18Y", "DA": "2024, 2024-03 or 2024-03-15", "PN": "FAMILY^Given",
}  # fmt: skip
_NUMBER_PX = 120
_POPUP_PX = (320, 330)
_LONGEST_CODE = 16
_LINE_PX = 26


class ValueField(QWidget):
    """Where a value is given.

    Attributes
    ----------
    changed : Signal()
    first : QWidget
        What takes the keyboard.
    """

    changed = Signal()
    first: QWidget

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.line = row()
        self.setLayout(self.line)

    def values(self) -> Values | None:
        """None while something is missing."""
        raise TypeError("each kind of field has its own")

    def set_values(self, values: Values) -> None:
        """Take over what fits."""


class NoValue(ValueField):
    """For "is empty" and "has a value"."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self

    def values(self) -> Values | None:
        return ()


class TextValue(ValueField):
    """Typed; for lists with commas between the values."""

    def __init__(self, placeholder: str, *, listed: bool = False, narrow: bool = False) -> None:
        super().__init__()
        self._listed = listed
        self.edit = QLineEdit()
        self.edit.setPlaceholderText(placeholder)
        self.edit.setAccessibleName("Values, separated by commas" if listed else "Value")
        if narrow:
            self.edit.setMaximumWidth(_NUMBER_PX)
        self.edit.textChanged.connect(lambda _: self.changed.emit())
        self.first = self.edit
        self.line.addWidget(self.edit, 0 if narrow else 1)
        if narrow:
            self.line.addStretch(1)

    def values(self) -> Values | None:
        text = self.edit.text().strip()
        if not text:
            return None
        return split_list(text) or None if self._listed else (text,)

    def set_values(self, values: Values) -> None:
        self.edit.setText(join_list(values) if self._listed else (values[0] if values else ""))
        self.edit.setCursorPosition(0)


class PairValue(ValueField):
    """From one value to another."""

    def __init__(self, one: ValueField, other: ValueField) -> None:
        super().__init__()
        self.parts = (one, other)
        one.first.setAccessibleName("From")
        other.first.setAccessibleName("To")
        self.line.addWidget(one)
        self.line.addWidget(label("and"))
        self.line.addWidget(other)
        self.line.addStretch(1)
        for part in self.parts:
            part.changed.connect(self.changed)
        self.first = one.first

    def values(self) -> Values | None:
        found = [part.values() for part in self.parts]
        return None if None in found else tuple(v for values in found for v in values or ())

    def set_values(self, values: Values) -> None:
        for part, value in zip(self.parts, values, strict=False):
            part.set_values((value,))


class DayValue(ValueField):
    """A day, typed or from the calendar."""

    def __init__(self) -> None:
        super().__init__()
        self.edit = DayEdit(QDate.currentDate(), "Date")
        self.edit.dateChanged.connect(lambda _: self.changed.emit())
        self.first = self.edit
        self.line.addWidget(self.edit)
        self.line.addStretch(1)

    def values(self) -> Values | None:
        return (self.edit.date().toString("yyyyMMdd"),)

    def set_values(self, values: Values) -> None:
        if values and as_day(values[0]).isValid():
            self.edit.setDate(as_day(values[0]))


class SpanValue(ValueField):
    """So many days, weeks, months or years."""

    def __init__(self) -> None:
        super().__init__()
        self.count = QSpinBox()
        self.count.setRange(1, 36_500)
        self.count.setValue(7)
        self.count.setAccessibleName("How many")
        self.count.setMinimumWidth(76)
        self.count.lineEdit().setTextMargins(4, 0, 0, 0)
        self.unit = QComboBox()
        self.unit.setAccessibleName("Days, weeks, months or years")
        for value, text in _UNITS:
            self.unit.addItem(text, value)
        self.count.valueChanged.connect(lambda _: self.changed.emit())
        self.unit.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.first = self.count
        self.line.addWidget(self.count)
        self.line.addWidget(self.unit)
        self.line.addStretch(1)

    def values(self) -> Values | None:
        return str(self.count.value()), str(self.unit.currentData())

    def set_values(self, values: Values) -> None:
        if len(values) == 2 and values[0].isdigit() and self.unit.findData(values[1]) >= 0:
            self.count.setValue(int(values[0]))
            self.unit.setCurrentIndex(self.unit.findData(values[1]))


class ChoiceValue(ValueField):
    """One of some, or typed."""

    def __init__(self, choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.box = QComboBox()
        self.box.setEditable(True)
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.setAccessibleName("Value")
        for value, text in choices:
            self.box.addItem(f"{value}  ·  {text}", value)
        self.box.setCurrentIndex(-1)
        self.box.setFixedWidth(220)
        edit = QLineEdit()
        edit.setPlaceholderText("Choose or type")
        self.box.setLineEdit(edit)
        self.box.setCompleter(None)  # type: ignore[arg-type]  # it would complete to a label
        self.box.activated.connect(lambda at: self.box.setEditText(str(self.box.itemData(at))))
        self.box.editTextChanged.connect(lambda _: self.changed.emit())
        self.first = self.box
        self.line.addWidget(self.box)
        self.line.addStretch(1)

    def values(self) -> Values | None:
        text = self.box.currentText().strip()
        text = text.partition("  ·  ")[0]
        return (text,) if text else None

    def set_values(self, values: Values) -> None:
        if values:
            self.box.setEditText(values[0])


class ModalitiesValue(ValueField):
    """Some modalities, ticked in a list that opens."""

    def __init__(self) -> None:
        super().__init__()
        self._chosen: Values = ()
        self.button = IconButton("Choose…", "down")
        self.button.setAutoDefault(False)
        self.button.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the arrow behind the text
        self.button.setMinimumWidth(170)
        self.button.clicked.connect(self.open)
        self.popup: ModalityPopup | None = None
        self.first = self.button
        self.line.addWidget(self.button)
        self.line.addStretch(1)
        self._tell()

    def open(self) -> None:
        """Open the list below the button."""
        self.popup = ModalityPopup(self._chosen, self)
        self.popup.ticked.connect(self._ticked)
        self.popup.move(self.button.mapToGlobal(QPoint(0, self.button.height() + 2)))
        self.popup.show()
        self.popup.search.setFocus()

    def values(self) -> Values | None:
        return self._chosen or None

    def set_values(self, values: Values) -> None:
        self._chosen = tuple(v for v in values if v.strip())
        self._tell()

    def _ticked(self, chosen: Values) -> None:
        self._chosen = chosen
        self._tell()
        self.changed.emit()

    def _tell(self) -> None:
        shown = ", ".join(self._chosen)
        self.button.setText((shown if len(shown) <= 34 else f"{len(self._chosen)} modalities") or "Choose…")
        self.button.setToolTip(shown)
        self.button.setAccessibleName(f"Modalities: {shown or 'none yet'}")


class ModalityPopup(QFrame):
    """The standard's modalities to be ticked; one that it doesn't have can be typed.

    Attributes
    ----------
    ticked : Signal(object)
        All that are ticked now, as a tuple.
    """

    ticked = Signal(object)

    def __init__(self, chosen: Values, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setProperty("card", "true")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._chosen = list(chosen)
        self._seen = frozenset(chosen)
        self._soon = QTimer(self)  # after the click that ticked it was told as well
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._remember)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * STEP, 2 * STEP, 2 * STEP, 2 * STEP)
        layout.setSpacing(2 * STEP)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search, or type another")
        self.search.setAccessibleName("Search modalities")
        self.search.setClearButtonEnabled(True)
        self.list = QListWidget()
        self.list.setAccessibleName("Modalities")
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setProperty("plain", "true")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        layout.addWidget(self.search)
        layout.addWidget(self.list, 1)
        self.resize(*_POPUP_PX)
        known = {code for code, _ in MODALITIES}
        for code, meaning in (*((c, "") for c in chosen if c.upper() not in known), *MODALITIES):
            self._add(code, meaning)
        self.search.textChanged.connect(self._filter)
        self.search.installEventFilter(self)
        self.list.itemChanged.connect(self._toggled)
        self.list.itemClicked.connect(self._clicked)

    def _add(self, code: str, meaning: str) -> QListWidgetItem:
        item = QListWidgetItem(f"{code}  ·  {meaning}" if meaning else code)
        item.setData(Qt.ItemDataRole.UserRole, code)
        item.setSizeHint(QSize(0, _LINE_PX))
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsSelectable)
        ticked = code.upper() in (c.upper() for c in self._chosen)
        item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
        self.list.addItem(item)
        return item

    def item(self, code: str) -> QListWidgetItem:
        """The line of a modality."""
        items = (self.list.item(at) for at in range(self.list.count()))
        return next(i for i in items if i.data(Qt.ItemDataRole.UserRole) == code)

    def _clicked(self, item: QListWidgetItem) -> None:
        """A click beside the box ticks as well; one on the box has done so already."""
        code = str(item.data(Qt.ItemDataRole.UserRole))
        if (item.checkState() is Qt.CheckState.Checked) is (code in self._seen):
            _flip(item)
        self._remember()

    def _toggled(self, _item: QListWidgetItem) -> None:
        items = [self.list.item(at) for at in range(self.list.count())]
        on = [str(i.data(Qt.ItemDataRole.UserRole)) for i in items if i.checkState() is Qt.CheckState.Checked]
        kept = [c for c in self._chosen if c in on]
        self._chosen = kept + [c for c in on if c not in kept]
        self.ticked.emit(tuple(self._chosen))
        self._soon.start()

    def _remember(self) -> None:
        self._seen = frozenset(self._chosen)

    def _filter(self, text: str) -> None:
        words = text.casefold().split()
        first = None
        for at in range(self.list.count()):
            item = self.list.item(at)
            fits = all(word in item.text().casefold() for word in words)
            item.setHidden(not fits)
            first = first or (item if fits else None)
        if first is not None:
            self.list.setCurrentItem(first)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.search and isinstance(event, QKeyEvent) and event.type() is QEvent.Type.KeyPress:
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._entered()
                return True
            if event.key() == Qt.Key.Key_Down:
                self.list.setFocus()
                return True
        return super().eventFilter(watched, event)

    def _entered(self) -> None:
        """Tick what is searched for; what the standard doesn't have is added."""
        typed = self.search.text().strip().upper()
        current = self.list.currentItem()
        if not typed:
            self.close()
            return
        items = [self.list.item(at) for at in range(self.list.count())]
        exact = next((i for i in items if str(i.data(Qt.ItemDataRole.UserRole)).upper() == typed), None)
        shown = current if current is not None and not current.isHidden() else None
        if exact is not None or shown is not None:
            _flip(exact or shown or current)
        elif len(typed) <= _LONGEST_CODE and typed.isascii() and typed.replace("_", "").replace(" ", "").isalnum():
            _flip(self._add(typed, ""))
        self._remember()
        self.search.clear()


def _flip(item: QListWidgetItem) -> None:
    on = item.checkState() is Qt.CheckState.Checked
    item.setCheckState(Qt.CheckState.Unchecked if on else Qt.CheckState.Checked)


_SEXES = (("M", "male"), ("F", "female"), ("O", "other"))
_YES_NO = (("YES", "yes"), ("NO", "no"))


def value_field(tag: str, phrase: Phrase, values: Values = ()) -> ValueField:
    """The field that fits a tag and what is said of it, with these values as far as they fit."""
    field = _field(tag, phrase.operator, values)
    field.set_values(values)
    return field


def _field(tag: str, operator: Operator, values: Values) -> ValueField:
    vr = vr_of(tag)
    if operator in WITHOUT_VALUE:
        return NoValue()
    if operator in RELATIVE:
        return SpanValue()
    if operator in LISTS:
        return ModalitiesValue() if is_modality(tag) else TextValue("one, two, three", listed=True)
    if operator is Operator.BETWEEN:
        return PairValue(_single(tag, vr, values[:1]), _single(tag, vr, values[1:2]))
    if operator in (Operator.MATCHES, Operator.NOT_MATCHES):
        return TextValue("")
    if is_modality(tag):
        return ChoiceValue(MODALITIES)
    if tag == "PatientSex":
        return ChoiceValue(_SEXES)
    if tag == "BurnedInAnnotation":
        return ChoiceValue(_YES_NO)
    return _single(tag, vr, values)


def _single(tag: str, vr: str, values: Values) -> ValueField:
    if vr == "DA" and all(as_day(v).isValid() for v in values):
        return DayValue()
    narrow = vr in NUMBER_VRS or vr in ("TM", "AS")
    return TextValue(_PLACEHOLDERS.get(vr, ""), narrow=narrow)


def as_day(value: str) -> QDate:
    """A whole day as a rule has it ("20240315", "2024-03-15"); invalid for a month, a year, what a calendar lacks."""
    day = QDate.fromString(value.strip().replace("-", ""), "yyyyMMdd")
    return day if day.isValid() and day >= FIRST else QDate()


def split_list(text: str) -> Values:
    """Values with commas between them; what has a comma itself stands in quotes."""
    rows = list(csv.reader([text], skipinitialspace=True))
    return tuple(dict.fromkeys(part.strip() for part in (rows[0] if rows else ()) if part.strip()))


def join_list(values: Sequence[str]) -> str:
    return ", ".join('"' + v.replace('"', '""') + '"' if "," in v or '"' in v else v for v in values)
