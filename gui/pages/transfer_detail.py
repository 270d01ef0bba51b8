"""Below the transfers: one study, how it travels, its series, and the evidence of every image."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QModelIndex, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QMenu,
    QStackedWidget,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from core.model.events import TransferRow
from core.model.job import JobRecord, JobState
from core.model.outcome import STUDY_STATE_WORDS, Method, StudyState
from core.model.views import DeliveryRow, SeriesRow
from gui import words
from gui.icons import IconButton, IconToolButton, icon
from gui.models.deliveries import DeliveriesModel, whole_story
from gui.session import Session
from gui.theme import STEP, Role, Tone, theme
from gui.widgets.ask import ask
from gui.widgets.basics import Elided, clear, copy, divider, label, row, scrolled
from gui.widgets.cells import PillCell, Plain
from gui.widgets.pill import Pill
from gui.widgets.proof import ProofButton
from gui.widgets.table import Share, Table

REFRESH_MS = 700
UNFINISHED = frozenset({StudyState.WAITING, StudyState.SENDING, StudyState.CONFIRMING, StudyState.SENT})
PROOF_WORDS = {
    "sent": "the destination acknowledges each image",
    "verified": "the destination lists each image, by digest where it can",
    "committed": "the destination takes each image over by storage commitment",
}


@dataclass(frozen=True, slots=True)
class _Read:
    """What the panel reads from the ledger for a row."""

    row: TransferRow | None
    series: list[SeriesRow]
    job: JobRecord | None


class TransferDetail(QFrame):
    """Attributes
    ----------
    closed : Signal()
        The person is done with it.
    wants_room : Signal()
        What is shown now needs more height.
    """

    closed = Signal()
    wants_room = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", "true")
        self.setMinimumHeight(170)
        self._session = session
        self._app = session.app
        self._row: TransferRow | None = None
        self._job: JobRecord | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4 * STEP, 2 * STEP, 3 * STEP, 3 * STEP)
        layout.setSpacing(2 * STEP)
        layout.addLayout(self._build_head())
        layout.addLayout(self._build_actions())
        self._pages = QStackedWidget()
        self._pages.addWidget(self._build_overview())
        self._pages.addWidget(self._build_images())
        layout.addWidget(self._pages, 1)
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(REFRESH_MS)
        self._refresh.timeout.connect(self._read)
        theme().changed.connect(self._describe)

    # building -------------------------------------------------------------------------------------------

    def _build_head(self) -> QHBoxLayout:
        head = row(spacing=2 * STEP)
        self.name = label("", "heading")
        self.about = Elided("", "soft")
        self.close_button = IconToolButton("cross", "Close the details")
        self.close_button.clicked.connect(self.closed)
        head.addWidget(self.name)
        head.addWidget(self.about, 1)
        head.addWidget(self.close_button)
        return head

    def _build_actions(self) -> QHBoxLayout:
        self.tabs = QButtonGroup(self)
        self.tabs.setExclusive(True)
        self.overview_tab = _tab("Overview")
        self.images_tab = _tab("Images")
        for number, tab in enumerate((self.overview_tab, self.images_tab)):
            self.tabs.addButton(tab, number)
        self.overview_tab.setChecked(True)
        self.tabs.idClicked.connect(self._pages_show)
        self.retry = _act("Try again", "retry")
        self.replace = _act("Replace there", "copy")
        self.first = _act("Send first", "first")
        self.pause = _act("Pause job", "pause")
        self.cancel = _act("Cancel", "cross")
        self.proof = ProofButton(self._session, kind="small")
        self.retry.clicked.connect(lambda: self._command(self._app.jobs.retry_transfer))
        self.first.clicked.connect(lambda: self._command(self._app.jobs.prioritise_transfer))
        self.cancel.clicked.connect(lambda: self._command(self._app.jobs.cancel_transfer))
        self.replace.clicked.connect(self._ask_replace)
        self.pause.clicked.connect(self._pause)
        actions = row(spacing=STEP)
        actions.addWidget(self.overview_tab)
        actions.addWidget(self.images_tab)
        actions.addStretch(1)
        for button in (self.retry, self.replace, self.first, self.pause, self.cancel, self.proof):
            actions.addWidget(button)
        return actions

    def _build_overview(self) -> QWidget:
        page = QWidget()
        both = QHBoxLayout(page)
        both.setContentsMargins(0, 0, 0, 0)
        both.setSpacing(4 * STEP)
        self.facts = QTextEdit()
        self.facts.setReadOnly(True)
        self.facts.setProperty("plain", "true")
        self.facts.setFrameShape(QFrame.Shape.NoFrame)
        self.facts.setTabChangesFocus(True)
        self.facts.setAccessibleName("About this study")
        self.facts.document().setDocumentMargin(0)
        self._told = ""
        self._series_box = QWidget()
        self._series = QGridLayout(self._series_box)
        self._series.setContentsMargins(0, 0, 0, 0)
        self._series.setHorizontalSpacing(4 * STEP)
        self._series.setVerticalSpacing(0)
        self._series.setColumnStretch(0, 1)
        self._series.setAlignment(Qt.AlignmentFlag.AlignTop)
        both.addWidget(self.facts, 5)
        both.addWidget(divider(vertical=True))
        both.addWidget(scrolled(self._series_box), 5)
        return page

    def _build_images(self) -> QWidget:
        self.images = DeliveriesModel(
            lambda transfer, offset, limit: self._app.ledger.deliveries(
                transfer_id=transfer, offset=offset, limit=limit, failed_first=True
            ),
            self,
        )
        cells = (
            Plain(tabular=True),
            PillCell(),
            Plain(soft=True),
            Plain(soft=True, tabular=True),
            Plain(soft=True),
            Plain(soft=True, tabular=True),
            Plain(),
        )
        shares = (
            Share(160),
            Share(152),
            Share(166),
            Share(84),
            Share(84, 1),
            Share(72, 1),
            Share(110, 4),
        )
        self.images_table = Table(self.images, cells, shares, several=True, row_px=30)
        self.images_table.setAccessibleName("Images of this study with their proof")
        self.images_table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.images_table.customContextMenuRequested.connect(self._images_menu)
        self.images_table.copied = lambda: _stories([self.images.record(i) for i in self.images_table.selected_rows()])
        self.images_table.doubleClicked.connect(self._copy_one)
        return self.images_table

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.closed.emit()
            return
        super().keyPressEvent(event)

    # showing --------------------------------------------------------------------------------------------

    @property
    def row(self) -> TransferRow | None:
        return self._row

    def show_row(self, transfer: TransferRow) -> None:
        """Show a study; its series and proof are read in the background."""
        other = self._row is None or self._row.id != transfer.id
        self._row = transfer
        if other:
            self._job = None
            self.proof.show_job(None)
            clear(self._series)
        self.images.show_transfer(transfer.id)
        self._describe()
        self._read()

    def show_images(self) -> None:
        self.images_tab.setChecked(True)
        self._pages_show(1)

    def update_from(self, rows: Sequence[TransferRow]) -> None:
        """Take in live changes of the study that is shown."""
        if self._row is None or self.isHidden():
            return
        mine = next((r for r in rows if r.id == self._row.id), None)
        if mine is not None:
            self._row = mine
            self._describe()
            if not self._refresh.isActive():
                self._refresh.start()

    def _pages_show(self, number: int) -> None:
        self._pages.setCurrentIndex(number)
        if number:
            self.wants_room.emit()

    def _read(self) -> None:
        shown = self._row
        if shown is None:
            return
        ledger, jobs = self._app.ledger, self._app.jobs

        def read() -> _Read:
            return _Read(ledger.transfer(shown.id), ledger.series(shown.id), jobs.get(shown.job_id))

        self._session.read(self, read, self._take)
        self.images.refresh()

    def _take(self, found: _Read) -> None:
        if self._row is None or found.row is None or found.row.id != self._row.id:
            return
        self._job = found.job
        self.proof.show_job(found.job)
        self._describe()
        self._show_series(found.series)

    def _describe(self) -> None:
        r = self._row
        if r is None:
            return
        self.name.setText(words.person(r.study.patient_name))
        what = " ".join(t for t in ("/".join(r.study.modalities), r.study.description) if t)
        size = words.size(r.counts.bytes_total) if r.counts.bytes_total else ""
        self.about.setText(" · ".join(t for t in (what, words.study_when(r.study), size) if t))
        self.images_tab.setText(f"Images {words.count(r.counts.total)}")
        told = "<br>".join(_facts(r, self._job))
        if told != self._told:  # else the scroll position and what was marked would be lost
            self._told = told
            self.facts.setHtml(f"<div style='line-height:118%'>{told}</div>")
        unfinished = r.state in UNFINISHED
        troubled = bool(r.counts.failed or r.counts.cancelled)
        self.retry.setVisible(troubled and not r.counts.sending)
        self.replace.setVisible(bool(r.counts.conflict))
        self.first.setVisible(r.state is StudyState.WAITING)
        self.cancel.setVisible(unfinished)
        running = self._job is not None and self._job.state is JobState.RUNNING
        paused = self._job is not None and self._job.state is JobState.PAUSED
        self.pause.setVisible((running and unfinished) or paused)
        self.pause.setText("Resume job" if paused else "Pause job")
        self.pause.set_icon_name("play" if paused else "pause")

    def _show_series(self, series: Sequence[SeriesRow]) -> None:
        clear(self._series)
        sending = self._row is not None and self._row.state is StudyState.SENDING
        for at, one in enumerate(series):
            line = 2 * at
            title = " · ".join(t for t in (f"Series {one.number}" if one.number else "Series", one.description) if t)
            if at:
                self._series.addWidget(divider(), line - 1, 0, 1, 3)
            name = Elided(title)
            name.setMinimumHeight(32)
            self._series.addWidget(name, line, 0)
            figures = label(f"{words.count(one.confirmed + one.sent)} / {words.count(one.total)}")
            figures.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self._series.addWidget(figures, line, 1)
            text, tone = series_words(one, active=sending)
            self._series.addWidget(Pill(text, tone), line, 2, Qt.AlignmentFlag.AlignVCenter)

    # acting ---------------------------------------------------------------------------------------------

    def _command(self, act: Callable[[int], None]) -> None:
        if self._row is not None:
            transfer_id = self._row.id
            self._session.command(self, lambda: act(transfer_id))

    def _ask_replace(self) -> None:
        r = self._row
        if r is None:
            return
        ask(
            self,
            f"Replace {words.plural(r.counts.conflict, 'image')} at {r.destination}?",
            f"{r.destination} holds other images under the same UIDs. They will be removed there and replaced by "
            f"those of {r.source}. This can't be undone.",
            f"Replace {words.plural(r.counts.conflict, 'image')}",
            lambda: self._command(self._app.jobs.overwrite_transfer),
            refuse="Leave them",
        )

    def _pause(self) -> None:
        if self._job is None:
            return
        job = self._job
        act = self._app.jobs.resume if job.state is JobState.PAUSED else self._app.jobs.pause
        self._session.command(self, lambda: act(job.id), self._refresh.start)

    def _images_menu(self, at: QPoint) -> None:
        rows = [self.images.record(i) for i in self.images_table.selected_rows()]
        if not rows:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(icon("copy"), "Copy SOP Instance UID", lambda: copy("\n".join(r.sop_uid for r in rows)))
        menu.addAction(icon("copy"), "Copy everything about it", lambda: copy(_stories(rows)))
        menu.popup(self.images_table.viewport().mapToGlobal(at))

    def _copy_one(self, index: QModelIndex) -> None:
        copy(whole_story(self.images.record(index.row())))


def series_words(one: SeriesRow, *, active: bool) -> tuple[str, Tone]:
    """The state of a series; a confirmed one names the method when there is only one."""
    if active and one.state is StudyState.WAITING and one.confirmed + one.sent:
        return STUDY_STATE_WORDS[StudyState.SENDING], Tone.BLUE
    text, tone = STUDY_STATE_WORDS[one.state], words.STATE_TONES[one.state]
    if one.state in (StudyState.CONFIRMED, StudyState.COMMITTED) and len(one.methods) == 1:
        method = Method(one.methods[0])
        text = f"{text} {words.METHOD_WORDS[method]}" if method is not Method.COMMITMENT else text
    return text, tone


def _facts(r: TransferRow, job: JobRecord | None) -> list[str]:
    lines = []
    path = words.path(r.path)
    if path:
        lines.append(_fact("Path", path, f" ({words.lower_first(r.path_reason.rstrip('.'))})" if r.path_reason else ""))
    if job is not None:
        wanted = str(job.fields.get("evidence") or "verified")
        move = " before it is deleted at the source" if job.fields.get("after") == "move" else ""
        lines.append(_fact("Proof wanted", PROOF_WORDS.get(wanted, wanted) + move))
    begun = []
    if r.attempt:
        begun.append(f"attempt {r.attempt}")
    if r.started is not None:
        begun.append(f"started {words.exact(r.started)}")
    if job is not None:
        begun.append(f"job “{job.name}”")
    if begun:
        first = " · ".join(begun)
        lines.append(html.escape(first[0].upper() + first[1:]))
    if r.instead_of:
        lines.append(html.escape(f"{r.destination} takes this over while {r.instead_of} is down."))
    if r.reason:
        lines.append(f"<b>{html.escape(r.reason)}</b> {html.escape(r.next_step)}")
    c = r.counts
    parts = [
        f"{words.count(number)} {word}"
        for number, word in (
            (c.verified, "confirmed"),
            (c.committed, "committed"),
            (c.sent, "sent, not confirmed"),
            (c.skipped, "already there"),
            (c.planned + c.sending, "to do"),
            (c.conflict, "different at the destination"),
            (c.failed, "failed"),
            (c.cancelled, "cancelled"),
        )
        if number
    ]
    lines.append(_fact("Images", ", ".join(parts) or "none yet"))
    ids = [("Patient ID", r.study.patient_id), ("Accession", r.study.accession)]
    shown = " · ".join(f"{title} {value}" for title, value in ids if value)
    if shown:
        lines.append(html.escape(shown))
    return lines


def _fact(title: str, text: str, more: str = "") -> str:
    soft = theme().hex(Role.SOFT)
    return f"<span style='color:{soft}'>{title}:</span> {html.escape(text + more)}"


def _stories(rows: Sequence[DeliveryRow]) -> str:
    return "\n\n".join(whole_story(r) for r in rows)


def _tab(title: str) -> IconButton:
    made = IconButton(title, kind="quiet")
    made.setCheckable(True)
    return made


def _act(title: str, name: str) -> IconButton:
    return IconButton(title, name, kind="small")
