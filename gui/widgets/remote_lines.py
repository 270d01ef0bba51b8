"""The rows of what an Orthanc sends to: one entry, and one of our nodes that it could know."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QVBoxLayout, QWidget

from core.model.remotes import RemoteDraft, RemoteEntry
from gui import words
from gui.icons import IconButton, IconLabel, IconToolButton
from gui.theme import STEP, Role, Tone
from gui.widgets.basics import Elided, column, label, restyle, row
from gui.widgets.pill import Pill
from gui.wizards.remote_entry import ICONS

_RISK = (
    "A fresh one goes along with each order to send, over https only. Careful: who runs that server could use it until "
    "it ends, mostly within an hour."
)


class RemoteLine(QWidget):
    """One entry: what it is, what a test of it found, and what can be done with it.

    Attributes
    ----------
    tested, edited, removed : Signal()
    lending : Signal(bool)
        Whether our token is to be lent was ticked.
    """

    tested = Signal()
    edited = Signal()
    removed = Signal()
    lending = Signal(bool)

    def __init__(self, entry: RemoteEntry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.entry = entry
        outer = column(spacing=STEP)
        outer.setContentsMargins(4 * STEP, 2 * STEP, 3 * STEP, 2 * STEP)
        line = row(spacing=2 * STEP)
        line.addWidget(IconLabel(ICONS[entry.kind], Role.SOFT, 18))
        texts = column(spacing=0)
        head = row(spacing=2 * STEP)
        head.addWidget(label(entry.name, "strong"))
        if entry.node:
            head.addWidget(Pill(f"our {entry.node}", Tone.BLUE), 0, Qt.AlignmentFlag.AlignVCenter)
        head.addStretch(1)
        texts.addLayout(head)
        texts.addWidget(Elided(entry.where, "small"))
        line.addLayout(texts, 1)
        self.verdict = Pill("", Tone.GREY)
        self.verdict.hide()
        self.test = IconToolButton("test", f"Let the server call {entry.name}")
        self.edit = IconToolButton("edit", f"Change {entry.name}")
        self.remove = IconToolButton("remove", f"Remove {entry.name}")
        self.test.clicked.connect(self.tested)
        self.edit.clicked.connect(self.edited)
        self.remove.clicked.connect(self.removed)
        if entry.fixed:
            self.edit.setEnabled(False)
            self.edit.setToolTip(entry.fixed)
        line.addWidget(self.verdict)
        for button in (self.test, self.edit, self.remove):
            line.addWidget(button)
        outer.addLayout(line)
        self.finding = label("", "small", wrap=True, selectable=True)
        self.finding.setContentsMargins(18 + 2 * STEP, 0, 0, 0)
        self.finding.hide()
        outer.addWidget(self.finding)
        if entry.lent is not None:
            outer.addLayout(self._token(entry.lent))
        self.setLayout(outer)

    def _token(self, lent: bool) -> QVBoxLayout:
        """Whether it may send with our token, and what that means."""
        inside = column(spacing=0)
        inside.setContentsMargins(18 + 2 * STEP, STEP, 0, 0)
        self.lend = QCheckBox("Let this server send with our token")
        self.lend.setChecked(lent)
        self.lend.clicked.connect(lambda on: self.lending.emit(on))
        inside.addWidget(self.lend)
        inside.addWidget(label(_RISK, "small", wrap=True))
        return inside

    def say_testing(self) -> None:
        self._verdict("Testing…", Tone.GREY)
        self.finding.hide()
        self.test.setEnabled(False)

    def say_works(self, finding: str) -> None:
        self._verdict("Works", Tone.GREEN)
        self._found(finding, "small")

    def say_fails(self, error: Exception) -> None:
        sentence, next_step, _ = words.sentence_of(error)
        self._verdict("Doesn't work", Tone.RED)
        self._found(f"{sentence} {next_step}".strip(), "error")

    def _verdict(self, text: str, tone: Tone) -> None:
        self.verdict.show_state(text, tone)
        self.verdict.show()
        self.test.setEnabled(True)

    def _found(self, text: str, role: str) -> None:
        self.finding.setText(text)
        self.finding.setProperty("text_role", role)
        restyle(self.finding)
        self.finding.show()


class DraftLine(QWidget):
    """One of our nodes that the server could know.

    Attributes
    ----------
    added : Signal()
    """

    added = Signal()

    def __init__(self, draft: RemoteDraft, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draft = draft
        line = QHBoxLayout(self)
        line.setContentsMargins(4 * STEP, 2 * STEP, 3 * STEP, 2 * STEP)
        line.setSpacing(2 * STEP)
        line.addWidget(IconLabel(ICONS[draft.kind], Role.SOFT, 18), 0, Qt.AlignmentFlag.AlignTop)
        texts = column(spacing=0)
        texts.addWidget(label(f"{draft.node}, as a {draft.kind.words}", "strong"))
        where = draft.fields.get("url") or f"{draft.fields.get('aet')} at {draft.fields.get('host')}:{_port(draft)}"
        texts.addWidget(Elided(str(where), "small"))
        for doubt in draft.doubts:
            texts.addWidget(label(doubt, "warning", wrap=True))
        line.addLayout(texts, 1)
        self.add = IconButton("Add…" if draft.elsewhere else "Add")
        self.add.setAccessibleName(f"Add {draft.node} as a {draft.kind.words}")
        self.add.clicked.connect(self.added)
        line.addWidget(self.add, 0, Qt.AlignmentFlag.AlignTop)


def _port(draft: RemoteDraft) -> object:
    return draft.fields.get("port", 104)
