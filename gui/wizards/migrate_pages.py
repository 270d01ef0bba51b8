"""The steps of a migration that other transfers don't have: which studies, how they travel, and with which limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QHBoxLayout, QRadioButton, QVBoxLayout, QWidget

from core.model.fields import FieldType, FormField, form_fields
from core.model.rules.words import sentence
from gui.background import Operation
from gui.icons import IconButton
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import column, divider, row
from gui.widgets.form import Form
from gui.widgets.radio import RadioField
from gui.widgets.rule_editor import RuleEditor
from gui.widgets.rule_trial import Try
from gui.wizards.frame import WizardPage
from gui.wizards.migrate_days import DaysBox
from gui.wizards.migrate_list import ListBox
from gui.wizards.send_pages import HoursLine

if TYPE_CHECKING:
    from core.app import JobKind
    from gui.wizards.send import SendWizard

CHOSEN = (
    "date_from",
    "date_to",
    "order",
    "undated",
    "list",
    "list_column",
    "entries",
    "identifier",
)  # on the first page
THOUGHT_OVER = ("path", "evidence", "after")  # on the second
ELSEWHERE = (*CHOSEN, *THOUGHT_OVER, "filter", "source", "destination", "schedule", "step", "originals_elsewhere")
FIRST_GROUPS = ("Limits", "Retries")
CHECK_MS = 300


class StudiesPage(WizardPage):
    """A range of days, or a list."""

    step = "Studies"
    title = "Which studies?"
    hint = "What the destination holds already is not sent again."

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.body.setSpacing(3 * STEP)
        ways = row(spacing=6 * STEP)
        self.by_days = QRadioButton("All of a range of days")
        self.by_list = QRadioButton("Those of a list")
        self.by_days.setChecked(True)
        ways.addWidget(self.by_days)
        ways.addWidget(self.by_list)
        ways.addStretch(1)
        self.body.addLayout(ways)
        self.body.addWidget(divider())
        self.days = DaysBox()
        self.list = ListBox(session)
        self.list.hide()
        self.body.addWidget(self.days)
        self.body.addWidget(self.list, 1)
        self.body.addWidget(self._build_rule())
        self.body.addStretch(0)
        self._rest = QWidget()
        self.body.addWidget(self._rest, 1)
        self.days.changed.connect(self.changed)
        self.list.changed.connect(self.changed)
        self.by_days.toggled.connect(self._chosen)

    def _build_rule(self) -> QWidget:
        """Most migrations carry all studies: the rule is folded away."""
        box = QWidget()
        layout = column(spacing=2 * STEP)
        box.setLayout(layout)
        self.only = IconButton("Only those of them that fit a rule", "right", kind="link")
        self.only.setCheckable(True)
        self.only.setAutoDefault(False)
        self.rule = RuleEditor()
        self.rule.hide()
        layout.addWidget(self.only, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.rule)
        self.only.toggled.connect(self._unfold)
        self.rule.changed.connect(self.changed)
        return box

    def _unfold(self, shown: bool) -> None:
        self.rule.setVisible(shown)
        self.only.set_icon_name("down" if shown else "right")
        self.changed.emit()

    def offer_trial(self, attempt: Try, sources: Sequence[str]) -> None:
        """Where the rule can be tried."""
        self.rule.trial.offer(attempt, sources)

    def accept(self) -> bool:
        self.rule.value()  # what was typed in the last moment is read, too
        return self.complete()

    def leave(self) -> None:
        self.rule.trial.halt()

    def show_kind(self, kind: JobKind) -> None:
        self.days.show_model(kind.Fields)
        self.list.show_model(kind.Fields)

    def _chosen(self, by_days: bool) -> None:
        self.days.setVisible(by_days)
        self._rest.setVisible(by_days)
        self.list.setVisible(not by_days)
        if not by_days:
            self.list.take_focus()
        self.changed.emit()

    @property
    def _shown(self) -> DaysBox | ListBox:
        return self.days if self.by_days.isChecked() else self.list

    def take_focus(self) -> None:
        if self.by_days.isChecked():
            self.days.first.setFocus()
        else:
            self.list.take_focus()

    def complete(self) -> bool:
        return self._shown.complete() and not (self.only.isChecked() and self.rule.wrong)

    def values(self) -> dict[str, JsonValue]:
        return self._shown.values() | ({"filter": self.rule.value()} if self.only.isChecked() else {})

    def sentence(self) -> str:
        rule = self.rule.rule if self.only.isChecked() else None
        fits = f"; of these only what fits: {sentence(rule)}" if rule is not None and rule.parts else ""
        return self._shown.sentence() + fits


class CheckedPage(WizardPage):
    """What the nodes can't do is said on the page where it is chosen, and Next waits until that is mended."""

    def __init__(self, wizard: SendWizard) -> None:
        super().__init__()
        self._wizard = wizard
        self._run = 0
        self.refused = False
        self.problem = Banner(closable=False)
        self.body.addWidget(self.problem)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(CHECK_MS)
        self._soon.timeout.connect(self._check)

    def fields(self) -> dict[str, JsonValue]:
        """The job as far as it was chosen up to this page: what comes later can't be wrong here."""
        return self._wizard.fields()

    def entered(self) -> None:
        self._soon.start()

    def leave(self) -> None:
        self._run += 1
        self._soon.stop()

    def _check(self) -> None:
        self._run += 1
        run = self._run
        kind, fields, jobs = self._wizard.kind, self.fields(), self._wizard.session.app.jobs

        def done(_: object) -> None:
            if run == self._run:
                self._show(None)

        def failed(error: Exception) -> None:
            if run == self._run:
                self._show(error)

        Operation(self, lambda: jobs.check(kind, fields)).success(done).failure(failed).run()

    def _show(self, error: Exception | None) -> None:
        # What the fields don't allow never works; anything else may be mended after the start.
        self.refused = error is not None and getattr(error, "exit_status", 1) == 2
        if error is None:
            self.problem.put_away()
        else:
            self.problem.show_error(error)
        self.changed.emit()

    def complete(self) -> bool:
        return not self.refused


class HowPage(CheckedPage):
    """The way of the images, the proof that is wanted, and what happens at the source."""

    step = "How"
    title = "How do they travel?"

    def __init__(self, wizard: SendWizard) -> None:
        super().__init__(wizard)
        self.choices: dict[str, RadioField] = {}
        self._place = QVBoxLayout()
        self._place.setSpacing(3 * STEP)
        self.body.addLayout(self._place)
        self.warning = Banner(closable=False)
        self.body.addWidget(self.warning)
        self.body.addStretch(1)

    def show_kind(self, kind: JobKind) -> None:
        if self.choices:
            return
        declared = {f.name: f for f in form_fields(kind.Fields)}
        for name in THOUGHT_OVER:
            if name in declared and declared[name].type is FieldType.CHOICE:
                if self.choices:
                    self._place.addWidget(divider())
                self.choices[name] = field = RadioField(declared[name])
                field.changed.connect(self._chosen)
                self._place.addWidget(field)

    @property
    def moves(self) -> bool:
        return "after" in self.choices and self.choices["after"].value == "move"

    def fields(self) -> dict[str, JsonValue]:
        return self._wizard.route.values() | self._wizard.studies.values() | self.values()

    def entered(self) -> None:
        self._chosen()

    def _chosen(self) -> None:
        if self.moves:
            self.warning.say(
                "A move deletes at the source.",
                "Exactly the images that the destination was asked for and has confirmed, nothing else. "
                "What can't be confirmed stays.",
                tone=Tone.AMBER,
            )
        else:
            self.warning.put_away()
        self._soon.start()
        self.changed.emit()

    def take_focus(self) -> None:
        first = next(iter(self.choices.values()))
        first.buttons[first.value].setFocus()

    def values(self) -> dict[str, JsonValue]:
        return {name: field.value for name, field in self.choices.items()}

    def facts(self) -> list[tuple[str, str]]:
        """The choices in words."""
        return [(f.field.title, f.words) for f in self.choices.values()]


class LimitsPage(CheckedPage):
    """When it runs, how much at once, and what happens when something fails."""

    step = "Limits"
    title = "When, and with which limits?"
    hint = "These defaults suit most archives. A retry only sends the images that are still missing."

    def __init__(self, wizard: SendWizard) -> None:
        super().__init__(wizard)
        self.hours = HoursLine()
        self.hours.changed.connect(self.changed)
        self.body.addWidget(self.hours)
        self.body.addWidget(divider())
        self._columns = QHBoxLayout()
        self._columns.setSpacing(8 * STEP)
        self.body.addLayout(self._columns)
        self.body.addStretch(1)
        self.forms: list[Form] = []

    def show_kind(self, kind: JobKind, destinations: Sequence[str]) -> None:
        """`destinations` are those that may have choices of their own: none of them where there is only one."""
        self._make(kind)
        for form in self.forms:
            form.set_nodes(lambda _field: destinations)

    def _make(self, kind: JobKind) -> None:
        if self.forms:
            return
        rest = [f for f in form_fields(kind.Fields) if f.name not in ELSEWHERE]
        for names in _in_two(rest):
            form = Form(kind.Fields, names=names, open_all=True)
            form.changed.connect(self._typed)
            self._columns.addWidget(form, 1)
            self.forms.append(form)

    def _typed(self) -> None:
        # What is wrong with a field by itself stands at the field; the nodes are asked about the rest.
        if any(form.problems() for form in self.forms):
            self.leave()
            self._show(None)
        else:
            self._soon.start()
            self.changed.emit()

    def set_others(self, values: Mapping[str, JsonValue]) -> None:
        for form in self.forms:
            others = {n: v for f in self.forms if f is not form for n, v in f.values().items()}
            form.set_others({**values, **others})

    def complete(self) -> bool:
        return super().complete() and self.hours.complete()

    def accept(self) -> bool:
        checked = [form.check() for form in self.forms]  # what is wrong is shown in all of them
        return all(checked)

    def values(self) -> dict[str, JsonValue]:
        found = {n: v for form in self.forms for n, v in form.values().items()}
        if self.hours.schedule:
            found["schedule"] = self.hours.schedule
        return found

    def facts(self) -> list[tuple[str, str]]:
        """What differs from the defaults, in words, after when it runs."""
        found = [("When", f"Once, now{self.hours.sentence()}")]
        for form in self.forms:
            for name, editor in form.editors.items():
                value, field = form.values().get(name), editor.field
                if value is not None and _plain(value) != _plain(field.default):
                    shown = next((text for v, text in field.choices if v == value), _plain(value))
                    found.append((field.title, f"{shown} {field.unit}".strip()))
        return found


def _in_two(fields: Sequence[FormField]) -> tuple[list[str], list[str]]:
    """Names by group, the groups shared among two columns of about the same height."""
    groups: dict[str, list[str]] = {}
    for field in fields:
        groups.setdefault(field.group, []).append(field.name)
    ordered = sorted(groups, key=lambda g: FIRST_GROUPS.index(g) if g in FIRST_GROUPS else len(FIRST_GROUPS))
    left: list[str] = []
    right: list[str] = []
    for group in ordered:
        shorter = left if len(left) <= len(right) else right
        shorter.extend(groups[group])
    return left, right


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(getattr(value, "value", value))
