"""A form made from declared fields: editors, help, findings of the model beside the field they concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from core.model.fields import FieldType, FormField, form_fields
from gui.icons import IconButton, IconToolButton
from gui.theme import STEP
from gui.widgets.basics import column, label, restyle

SAVED_SECRET = "Saved. Type to replace it."
FORGOTTEN_SECRET = "Will be forgotten."


class Editor(QWidget):
    """One field: its title, its editor, its help, and what is wrong with it.

    Attributes
    ----------
    changed : Signal()
    left : Signal()
        The person has gone on to another field: now a mistake may be pointed out.
    """

    changed = Signal()
    left = Signal()

    def __init__(self, field: FormField, nodes: Sequence[str] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.field = field
        self.wrong = ""
        self.forget: IconToolButton | None = None  # of a secret that is kept
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(STEP)
        self.main: QWidget
        self._get: Callable[[], JsonValue]
        self._set: Callable[[Any], None]
        body = self._make(nodes)
        if field.type is not FieldType.SWITCH:
            title = label(field.title, "strong")
            title.setBuddy(self.main)
            layout.addWidget(title)
        layout.addWidget(body)
        self.help = label(field.help, "small", wrap=True)
        self.help.setVisible(bool(field.help))
        layout.addWidget(self.help)
        self.problem = label("", "error", wrap=True)
        self.problem.hide()
        layout.addWidget(self.problem)
        self.main.setAccessibleName(field.title)
        self.main.setAccessibleDescription(field.help)

    # values ---------------------------------------------------------------------------------------------

    def value(self) -> JsonValue:
        """As JSON; None where the field is left empty and so keeps its default."""
        return self._get()

    def set_value(self, value: Any) -> None:
        self._set(value)

    def show_problem(self, text: str) -> None:
        self.wrong = text
        self.problem.setText(text)
        self.problem.setVisible(bool(text))
        self.main.setProperty("wrong", "true" if text else "false")
        restyle(self.main)

    # editors --------------------------------------------------------------------------------------------

    def _make(self, nodes: Sequence[str]) -> QWidget:
        kind = self.field.type
        if kind is FieldType.SWITCH:
            return self._switch()
        if kind is FieldType.CHOICE:
            return self._choice(self.field.choices)
        if kind is FieldType.NODE:
            return self._choice((("", "None"), *((n, n) for n in nodes)))
        return self._text()

    def _switch(self) -> QWidget:
        box = QCheckBox(self.field.title)
        box.setChecked(bool(self.field.default))
        box.toggled.connect(self.changed)
        self.main = box
        self._get = box.isChecked
        self._set = lambda v: box.setChecked(bool(v))
        return box

    def _choice(self, choices: Sequence[tuple[str, str]]) -> QWidget:
        box = QComboBox()
        for value, text in choices:
            box.addItem(text, value)
        self._set = lambda v: box.setCurrentIndex(max(0, box.findData(str(getattr(v, "value", v) or ""))))
        self._set(self.field.default)
        box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.main = box
        self._get = lambda: str(box.currentData() or "")
        return box

    def _text(self) -> QWidget:
        field = self.field
        edit = QLineEdit()
        edit.setPlaceholderText(field.placeholder)
        edit.textChanged.connect(lambda _: self.changed.emit())
        edit.editingFinished.connect(self.left)
        self.main = edit
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(STEP)
        numeric = field.type in (FieldType.INTEGER, FieldType.NUMBER)
        if numeric:
            edit.setMaximumWidth(110)
        line.addWidget(edit)
        if field.unit:
            line.addWidget(label(field.unit, "soft"))
        if field.type is FieldType.SECRET:
            edit.setEchoMode(QLineEdit.EchoMode.Password)
            self._eye(edit, line)
        elif field.type in (FieldType.FILE, FieldType.FOLDER):
            self._picker(edit, line)
        elif field.type is FieldType.DATE:
            edit.setPlaceholderText(field.placeholder or "YYYYMMDD")
            edit.setMaximumWidth(140)
        if numeric or field.type is FieldType.DATE:
            line.addStretch(1)
        if field.type in (FieldType.LIST, FieldType.NODES):
            self._get = lambda: [_number(p) for p in edit.text().replace(";", ",").split(",") if p.strip()]
        elif numeric:
            self._get = lambda: _number(edit.text()) if edit.text().strip() else None
        else:
            self._get = lambda: edit.text().strip() if field.type is not FieldType.SECRET else edit.text()
        self._set = lambda v: edit.setText(_written(v))
        if field.type is not FieldType.SECRET:
            self._set(field.default)
        body = QWidget()
        body.setLayout(line)
        return body

    def _eye(self, edit: QLineEdit, line: QHBoxLayout) -> None:
        eye = IconToolButton("eye", "Show what is typed")

        def toggle() -> None:
            hidden = edit.echoMode() is QLineEdit.EchoMode.Password
            edit.setEchoMode(QLineEdit.EchoMode.Normal if hidden else QLineEdit.EchoMode.Password)
            eye.set_icon_name("eye-off" if hidden else "eye", "Hide it" if hidden else "Show what is typed")

        eye.clicked.connect(toggle)
        line.addWidget(eye)
        self.forget = IconToolButton("remove", f"Forget the saved {self.field.title.lower()}")
        self.forget.setCheckable(True)
        self.forget.hide()
        self.forget.toggled.connect(lambda on: edit.setPlaceholderText(FORGOTTEN_SECRET if on else SAVED_SECRET))
        self.forget.toggled.connect(lambda _: self.changed.emit())
        line.addWidget(self.forget)

    def _picker(self, edit: QLineEdit, line: QHBoxLayout) -> None:
        button = IconButton("Choose…", "folder")

        def choose() -> None:
            if self.field.type is FieldType.FOLDER:
                found = QFileDialog.getExistingDirectory(self, self.field.title, edit.text())
            else:
                found, _ = QFileDialog.getOpenFileName(self, self.field.title, edit.text())
            if found:
                edit.setText(found)

        button.clicked.connect(choose)
        line.addWidget(button)


class Form(QWidget):
    """Editors for some fields of a model.

    Parameters
    ----------
    model : type[BaseModel]
    names : Sequence[str] | None
        Only these fields, in this order; None takes all.
    nodes : Sequence[str]
        Names that a field of the type NODE chooses from.

    Attributes
    ----------
    changed : Signal()
        Any value changed.
    """

    changed = Signal()

    def __init__(
        self,
        model: type[BaseModel],
        *,
        names: Sequence[str] | None = None,
        nodes: Sequence[str] = (),
        open_all: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model = model
        self._touched: set[str] = set()
        self._extra: dict[str, JsonValue] = {}
        declared = form_fields(model)
        chosen = declared if names is None else tuple(f for n in names for f in declared if f.name == n)
        self.editors: dict[str, Editor] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4 * STEP)
        basic = [f for f in chosen if open_all or not f.advanced]
        advanced = [f for f in chosen if not open_all and f.advanced]
        self._add(self._layout, basic, nodes, headings=open_all)
        self.more = IconButton("More options", "right", kind="link")
        self.more.setCheckable(True)
        self.more.toggled.connect(self._show_more)
        self.more_box = QWidget()
        more_layout = column(spacing=4 * STEP)
        self.more_box.setLayout(more_layout)
        self.more_box.hide()
        if advanced:
            self._layout.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
            self._layout.addWidget(self.more_box)
            self._add(more_layout, advanced, nodes, headings=True)
        else:
            self.more.hide()
        self._layout.addStretch(1)

    def _add(self, layout: QVBoxLayout, fields: Sequence[FormField], nodes: Sequence[str], *, headings: bool) -> None:
        groups: dict[str, list[FormField]] = {}
        for field in fields:
            groups.setdefault(field.group if headings else "", []).append(field)
        for group, members in groups.items():
            if group:
                layout.addWidget(label(group, "group"))
            for field in members:
                editor = Editor(field, nodes)
                editor.changed.connect(self._changed)
                editor.left.connect(lambda n=field.name: self._leave(n))
                self.editors[field.name] = editor
                layout.addWidget(editor)

    def _show_more(self, shown: bool) -> None:
        self.more_box.setVisible(shown)
        self.more.set_icon_name("down" if shown else "right")

    # values ---------------------------------------------------------------------------------------------

    def values(self) -> dict[str, JsonValue]:
        """Fields that are not secrets; what was left empty and has a default is left out."""
        found: dict[str, JsonValue] = {}
        for name, editor in self.editors.items():
            if editor.field.type is FieldType.SECRET:
                continue
            value = editor.value()
            if value is None or (value == "" and editor.field.required):
                continue
            found[name] = value
        return found

    def secrets(self) -> dict[str, str]:
        """Secrets that were typed, and empty ones that are to be forgotten; one that was left alone is not given."""
        found = {}
        for name, editor in self.editors.items():
            if editor.field.type is not FieldType.SECRET:
                continue
            if editor.value():
                found[name] = str(editor.value())
            elif editor.forget is not None and editor.forget.isChecked():
                found[name] = ""
        return found

    def set_values(self, values: Mapping[str, JsonValue]) -> None:
        for name, value in values.items():
            if name in self.editors:
                self.editors[name].set_value(value)

    def mark_saved_secret(self, name: str) -> None:
        edit = self.editors[name].main
        if isinstance(edit, QLineEdit):
            edit.setPlaceholderText(SAVED_SECRET)
        forget = self.editors[name].forget
        if forget is not None:
            forget.show()

    def set_others(self, values: Mapping[str, JsonValue]) -> None:
        """Values of the model's fields that this form doesn't show; they take part in the check."""
        self._extra = dict(values)

    # checking -------------------------------------------------------------------------------------------

    def problems(self) -> dict[str, str]:
        """What the model finds wrong, by field; under "" what concerns no single field shown here."""
        try:
            self._model.model_validate(
                {**self._extra, **self.values(), **{n: v for n, v in self.secrets().items() if v}}
            )
        except ValidationError as error:
            found: dict[str, str] = {}
            for item in error.errors(include_url=False, include_input=False):
                name = str(item["loc"][0]) if item["loc"] else ""
                if name in self._extra and name not in self.editors:
                    continue
                text = "This is needed." if item["type"] == "missing" else _sentence(str(item["msg"]))
                found.setdefault(name if name in self.editors else "", text)
            return found
        return {}

    def check(self, *, everything: bool = True) -> bool:
        """Show what is wrong beside the fields: all, or only those that were left already."""
        found = self.problems()
        for name, editor in self.editors.items():
            editor.show_problem(found.get(name, "") if everything or name in self._touched else "")
        if everything and found:
            self._touched |= set(found)
            first = next((n for n in self.editors if n in found), "")
            if first:
                if self.editors[first].field.advanced:
                    self.more.setChecked(True)
                self.editors[first].main.setFocus()
        return not found

    def _changed(self) -> None:
        self.check(everything=False)
        self.changed.emit()

    def _leave(self, name: str) -> None:
        editor = self.editors[name]
        if editor.value() not in (None, ""):  # an empty field is no mistake before "Next"
            self._touched.add(name)
        self.check(everything=False)


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "”")) else text + "."


def _number(text: str) -> JsonValue:
    text = text.strip()
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_written(v) for v in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(getattr(value, "value", value))
