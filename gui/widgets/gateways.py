"""How gateways stand, with the switch of their auto-routing: a card of all for the start page, a panel of one."""

from __future__ import annotations

from time import monotonic

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QVBoxLayout, QWidget

from core.model.errors import FerryError
from core.model.gateway import GatewayStanding
from core.model.job import JobRecord
from gui.background import Operation
from gui.icons import IconButton
from gui.models.gateways import is_routing, lines, reasons, short_words, state_words
from gui.models.jobs import route
from gui.session import Session
from gui.theme import STEP
from gui.widgets.basics import Elided, card, clear, divider, label, row
from gui.widgets.pill import Pill
from gui.widgets.switch import Switch

READ_MS = 2000
SPARING = 10  # reading takes at most this part of the time
_TITLE_PX = 140

Seen = list[tuple[JobRecord, GatewayStanding | None, str]]


class _Watching(QWidget):
    """Reads how gateways stand, again and again while it can be seen."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._reading = False
        self._began = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(READ_MS)
        self._timer.timeout.connect(self.refresh)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._timer.start()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._timer.stop()

    def refresh(self) -> None:
        """Read anew, unless that is being done."""
        if self._reading or not self._wanted():
            return
        self._reading = True
        self._began = monotonic()
        Operation(self, self._read).success(self._arrived).failure(self._missed).run()

    def _wanted(self) -> bool:
        return True

    def _jobs(self) -> list[JobRecord]:
        """Which gateways."""
        return []

    def _read(self) -> Seen:
        found: Seen = []
        for job in self._jobs():
            try:
                found.append((job, self._session.app.jobs.gateway_standing(job.id), ""))
            except FerryError as error:
                found.append((job, None, str(error)))
        return found

    def _arrived(self, seen: Seen) -> None:
        self._reading = False
        took = int(1000 * (monotonic() - self._began))  # what a gateway has done in years takes a while to add up
        self._timer.setInterval(max(READ_MS, SPARING * took))
        self._take(seen)

    def _missed(self, error: Exception) -> None:
        self._reading = False
        self._session.failed.emit(error)

    def _take(self, seen: Seen) -> None:
        """Show it."""

    def _switch(self, job: JobRecord, switch: Switch) -> None:
        on = switch.isChecked()
        self._session.command(self, lambda: self._session.app.jobs.route(job.id, on=on), self.refresh)


class GatewaysCard(_Watching):
    """A row for each gateway; hidden where there is none.

    Attributes
    ----------
    opened : Signal(int)
        A person wants to see this job.
    """

    opened = Signal(int)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        self._box = card()
        outer.addWidget(self._box)
        self._layout = QVBoxLayout(self._box)
        self._layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        self._layout.setSpacing(2 * STEP)
        self._layout.addWidget(label("Gateways", "strong"))
        self.rows: dict[int, _Row] = {}
        self.hide()

    def watch(self) -> None:
        """Look whether there is any; from then on by itself while it can be seen."""
        self.refresh()

    def _jobs(self) -> list[JobRecord]:
        return self._session.app.jobs.gateways()

    def _take(self, seen: Seen) -> None:
        wanted = {job.id for job, _standing, _trouble in seen}
        for job_id in [k for k in self.rows if k not in wanted]:
            self.rows.pop(job_id).deleteLater()
        for job, standing, trouble in seen:
            if job.id not in self.rows:
                made = self.rows[job.id] = _Row(job)
                made.switch.clicked.connect(lambda _on=False, j=job, r=made: self._switch(j, r.switch))
                made.open.clicked.connect(lambda _=False, j=job.id: self.opened.emit(j))
                self._layout.addWidget(made)
            self.rows[job.id].show_standing(job, standing, trouble)
        self.setVisible(bool(seen))


class _Row(QFrame):
    """One gateway."""

    def __init__(self, job: JobRecord) -> None:
        super().__init__()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2 * STEP)
        outer.addWidget(divider())
        line = row(spacing=4 * STEP)
        texts = QVBoxLayout()
        texts.setSpacing(1)
        self.name = Elided(job.name, "strong")
        self.standing = Elided("", "small")
        texts.addWidget(self.name)
        texts.addWidget(self.standing)
        line.addLayout(texts, 1)
        self.pill = Pill()
        line.addWidget(self.pill, 0, Qt.AlignmentFlag.AlignVCenter)
        line.addWidget(label("Auto-routing", "small"))
        self.switch = Switch(f"Auto-routing of {job.name}")
        line.addWidget(self.switch)
        self.open = IconButton("Open", kind="small")
        self.open.setAccessibleName(f"Open {job.name}")
        line.addWidget(self.open)
        outer.addLayout(line)
        self.trouble = label("", "warning", wrap=True, selectable=True)
        outer.addWidget(self.trouble)

    def show_standing(self, job: JobRecord, standing: GatewayStanding | None, trouble: str) -> None:
        self.name.setText(job.name)
        self.switch.setChecked(is_routing(job))
        if standing is None:
            self.standing.setText(route(job))
            self.pill.hide()
        else:
            self.standing.setText(short_words(standing))
            self.pill.show_state(*state_words(standing))
            self.pill.show()
            trouble = reasons(standing)
        self.trouble.setText(trouble)
        self.trouble.setVisible(bool(trouble))


class GatewayPanel(_Watching):
    """What a gateway has besides other jobs; hidden for all others."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session, parent)
        self._job: JobRecord | None = None
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2 * STEP)
        outer.addWidget(divider())
        head = row(spacing=3 * STEP)
        self.switch = Switch("Auto-routing")
        self.switch.clicked.connect(self._clicked)
        head.addWidget(self.switch)
        head.addWidget(label("Auto-routing", "strong"))
        self.meaning = label("", "soft", wrap=True)
        head.addWidget(self.meaning, 1)
        outer.addLayout(head)
        self._lines = QGridLayout()
        self._lines.setHorizontalSpacing(3 * STEP)
        self._lines.setVerticalSpacing(STEP)
        self._lines.setColumnMinimumWidth(0, _TITLE_PX)
        self._lines.setColumnStretch(1, 1)
        outer.addLayout(self._lines)
        self.trouble = label("", "warning", wrap=True, selectable=True)
        outer.addWidget(self.trouble)
        self._shown: list[tuple[str, str]] = []
        self.hide()

    def show_job(self, job: JobRecord | None) -> None:
        """Watch this gateway; None for a job that is none."""
        another = job is None or self._job is None or job.id != self._job.id
        if another:
            self._show([])
            self.trouble.hide()
        self._job = job
        self.setVisible(job is not None)
        if job is not None and another:
            self._say_switch(job)
            self.refresh()

    def _wanted(self) -> bool:
        return self._job is not None

    def _jobs(self) -> list[JobRecord]:
        return [] if self._job is None else [self._session.app.jobs.get(self._job.id)]

    def _clicked(self) -> None:
        if self._job is not None:
            self._switch(self._job, self.switch)

    def _say_switch(self, job: JobRecord) -> None:
        on = is_routing(job)
        self.switch.setChecked(on)
        self.meaning.setText(
            "What arrives goes on by itself." if on else "Images are received and kept; nothing is sent until it is on."
        )

    def _take(self, seen: Seen) -> None:
        if not seen or self._job is None or seen[0][0].id != self._job.id:
            return
        job, standing, trouble = seen[0]
        self._job = job
        self._say_switch(job)
        if standing is not None:
            self._show(lines(standing, job))
            trouble = reasons(standing)
        self.trouble.setText(trouble)
        self.trouble.setVisible(bool(trouble))

    def _show(self, found: list[tuple[str, str]]) -> None:
        if found == self._shown:
            return
        self._shown = found
        clear(self._lines)
        for at, (title, text) in enumerate(found):
            self._lines.addWidget(label(title, "soft"), at, 0, Qt.AlignmentFlag.AlignTop)
            self._lines.addWidget(label(text, wrap=True, selectable=True), at, 1)
