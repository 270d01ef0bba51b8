"""The jobs page: what was ordered, how far it is, and the orders that can be given to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from core.model.events import JobChanged
from core.model.gateway import SWITCHED_OFF
from core.model.job import JOB_UNFINISHED, JobRecord, JobState
from core.model.views import StateFilter
from gui import words
from gui.icons import IconButton
from gui.models.gateways import is_gateway, is_routing
from gui.models.jobs import JobsModel, state_words
from gui.pages.transfers import TransfersWish
from gui.session import Session
from gui.theme import STEP
from gui.widgets.ask import ask
from gui.widgets.basics import Elided, card, label, row
from gui.widgets.cells import BarCell, PillCell, Plain, TwoLines
from gui.widgets.empty import EmptyState
from gui.widgets.flow import FlowLayout
from gui.widgets.gateways import GatewayPanel
from gui.widgets.page import Page
from gui.widgets.pill import Pill
from gui.widgets.proof import ProofButton, file_name
from gui.widgets.rule_dialog import change_rule, has_rule, rule_words
from gui.widgets.steps import step_words
from gui.widgets.table import Share, Table


class JobsPage(Page):
    """Attributes
    ----------
    wants_transfer : Signal()
    """

    name = "jobs"
    wants_transfer = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Jobs", parent)
        self._session = session
        self._app = session.app
        self._wanted: int | None = None
        self.new = self.button("New transfer…", kind="primary")
        self.new.clicked.connect(self.wants_transfer)
        self.model = JobsModel()
        cells = (TwoLines(strong=True), PillCell(), BarCell(), Plain(), Plain(soft=True))
        shares = (Share(240, 6), Share(136, 1), Share(180, 2), Share(130, 2), Share(86, 1))
        self.table = Table(self.model, cells, shares)
        self.table.setAccessibleName("Jobs")
        self.table.picked.connect(self._show)
        self.table.doubleClicked.connect(lambda _: self._studies(StateFilter.ALL))
        whole = QWidget()
        layout = QVBoxLayout(whole)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3 * STEP)
        layout.addWidget(self.table, 1)
        layout.addWidget(self._build_detail())
        self.empty = EmptyState(
            "jobs",
            "No job yet",
            "A job clones a whole server, migrates a range of days or a list, or forwards the studies that you choose.",
            "New transfer…",
        )
        self.empty.acted.connect(self.wants_transfer)
        self.stack = QStackedWidget()
        self.stack.addWidget(QWidget())
        self.stack.addWidget(whole)
        self.stack.addWidget(self.empty)
        self.body.addWidget(self.stack, 1)
        session.jobs.connect(self._changed)
        session.jobs_edited.connect(self.refresh)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(700)  # by then the engine has read the command
        self._soon.timeout.connect(self.refresh)
        self.refresh()

    def _build_detail(self) -> QWidget:
        self.panel = card()
        layout = QVBoxLayout(self.panel)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(2 * STEP)
        head = row()
        self.heading = Elided("", "heading")
        self.pill = Pill()
        head.addWidget(self.heading, 1)
        head.addWidget(self.pill)
        layout.addLayout(head)
        self.facts = label("", "soft", wrap=True)
        self.trouble = label("", "warning", wrap=True, selectable=True)
        layout.addWidget(self.facts)
        layout.addWidget(self.trouble)
        self.gateway = GatewayPanel(self._session)
        layout.addWidget(self.gateway)
        actions = QHBoxLayout()
        actions.setSpacing(2 * STEP)
        self.open = IconButton("Show its studies", "transfers")
        self.start = IconButton("Start", "play")
        self.pause = IconButton("Pause", "pause")
        self.retry = IconButton("Try again what failed", "retry")
        self.save_list = IconButton("List of what failed…", "export")
        self.save_list.setToolTip("The studies that are not as wanted, as a file that a migration takes as its list")
        self.proof = ProofButton(self._session)
        self.cancel = IconButton("Cancel", "cross")
        self.remove = IconButton("Remove", "remove", kind="danger")
        self.open.clicked.connect(lambda: self._studies(StateFilter.ALL))
        self.start.clicked.connect(self._start)
        self.pause.clicked.connect(lambda: self._command(self._app.jobs.pause))
        self.retry.clicked.connect(lambda: self._command(self._app.jobs.retry))
        self.save_list.clicked.connect(self._choose_list)
        self.rule = IconButton("Rule…", "edit")
        self.rule.clicked.connect(self._change_rule)
        self.cancel.clicked.connect(self._ask_cancel)
        self.remove.clicked.connect(self._ask_remove)
        orders = QWidget()
        flow = FlowLayout(orders, 2 * STEP)
        for button in (self.open, self.start, self.pause, self.rule, self.retry, self.save_list, self.proof):
            flow.addWidget(button)
        actions.addWidget(orders, 1)
        actions.addWidget(self.cancel, 0, Qt.AlignmentFlag.AlignTop)
        actions.addWidget(self.remove, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(actions)
        self.panel.hide()
        return self.panel

    # reading --------------------------------------------------------------------------------------------

    def entered(self, wish: object) -> None:
        if isinstance(wish, int):
            self._wanted = wish
        self.refresh()

    def refresh(self) -> None:
        self._session.read(self, self._app.jobs.all, self._take)

    def _take(self, jobs: list[JobRecord]) -> None:
        self.model.show(jobs)
        self.stack.setCurrentIndex(1 if jobs else 2)
        self.new.setVisible(bool(jobs))
        if self._wanted is not None:
            at = self.model.row_of(self._wanted)
            if at is not None:
                self.table.selectRow(at)
                self._wanted = None
        elif jobs and not self.table.selected_rows():
            self.table.selectRow(0)
        running = sum(1 for j in jobs if j.state is JobState.RUNNING)
        self.status = words.plural(len(jobs), "job") + (f" · {running} running" if running else "")
        self._show()

    def _changed(self, changes: list[JobChanged]) -> None:
        switched = any(self._routes(c.job_id) is (SWITCHED_OFF in c.note) for c in changes)
        known = [self.model.apply(c) for c in changes]
        if switched or not all(known):
            self._soon.start()
        self._show()

    def _routes(self, job_id: int) -> bool | None:
        """Whether a job's switch is on, as it is shown here; None for one that has no switch."""
        at = self.model.row_of(job_id)
        job = None if at is None else self.model.record(at)
        return is_routing(job) if job is not None and is_gateway(job) else None

    def chosen(self) -> JobRecord | None:
        rows = self.table.selected_rows()
        return self.model.record(rows[0]) if rows else None

    def _show(self) -> None:
        job = self.chosen()
        self.gateway.show_job(job if job is not None and is_gateway(job) else None)
        self.panel.setVisible(job is not None)
        if job is None:
            return
        self.heading.setText(job.name)
        self.pill.show_state(*state_words(job))
        lines = (" · ".join(_facts(job)), rule_words(self._app, job), step_words(job))
        self.facts.setText("\n".join(t for t in lines if t))
        trouble = " ".join(dict.fromkeys(t for t in (job.problem, job.note) if t))
        self.trouble.setText(trouble)
        self.trouble.setVisible(bool(trouble) and not is_gateway(job))  # a gateway's panel says it
        unfinished = job.state in JOB_UNFINISHED
        titles = {
            JobState.SAVED: "Start",
            JobState.PAUSED: "Resume",
            JobState.STOPPED: "Go on",
            JobState.FINISHED: "Start again",
            JobState.CANCELLED: "Start again",
        }
        self.start.setText(titles.get(job.state, "Start"))
        self.start.setVisible(job.state is not JobState.RUNNING)
        self.pause.setVisible(job.state is JobState.RUNNING)
        self.retry.setVisible(bool(job.counts.failed))
        c = job.counts
        self.save_list.setVisible(bool(c.failed + c.conflict + c.cancelled))
        self.rule.setVisible(has_rule(self._app, job))
        self.rule.setEnabled(job.state is not JobState.RUNNING)
        self.rule.setToolTip(
            "Pause the job to change its rule." if job.state is JobState.RUNNING else "Which studies it takes"
        )
        self.cancel.setVisible(unfinished)
        self.remove.setVisible(not unfinished)
        self.proof.show_job(job)
        self.open.setEnabled(bool(job.counts.total))

    # acting ---------------------------------------------------------------------------------------------

    def _command(self, act: Callable[[int], None]) -> None:
        job = self.chosen()
        if job is not None:
            self._session.command(self, lambda: act(job.id), self._soon.start)

    def _start(self) -> None:
        job = self.chosen()
        if job is not None:
            self._command(self._app.jobs.resume if job.state is JobState.PAUSED else self._app.jobs.start)

    def _studies(self, state: StateFilter) -> None:
        job = self.chosen()
        if job is not None:
            self._session.going.emit("transfers", TransfersWish(state=state, job_id=job.id))

    def _choose_list(self) -> None:
        job = self.chosen()
        if job is None:
            return
        suggested = Path.home() / f"{file_name(f'Not done {job.name}')}.txt"
        file, _ = QFileDialog.getSaveFileName(self, "Save the list of what failed", str(suggested), "*.txt *.csv")
        if file:
            self.save_failed(Path(file))

    def save_failed(self, file: Path) -> None:
        """Write the studies that are not as wanted; a migration takes the file as its list."""
        job = self.chosen()
        if job is None:
            return
        job_id, app = job.id, self._app

        def told(count: int) -> None:
            lead = f"The list has {words.studies(count)}."
            self._session.told.emit(lead, f"{file}: a migration takes it as its list.")

        self._session.read(self, lambda: app.failed_list(job_id, file), told)

    def _change_rule(self) -> None:
        job = self.chosen()
        if job is not None:
            self.rule_dialog = change_rule(self, self._session, job)

    def _ask_cancel(self) -> None:
        job = self.chosen()
        if job is None:
            return
        left = job.counts.planned + job.counts.sending + job.counts.sent
        ask(
            self,
            f"Cancel “{job.name}”?",
            f"{words.plural(left, 'image')} will not be sent or confirmed. What has arrived stays where it is, "
            "and nothing more is deleted at the source.",
            "Cancel the job",
            lambda: self._command(self._app.jobs.cancel),
            refuse="Let it run",
        )

    def _ask_remove(self) -> None:
        job = self.chosen()
        if job is None:
            return
        ask(
            self,
            f"Remove “{job.name}”?",
            f"Its studies leave the list of transfers, and the proof of {words.plural(job.counts.total, 'image')} is "
            "deleted from this computer. Export the proof first if you may need it. No image is deleted anywhere.",
            "Remove job and proof",
            lambda: self._command(self._app.jobs.remove),
            refuse="Keep it",
        )


def _facts(job: JobRecord) -> list[str]:
    c = job.counts
    parts = [words.studies(job.studies), words.plural(c.total, "image")]
    for number, word in (
        (c.verified, "confirmed"),
        (c.committed, "committed"),
        (c.sent, "sent"),
        (c.skipped, "already there"),
        (c.conflict, "different"),
        (c.failed, "failed"),
        (c.cancelled, "cancelled"),
        (job.left_out, "left out by the filter"),
    ):
        if number:
            parts.append(f"{words.count(number)} {word}")
    if c.bytes_total:
        parts.append(words.size(c.bytes_total))
    if job.pass_number > 1:
        parts.append(f"pass {job.pass_number}")
    if job.started:
        parts.append(f"begun {words.exact(job.started)}")
    if job.finished:
        parts.append(f"ended {words.exact(job.finished)}")
    return parts
