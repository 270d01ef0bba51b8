"""The start page: what runs, what needs a person, and the first steps of a newcomer."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from core.model.job import JobRecord, JobState
from core.model.node import NodeRecord
from core.model.views import FailureGroup, StateFilter, TransferFilter
from gui import words
from gui.icons import IconButton, IconLabel
from gui.models.gateways import is_gateway
from gui.models.jobs import bar, images, route, state_words
from gui.pages.transfers import TransfersWish
from gui.session import Session
from gui.theme import STEP, Role
from gui.widgets.bar import BarLine
from gui.widgets.basics import Elided, card, clear, divider, label, row, scrolled
from gui.widgets.gateways import GatewaysCard
from gui.widgets.page import Page
from gui.widgets.pill import Pill

READ_MS = 1000
SHOWN_JOBS = 5


@dataclass(frozen=True, slots=True)
class _Seen:
    nodes: list[NodeRecord]
    jobs: list[JobRecord]
    counts: dict[StateFilter, int]
    groups: list[FailureGroup]


class HomePage(Page):
    """Attributes
    ----------
    wants_transfer : Signal()
    """

    name = "home"
    wants_transfer = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Home", parent)
        self._session = session
        self._app = session.app
        self.new = self.button("New transfer…", kind="primary")
        self.new.clicked.connect(self.wants_transfer)
        self.new.hide()
        content = QWidget()
        whole = QVBoxLayout(content)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(3 * STEP)
        whole.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._layout = QVBoxLayout()
        self._layout.setSpacing(3 * STEP)
        self.gateways = GatewaysCard(session)
        self.gateways.opened.connect(lambda job: session.going.emit("jobs", job))
        whole.addWidget(self.gateways)
        whole.addLayout(self._layout)
        self.body.addWidget(scrolled(content), 1)
        self._seen: _Seen | None = None
        self._reading = QTimer(self)
        self._reading.setSingleShot(True)
        self._reading.setInterval(READ_MS)
        self._reading.timeout.connect(self.refresh)
        session.jobs.connect(lambda _: self._soon())
        session.transfers.connect(lambda _: self._soon())
        session.jobs_edited.connect(self.refresh)
        session.nodes_edited.connect(self.refresh)
        self.refresh()

    def _soon(self) -> None:
        if self.isVisible() and not self._reading.isActive():
            self._reading.start()

    def entered(self, wish: object) -> None:
        self.refresh()

    def refresh(self) -> None:
        app = self._app

        def read() -> _Seen:
            counts = app.ledger.state_counts(TransferFilter())
            groups = app.ledger.failure_groups() if counts.get(StateFilter.ATTENTION, 0) else []
            return _Seen(app.nodes.all(), app.jobs.all(), counts, groups)

        self._session.read(self, read, self._take)
        self.gateways.watch()

    def _take(self, seen: _Seen) -> None:
        if seen == self._seen:
            return
        self._seen = seen
        clear(self._layout)
        ready = len(seen.nodes) > 1
        self.new.setVisible(ready and bool(seen.jobs))
        if not seen.jobs:
            self._layout.addWidget(self._first_steps(seen))
            return
        self._layout.addWidget(self._figures(seen))
        attention = seen.counts.get(StateFilter.ATTENTION, 0)
        if attention:
            self._layout.addWidget(self._attention(seen))
        if others := [job for job in seen.jobs if not is_gateway(job)]:  # gateways have a card of their own
            self._layout.addWidget(self._jobs(others))

    # parts ----------------------------------------------------------------------------------------------

    def _first_steps(self, seen: _Seen) -> QFrame:
        """Three steps; the one that comes next has the button."""
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(5 * STEP, 5 * STEP, 5 * STEP, 5 * STEP)
        layout.setSpacing(3 * STEP)
        layout.addWidget(label("Carry studies, and prove that every image arrived", "heading"))
        have = len(seen.nodes)
        steps = (
            (have >= 1, "Add the server your studies come from", "A PACS, an Orthanc server or a folder.", "Add node…"),
            (have >= 2, "Add where they should go", "Another server or folder.", "Add node…"),
            (
                False,
                "Start a transfer",
                "Clone a server, migrate an archive, or forward what you choose. Each image is confirmed on arrival.",
                "New transfer…",
            ),
        )
        now = next(i for i, s in enumerate(steps) if not s[0])
        for place, (done, title, text, action) in enumerate(steps):
            layout.addWidget(divider())
            line = row(spacing=3 * STEP)
            sign = ("check", Role.GREEN) if done else ("right", Role.ACCENT if place == now else Role.DISABLED)
            line.addWidget(IconLabel(*sign), 0, Qt.AlignmentFlag.AlignTop)
            texts = QVBoxLayout()
            texts.setSpacing(1)
            texts.addWidget(label(title, "strong" if place == now else "soft"))
            texts.addWidget(label(text, "small", wrap=True))
            line.addLayout(texts, 1)
            if place == now:
                button = IconButton(action, kind="primary")
                button.clicked.connect(self.wants_transfer if place == 2 else self._add_node)
                line.addWidget(button)
            layout.addLayout(line)
        return box

    def _add_node(self) -> None:
        self._session.going.emit("nodes", "add")

    def _figures(self, seen: _Seen) -> QWidget:
        """Four counts, each the way to what it counts."""
        whole = QWidget()
        line = QHBoxLayout(whole)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(3 * STEP)
        for state, title in (
            (StateFilter.RUNNING, "running"),
            (StateFilter.WAITING, "waiting"),
            (StateFilter.ATTENTION, "need attention"),
            (StateFilter.CONFIRMED, "confirmed"),
        ):
            number = seen.counts.get(state, 0)
            tile = card()
            inner = QVBoxLayout(tile)
            inner.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 2 * STEP)
            inner.setSpacing(0)
            inner.addWidget(label(words.count(number), "title"))
            go = IconButton(f"{'study' if number == 1 else 'studies'} {title}", kind="link")
            go.clicked.connect(lambda _=False, s=state: self._session.going.emit("transfers", TransfersWish(state=s)))
            go.setAccessibleName(f"{words.studies(number)} {title}")
            inner.addWidget(go, 0, Qt.AlignmentFlag.AlignLeft)
            inner.setContentsMargins(4 * STEP, 3 * STEP, 2 * STEP, 2 * STEP)
            line.addWidget(tile, 1)
        return whole

    def _attention(self, seen: _Seen) -> QFrame:
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(2 * STEP)
        layout.addWidget(label("Needs attention", "strong"))
        for group in seen.groups[:3]:
            layout.addWidget(divider())
            line = row(spacing=3 * STEP)
            line.addWidget(IconLabel("warning", Role.RED), 0, Qt.AlignmentFlag.AlignTop)
            texts = QVBoxLayout()
            texts.setSpacing(1)
            texts.addWidget(label(f"{words.plural(group.count, 'image')}: {group.failure.sentence}", wrap=True))
            texts.addWidget(label(group.failure.next_step, "small", wrap=True))
            line.addLayout(texts, 1)
            layout.addLayout(line)
        show = IconButton("Show them")
        wish = TransfersWish(state=StateFilter.ATTENTION)
        show.clicked.connect(lambda: self._session.going.emit("transfers", wish))
        layout.addWidget(show, 0, Qt.AlignmentFlag.AlignLeft)
        return box

    def _jobs(self, jobs: list[JobRecord]) -> QFrame:
        """The running jobs first, then the last ones."""
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(2 * STEP)
        running = [j for j in jobs if j.state is JobState.RUNNING]
        others = [j for j in jobs if j.state is not JobState.RUNNING]
        layout.addWidget(label("Jobs", "strong"))
        for job in (running + others)[:SHOWN_JOBS]:
            layout.addWidget(divider())
            line = row(spacing=4 * STEP)
            texts = QVBoxLayout()
            texts.setSpacing(1)
            texts.addWidget(Elided(job.name, "strong"))
            texts.addWidget(Elided(route(job), "small"))
            line.addLayout(texts, 5)
            progress = QVBoxLayout()
            progress.setSpacing(STEP)
            progress.addWidget(BarLine(bar(job.counts)))
            progress.addWidget(Elided(images(job), "small"))
            line.addLayout(progress, 3)
            pill = Pill(*state_words(job))
            pill.setFixedWidth(132)
            line.addWidget(pill)
            go = IconButton("Open", kind="small")
            go.setAccessibleName(f"Open {job.name}")
            go.clicked.connect(lambda _=False, j=job.id: self._session.going.emit("jobs", j))
            line.addWidget(go)
            layout.addLayout(line)
        return box
