"""The transfers page: every study on its way, what needs a person, and the proof of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QMenu, QSplitter, QStackedWidget, QWidget

from core.model.events import JobChanged, TransferRow
from core.model.job import JobRecord, JobState
from core.model.node import NodeRecord
from core.model.outcome import StudyState
from core.model.views import StateFilter, TransferFilter
from gui import words
from gui.icons import IconButton, icon
from gui.models.transfers import SortedTransfers, TransfersModel
from gui.pages.transfer_detail import TransferDetail
from gui.pages.transfer_trouble import Problem, TroubleBanner, problems
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.ask import ask
from gui.widgets.basics import copy
from gui.widgets.cells import BarCell, Figure, PillCell, Route, TwoLines
from gui.widgets.chips import ChipBar
from gui.widgets.empty import EmptyState
from gui.widgets.page import Page
from gui.widgets.table import Share, Table

CHIPS = (
    (StateFilter.ALL.value, "All", Tone.GREY, True),
    (StateFilter.RUNNING.value, "Running", Tone.BLUE, True),
    (StateFilter.WAITING.value, "Waiting", Tone.GREY, True),
    (StateFilter.ATTENTION.value, "Needs attention", Tone.RED, True),
    (StateFilter.UNCONFIRMED.value, "Sent, not confirmed", Tone.AMBER, False),
    (StateFilter.CONFIRMED.value, "Confirmed", Tone.GREEN, True),
    (StateFilter.ALREADY_THERE.value, "Already there", Tone.GREY, False),
    (StateFilter.CANCELLED.value, "Cancelled", Tone.GREY, False),
)
RELOAD_MS = 300
COUNTS_MS = 400  # how often counts are read while rows change
UNFINISHED = frozenset({StudyState.WAITING, StudyState.SENDING, StudyState.CONFIRMING, StudyState.SENT})
RETRYABLE = frozenset({StudyState.ATTENTION, StudyState.FAILED, StudyState.CANCELLED, StudyState.DIFFERENT})


@dataclass(frozen=True, slots=True)
class TransfersWish:
    """What another page wants to see here."""

    state: StateFilter = StateFilter.ALL
    job_id: int | None = None
    node: str = ""


class TransfersPage(Page):
    """Attributes
    ----------
    wants_transfer : Signal()
        "New transfer…" was pressed.
    """

    name = "transfers"
    wants_transfer = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Transfers", parent)
        self._session = session
        self._app = session.app
        self._filter = TransferFilter()
        self._jobs: list[JobRecord] = []
        self._nodes: list[NodeRecord] = []
        self._states: dict[int, JobState] = {}
        self._notes: dict[int, str] = {}
        self._build_top()
        self._build_filters()
        self._build_table()
        self._counting = QTimer(self)
        self._counting.setSingleShot(True)
        self._counting.setInterval(COUNTS_MS)
        self._counting.timeout.connect(self._count)
        session.transfers.connect(self._changed)
        self._reloading = QTimer(self)
        self._reloading.setSingleShot(True)
        self._reloading.setInterval(RELOAD_MS)
        self._reloading.timeout.connect(self.model.reload)
        self._studies: dict[int, int] = {}
        session.jobs.connect(self._jobs_changed)
        session.jobs_edited.connect(self._read_choices)
        session.jobs_edited.connect(self._reloading.start)
        session.nodes_edited.connect(self._read_choices)
        self._read_choices()
        self.model.show(self._filter)
        self._count()

    # building -------------------------------------------------------------------------------------------

    def _build_top(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search patient, ID, accession…")
        self.search.setAccessibleName("Search patient, ID, accession or description")
        self.search.setClearButtonEnabled(True)
        self.search.setMinimumWidth(160)
        self.search.setMaximumWidth(230)
        self._searching = QTimer(self)
        self._searching.setSingleShot(True)
        self._searching.setInterval(200)
        self._searching.timeout.connect(lambda: self._show(text=self.search.text().strip()))
        self.search.textChanged.connect(lambda _: self._searching.start())
        self.top.addWidget(self.search, 1)
        self.pause_all = self.button("Pause all")
        self.pause_all.clicked.connect(self._pause_all)
        self.new = self.button("New transfer…", kind="primary")
        self.new.clicked.connect(self.wants_transfer)

    def _build_filters(self) -> None:
        self.filters = QWidget()
        line = QHBoxLayout(self.filters)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2 * STEP)
        self.chips = ChipBar(CHIPS)
        self.chips.chosen.connect(lambda value: self._show(state=StateFilter(value)))
        self.node_filter = _filter_button("Any node")
        self.job_filter = _filter_button("Any job")
        line.addWidget(self.chips, 1)
        line.addWidget(self.node_filter, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.job_filter, 0, Qt.AlignmentFlag.AlignTop)
        self.body.insertWidget(1, self.filters)
        self.trouble = TroubleBanner()
        self.trouble.retry.connect(self._retry)
        self.trouble.replace.connect(self._replace)
        self.trouble.details.connect(self._show_problem)
        self.body.addWidget(self.trouble)

    def _build_table(self) -> None:
        self.model = TransfersModel(
            lambda wanted, offset, limit: self._app.ledger.transfers(wanted, offset=offset, limit=limit), self
        )
        self.model.on_failure(self.banner.show_error)
        self.model.on_loaded(self._loaded)
        self.sorted = SortedTransfers(self.model, self)
        cells = (TwoLines(strong=True), TwoLines(), Route(), PillCell(), BarCell(), Figure(), Figure())
        shares = (Share(116, 4), Share(116, 4), Share(116, 6), Share(156, 3), Share(96, 4), Share(82), Share(62))
        self.table = Table(self.sorted, cells, shares, several=True)
        self.table.setAccessibleName("Transfers")
        self.table.setSortingEnabled(True)
        self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.table.horizontalHeader().setSortIndicatorClearable(True)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._menu)
        self.table.picked.connect(self._picked)
        self.empty = EmptyState("transfers", "", "")
        self.empty.acted.connect(self._empty_acted)
        self.stack = QStackedWidget()
        self.stack.addWidget(self.table)
        self.stack.addWidget(self.empty)
        self.detail = TransferDetail(self._session)
        self.detail.closed.connect(self._close_detail)
        self.detail.wants_room.connect(self._give_room)
        self.detail.hide()
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setHandleWidth(3 * STEP)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(self.stack)
        self.splitter.addWidget(self.detail)
        self.splitter.setStretchFactor(0, 1)
        self.splitter.setStretchFactor(1, 0)
        self.body.addWidget(self.splitter, 1)

    # filters --------------------------------------------------------------------------------------------

    def entered(self, wish: object) -> None:
        if isinstance(wish, TransfersWish):
            self.search.clear()
            self._searching.stop()
            self.chips.choose(wish.state.value)
            self._show(state=wish.state, job_id=wish.job_id, node=wish.node, text="")

    def refresh(self) -> None:
        self.model.reload()
        self._count()

    def set_compact(self, compact: bool) -> None:
        self.table.set_compact(compact)

    def _show(self, **changes: object) -> None:
        wanted = replace(self._filter, **changes)  # type: ignore[arg-type]
        if wanted == self._filter:
            return
        self._filter = wanted
        self._name_filters()
        self.model.show(wanted)
        self._count()

    def _name_filters(self) -> None:
        job = next((j.name for j in self._jobs if j.id == self._filter.job_id), "Any job")
        for button, text in ((self.node_filter, self._filter.node or "Any node"), (self.job_filter, job)):
            button.setToolTip(text)
            button.setText(text if len(text) <= 24 else text[:23] + "…")

    def _read_choices(self) -> None:
        def take(found: tuple[list[JobRecord], list[NodeRecord]]) -> None:
            self._jobs, self._nodes = found
            self._states = {j.id: j.state for j in self._jobs}
            self._notes = {j.id: j.note for j in self._jobs}
            self.model.show_notes(self._notes)
            self._tell_pause()
            self._name_filters()
            self._fill(self.job_filter, "Any job", [(j.name, j.id) for j in self._jobs[:40]], "job_id", None)
            self._fill(self.node_filter, "Any node", [(n.name, n.name) for n in self._nodes], "node", "")
            self._tell_empty()

        self._session.read(self, lambda: (self._app.jobs.all(), self._app.nodes.all()), take)
        self._count_soon()

    def _fill(
        self, button: IconButton, title: str, choices: Sequence[tuple[str, object]], field: str, nothing: object
    ) -> None:
        menu = button.menu()
        menu.clear()
        menu.addAction(title, lambda: self._show(**{field: nothing}))
        if choices:
            menu.addSeparator()
        for text, value in choices:
            menu.addAction(text.replace("&", "&&"), partial(self._show, **{field: value}))

    # live changes ---------------------------------------------------------------------------------------

    def _changed(self, rows: list[TransferRow]) -> None:
        self.model.apply(rows)
        self.detail.update_from(rows)
        self._count_soon()
        self._loaded()

    def _jobs_changed(self, changes: list[JobChanged]) -> None:
        """A job with fewer studies than before has begun a new pass: the rows of the old one are gone."""
        for change in changes:
            if change.studies < self._studies.get(change.job_id, 0):
                self._reloading.start()
            self._studies[change.job_id] = change.studies
            self._states[change.job_id] = change.state
            self._notes[change.job_id] = change.note
        self.model.show_notes(self._notes)
        self._tell_pause()
        self._count_soon()

    def _count_soon(self) -> None:
        if not self._counting.isActive():
            self._counting.start()

    def _count(self) -> None:
        anything = replace(self._filter, state=StateFilter.ALL)

        attention = replace(self._filter, state=StateFilter.ATTENTION)
        ledger = self._app.ledger

        def read() -> tuple[dict[StateFilter, int], list[Problem]]:
            counts = ledger.state_counts(anything)
            if not counts.get(StateFilter.ATTENTION, 0):
                return counts, []
            rows = ledger.transfers(attention, limit=500)
            return counts, problems(ledger.failure_groups(job_id=self._filter.job_id), rows)

        self._session.read(self, read, self._counted)

    def _counted(self, found: tuple[dict[StateFilter, int], list[Problem]]) -> None:
        counts, trouble = found
        self.chips.show_counts({state.value: number for state, number in counts.items()})
        self.trouble.tell(trouble)
        self.model.show_outcomes({i: p.outcome for p in reversed(trouble) for i in p.transfer_ids})
        self._tell_pause()

    def _retry(self, transfer_ids: Sequence[int]) -> None:
        def work() -> None:
            for transfer_id in transfer_ids:
                self._app.jobs.retry_transfer(transfer_id)

        self._session.command(self, work)

    def _replace(self, problem: Problem) -> None:
        def work() -> None:
            for transfer_id in problem.transfer_ids:
                self._app.jobs.overwrite_transfer(transfer_id)

        images = words.plural(problem.different, "image")
        ask(
            self,
            f"Replace {images} at {problem.node}?",
            f"{problem.node} holds other content under the same UIDs. It will be removed there and replaced by what "
            "the source holds. This can't be undone.",
            f"Replace {images}",
            lambda: self._session.command(self, work),
            refuse="Leave them",
        )

    def _show_problem(self, problem: Problem) -> None:
        self.chips.choose(StateFilter.ATTENTION.value)
        self._show(state=StateFilter.ATTENTION)
        self._session.read(self, lambda: self._app.ledger.transfer(problem.transfer_ids[0]), self._open_row)

    def _open_row(self, row: TransferRow | None) -> None:
        if row is None:
            return
        self.model.apply([row])
        at = self.model.row_of(row.id)
        if at is not None:
            index = self.sorted.mapFromSource(self.model.index(at, 0))
            self.table.selectRow(index.row())
            self.table.scrollTo(index)
        self.detail.show_row(row)
        self.detail.show_images()
        self._open_detail()

    # selection ------------------------------------------------------------------------------------------

    def selected(self) -> list[TransferRow]:
        return [self.sorted.record(i) for i in self.table.selectionModel().selectedRows()]

    def _picked(self) -> None:
        rows = self.selected()
        if len(rows) == 1:
            self.detail.show_row(rows[0])
            self._open_detail()

    def _open_detail(self) -> None:
        if self.detail.isHidden():
            self.detail.show()
            whole = self.splitter.height()
            below = min(260, max(190, whole * 2 // 5))
            self.splitter.setSizes([whole - below, below])
        QTimer.singleShot(0, self, self._keep_in_sight)  # once the table has its new height

    def _give_room(self) -> None:
        """The images are a table: half of the height, unless the person made it larger already."""
        whole = self.splitter.height()
        if self.detail.height() < whole * 45 // 100:
            self.splitter.setSizes([whole - whole // 2, whole // 2])
            QTimer.singleShot(0, self, self._keep_in_sight)

    def _keep_in_sight(self) -> None:
        for index in self.table.selectionModel().selectedRows()[:1]:
            self.table.scrollTo(index)

    def _close_detail(self) -> None:
        self.detail.hide()
        self.table.clearSelection()
        self.table.setFocus()

    def _menu(self, at: QPoint) -> None:
        rows = self.selected()
        if not rows:
            return
        menu = QMenu(self)
        jobs = self._app.jobs
        self._offer(menu, "retry", "Try again", [r for r in rows if r.state in RETRYABLE], jobs.retry_transfer)
        self._offer(menu, "first", "Send first", [r for r in rows if r.state in UNFINISHED], jobs.prioritise_transfer)
        different = [r for r in rows if r.counts.conflict]
        self._offer(menu, "copy", "Replace at the destination", different, jobs.overwrite_transfer)
        self._offer(menu, "cross", "Cancel", [r for r in rows if r.state in UNFINISHED], jobs.cancel_transfer)
        menu.addSeparator()
        uids = "\n".join(r.study.study_uid for r in rows)
        menu.addAction(icon("copy"), "Copy Study Instance UID", lambda: copy(uids))
        menu.addAction(icon("copy"), "Copy the rows", self.table.copy_rows)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(self.table.viewport().mapToGlobal(at))

    def _offer(
        self, menu: QMenu, name: str, title: str, rows: Sequence[TransferRow], act: Callable[[int], None]
    ) -> None:
        if not rows:
            return
        action = QAction(icon(name), f"{title} ({len(rows)})" if len(rows) > 1 else title, menu)
        ids = [r.id for r in rows]

        def work() -> None:
            for transfer_id in ids:
                act(transfer_id)

        action.triggered.connect(lambda: self._session.command(self, work))
        menu.addAction(action)

    # pausing --------------------------------------------------------------------------------------------

    def _tell_pause(self) -> None:
        running = JobState.RUNNING in self._states.values()
        paused = JobState.PAUSED in self._states.values()
        self.pause_all.setText("Resume all" if paused and not running else "Pause all")
        self.pause_all.setEnabled(running or paused)

    def _pause_all(self) -> None:
        pause = self.pause_all.text() == "Pause all"
        self._session.command(self, self._app.jobs.pause_all if pause else self._app.jobs.resume_all)

    # nothing to show ------------------------------------------------------------------------------------

    def _loaded(self) -> None:
        nothing = self.model.rowCount() == 0 and self.model.complete
        self.stack.setCurrentWidget(self.empty if nothing else self.table)
        # A page without a single study has one button: the one that says what to do first.
        newcomer = nothing and self._filter == TransferFilter()
        for part in (self.filters, self.search, self.pause_all, self.new):
            part.setVisible(not newcomer)
        if nothing:
            self._tell_empty()

    def _tell_empty(self) -> None:
        if self._filter != TransferFilter():
            self.empty.say("Nothing matches", "No study is in this state or fits these filters.", "Show all")
        elif not self._nodes:
            self.empty.say(
                "Add the server your studies come from",
                "Then add where they should go, and start a transfer.",
                "Add node…",
            )
        elif len(self._nodes) < 2:
            self.empty.say(
                "Add where the studies should go",
                "A transfer needs two nodes: where the studies are, and where they should arrive.",
                "Add node…",
            )
        elif not self._jobs:
            self.empty.say(
                "No study is on its way",
                "Choose what to send, and see here when each image has arrived.",
                "New transfer…",
            )
        else:
            self.empty.say(
                "No study is on its way",
                "Each study that a job finds appears here, with its proof.",
                "New transfer…",
            )

    def _empty_acted(self) -> None:
        if self._filter != TransferFilter():
            self.entered(TransfersWish())
        elif len(self._nodes) < 2:
            self._session.going.emit("nodes", "add")
        else:
            self.wants_transfer.emit()


def _filter_button(title: str) -> IconButton:
    button = IconButton(title, "down", kind="chip")
    button.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the arrow behind the word
    button.setMenu(QMenu(button))
    button.setAccessibleName(title)
    return button
