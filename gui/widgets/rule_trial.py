"""What a rule takes of what a node holds: "12 of 340 studies match", with examples, current as the rule changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from core.app import Abort, App
from core.model.rules import Rule
from core.rule_trial import Example, StudyLists, Trial, Verdict, try_rule
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.models.roles import ModelRole
from gui.theme import STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import label
from gui.widgets.cells import PillCell, Plain
from gui.widgets.table import Share, Table

Try = Callable[[Sequence[str], Rule, StudyLists, Abort, Callable[[object], None]], Trial]
"""Tries a rule on the nodes of these names, in the background."""


def trying(app: App) -> Try:
    """Tries rules on the nodes of a home."""

    def attempt(
        names: Sequence[str], rule: Rule, lists: StudyLists, abort: Abort, report: Callable[[object], None]
    ) -> Trial:
        return try_rule(app.nodes, names, rule, lists=lists, abort=abort, progress=report)

    return attempt


Index = QModelIndex | QPersistentModelIndex
_NO_PARENT = QModelIndex()
_SHOWN = 5  # examples of each
_ROW_PX = 30
_AFTER_CHANGE_MS = 400
_HEADS = ("", "Patient", "When", "What")
_WORDS = {
    Verdict.ALL: ("Taken", Tone.GREEN),
    Verdict.SOME: ("Taken in part", Tone.BLUE),
    Verdict.NONE: ("Left out", Tone.GREY),
    Verdict.UNDECIDED: ("Not looked into", Tone.AMBER),
}


class ExamplesModel(QAbstractTableModel):
    """Studies that a rule takes, and some that it leaves out."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[Example, ...] = ()

    def show(self, trial: Trial | None) -> None:
        rows = (*trial.matching[:_SHOWN], *trial.others[:_SHOWN]) if trial is not None else ()
        if rows != self._rows:
            self.beginResetModel()
            self._rows = rows
            self.endResetModel()

    def rowCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(_HEADS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        horizontal = orientation is Qt.Orientation.Horizontal
        if horizontal and role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        return _HEADS[section] if horizontal and role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        one = self._rows[index.row()]
        if role == ModelRole.TONE and index.column() == 0:
            return _WORDS[one.verdict][1]
        if role == Qt.ItemDataRole.ToolTipRole:
            return _images(one) or None
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        cells = (
            _WORDS[one.verdict][0],
            words.person(one.study.patient_name),
            words.dicom_date(one.study.study_date) or "No date",
            words.study_what(one.study),
        )
        return cells[index.column()]


def _images(one: Example) -> str:
    return f"{words.count(one.taken)} of {words.plural(one.looked_at, 'image')} looked at" if one.looked_at else ""


class TrialPanel(QFrame):
    """Tries a rule once a person asks for it, and from then on at every change.

    Nothing is asked of a node before; its list of studies is read once and kept in memory while this is open.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("card", "true")
        self.running = False
        self.trial: Trial | None = None
        self._try: Try | None = None
        self._sources: tuple[str, ...] = ()
        self._rule: Rule | None = None
        self._lists = StudyLists()
        self._live = False
        self._run = 0
        self._abort: Abort | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(STEP)
        head = QHBoxLayout()
        head.setSpacing(2 * STEP)
        self.headline = label("", "heading", wrap=True)
        self.stop = IconButton("Stop", kind="small")
        self.again = IconButton("Try it", "search", kind="small")
        for button in (self.stop, self.again):
            button.setAutoDefault(False)
        self.stop.clicked.connect(self.halt)
        self.again.clicked.connect(self.look)
        head.addWidget(self.headline, 1)
        head.addWidget(self.stop, 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self.again, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(head)
        self.more = label("", "soft", wrap=True)
        self.doubt = label("", "warning", wrap=True, selectable=True)
        layout.addWidget(self.more)
        layout.addWidget(self.doubt)
        self.banner = Banner(closable=False)
        layout.addWidget(self.banner)
        self.model = ExamplesModel()
        cells = (PillCell(), Plain(), Plain(soft=True, tabular=True), Plain(soft=True))
        shares = (Share(128), Share(150, 2), Share(104), Share(150, 3))
        self.table = Table(self.model, cells, shares, row_px=_ROW_PX)
        self.table.setProperty("plain", "true")
        self.table.setFrameShape(QFrame.Shape.NoFrame)
        self.table.setAccessibleName("Examples of what the rule takes and leaves out")
        layout.addWidget(self.table)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_AFTER_CHANGE_MS)
        self._soon.timeout.connect(self._start)
        self._show(None)

    # what to try ----------------------------------------------------------------------------------------

    def offer(self, attempt: Try, sources: Sequence[str]) -> None:
        """Where the rule can be tried; without any source there is nothing to see."""
        self._try = attempt
        if tuple(sources) != self._sources:
            self.halt()
            self._sources = tuple(sources)
            self._lists = StudyLists()
            self._live = False
            self._show(None)
        self.setVisible(bool(sources))

    def show_rule(self, rule: Rule | None) -> None:
        """The rule is this one now; None while it can't be read."""
        if rule == self._rule:
            return
        self._rule = rule
        self._drop()
        if self._live and rule is not None:
            self._soon.start()
            self._wait()
        else:
            self._show(None)

    # trying ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the nodes, anew where it was done before."""
        self._drop()
        self._lists = StudyLists()
        self._live = True
        self._start()

    def halt(self) -> None:
        """Stop at once; what was found so far stays to be seen."""
        self._live = False
        self._soon.stop()
        if self._abort is not None:
            self._abort.abort()  # the run ends with what it has

    def _drop(self) -> None:
        """Nobody wants to know any more what is being looked for."""
        self._run += 1
        self._soon.stop()
        self.running = False
        if self._abort is not None:
            self._abort.abort()
            self._abort = None

    def _start(self) -> None:
        rule, attempt = self._rule, self._try
        if rule is None or attempt is None or not self._sources:
            return
        self._drop()
        run, self._abort = self._run, Abort()
        sources, lists, abort = self._sources, self._lists, self._abort
        self.running = True
        self.banner.put_away()
        self._wait()

        def work() -> Trial:
            return attempt(sources, rule, lists, abort, operation.report)

        def step(found: object) -> None:
            if run == self._run and isinstance(found, Trial):
                self._show(found)

        def done(found: Trial) -> None:
            if run == self._run:
                self.running, self._abort = False, None
                self._show(found)

        def failed(error: Exception) -> None:
            if run == self._run:
                self.running, self._abort, self._live = False, None, False
                self._show(None)
                self.banner.show_error(error)

        operation = Operation(self, work).progress(step).success(done).failure(failed)
        operation.run()

    # showing --------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """What was found of the rule before is left to be seen until there is something of this one."""
        self.headline.setText("Looking…")
        self.more.setText("")
        self.doubt.setText("")
        self.stop.show()
        self.again.hide()

    def _show(self, trial: Trial | None) -> None:
        self.trial = trial
        where = " and ".join(self._sources) if len(self._sources) < 3 else f"{len(self._sources)} nodes"
        self.stop.setVisible(self.running)
        self.again.setVisible(not self.running)
        self.again.setText("Look again" if trial is not None else "Try it")
        self.again.setEnabled(self._rule is not None)
        if trial is None:
            self.headline.setText(f"What does it take of {where}?" if where else "")
            self.more.setText("Studies are listed, and nothing is sent.")
            self.doubt.setText("")
        else:
            self.headline.setText(headline(trial) + (" so far…" if self.running else ""))
            self.more.setText(" ".join(particulars(trial)))
            doubts = [*trial.reasons, *(f"{t.sentence} {t.next_step}".strip() for t in trial.troubles)]
            self.doubt.setText("\n".join(dict.fromkeys(doubts)))
        for part in (self.more, self.doubt):
            part.setVisible(bool(part.text()))
        self.model.show(trial)
        rows = self.model.rowCount()
        self.table.setVisible(bool(rows))
        self.table.setFixedHeight(rows * _ROW_PX + self.table.horizontalHeader().sizeHint().height() + 2)


def headline(trial: Trial) -> str:
    """ "12 of 340 studies match"."""
    one = trial.studies == 1
    return f"{words.count(trial.matched)} of {words.studies(trial.studies)} {'matches' if one else 'match'}"


def particulars(trial: Trial) -> list[str]:
    """What has to be known of the figures."""
    found = []
    if trial.partly:
        what = "1 of them is" if trial.partly == 1 else f"{words.count(trial.partly)} of them are"
        found.append(f"{what} taken in part: some of the images, and not the others.")
    if trial.by_images:
        text = "It is decided image by image"
        if trial.looked_into:
            how = "some images of each series" if trial.sampled else "the images"
            text += f": {how} of {words.studies(trial.looked_into)} were looked at"
        found.append(text + ".")
    if trial.undecided:
        found.append(f"{words.count(trial.undecided)} more may match: their images were not looked at.")
    if trial.bounded:
        found.append(f"Only the first {words.studies(trial.studies)} were looked at.")
    if trial.stopped:
        found.append("It was stopped; there may be more.")
    return found
