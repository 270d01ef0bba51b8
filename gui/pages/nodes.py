"""The nodes page: where studies come from and go to, and whether each of them works."""

from __future__ import annotations

import logging

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from core.accepted import AcceptedTable, accepted_table
from core.model.diagnosis import DiagnosisStep, Standing, StepResult
from core.model.everyone import registered
from core.model.job import JOB_UNFINISHED, JobRecord
from core.model.node import NodeRecord
from gui import words
from gui.background import Operation
from gui.icons import IconButton, IconLabel
from gui.models.keyed import KeyedModel
from gui.models.nodes import FIELDS, NodeLine, kind_words
from gui.session import Session
from gui.theme import STEP, Role, Tone
from gui.widgets.accepted import AcceptedView
from gui.widgets.ask import ask
from gui.widgets.banner import Banner
from gui.widgets.basics import Elided, card, column, divider, label, row, scrolled
from gui.widgets.cells import PillCell, WithIcon
from gui.widgets.checklist import Checklist
from gui.widgets.empty import EmptyState
from gui.widgets.page import Page
from gui.widgets.remotes import RemotesView
from gui.widgets.standing import StandingView
from gui.widgets.table import Share, Table
from gui.wizards.add_node import AddNode

_log = logging.getLogger(__name__)


STANDING_MS = 3000
LAID_OUT_MS = 60  # until texts have found their heights


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
        self._engine_ran = False
        self._shown = ""
        self._keeps_lists = False  # the node that is shown
        self._wanted = ""  # a node to choose once it is in the list
        self.wizard: AddNode | None = None
        self.add = self.button("Add node…", kind="primary")
        self.add.clicked.connect(lambda: self.open_wizard())
        self.model: KeyedModel[NodeLine] = KeyedModel(lambda n: n.record.name, FIELDS)
        self.table = Table(
            self.model, (WithIcon(strong=True), PillCell()), (Share(210, 1), Share(146)), header=False, row_px=50
        )
        self.table.setAccessibleName("Nodes")
        self.table.picked.connect(self._picked)
        self.table.doubleClicked.connect(lambda _: self.edit_chosen())
        both = QWidget()
        line = QHBoxLayout(both)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(5 * STEP)
        line.addWidget(self.table, 5)
        line.addWidget(self._build_detail(), 8)
        self.empty = EmptyState(
            "nodes",
            "Add the server your studies come from",
            "An Orthanc server, a PACS or modality, a folder, or this computer itself. It is tested step by step "
            "before it is saved.",
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
        session.engine.connect(self._engine)
        self._clock = QTimer(self)
        self._clock.setInterval(30_000)  # "2 min ago" grows older
        self._clock.timeout.connect(self.model.touch)
        self._clock.start()
        self._standing_of = ""  # the node that is being asked
        self._stands = QTimer(self)
        self._stands.setInterval(STANDING_MS)
        self._stands.timeout.connect(self._ask_standing)
        self._stands.start()
        self.refresh()

    def _build_detail(self) -> QWidget:
        self.panel = card()
        layout = QVBoxLayout(self.panel)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        head = row(margins=4 * STEP, spacing=2 * STEP)
        head.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        self.sign = IconLabel("nodes", Role.ACCENT, 22)
        titles = column(spacing=0)
        self.heading = Elided("", "heading")
        self.where = Elided("", "small")
        titles.addWidget(self.heading)
        titles.addWidget(self.where)
        self.remove = IconButton("Remove", kind="danger")
        self.edit = IconButton("Edit")
        self.test = IconButton("Test again")
        self.remove.clicked.connect(self._ask_remove)
        self.edit.clicked.connect(lambda: self.edit_chosen())
        self.test.clicked.connect(lambda: self.test_chosen())
        head.addWidget(self.sign)
        head.addSpacing(STEP)
        head.addLayout(titles, 1)
        for button in (self.remove, self.edit, self.test):
            head.addWidget(button)
        layout.addLayout(head)
        layout.addWidget(divider())
        layout.addLayout(self._build_trouble())
        self.standing = StandingView()
        layout.addWidget(self.standing)
        layout.addWidget(self._build_tabs())
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
        self.images = AcceptedView()
        self.looks = QStackedWidget()
        self._steps_area = scrolled(inside)
        self.looks.addWidget(self._steps_area)
        self.looks.addWidget(self.images)
        self.remotes = RemotesView(self._session)
        self.remotes.counted.connect(
            lambda count: self.sends_tab.setText("Sends to" if count < 0 else f"Sends to ({count})")
        )
        self.looks.addWidget(self.remotes)
        layout.addWidget(self.looks, 1)
        layout.addWidget(divider())
        self.foot = label("", "soft", wrap=True)
        self.foot.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.addWidget(self.foot)
        return self.panel

    def _build_trouble(self) -> QVBoxLayout:
        """What is wrong right now, with what to do about it."""
        self.trouble = Banner(closable=False)
        place = column()
        place.setContentsMargins(3 * STEP, 0, 3 * STEP, 0)
        place.addWidget(self.trouble)
        self.trouble.shown.connect(
            lambda shown: place.setContentsMargins(
                3 * STEP, 3 * STEP if shown else 0, 3 * STEP, 2 * STEP if shown else 0
            )
        )
        return place

    def _build_tabs(self) -> QWidget:
        self.tabs = QWidget()
        line = row(spacing=STEP)
        line.setContentsMargins(3 * STEP, 2 * STEP, 3 * STEP, 0)
        self.steps_tab = IconButton("Test", kind="quiet")
        self.images_tab = IconButton("Images it takes", kind="quiet")
        self.sends_tab = IconButton("Sends to", kind="quiet")
        self._tab_group = QButtonGroup(self)
        for at, tab in enumerate((self.steps_tab, self.images_tab, self.sends_tab)):
            tab.setCheckable(True)
            tab.clicked.connect(lambda _=False, at=at: self.looks.setCurrentIndex(at))
            self._tab_group.addButton(tab)
            line.addWidget(tab)
        line.addStretch(1)
        self.steps_tab.setChecked(True)
        self.tabs.setLayout(line)
        self.tabs.hide()
        return self.tabs

    # reading --------------------------------------------------------------------------------------------

    def entered(self, wish: object) -> None:
        if wish == "add":
            self.open_wizard()
        self.model.touch()

    def refresh(self) -> None:
        nodes, ledger, health = self._app.nodes, self._app.ledger, dict(self._session.health)
        running = self._engine_ran = self._session.engine_now().running

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
                        record,
                        kind_words(title, profile),
                        kind.icon if kind is not None else "nodes",
                        nodes.address(record),
                        profile,
                        health.get(record.name),
                        kind is not None and kind.listens,
                        running,
                        kind is not None and "intermediary" in kind.traits,
                    )
                )
            return lines, ledger.jobs()

        self._session.read(self, read, self._take)

    def _engine(self, _state: object) -> None:
        """Nodes that others call are there only while an engine runs."""
        if self._session.engine_now().running is not self._engine_ran:
            self.refresh()

    def _take(self, found: tuple[list[NodeLine], list[JobRecord]]) -> None:
        lines, self._jobs = found
        self.model.show(lines)
        self.stack.setCurrentIndex(1 if lines else 2)
        self.add.setVisible(bool(lines))
        down = sum(1 for n in lines if n.verdict[1] is Tone.RED)
        self.say_status(words.plural(len(lines), "node") + (f" · {down} with a problem" if down else ""))
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
        self.where.setText(node.whereabouts)
        self.sign.set_icon_name(node.icon, Role.ACCENT)
        self._show_trouble(node)
        if self._shown != name:
            self._show_images(None)
            self.standing.show_standing(None)
            self._standing_of = ""
        self._show_lists(node)
        self._read_images(node)
        self._ask_standing()
        self.list.offers = not node.listens
        running = name in self._testing
        self.test.setEnabled(not running)
        self.test.setText("Test again" if node.profile or running else "Test")
        if not running:
            steps = node.profile.steps if node.profile is not None else ()
            if self._shown != name or self.list.steps != steps:
                self.list.subject = f"{name} ({node.address})"
                self.list.show_steps(steps)
                QTimer.singleShot(LAID_OUT_MS, self, self._to_trouble)
        elif self._shown != name:
            self.list.subject = f"{name} ({node.address})"
            self.list.start()
            for step in self._steps.get(name, []):
                self.list.add(step)
        self._shown = name
        self.untested.setVisible(node.profile is None and not running)
        self.foot.setText(self._footing(node))

    def _to_trouble(self) -> None:
        """What went wrong is seen without scrolling."""
        line = self.list.first_trouble
        if line is None:
            self._steps_area.verticalScrollBar().setValue(0)
        else:
            self._steps_area.ensureWidgetVisible(line, 0, 2 * STEP)

    def _footing(self, node: NodeLine) -> str:
        parts = [f"Checked {words.exact(node.profile.at)}" if node.profile else "Never checked"]
        if node.profile is not None:
            results = [step.result for step in node.profile.steps]
            failed, warned = results.count(StepResult.FAILED), results.count(StepResult.WARNING)
            parts.append(f"{words.plural(failed, 'step')} failed" if failed else "")
            parts.append(words.plural(warned, "warning") if warned else "")
        users = self._users(node.record.name)
        parts.append(f"used by {words.plural(len(users), 'job')}" if users else "used by no job")
        connections = node.record.fields.get("connections")
        if connections is not None:
            parts.append(f"at most {connections} connections")
        return " · ".join(p for p in parts if p)

    def _show_trouble(self, node: NodeLine) -> None:
        if node.is_down and node.health is not None and node.health.reason:
            if self.trouble.lead != node.health.reason:
                self.trouble.say(node.health.reason, node.health.next_step, tone=Tone.RED)
        elif self.trouble.lead:
            self.trouble.put_away()

    # what it takes, and how it stands -------------------------------------------------------------------

    def _read_images(self, node: NodeLine) -> None:
        """The table is made in the background: it takes lists that a start is spared."""
        profile, name = node.profile, node.record.name
        if profile is None or not profile.accepted:
            self._show_images(None)
            return

        def take(table: AcceptedTable | None) -> None:
            if self._shown == name:
                self._show_images(table)

        self._session.read(self, lambda: accepted_table(profile), take)

    def _show_lists(self, node: NodeLine) -> None:
        """Modalities, peers and DICOMweb servers, of a server that keeps such lists."""
        self._keeps_lists = node.sends
        self.sends_tab.setVisible(node.sends)
        self.remotes.show_node(node.record.name if node.sends else "")

    def _show_images(self, table: AcceptedTable | None) -> None:
        self.tabs.setVisible(table is not None or self._keeps_lists)
        self.images_tab.setVisible(table is not None)
        at = self.looks.currentIndex()
        if (at == 1 and table is None) or (at == 2 and not self._keeps_lists):
            self.steps_tab.setChecked(True)
            self.looks.setCurrentIndex(0)
        if table is None:
            return
        self.images_tab.setText(f"Images it takes ({table.taken} of {len(table.kinds)})")
        self.images.show_table(table)

    def _ask_standing(self) -> None:
        """Ask the node that is shown how it stands, if it is one that changes by itself."""
        node = self.chosen()
        if node is None or not node.listens or not self.isVisible():
            return
        name, nodes = node.record.name, self._app.nodes
        if self._standing_of == name:
            return
        self._standing_of = name

        def take(standing: Standing | None) -> None:
            self._standing_of = ""
            if self._shown == name:
                self.standing.show_standing(standing)

        def failed(error: Exception) -> None:
            self._standing_of = ""
            _log.info("how %s stands can't be told: %s", name, error)

        Operation(self, lambda: nodes.standing(name)).success(take).failure(failed).run()

    def _users(self, name: str) -> list[JobRecord]:
        return [
            j
            for j in self._jobs
            if name in (*registered((*j.sources, *j.destinations)), j.fields.get("fallback"))
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
