"""The nodes page: where studies come from and go to, and whether each of them works."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from core.model.diagnosis import DiagnosisStep, Profile
from core.model.events import NodeChanged, NodeHealth
from core.model.job import JOB_UNFINISHED, JobRecord
from core.model.node import NodeRecord
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.models.keyed import Field, KeyedModel
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.ask import ask
from gui.widgets.basics import Elided, card, divider, label, row, scrolled
from gui.widgets.cells import PillCell, TwoLines
from gui.widgets.checklist import Checklist
from gui.widgets.empty import EmptyState
from gui.widgets.page import Page
from gui.widgets.table import Share, Table
from gui.wizards.add_node import AddNode


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A row of the list."""

    record: NodeRecord
    kind: str
    address: str
    profile: Profile | None
    health: NodeChanged | None

    @property
    def verdict(self) -> tuple[str, Tone]:
        """What was seen last: the engine's own experience when it is newer than the diagnosis."""
        if self.health is not None and self.health.health is NodeHealth.DOWN:
            return words.HEALTH_WORDS[NodeHealth.DOWN]
        if self.profile is None:
            known = self.health.health if self.health is not None else NodeHealth.UNKNOWN
            return words.HEALTH_WORDS[known]
        return ("Works", Tone.GREEN) if self.profile.works else ("Doesn't work", Tone.RED)

    @property
    def when(self) -> str:
        if self.health is not None and self.health.health is NodeHealth.DOWN:
            return f"since {words.clock(self.health.since)}, probing" if self.health.since else "probing"
        return words.ago(self.profile.at) if self.profile is not None else ""


FIELDS: tuple[Field[NodeLine], ...] = (
    Field("Node", lambda n: n.record.name, second=lambda n: f"{n.kind} · {n.address}", tip=lambda n: n.address),
    Field("State", lambda n: n.verdict[0], second=lambda n: n.when, tone=lambda n: n.verdict[1]),
)


class NodesPage(Page):
    """A list at the left, the diagnosis of the one that is chosen at the right."""

    name = "nodes"

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Nodes", parent)
        self._session = session
        self._app = session.app
        self._jobs: list[JobRecord] = []
        self._testing: set[str] = set()
        self._steps: dict[str, list[DiagnosisStep]] = {}
        self._shown = ""
        self._wanted = ""  # a node to choose once it is in the list
        self.wizard: AddNode | None = None
        self.add = self.button("Add node…", kind="primary")
        self.add.clicked.connect(lambda: self.open_wizard())
        self.model: KeyedModel[NodeLine] = KeyedModel(lambda n: n.record.name, FIELDS)
        self.table = Table(
            self.model, (TwoLines(strong=True), PillCell()), (Share(200, 1), Share(158)), header=False, row_px=50
        )
        self.table.setAccessibleName("Nodes")
        self.table.picked.connect(self._picked)
        self.table.doubleClicked.connect(lambda _: self.edit_chosen())
        both = QWidget()
        line = QHBoxLayout(both)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(5 * STEP)
        line.addWidget(self.table, 2)
        line.addWidget(self._build_detail(), 3)
        self.empty = EmptyState(
            "nodes",
            "Add the server your studies come from",
            "An Orthanc server or a folder. It is tested step by step before it is saved.",
            "Add node…",
        )
        self.empty.acted.connect(lambda: self.open_wizard())
        self.stack = QStackedWidget()
        self.stack.addWidget(QWidget())  # until the ledger has answered
        self.stack.addWidget(both)
        self.stack.addWidget(self.empty)
        self.body.addWidget(self.stack, 1)
        session.nodes_edited.connect(self.refresh)
        session.nodes.connect(lambda _: self.refresh())
        self._clock = QTimer(self)
        self._clock.setInterval(30_000)  # "2 min ago" grows older
        self._clock.timeout.connect(self.model.touch)
        self._clock.start()
        self.refresh()

    def _build_detail(self) -> QWidget:
        self.panel = card()
        layout = QVBoxLayout(self.panel)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        head = row(margins=4 * STEP, spacing=2 * STEP)
        head.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        self.heading = Elided("", "heading")
        self.remove = IconButton("Remove", kind="danger")
        self.edit = IconButton("Edit")
        self.test = IconButton("Test again")
        self.remove.clicked.connect(self._ask_remove)
        self.edit.clicked.connect(lambda: self.edit_chosen())
        self.test.clicked.connect(lambda: self.test_chosen())
        head.addWidget(self.heading, 1)
        for button in (self.remove, self.edit, self.test):
            head.addWidget(button)
        layout.addLayout(head)
        layout.addWidget(divider())
        self.list = Checklist()
        self.untested = label("Not tested yet. “Test” looks at it step by step.", "soft", wrap=True)
        self.untested.setContentsMargins(4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP)
        inside = QWidget()
        inside_layout = QVBoxLayout(inside)
        inside_layout.setContentsMargins(0, 0, 0, 0)
        inside_layout.setSpacing(0)
        inside_layout.addWidget(self.untested)
        inside_layout.addWidget(self.list)
        inside_layout.addStretch(1)
        layout.addWidget(scrolled(inside), 1)
        layout.addWidget(divider())
        self.foot = label("", "soft", wrap=True)
        self.foot.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.addWidget(self.foot)
        return self.panel

    # reading --------------------------------------------------------------------------------------------

    def entered(self, wish: object) -> None:
        if wish == "add":
            self.open_wizard()
        self.model.touch()

    def refresh(self) -> None:
        nodes, ledger, health = self._app.nodes, self._app.ledger, dict(self._session.health)

        def read() -> tuple[list[NodeLine], list[JobRecord]]:
            # Here, not on the GUI thread: the first look at the kinds imports what they stand on.
            kinds = self._app.node_kinds()
            lines = []
            for record in nodes.all():
                kind = kinds.get(record.kind)
                title = kind.title if kind is not None else record.kind
                profile = nodes.profile(record.name)
                lines.append(
                    NodeLine(
                        record, _kind_words(title, profile), nodes.address(record), profile, health.get(record.name)
                    )
                )
            return lines, ledger.jobs()

        self._session.read(self, read, self._take)

    def _take(self, found: tuple[list[NodeLine], list[JobRecord]]) -> None:
        lines, self._jobs = found
        self.model.show(lines)
        self.stack.setCurrentIndex(1 if lines else 2)
        self.add.setVisible(bool(lines))
        down = sum(1 for n in lines if n.verdict[1] is Tone.RED)
        self.status = words.plural(len(lines), "node") + (f" · {down} with a problem" if down else "")
        wanted = self.model.row_of(self._wanted) if self._wanted else None
        if wanted is not None:
            self.table.selectRow(wanted)
            self._wanted = ""
        elif lines and not self.table.selected_rows():
            self.table.selectRow(0)
        self._show()

    def chosen(self) -> NodeLine | None:
        rows = self.table.selected_rows()
        return self.model.record(rows[0]) if rows else None

    def _picked(self) -> None:
        self._show()

    def _show(self) -> None:
        node = self.chosen()
        self.panel.setVisible(node is not None)
        if node is None:
            self._shown = ""
            return
        name = node.record.name
        self.heading.setText(name)
        running = name in self._testing
        self.test.setEnabled(not running)
        self.test.setText("Test again" if node.profile or running else "Test")
        if not running:
            steps = node.profile.steps if node.profile is not None else ()
            if self._shown != name or self.list.steps != steps:
                self.list.subject = f"{name} ({node.address})"
                self.list.show_steps(steps)
        elif self._shown != name:
            self.list.subject = f"{name} ({node.address})"
            self.list.start()
            for step in self._steps.get(name, []):
                self.list.add(step)
        self._shown = name
        self.untested.setVisible(node.profile is None and not running)
        self.foot.setText(self._footing(node))

    def _footing(self, node: NodeLine) -> str:
        parts = [f"Tested {words.exact(node.profile.at)}" if node.profile else node.address]
        users = self._users(node.record.name)
        parts.append(f"used by {words.plural(len(users), 'job')}" if users else "used by no job")
        if node.health is not None and node.health.health is NodeHealth.DOWN and node.health.reason:
            parts.append(node.health.reason)
        return " · ".join(p for p in parts if p)

    def _users(self, name: str) -> list[JobRecord]:
        return [
            j
            for j in self._jobs
            if name in (*j.sources, *j.destinations, j.fields.get("fallback"))
            and (j.state in JOB_UNFINISHED or j.follow)
        ]

    # acting ---------------------------------------------------------------------------------------------

    def open_wizard(self, record: NodeRecord | None = None) -> AddNode:
        self.wizard = AddNode(self._session, record, self.window())
        self.wizard.done_with.connect(self._made)
        self.wizard.open()
        return self.wizard

    def edit_chosen(self) -> None:
        node = self.chosen()
        if node is not None:
            self.open_wizard(node.record)

    def _made(self, record: NodeRecord) -> None:
        """A node was saved: choose it, and keep the dated profile of a test."""
        self._wanted = record.name
        self._test(record.name)

    def test_chosen(self) -> None:
        node = self.chosen()
        if node is not None:
            self._test(node.record.name)

    def _test(self, name: str) -> None:
        if name in self._testing:
            return
        self._testing.add(name)
        self._steps[name] = []
        if self._shown == name:
            self.list.start()
            self.untested.hide()
            self.test.setEnabled(False)
        nodes = self._app.nodes

        def work() -> None:
            for step in nodes.diagnose(name):
                operation.report(step)

        def step(value: object) -> None:
            if isinstance(value, DiagnosisStep):
                self._steps[name].append(value)
                if self._shown == name:
                    self.list.add(value)

        def done(_: None) -> None:
            self._tested(name)

        def failed(error: Exception) -> None:
            self._tested(name)
            self.banner.show_error(error)

        operation = Operation(self, work).progress(step).success(done).failure(failed)
        operation.run()

    def _tested(self, name: str) -> None:
        self._testing.discard(name)
        if self._shown == name:
            self.list.stop()
        self.refresh()

    def _ask_remove(self) -> None:
        node = self.chosen()
        if node is None:
            return
        name = node.record.name
        users = [j.name for j in self._users(name)]
        if users:
            listed = ", ".join(f"“{u}”" for u in users[:3]) + ("…" if len(users) > 3 else "")
            self.banner.say(f"{name} can't be removed: {listed} still uses it.", "Finish or cancel that first.")
            return
        ask(
            self,
            f"Remove {name}?",
            f"DICOM Ferry forgets its address and its password. Nothing is deleted at {name}, and the proof of what "
            "was transferred stays.",
            "Remove",
            lambda: self._remove(name),
            refuse="Keep it",
        )

    def _remove(self, name: str) -> None:
        Operation(self, lambda: self._app.nodes.remove(name)).success(lambda _: self._removed()).failure(
            self.banner.show_error
        ).run()

    def _removed(self) -> None:
        self.banner.put_away()
        self._session.nodes_edited.emit()


def _kind_words(title: str, profile: Profile | None) -> str:
    version = profile.fact("version") if profile is not None else ""
    return f"{title.removesuffix(' server')} {version}".strip()
