"""The switch "Start when I log in", which shows how it really stands on this computer."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame

from gui import autostart
from gui.autostart import AtLogin, By
from gui.background import Operation
from gui.session import Session
from gui.widgets.basics import as_card, label, row
from gui.widgets.switch import Switch

_WORDS = {
    By.NOBODY: "Jobs go on when you open DICOM Ferry.",
    By.PERSON: "It begins in the tray, near the clock, and goes on with its jobs.",
    By.EVERYBODY: "Set for everybody on this computer. It begins in the tray and goes on with its jobs.",
}


class StartAtLogin(QFrame):
    """A card of the settings page.

    Attributes
    ----------
    failed : Signal(object)
        It could not be read or changed.
    """

    failed = Signal(object)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        layout = as_card(self)
        head = row()
        head.addWidget(label("Start when I log in", "strong"))
        head.addStretch(1)
        self.switch = Switch("Start when I log in")
        self.switch.setEnabled(False)  # until it is known
        self.switch.clicked.connect(self._switched)
        head.addWidget(self.switch)
        layout.addLayout(head)
        self.text = label("", "soft", wrap=True)
        layout.addWidget(self.text)
        if not autostart.available():
            self.hide()

    def refresh(self) -> None:
        """Read it anew: somebody may have changed it in the system's own settings."""
        if autostart.available():
            self._session.read(self, autostart.at_login, self._show)

    def _switched(self, on: bool) -> None:
        self.switch.setEnabled(False)
        Operation(self, lambda: autostart.start_at_login(on)).success(self._show).failure(self._refused).run()

    def _refused(self, error: Exception) -> None:
        self.failed.emit(error)
        self.refresh()  # the switch shows again what is true

    def _show(self, state: AtLogin) -> None:
        self.switch.setChecked(state.on)
        self.switch.setEnabled(state.may_change)
        text = _WORDS[state.by]
        self.text.setText(text if state.may_change else f"{text} Only an administrator can change that.")
