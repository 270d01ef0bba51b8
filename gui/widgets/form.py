"""A form made from declared fields: groups, what depends on what, findings of the model beside the fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel, JsonValue, ValidationError
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from core.model.errors import FerryError
from core.model.fields import FieldType, FormField, Suggestion, form_fields
from gui import words
from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.basics import column, label
from gui.widgets.editor import FORGOTTEN_SECRET, SAVED_SECRET, Editor

__all__ = ["FORGOTTEN_SECRET", "SAVED_SECRET", "Editor", "Form"]

_BESIDE_PX = 170
_LAST_GROUP = "Limits"  # of every kind of node: what is to be thought of last
NodesFor = Callable[[FormField], Sequence[str]]


class Form(QWidget):
    """Editors for some fields of a model.

    Parameters
    ----------
    model : type[BaseModel]
    names : Sequence[str] | None
        Only these fields, in this order; None takes all.
    nodes : Sequence[str] | NodesFor
        Names that a field of the type NODE chooses from.
    open_all : bool
        Nothing is folded away.
    headings : bool
        Show the groups of what is not folded away as well.

    Attributes
    ----------
    changed : Signal()
        Any value changed.
    wondered : Signal(str)
        Name of a field for which the kind may suggest other values now; `suggest` is to follow.
    """

    changed = Signal()
    wondered = Signal(str)

    def __init__(
        self,
        model: type[BaseModel],
        *,
        names: Sequence[str] | None = None,
        nodes: Sequence[str] | NodesFor = (),
        open_all: bool = False,
        headings: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model = model
        self._touched: set[str] = set()
        self._extra: dict[str, JsonValue] = {}
        self._asked: dict[str, tuple[JsonValue, ...]] = {}
        self._nodes: NodesFor = nodes if callable(nodes) else lambda _field: nodes
        declared = form_fields(model)
        chosen = declared if names is None else tuple(f for n in names for f in declared if f.name == n)
        self.editors: dict[str, Editor] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4 * STEP)
        basic = [f for f in chosen if open_all or not f.advanced]
        advanced = [f for f in chosen if not open_all and f.advanced]
        self._add(self._layout, basic, headings=open_all or headings)
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
            self._add(more_layout, advanced, headings=True)
        else:
            self.more.hide()
        self._layout.addStretch(1)
        self._depend()

    def _add(self, layout: QVBoxLayout, fields: Sequence[FormField], *, headings: bool) -> None:
        groups: dict[str, list[FormField]] = {}
        for field in fields:
            groups.setdefault(field.group if headings else "", []).append(field)
        for group, members in sorted(groups.items(), key=lambda one: one[0] == _LAST_GROUP):
            if group:
                layout.addSpacing(STEP)
                layout.addWidget(label(group, "heading"))
            line: QHBoxLayout | None = None
            for at, field in enumerate(members):
                editor = self._editor(field)
                if field.beside and line is not None:
                    line.addWidget(editor, 0, Qt.AlignmentFlag.AlignTop)
                elif at + 1 < len(members) and members[at + 1].beside:
                    line = QHBoxLayout()
                    line.setSpacing(4 * STEP)
                    line.addWidget(editor, 1, Qt.AlignmentFlag.AlignTop)
                    layout.addLayout(line)
                else:
                    line = None
                    layout.addWidget(editor)

    def _editor(self, field: FormField) -> Editor:
        editor = Editor(field, self._nodes(field))
        if field.beside:
            editor.setFixedWidth(_BESIDE_PX)
        editor.changed.connect(self._changed)
        editor.left.connect(lambda n=field.name: self._leave(n))
        editor.filled.connect(self._fill)
        self.editors[field.name] = editor
        return editor

    def _show_more(self, shown: bool) -> None:
        self.more_box.setVisible(shown)
        self.more.set_icon_name("down" if shown else "right")

    # what depends on what -------------------------------------------------------------------------------

    def set_nodes(self, nodes: NodesFor) -> None:
        """Other nodes to choose from."""
        self._nodes = nodes
        for editor in self.editors.values():
            editor.offer_nodes(nodes(editor.field))
        self._depend()

    def suggest(self, name: str, found: Sequence[Suggestion] | FerryError) -> None:
        """What `wondered` asked for, or why it can't be told."""
        if isinstance(found, FerryError):
            self.editors[name].suggest((), f"Can't be looked up now, so type it. {found.sentence}")
        else:
            self.editors[name].suggest(found)

    def _fill(self, chosen: Suggestion) -> None:
        self.set_values(dict(chosen.fills))

    def _depend(self) -> None:
        """Show what means something by what is on or chosen; what was shown by something hidden is hidden too."""
        for editor in self.editors.values():
            field = editor.field
            needed, other = self.editors.get(field.needs), self.editors.get(field.unless)
            applies = needed is None or (needed.applies and bool(needed.value()))
            applies = applies and not editor.nothing_to_choose
            instead = ""
            if applies and other is not None and other.applies and other.value():
                applies = False
                instead = f"Not used: “{other.field.title}” is set."
            editor.set_applies(applies, instead)
        for name, editor in self.editors.items():
            by = tuple(self.editors[n].value() for n in editor.field.suggested_by if n in self.editors)
            if editor.applies and any(by) and self._asked.get(name) != by:
                self._asked[name] = by
                self.wondered.emit(name)

    # values ---------------------------------------------------------------------------------------------

    def values(self) -> dict[str, JsonValue]:
        """Fields that are not secrets; what was left empty and has a default is left out.

        What doesn't apply is given as its default: what isn't seen is not kept either.
        """
        found: dict[str, JsonValue] = {}
        for name, editor in self.editors.items():
            if editor.field.type is FieldType.SECRET:
                continue
            if not editor.applies:
                found[name] = _plain(editor.field.default)
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
            if editor.field.type is not FieldType.SECRET or not editor.applies:
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
        self._depend()

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
        return self._model_problems() | {
            n: own for n, e in self.editors.items() if e.applies and (own := e.own_problem())
        }

    def _model_problems(self) -> dict[str, str]:
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
        self._depend()
        self.check(everything=False)
        self.changed.emit()

    def _leave(self, name: str) -> None:
        editor = self.editors[name]
        if editor.value() not in (None, ""):  # an empty field is no mistake before "Next"
            self._touched.add(name)
        self.check(everything=False)


def _sentence(message: str) -> str:
    text = words.without_options(message.removeprefix("Value error, ").strip())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "”")) else text + "."


def _plain(value: object) -> JsonValue:
    """A default as JSON."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    found = getattr(value, "value", value)
    return found if isinstance(found, str | int | float | bool) or found is None else str(found)
