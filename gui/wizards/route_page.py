"""The step "From and to": nodes with what they can do, and what takes over when a destination is down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from core.model.fields import FormField
from gui.theme import STEP
from gui.widgets.basics import Elided, card, label, restyle, row
from gui.widgets.empty import EmptyState
from gui.wizards.frame import WizardPage

ASKING = "Asking…"


@dataclass(frozen=True, slots=True)
class NodeOption:
    """A node that may be chosen: its name, kind and address, and what it can do on either side."""

    name: str
    about: str
    as_source: tuple[str, ...]
    as_destination: tuple[str, ...]
    everyone: tuple[str, ...] = ()  # destinations that stand for all whom it knows


class _NodeList(QWidget):
    """Nodes to tick, each with what it can do; whether a ticked one answers is said below it.

    Attributes
    ----------
    ticked : Signal(str)
    """

    ticked = Signal(str)

    def __init__(self, title: str, help_text: str) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(STEP)
        layout.addWidget(label(title, "strong"))
        self.help = label(help_text, "small", wrap=True)
        layout.addWidget(self.help)
        self._box = card()
        self._inner = QVBoxLayout(self._box)
        self._inner.setContentsMargins(3 * STEP, 3 * STEP, 3 * STEP, 3 * STEP)
        self._inner.setSpacing(3 * STEP)
        layout.addWidget(self._box)
        layout.addStretch(1)
        self._looking = label("Looking at your nodes…", "small")
        self._inner.addWidget(self._looking)
        self.checks: dict[str, QCheckBox] = {}
        self.answers: dict[str, QLabel] = {}
        self._places: dict[str, QWidget] = {}

    def add(self, name: str, about: str, abilities: Sequence[str]) -> QCheckBox | None:
        """Offer a node; gives its box when it is new."""
        self._looking.hide()
        if name in self.checks:
            return None
        place = self._places[name] = QWidget()
        one = QVBoxLayout(place)
        one.setContentsMargins(0, 0, 0, 0)
        one.setSpacing(0)
        check = QCheckBox(name.replace("&", "&&"))
        check.setEnabled(bool(abilities))
        check.setToolTip(about)
        check.setAccessibleDescription(", ".join((about, *abilities)))
        below = QVBoxLayout()
        below.setContentsMargins(6 * STEP, 0, 0, 0)
        below.setSpacing(0)
        below.addWidget(Elided(about, "small"))
        can = " · ".join(abilities) or "can't do this"
        below.addWidget(label(can[:1].upper() + can[1:], "small", wrap=True))
        answer = label("", "small", wrap=True)
        answer.hide()
        below.addWidget(answer)
        one.addWidget(check)
        one.addLayout(below)
        self._inner.addWidget(place)
        self.checks[name], self.answers[name] = check, answer
        check.toggled.connect(lambda on, n=name: self._toggled(n, on))
        return check

    def show_only(self, name: str, on: bool) -> None:
        """Show an offer or hide it; what is hidden isn't chosen."""
        self.checks[name].setChecked(on and self.checks[name].isChecked())
        self._places[name].setVisible(on)

    def _toggled(self, name: str, on: bool) -> None:
        self.answers[name].hide()
        if on:
            self.ticked.emit(name)

    def tell(self, name: str, text: str, role: str) -> None:
        """Say below a ticked node whether it answers."""
        answer, check = self.answers.get(name), self.checks.get(name)
        if answer is not None and check is not None and check.isChecked():
            answer.setText(text)
            answer.setProperty("text_role", role)
            restyle(answer)
            answer.show()

    def chosen(self) -> list[str]:
        return [n for n, c in self.checks.items() if c.isChecked()]


class RoutePage(WizardPage):
    """From where, to where, and what takes over when a destination is down."""

    step = "From and to"
    title = "From where to where?"

    def __init__(self) -> None:
        super().__init__()
        self.several = True
        self._forwards = False
        self._everyone: dict[str, str] = {}  # destinations that stand for all whom a server knows, with the server
        self.nothing = EmptyState("nodes", "", "", "Add node…")
        self.nothing.hide()
        self.body.addWidget(self.nothing)
        self._lists = QWidget()
        both = QHBoxLayout(self._lists)
        both.setContentsMargins(0, 0, 0, 0)
        both.setSpacing(5 * STEP)
        self.sources = _NodeList("From", "Where the studies are now.")
        self.destinations = _NodeList("To", "Where each study is sent.")
        both.addWidget(self.sources, 1)
        both.addWidget(self.destinations, 1)
        self.body.addWidget(self._lists)
        self.fallback_box = QWidget()
        below = QVBoxLayout(self.fallback_box)
        below.setContentsMargins(0, 0, 0, 0)
        below.setSpacing(STEP)
        below.addWidget(label("Instead, when a destination is down", "strong"))
        line = row()
        self.fallback = QComboBox()
        self.fallback.setAccessibleName("Instead, when a destination is down")
        self.fallback.addItem("Nothing: wait until it is back", "")
        self.fallback.setMinimumWidth(260)
        self.fallback_after = QSpinBox()
        self.fallback_after.setRange(0, 86400)
        self.fallback_after.setValue(30)
        self.fallback_after.setAccessibleName("Seconds before the fallback takes over")
        self.fallback_after.setMaximumWidth(80)
        self.fallback_after.lineEdit().setTextMargins(6, 0, 0, 0)
        self._after_words = (label("after", "soft"), label("s", "soft"))
        line.addWidget(self.fallback)
        line.addWidget(self._after_words[0])
        line.addWidget(self.fallback_after)
        line.addWidget(self._after_words[1])
        line.addStretch(1)
        below.addLayout(line)
        below.addWidget(label("Takes over whole studies while a destination does not answer.", "small", wrap=True))
        self.body.addWidget(self.fallback_box)
        self.problem = label("", "error", wrap=True)
        self.problem.hide()
        self.body.addWidget(self.problem)
        self.body.addStretch(1)
        self.fallback.currentIndexChanged.connect(lambda _: self._tell())

    def show_nodes(self, nodes: Sequence[NodeOption]) -> None:
        enough = len(nodes) >= 2
        self.nothing.setVisible(not enough)
        self._lists.setVisible(enough)
        if not nodes:
            self.nothing.say(
                "Add the server your studies come from", "A transfer needs two nodes: from and to.", "Add node…"
            )
        elif not enough:
            self.nothing.say("Add where the studies should go", "A transfer needs two nodes: from and to.", "Add node…")
        for node in nodes:
            source = self.sources.add(node.name, node.about, node.as_source)
            if source is not None:
                source.toggled.connect(lambda on, c=source: self._source_ticked(c, on))
            destination = self.destinations.add(node.name, node.about, node.as_destination)
            if destination is not None:
                destination.toggled.connect(lambda _: self._tell())
                self.fallback.addItem(node.name, node.name)
        for node in nodes:  # below all nodes
            self._offer_everyone(node)
        if len(nodes) == 2 and not self.sources.chosen():
            first, second = nodes[0].name, nodes[1].name
            self.sources.checks[first].setChecked(True)
            self.destinations.checks[second].setChecked(True)
        self._tell()

    def _offer_everyone(self, node: NodeOption) -> None:
        for name in node.everyone:
            what = f"Everyone whom {node.name} knows"
            check = self.destinations.add(name, what, ("kept current while it follows", "never back to the sender"))
            if check is not None:
                self._everyone[name] = node.name
                check.toggled.connect(lambda _: self._tell())

    def _show_everyone(self) -> None:
        """All whom a server knows are offered where images are taken from it, to jobs that forward."""
        for name, server in self._everyone.items():
            self.destinations.show_only(name, self._forwards and server in self.sources.chosen())

    def tell_answer(self, name: str, text: str, role: str) -> None:
        """Say whether a ticked node answers, wherever it is ticked."""
        for side in (self.sources, self.destinations):
            side.tell(name, text, role)

    @property
    def answers_known(self) -> bool:
        """Every ticked node has answered or failed to."""
        sides = (self.sources, self.destinations)
        return all(side.answers[n].text() not in ("", ASKING) for side in sides for n in side.chosen())

    def show_kind(self, fields: Sequence[FormField], *, several: bool) -> None:
        names = {f.name for f in fields}
        self.fallback_box.setVisible("fallback" in names and bool(self.sources.checks))
        self._has_fallback = "fallback" in names
        self.several = several
        self._forwards = "trigger" in names
        self.sources.help.setText("Where the studies are now." if several else "The server that is copied.")
        self._source_ticked(None, False)

    _has_fallback = False

    def _source_ticked(self, ticked: QCheckBox | None, on: bool) -> None:
        if not self.several and len(self.sources.chosen()) > 1:
            keep = ticked or self.sources.checks[self.sources.chosen()[0]]
            for check in self.sources.checks.values():
                if check is not keep:
                    check.setChecked(False)
        self._tell()

    def _tell(self) -> None:
        self._show_everyone()
        both = [n for n in self.sources.chosen() if n in self.destinations.chosen()]
        text = f"{both[0]} can't be source and destination at the same time." if both else ""
        fallback = self.fallback.currentData()
        if fallback and fallback in (*self.sources.chosen(), *self.destinations.chosen()):
            text = text or f"{fallback} takes part already, so it can't stand in for another."
        self.problem.setText(text)
        self.problem.setVisible(bool(text))
        for part in (self.fallback_after, *self._after_words):
            part.setVisible(bool(fallback))
        self.fallback_box.setVisible(self._has_fallback and len(self.sources.checks) > 2)
        self.changed.emit()

    def complete(self) -> bool:
        return bool(self.sources.chosen() and self.destinations.chosen()) and self.problem.isHidden()

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {
            "source": list(self.sources.chosen()),
            "destination": list(self.destinations.chosen()),
        }
        if self._has_fallback and self.fallback.currentData():
            found["fallback"] = str(self.fallback.currentData())
            found["fallback_after"] = float(self.fallback_after.value())
        return found
