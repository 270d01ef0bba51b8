"""What an Orthanc knows of others that it sends to: listed, tested, changed; our own nodes added in two clicks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from core.model.remotes import LASTING, RemoteDraft, RemoteEntry, RemoteKind, RemoteList
from gui.background import Operation
from gui.icons import IconButton, IconToolButton
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.ask import ask
from gui.widgets.banner import Banner
from gui.widgets.basics import CopyButton, card, clear, column, divider, label, row, scrolled
from gui.widgets.remote_lines import DraftLine, RemoteLine
from gui.wizards.remote_entry import RemoteWizard

Key = tuple[RemoteKind, str]


class RemotesView(QWidget):
    """The modalities, peers and DICOMweb servers of one node.

    Attributes
    ----------
    counted : Signal(int)
        How many there are; -1 while that isn't known.
    lines : dict[Key, RemoteLine]
    drafts : list[DraftLine]
    """

    counted = Signal(int)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._server = ""
        self._kinds: tuple[RemoteKind, ...] = ()
        self._loaded = ""
        self._test_next: Key | None = None
        self.lines: dict[Key, RemoteLine] = {}
        self.drafts: list[DraftLine] = []
        self.wizard: RemoteWizard | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        head = row(spacing=2 * STEP)
        head.setContentsMargins(4 * STEP, 3 * STEP, 3 * STEP, 2 * STEP)
        self.lead = label("", "soft", wrap=True)
        self.ours = IconButton("Add our nodes…", "nodes")
        self.other = IconButton("Add another…", "plus")
        self.ours.clicked.connect(self.show_drafts)
        self.other.clicked.connect(lambda: self.open_wizard())
        head.addWidget(self.lead, 1)
        head.addWidget(self.ours)
        head.addWidget(self.other)
        layout.addLayout(head)
        place = column()
        place.setContentsMargins(3 * STEP, 0, 3 * STEP, 0)
        self.banner = Banner()
        place.addWidget(self.banner)
        layout.addLayout(place)
        self._content = QWidget()
        self._column = QVBoxLayout(self._content)
        self._column.setContentsMargins(0, 0, 0, 3 * STEP)
        self._column.setSpacing(0)
        layout.addWidget(scrolled(self._content), 1)

    # reading --------------------------------------------------------------------------------------------

    def show_node(self, name: str) -> None:
        """Another node, or none; asked once it is looked at."""
        if name == self._server:
            return
        self._server, self._loaded = name, ""
        self._empty()
        self.banner.put_away()
        self.counted.emit(-1)
        self.lead.setText(f"{name} sends by itself to what it knows here." if name else "")
        self._load_if_seen()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._load_if_seen()

    def _load_if_seen(self) -> None:
        if self._server and self.isVisible() and self._loaded != self._server:
            self.reload()

    def reload(self) -> None:
        """Ask the server again."""
        name, remotes = self._server, self._session.app.remotes
        self._loaded = name
        self._empty("Asking…")

        def take(found: RemoteList) -> None:
            if name == self._server:
                self._show(found)

        def failed(error: Exception) -> None:
            if name == self._server:
                self._empty()
                self.banner.show_error(error)

        Operation(self, lambda: remotes.listing(name)).success(take).failure(failed).run()

    def _empty(self, text: str = "") -> None:
        clear(self._column)
        self.lines, self.drafts = {}, []
        for button in (self.ours, self.other):
            button.setEnabled(False)
        if text:
            waiting = label(text, "soft")
            waiting.setContentsMargins(4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP)
            self._column.addWidget(waiting)

    def _show(self, found: RemoteList) -> None:
        self._empty()
        self._kinds = found.kinds
        for button in (self.ours, self.other):
            button.setEnabled(bool(found.kinds))
        if found.refused:
            self.banner.say(found.refused, "Ask its administrator for the right to see them.")
        for kind in found.kinds:
            entries = [e for e in found.entries if e.kind is kind]
            self._column.addWidget(self._group(kind, len(entries), dict(found.tell).get(kind, "")))
            for entry in entries:
                self._column.addWidget(self._line(entry))
        self._column.addStretch(1)
        self.counted.emit(len(found.entries))
        wanted = self.lines.get(self._test_next) if self._test_next is not None else None
        self._test_next = None
        if wanted is not None:
            self.try_entry(wanted)

    def _group(self, kind: RemoteKind, count: int, tell: str) -> QWidget:
        made = QWidget()
        inside = column(spacing=0)
        inside.setContentsMargins(4 * STEP, 3 * STEP, 3 * STEP, STEP)
        head = row()
        head.addWidget(label(kind.plural if count else f"{kind.plural}: none", "heading"), 1)
        if tell:
            copy = CopyButton("Copy for the administrator", tell)
            copy.setToolTip("What to enter in the server's configuration so that these stay:\n\n" + tell)
            head.addWidget(copy)
        inside.addLayout(head)
        inside.addWidget(label(LASTING[kind], "small", wrap=True))
        made.setLayout(inside)
        return made

    def _line(self, entry: RemoteEntry) -> RemoteLine:
        line = RemoteLine(entry)
        line.tested.connect(lambda: self.try_entry(line))
        line.edited.connect(lambda: self.open_wizard(entry=entry))
        line.removed.connect(lambda: self._ask_remove(entry))
        line.lending.connect(lambda allowed: self._lend(entry, allowed))
        self.lines[entry.kind, entry.name] = line
        return line

    # acting ---------------------------------------------------------------------------------------------

    def try_entry(self, line: RemoteLine) -> None:
        """Let the server call it."""
        remotes, name, entry = self._session.app.remotes, self._server, line.entry
        line.say_testing()
        work = Operation(line, lambda: remotes.test(name, entry.kind, entry.name))
        work.success(line.say_works).failure(line.say_fails).run()

    def open_wizard(self, *, entry: RemoteEntry | None = None, draft: RemoteDraft | None = None) -> RemoteWizard:
        self.wizard = RemoteWizard(
            self._session, self._server, self._kinds, entry=entry, draft=draft, parent=self.window()
        )
        self.wizard.done_with.connect(self._made)
        self.wizard.open()
        return self.wizard

    def _made(self, key: Key) -> None:
        """An entry is there, or other than before: the server tries it at once."""
        self._test_next = key
        self.banner.put_away()
        self.reload()

    def show_drafts(self) -> None:
        """Our nodes that the server doesn't know yet, above its lists."""
        name, remotes = self._server, self._session.app.remotes
        self.ours.setEnabled(False)

        def take(found: Sequence[RemoteDraft]) -> None:
            if name == self._server:
                self.ours.setEnabled(True)
                self._show_drafts(found)

        self._do(lambda: remotes.drafts(name), take)

    def _show_drafts(self, found: Sequence[RemoteDraft]) -> None:
        for line in self.drafts:
            line.hide()
        self.drafts = []
        if not found:
            self.banner.say(f"{self._server} knows all our nodes that it can send to.", tone=Tone.GREEN)
            return
        frame = card()
        inside = QVBoxLayout(frame)
        inside.setContentsMargins(0, 2 * STEP, 0, 2 * STEP)
        inside.setSpacing(0)
        title = row(spacing=2 * STEP)
        title.setContentsMargins(4 * STEP, 0, 3 * STEP, STEP)
        title.addWidget(label("Nodes of ours that it doesn't know yet", "heading"), 1)
        away = IconToolButton("cross", "Put this list away")
        away.clicked.connect(lambda: frame.setParent(None))
        title.addWidget(away)
        inside.addLayout(title)
        for at, draft in enumerate(found):
            if at:
                inside.addWidget(divider())
            line = DraftLine(draft)
            line.added.connect(lambda draft=draft: self.add_draft(draft))
            inside.addWidget(line)
            self.drafts.append(line)
        margins = QWidget()
        around = column()
        around.setContentsMargins(3 * STEP, STEP, 3 * STEP, STEP)
        around.addWidget(frame)
        margins.setLayout(around)
        self._column.insertWidget(0, margins)

    def add_draft(self, draft: RemoteDraft) -> None:
        """Add it; where its address has to be another one there, by the form."""
        if draft.elsewhere:
            self.open_wizard(draft=draft)
            return
        remotes, name = self._session.app.remotes, self._server
        for line in self.drafts:
            line.add.setEnabled(False)
        self._do(lambda: remotes.add_draft(name, draft), lambda made: self._made((draft.kind, made.name)))

    def _lend(self, entry: RemoteEntry, allowed: bool) -> None:
        remotes, name = self._session.app.remotes, self._server

        def lent(refusal: str) -> None:
            self._test_next = (entry.kind, entry.name) if allowed and not refusal else None
            self.reload()
            if refusal:
                self.banner.say(f"It can't send there all the same: {refusal}.")
            else:
                self.banner.put_away()

        self._do(lambda: remotes.lend(name, entry.node, allowed), lent)

    def _ask_remove(self, entry: RemoteEntry) -> None:
        ask(
            self,
            f"Remove {entry.name}?",
            f"{self._server} forgets this {entry.kind.words} and no longer sends there by itself. Nothing is deleted "
            "there. If its configuration file names it, it is back when the server is started again.",
            "Remove",
            lambda: self._remove(entry),
            refuse="Keep it",
        )

    def _remove(self, entry: RemoteEntry) -> None:
        remotes, name = self._session.app.remotes, self._server
        self._do(lambda: remotes.remove(name, entry.kind, entry.name), lambda _: self.reload())

    def _do(self, work: Callable[[], object], then: Callable[..., object]) -> None:
        """Something that the server may refuse: what to tell its administrator can be copied then."""

        def failed(error: Exception) -> None:
            for line in self.drafts:
                line.add.setEnabled(True)
            self.ours.setEnabled(True)
            self.banner.show_error(error)

        Operation(self, work).success(then).failure(failed).run()
