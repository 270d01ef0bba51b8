"""The pages of the wizard that adds a node: its kind, its fields, and a test that runs before anything is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QButtonGroup, QLineEdit, QVBoxLayout

from core.accepted import AcceptedTable, accepted_table
from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.fields import secret_fields
from core.model.node import NodeRecord
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.theme import STEP, Tone
from gui.widgets.accepted import AcceptedView
from gui.widgets.banner import Banner
from gui.widgets.basics import card, label, row, scroll_area_of
from gui.widgets.checklist import Checklist
from gui.widgets.form import Form
from gui.wizards.frame import Choice, WizardPage

if TYPE_CHECKING:
    from core.app import NodeKind
    from gui.wizards.add_node import AddNode

CERTIFICATE_FIELD = "pinned_certificate"
"""How the names of fields end that hold the fingerprint of the one certificate to trust."""

_IMAGES_PX = 300


class KindPage(WizardPage):
    """Which kind of node."""

    step = "Kind"
    title = "What do you want to add?"
    hint = "A node is a place that studies come from or go to."

    def __init__(self, kinds: Mapping[str, NodeKind]) -> None:
        super().__init__()
        self.body.setSpacing(2 * STEP)
        self.group = QButtonGroup(self)
        self.choices: dict[str, Choice] = {}
        servers_first = sorted(kinds.items(), key=lambda k: not secret_fields(k[1].Fields))
        for name, kind in servers_first:
            choice = Choice(kind.icon, kind.title, kind.summary)
            choice.clicked.connect(self.changed)
            self.group.addButton(choice)
            self.choices[name] = choice
            self.body.addWidget(choice)
        self.body.addStretch(1)
        if self.choices:
            next(iter(self.choices.values())).setChecked(True)

    @property
    def kind(self) -> str:
        return next((n for n, c in self.choices.items() if c.isChecked()), "")

    def complete(self) -> bool:
        return bool(self.kind)


class FieldsPage(WizardPage):
    """Name and fields of the kind."""

    step = "Settings"

    def __init__(self, wizard: AddNode) -> None:
        super().__init__()
        self._wizard = wizard
        self._kind = ""
        self.form: Form | None = None
        name_box = QVBoxLayout()
        name_box.setSpacing(STEP)
        title = label("Name", "strong")
        self.name = QLineEdit()
        self.name.setAccessibleName("Name")
        self.name.setMaxLength(64)
        self.name.setPlaceholderText("PACS West")
        title.setBuddy(self.name)
        self.name_problem = label("", "error", wrap=True)
        self.name_problem.hide()
        self.name_help = label("As it is shown everywhere.", "small")
        self.name.textChanged.connect(self._changed)
        for part in (title, self.name, self.name_help, self.name_problem):
            name_box.addWidget(part)
        self.body.addLayout(name_box)
        self._warning = Banner(closable=False)
        self._checking = QTimer(self)
        self._checking.setSingleShot(True)
        self._checking.setInterval(300)
        self._checking.timeout.connect(self._warn)
        self._place = QVBoxLayout()
        self.body.addLayout(self._place)
        self.derived = label("", "small", wrap=True, selectable=True)
        self.derived.hide()
        self.body.addWidget(self.derived)
        self.body.addWidget(self._warning)
        self.body.addStretch(1)

    def show_kind(self, kind: NodeKind) -> None:
        """Make the form of this kind; what was typed for the same kind stays."""
        if kind.name == self._kind:
            return
        self._kind = kind.name
        self.title = kind.title
        self.hint = kind.summary
        if self.form is not None:
            self._place.removeWidget(self.form)
            self.form.deleteLater()
        self.form = Form(kind.Fields, nodes=self._wizard.nodes_for, headings=True)
        self.form.changed.connect(self._changed)
        self.form.wondered.connect(lambda field: self._wizard.look_up(kind.name, field))
        self._place.addWidget(self.form)

    def fill(self, record: NodeRecord) -> None:
        """Show a node that exists; its name stays."""
        self.name.setText(record.name)
        self.name.setReadOnly(True)
        self.name.setEnabled(False)
        self.name_help.setText("The name stays: the ledger's proof refers to it.")
        assert self.form is not None
        self.form.set_values(record.fields)

    def entered(self) -> None:
        self._warn()

    def take_focus(self) -> None:
        if self.name.isEnabled() and not self.name.text():
            self.name.setFocus()
        elif self.form is not None:
            next(iter(self.form.editors.values())).main.setFocus()

    def complete(self) -> bool:
        return bool(self.name.text().strip())

    def accept(self) -> bool:
        assert self.form is not None
        taken = self._wizard.name_problem(self.name.text())
        self.name_problem.setText(taken)
        self.name_problem.setVisible(bool(taken))
        if not self.form.check():
            other = self.form.problems().get("")
            if other:
                self._wizard.banner.say("These settings don't go together.", other, tone=Tone.RED)
            return False
        return not taken

    def _changed(self) -> None:
        self.name_problem.hide()
        self._checking.start()
        self.changed.emit()

    def _warn(self) -> None:
        """What a person should know before it is saved, as soon as the fields make sense."""
        if self.form is None or self.form.problems():
            self._warning.put_away()
            self.derived.hide()
            return
        show_warnings(self._warning, self._wizard.warnings())
        found = self._wizard.derived()
        self.derived.setText("\n".join(f"{title}: {value}" for title, value in found))
        self.derived.setVisible(bool(found))


def show_warnings(banner: Banner, found: Sequence[str]) -> None:
    """What should be known before a node is saved; nothing where there is nothing."""
    if found:
        banner.say(found[0], "".join(f"\n{text}" for text in found[1:]))
    else:
        banner.put_away()


class TestPage(WizardPage):
    """The node is tried as it would be saved."""

    __test__ = False  # no class of tests
    step = "Test"
    title = "Does it work?"

    def __init__(self, wizard: AddNode) -> None:
        super().__init__()
        self._wizard = wizard
        self._run = 0
        self._offered: dict[str, str] = {}
        self.running = False
        self.body.setSpacing(3 * STEP)
        self.verdict = Banner(closable=False)
        self.body.addWidget(self.verdict)
        self.caution = Banner(closable=False)
        self.body.addWidget(self.caution)
        box = card()
        inner = QVBoxLayout(box)
        inner.setContentsMargins(0, STEP, 0, STEP)
        self.list = Checklist()
        inner.addWidget(self.list)
        self.body.addWidget(box)
        self.more = IconButton("Images it takes", "right", kind="link")
        self.more.setCheckable(True)
        self.more.toggled.connect(self._show_images)
        self.more.hide()
        self.body.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.images_box = card()
        images = QVBoxLayout(self.images_box)
        images.setContentsMargins(0, 0, 0, 0)
        self.images = AcceptedView()
        self.images.setMinimumHeight(_IMAGES_PX)
        images.addWidget(self.images)
        self.images_box.hide()
        self.body.addWidget(self.images_box)
        line = row()
        self.again = IconButton("Test again", "retry")
        self.again.clicked.connect(self.test)
        self.pin = IconButton("Trust this certificate for this node", "proof")
        self.pin.clicked.connect(self._trust)
        self.pin.hide()
        line.addWidget(self.again)
        line.addWidget(self.pin)
        line.addStretch(1)
        self.body.addLayout(line)
        self.body.addStretch(1)

    def entered(self) -> None:
        show_warnings(self.caution, self._wizard.warnings())
        self.test()

    def complete(self) -> bool:
        return not self.running

    def leave(self) -> None:
        self._run += 1  # what still runs is no longer listened to
        self.running = False

    def test(self) -> None:
        """Run the steps on a background thread, each shown as it ends."""
        self._run += 1
        run = self._run
        draft = self._wizard.draft()
        self.running = True
        self.again.setEnabled(False)
        self.pin.hide()
        self._take_images(None)
        self.verdict.put_away()
        nodes = self._wizard.session.app.nodes
        self.list.subject = f"{draft.name} ({nodes.address(draft) or draft.kind})"
        self.list.start()
        secrets = self._wizard.secrets()

        def work() -> AcceptedTable | None:
            steps = nodes.diagnose_draft(draft.kind, draft.name, draft.fields, secrets)
            while True:
                try:
                    operation.report(next(steps))
                except StopIteration as end:
                    return accepted_table(end.value)

        def step(value: object) -> None:
            if run == self._run and isinstance(value, DiagnosisStep):
                self.list.add(value)
                self._offer_pin(value)
                QTimer.singleShot(0, self, self._follow)

        def done(images: AcceptedTable | None) -> None:
            if run == self._run:
                self._finished()
                self._take_images(images)

        def failed(error: Exception) -> None:
            if run == self._run:
                self._finished()
                self.verdict.show_error(error)

        operation = Operation(self, work).progress(step).success(done).failure(failed)
        operation.run()
        self.changed.emit()

    def _finished(self) -> None:
        self.running = False
        self.list.stop()
        self.again.setEnabled(True)
        failed = [s for s in self.list.steps if s.result is StepResult.FAILED]
        warned = [s for s in self.list.steps if s.result is StepResult.WARNING]
        if failed:
            self.verdict.say(
                f"“{failed[0].name}” failed.",
                "Go back and correct it, or save the node as it is and test it later.",
                tone=Tone.RED,
            )
        elif warned:
            self.verdict.say("It works, with a warning.", "Read it before you rely on this node.", tone=Tone.AMBER)
        else:
            self.verdict.say("It works.", "", tone=Tone.GREEN)
        QTimer.singleShot(0, self, self._follow)
        self.changed.emit()

    def _follow(self) -> None:
        """While it runs, its last step is seen; afterwards the verdict."""
        area = scroll_area_of(self)
        if area is not None:
            bar = area.verticalScrollBar()
            bar.setValue(bar.maximum() if self.running else 0)

    def _take_images(self, table: AcceptedTable | None) -> None:
        self.more.setVisible(table is not None)
        if table is None:
            self.more.setChecked(False)
            return
        self.more.setText(f"Images it takes: {table.taken} of {words.plural(len(table.kinds), 'kind')}")
        self.images.show_table(table)

    def _show_images(self, shown: bool) -> None:
        self.images_box.setVisible(shown)
        self.more.set_icon_name("down" if shown else "right")

    # certificates ---------------------------------------------------------------------------------------

    def _offer_pin(self, step: DiagnosisStep) -> None:
        form = self._wizard.fields_page.form
        if step.result is StepResult.FAILED and step.fills and form is not None:
            self._offered = dict(step.fills)
            trusts = any(name.endswith(CERTIFICATE_FIELD) for name in self._offered)
            self.pin.setText("Trust this certificate for this node" if trusts else "Take this over")
            hint = "Compare the fingerprint with the server's administrator first." if trusts else ""
            self.pin.setToolTip(hint or ", ".join(self._offered.values()))
            self.pin.setVisible(set(self._offered) <= set(form.editors))

    def _trust(self) -> None:
        form = self._wizard.fields_page.form
        assert form is not None
        form.set_values(self._offered)
        self.test()
