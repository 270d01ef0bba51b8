"""The steps of "New transfer": kind, what and when; where from and to is in route_page.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QRadioButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from core.model.fields import FormField, form_fields
from core.model.rules import Rule
from core.model.rules.words import sentence
from gui.theme import STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import label, row
from gui.widgets.form import Form
from gui.widgets.rule_editor import RuleEditor
from gui.widgets.rule_trial import Try
from gui.wizards import gateway_page
from gui.wizards.frame import Choice, WizardPage

if TYPE_CHECKING:
    from core.app import JobKind

# Fields that have a place of their own in these pages; all others are found under "More options".
PLACED = ("source", "destination", "fallback", "fallback_after", "filter", "after", "trigger", "existing", "schedule",
          "step", "originals_elsewhere", *gateway_page.PLACED)  # fmt: skip


# What most people look for comes first; groups that are not named here follow in the order of their declaration.
GROUPS = ("How", "Limits", "Retries", "When", "Besides the images", "Labels")


def _by_group(field: FormField) -> int:
    return GROUPS.index(field.group) if field.group in GROUPS else len(GROUPS)


class KindPage(WizardPage):
    """Which kind of job."""

    step = "Kind"
    title = "What do you want to do?"

    def __init__(self, kinds: Mapping[str, JobKind]) -> None:
        super().__init__()
        self.body.setSpacing(2 * STEP)
        self.group = QButtonGroup(self)
        self.choices: dict[str, Choice] = {}
        # Sending some studies is what is done most.
        for name, kind in sorted(kinds.items(), key=lambda k: "filter" not in k[1].Fields.model_fields):
            choice = Choice(kind.icon, kind.title, kind.summary)
            choice.clicked.connect(self.changed)
            self.group.addButton(choice)
            self.choices[name] = choice
            self.body.addWidget(choice)
        self.body.addStretch(1)
        next(iter(self.choices.values())).setChecked(True)

    @property
    def kind(self) -> str:
        return next(n for n, c in self.choices.items() if c.isChecked())


class WhatPage(WizardPage):
    """Which studies, and what happens to them at the source."""

    step = "What"
    title = "Which studies?"

    def __init__(self) -> None:
        super().__init__()
        self._has_filter = self._has_after = False
        self.all_of_it = label(
            "A clone copies everything that the source holds. It never deletes or changes anything at the source, "
            "and nothing that the destination holds besides.",
            wrap=True,
        )
        self.body.addWidget(self.all_of_it)
        self.body.addWidget(self._build_filter())
        self.body.addWidget(self._build_after())
        self.body.addStretch(1)

    def _build_filter(self) -> QWidget:
        self.filter_box = QWidget()
        layout = QVBoxLayout(self.filter_box)
        layout.setContentsMargins(0, 0, 0, 0)
        self.rule = RuleEditor()
        self.rule.changed.connect(self.changed)
        layout.addWidget(self.rule)
        return self.filter_box

    def _build_after(self) -> QWidget:
        self.after_box = QWidget()
        layout = QVBoxLayout(self.after_box)
        layout.setContentsMargins(0, 2 * STEP, 0, 0)
        layout.setSpacing(2 * STEP)
        layout.addWidget(label("At the source", "strong"))
        self.keep = QRadioButton("Keep the images")
        self.move_them = QRadioButton("Move: delete each image at the source once it is confirmed at every destination")
        self.keep.setChecked(True)
        layout.addWidget(self.keep)
        layout.addWidget(self.move_them)
        self.warning = Banner(closable=False)
        layout.addWidget(self.warning)
        self.move_them.toggled.connect(self._moved)
        return self.after_box

    def _moved(self, on: bool) -> None:
        if on:
            self.warning.say(
                "A move deletes at the source.",
                "Exactly the images that the destination was asked for and has confirmed, nothing else. "
                "What can't be confirmed stays.",
                tone=Tone.AMBER,
            )
        else:
            self.warning.put_away()
        self.changed.emit()

    def show_kind(self, fields: Sequence[FormField]) -> None:
        names = {f.name for f in fields}
        self._has_filter, self._has_after = "filter" in names, "after" in names
        self.filter_box.setVisible(self._has_filter)
        self.after_box.setVisible(self._has_after)
        self.all_of_it.setVisible(not self._has_filter)
        self.title = "Which studies?" if self._has_filter else "Everything"
        self.changed.emit()

    @property
    def moves(self) -> bool:
        return self._has_after and self.move_them.isChecked()

    def offer_trial(self, attempt: Try, sources: Sequence[str]) -> None:
        """Where the rule can be tried."""
        self.rule.trial.offer(attempt, sources)

    def complete(self) -> bool:
        return not self._has_filter or not self.rule.wrong

    def accept(self) -> bool:
        self.rule.value()  # what was typed in the last moment is read, too
        return self.complete()

    def leave(self) -> None:
        self.rule.trial.halt()

    def filter_text(self) -> str:
        return self.rule.value()

    def in_words(self) -> str:
        """The rule for the summary."""
        return sentence(self.rule.rule or Rule())

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {}
        if self._has_filter:
            found["filter"] = self.filter_text()
        if self._has_after:
            found["after"] = "move" if self.moves else "keep"
        return found


class WhenPage(WizardPage):
    """Once or following, at which times, and everything that has a good default."""

    step = "When"
    title = "When?"

    def __init__(self) -> None:
        super().__init__()
        self._fields: tuple[FormField, ...] = ()
        self._kind = ""
        self.options: Form | None = None
        times = QVBoxLayout()
        times.setSpacing(2 * STEP)
        self.once = QRadioButton("Once, now")
        self.follow = QRadioButton("Now, and keep following: send what arrives as long as DICOM Ferry runs")
        self.once.setChecked(True)
        times.addWidget(self.once)
        times.addWidget(self.follow)
        self.body.addLayout(times)
        self.trigger_box = QWidget()
        trigger = self._trigger = QVBoxLayout(self.trigger_box)
        trigger.setContentsMargins(6 * STEP, 0, 0, 0)
        trigger.setSpacing(STEP)
        trigger.addWidget(label("Send when", "strong"))
        self.trigger = QComboBox()
        self.trigger.setAccessibleName("Send when")
        self.trigger.setMaximumWidth(300)
        self.existing = QCheckBox("Also what is there already")
        self.existing.setChecked(True)
        trigger.addWidget(self.trigger)
        trigger.addWidget(self.existing)
        self.body.addWidget(self.trigger_box)
        self.hours = HoursLine()
        self.hours.changed.connect(self.changed)
        self.nights, self.night_from, self.night_to = self.hours.nights, self.hours.first, self.hours.last
        self.body.addWidget(self.hours)
        self._place = QVBoxLayout()
        self.body.addLayout(self._place)
        self.body.addStretch(1)
        self.once.toggled.connect(lambda _: self._tell())

    def show_kind(self, kind: JobKind, fields: Sequence[FormField], destinations: Sequence[str]) -> None:
        """`destinations` are those that may have choices of their own: none of them where there is only one."""
        if kind.name != self._kind:
            self._kind = kind.name
            self._fields = tuple(fields)
            if self.options is not None:
                self._place.removeWidget(self.options)
                self.options.deleteLater()
            rest = [f.name for f in sorted(fields, key=_by_group) if f.name not in PLACED]
            self.options = Form(kind.Fields, names=rest)
            self.options.changed.connect(self.changed)
            self._place.addWidget(self.options)
            self.trigger.clear()
            for value, text in next((f.choices for f in fields if f.name == "trigger"), ()):
                self.trigger.addItem(text, value)
            default = next((f.default for f in fields if f.name == "trigger"), None)
            self.trigger.setCurrentIndex(max(0, self.trigger.findData(str(getattr(default, "value", default)))))
        if self.options is not None:
            self.options.set_nodes(lambda _field: destinations)
        self.follow.setEnabled(kind.can_follow)
        if not kind.can_follow:
            self.once.setChecked(True)
        if kind.always_follows:
            self.follow.setChecked(True)
        for way in (self.once, self.follow):
            way.setVisible(not kind.always_follows)
        self._trigger.setContentsMargins(0 if kind.always_follows else 6 * STEP, 0, 0, 0)
        self._tell()

    @property
    def follows(self) -> bool:
        return self.follow.isChecked()

    def _tell(self) -> None:
        names = {f.name for f in self._fields}
        self.trigger_box.setVisible(self.follows and "trigger" in names)
        self.changed.emit()

    def set_others(self, values: Mapping[str, JsonValue]) -> None:
        if self.options is not None:
            self.options.set_others(values)

    def complete(self) -> bool:
        return self.hours.complete()

    def accept(self) -> bool:
        return self.options is None or self.options.check()

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = dict(self.options.values()) if self.options is not None else {}
        names = {f.name for f in self._fields}
        if self.hours.schedule and "schedule" in names:
            found["schedule"] = self.hours.schedule
        if self.follows and "trigger" in names:
            found["trigger"] = str(self.trigger.currentData())
            found["existing"] = self.existing.isChecked()
        return found

    def sentence(self) -> str:
        """When it runs, in words, for the summary."""
        text = "Now, and then whatever arrives" if self.follows else "Once, now"
        return text + self.hours.sentence()


class HoursLine(QWidget):
    """Whether it runs only at night and on weekends.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(STEP)
        line = row()
        self.nights = QCheckBox("Only at night and on weekends, from")
        self.first, self.last = _hour(19, "Start hour"), _hour(6, "End hour")
        for part in (self.nights, self.first, label("to"), self.last, label("o'clock")):
            line.addWidget(part)
        line.addStretch(1)
        layout.addLayout(line)
        self.problem = label("The start hour is in the evening, the end hour in the morning.", "error", wrap=True)
        layout.addWidget(self.problem)
        self.nights.toggled.connect(lambda _: self._tell())
        for box in (self.first, self.last):
            box.valueChanged.connect(lambda _: self._tell())
        self._tell()

    def _tell(self) -> None:
        on = self.nights.isChecked()
        self.first.setEnabled(on)
        self.last.setEnabled(on)
        self.problem.setVisible(on and self.last.value() >= self.first.value())
        self.changed.emit()

    def complete(self) -> bool:
        return self.problem.isHidden()

    @property
    def schedule(self) -> str:
        """As the field of a job; empty for always."""
        return f"night-and-weekend {self.first.value()}-{self.last.value()}" if self.nights.isChecked() else ""

    def sentence(self) -> str:
        """What is added to when it runs, in words."""
        hours = f"{self.first.value()} to {self.last.value()} o'clock"
        return f"; only at night ({hours}) and on weekends" if self.nights.isChecked() else ""


def placed_fields(kind: JobKind) -> tuple[FormField, ...]:
    return form_fields(kind.Fields)


def _hour(value: int, name: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(0, 24)
    box.setValue(value)
    box.setAccessibleName(name)
    box.setMaximumWidth(56)
    box.lineEdit().setTextMargins(6, 0, 0, 0)
    box.setEnabled(False)
    return box
