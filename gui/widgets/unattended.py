"""What a person sees of the unattended engine: whose window this is, who may open the other one, that it stopped."""

from __future__ import annotations

from PySide6.QtCore import QObject, QProcess
from PySide6.QtWidgets import QFrame

from core.home import write_private_text
from core.model.errors import LocalError
from core.unattended.place import Place, machine_place, start_words
from gui.autostart import IN_TRAY, window_command
from gui.icons import IconButton
from gui.session import Session
from gui.theme import Tone
from gui.widgets.banner import Action, Banner
from gui.widgets.basics import as_card, label, row

_TOLD = "told-of-unattended"


class EngineWatch(QObject):
    """Tells when an engine of another process ends: whether this window goes on, or waits for it to be started."""

    def __init__(self, session: Session, banner: Banner) -> None:
        super().__init__(banner)
        self._session = session
        self._banner = banner
        self._attached = self._ran = False
        self._lost = ""
        session.attached.connect(lambda _: self._look())
        session.engine.connect(lambda _: self._look())

    def _look(self) -> None:
        handle = self._session.handle
        if handle is None:
            return
        if not handle.may_run:
            self._look_at_unattended(handle.running)
        elif self._attached and not handle.attached:
            self._banner.say(
                "The engine that ran in another process has ended.",
                "This window goes on with its jobs.",
                tone=Tone.BLUE,
            )
        self._attached = handle.attached

    def _look_at_unattended(self, runs: bool) -> None:
        if not runs and not self._lost:
            self._lost = (
                "The unattended engine has stopped." if self._attached else "The unattended engine doesn't run."
            )
            text = f"Nothing is sent until it runs again. What you ask for is done then. To start it: {start_words()}"
            self._banner.say(self._lost, text)
        self._ran = self._ran or runs
        if runs and self._lost:
            if self._banner.lead == self._lost:
                self._banner.put_away()
            self._lost = ""


class UnattendedCard(QFrame):
    """A card of the settings page; hidden where no unattended engine is set up."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        layout = as_card(self)
        layout.addWidget(label("Unattended engine", "strong"))
        self.text = label("", "soft", wrap=True, selectable=True)
        layout.addWidget(self.text)
        line = row()
        self.open = IconButton("Open its window")
        self.open.clicked.connect(self._open)
        line.addWidget(self.open)
        line.addStretch(1)
        layout.addLayout(line)
        self._place: Place | None = None
        self.hide()

    def refresh(self) -> None:
        """Look anew: it may have been set up meanwhile."""
        self._session.read(self, machine_place, self._show)

    def _open(self) -> None:
        if self._place is not None:
            open_window(self._place, self._session)

    def _show(self, place: Place | None) -> None:
        owner, folder = self._session.app.home.unattended, self._session.app.home.folder
        other = place if place is not None and place.folder != folder else None
        self._place = other
        self.open.setVisible(owner is None and other is not None and other.may_open)
        if owner is not None:
            self.text.setText(
                f"This window shows the unattended engine of this computer, which runs under the account "
                f"{owner.account}. Its passwords are its own; an administrator gives them: dicom-ferry service secret."
            )
        elif other is not None:
            self.text.setText(" ".join(_sentences(other)))
        self.setVisible(owner is not None or other is not None)


def tell_of_unattended(session: Session, banner: Banner) -> None:
    """Once: that there is an unattended engine, and that this window is not its own."""
    home = session.app.home
    mark = home.folder / _TOLD
    place = machine_place() if home.unattended is None and not mark.exists() else None
    if place is None or place.folder == home.folder:
        return
    sentence, *rest = _sentences(place)
    actions = (Action("Open its window", lambda: open_window(place, session)),) if place.may_open else ()
    banner.say(sentence, " ".join(rest), tone=Tone.BLUE, actions=actions)

    def put_away() -> None:
        if not mark.exists():
            write_private_text(mark, f"{place.folder}\n")

    banner.closed.connect(put_away)


def open_window(place: Place, session: Session) -> None:
    """The window of the unattended engine, as a program of its own."""
    program, *words = window_command()
    words = [word for word in words if word != IN_TRAY]
    started, _process = QProcess.startDetached(program, [*words, "--home", str(place.folder)])
    if not started:
        session.failed.emit(LocalError("Its window can't be opened.", f"Start: {program} --home {place.folder}"))


def _sentences(place: Place) -> list[str]:
    account = f", under the account {place.account}" if place.account else ""
    said = [
        f"An unattended engine is set up on this computer{account}.",
        f"Its nodes and jobs lie in {place.folder}; this window shows your own.",
    ]
    if not place.may_open:
        said += [f"Only {place.who} may open it.", place.how]
    return said
