"""One declared field in a form: its title, its editor, its help, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import JsonValue
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from core.model.fields import FieldType, FormField, Suggestion
from core.model.steps import StepChoice
from gui.icons import IconButton, IconToolButton
from gui.theme import STEP
from gui.widgets.basics import label, restyle
from gui.widgets.lines import LinesEdit
from gui.widgets.node_checks import NodeChecks
from gui.widgets.rows import RowsEditor
from gui.widgets.rule_editor import RuleEditor
from gui.widgets.tag_actions import TagActionsEdit

SAVED_SECRET = "Saved. Type to replace it."
FORGOTTEN_SECRET = "Will be forgotten."


class Editor(QWidget):
    """One field: its title, its editor, its help, and what is wrong with it.

    Attributes
    ----------
    changed : Signal()
    left : Signal()
        The person has gone on to another field: now a mistake may be pointed out.
    filled : Signal(object)
        A `Suggestion` was chosen, which may fill other fields as well.
    """

    changed = Signal()
    left = Signal()
    filled = Signal(object)

    def __init__(self, field: FormField, nodes: Sequence[str] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.field = field
        self.wrong = ""
        self.forget: IconToolButton | None = None  # of a secret that is kept
        self.applies = True
        self._instead = ""
        self._suggestions: tuple[Suggestion, ...] = ()
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
        layout.addWidget(self.help)
        self.help.setVisible(bool(field.help))  # once it lies in something: before, it would be a window of its own
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

    def own_problem(self) -> str:
        """What is wrong with it before the model has looked at it: something is not filled in yet."""
        return self.main.wrong if isinstance(self.main, RuleEditor) else ""

    def show_problem(self, text: str) -> None:
        self.wrong = text
        self.problem.setText(text)
        self.problem.setVisible(bool(text) and not self.own_problem())  # which is told where it is
        self.main.setProperty("wrong", "true" if text else "false")
        restyle(self.main)

    def set_applies(self, applies: bool, instead: str = "") -> None:
        """Whether the field means anything now: else it is not shown, or can't be changed, `instead` saying why."""
        if (applies, instead) == (self.applies, self._instead):
            return
        self._instead = instead
        self.applies = applies
        self.setVisible(applies or bool(instead))
        self.main.setEnabled(applies)
        for button in self.findChildren(QPushButton):
            button.setEnabled(applies)
        self.help.setText(self.field.help if applies else instead)
        self.help.setVisible(bool(self.help.text()))
        if not applies:
            self.show_problem("")

    @property
    def nothing_to_choose(self) -> bool:
        """There is no node to choose, nor a word about why."""
        return isinstance(self.main, NodeChecks) and not self.main.boxes and not self.field.empty

    def offer_nodes(self, names: Sequence[str]) -> None:
        """Nodes to choose from, for NODE and NODES; what was chosen stays."""
        box = self.main
        if isinstance(box, NodeChecks):
            box.offer(names)
            return
        if self.field.type is not FieldType.NODE or not isinstance(box, QComboBox):
            return
        chosen = str(box.currentData() or "")
        box.blockSignals(True)
        box.clear()
        for value, text in self._node_choices(names):
            box.addItem(text, value)
        if chosen and box.findData(chosen) < 0:
            box.addItem(chosen, chosen)
        box.setCurrentIndex(max(0, box.findData(chosen)))
        box.blockSignals(False)

    def suggest(self, found: Sequence[Suggestion], note: str = "") -> None:
        """Offer values to choose from; `note` says why there are none."""
        self._suggestions = tuple(found)
        box = self.main
        if isinstance(box, QComboBox) and box.isEditable():
            typed = box.currentText()
            box.blockSignals(True)
            box.clear()
            for one in found:
                box.addItem(one.label, one.value)
            box.setCurrentIndex(-1)
            box.setEditText(typed)
            box.blockSignals(False)
        self.help.setText(note or self.field.help)

    # editors --------------------------------------------------------------------------------------------

    def _node_choices(self, nodes: Sequence[str]) -> list[tuple[str, str]]:
        return [("", self.field.empty or "None"), *((name, name) for name in nodes)]

    def _make(self, nodes: Sequence[str]) -> QWidget:
        kind = self.field.type
        if kind is FieldType.SWITCH:
            return self._switch()
        if kind is FieldType.CHOICE:
            return self._choice(self.field.choices)
        if kind is FieldType.NODE:
            return self._choice(self._node_choices(nodes))
        if kind is FieldType.NODES:
            return self._node_checks(nodes)
        if kind is FieldType.STEPS:
            return self._steps()
        if kind is FieldType.LINES:
            return self._lines() if not self.field.columns else self._tag_actions()
        if kind is FieldType.LIST and self.field.columns:
            return self._rows()
        if kind is FieldType.RULE:
            return self._rule()
        if self.field.suggested_by:
            return self._suggested()
        return self._text()

    def _rule(self) -> QWidget:
        rule = RuleEditor()
        rule.changed.connect(self.changed)
        self.main = rule
        self._get = rule.value
        self._set = lambda v: rule.set_value(str(v or ""))
        self._set(self.field.default)
        return rule

    def _steps(self) -> QWidget:
        from gui.widgets.steps import StepsEditor  # whose steps have forms of such editors themselves

        steps = StepsEditor()
        steps.changed.connect(self.changed)
        self.main = steps
        self._get = steps.value
        self._set = lambda v: steps.set_choices([StepChoice.model_validate(one) for one in v or ()])
        return steps

    def _tag_actions(self) -> QWidget:
        """The same with a line above it in which an action is put together."""
        actions = TagActionsEdit(self.field.columns, self.field.placeholder)
        actions.changed.connect(self.changed)
        actions.left.connect(self.left)
        self.main = actions.text
        self._get = lambda: actions.text.toPlainText().strip()
        self._set = lambda v: actions.text.setPlainText(_written(v))
        self._set(self.field.default)
        return actions

    def _lines(self) -> QWidget:
        """A text of several lines."""
        edit = LinesEdit()
        edit.setPlaceholderText(self.field.placeholder)
        edit.textChanged.connect(self.changed)
        edit.left.connect(self.left)
        self.main = edit
        self._get = lambda: edit.toPlainText().strip()
        self._set = lambda v: edit.setPlainText(_written(v))
        self._set(self.field.default)
        return edit

    def _node_checks(self, nodes: Sequence[str]) -> QWidget:
        checks = NodeChecks(nodes, self.field.empty)
        checks.changed.connect(self.changed)
        self.main = checks
        self._get = lambda: list(checks.chosen())
        self._set = lambda v: checks.choose([str(name) for name in v or ()])
        self._set(self.field.default)
        return checks

    def _rows(self) -> QWidget:
        rows = RowsEditor(self.field.columns, self.field.separator, self.field.empty)
        rows.changed.connect(self.changed)
        rows.left.connect(self.left)
        self.main = rows
        self._get = lambda: list(rows.entries())
        self._set = lambda v: rows.set_entries([str(entry) for entry in v or ()])
        self._set(self.field.default)
        return rows

    def _suggested(self) -> QWidget:
        """Typed, or chosen from what the kind suggests."""
        box = QComboBox()
        box.setEditable(True)
        box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        edit = QLineEdit()
        box.setLineEdit(edit)
        edit.setPlaceholderText(self.field.placeholder)
        edit.textChanged.connect(lambda _: self.changed.emit())
        edit.editingFinished.connect(self.left)
        box.setCompleter(None)  # type: ignore[arg-type]  # it would complete to a label

        def chosen(at: int) -> None:
            if 0 <= at < len(self._suggestions):
                box.setEditText(self._suggestions[at].value)
                self.filled.emit(self._suggestions[at])

        box.activated.connect(chosen)
        self.main = box
        self._get = lambda: box.currentText().strip()
        self._set = lambda v: box.setEditText(_written(v))
        self._set(self.field.default)
        return box

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

        def choose(value: Any) -> None:
            wanted = str(getattr(value, "value", value) or "")
            if box.findData(wanted) < 0 and self.field.type is FieldType.NODE:
                box.addItem(wanted, wanted)  # the nodes are still being read, or it is gone: kept either way
            box.setCurrentIndex(max(0, box.findData(wanted)))

        self._set = choose
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
        if field.type is FieldType.LIST:
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
