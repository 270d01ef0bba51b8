"""The key for pseudonyms on the settings page: its fingerprint, a copy to keep safe, and a copy put back."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QFileDialog, QFrame, QLineEdit, QWidget

from core.model.errors import FerryError, SecretError
from core.pseudonym_keys import OTHER_KEY, STANDARD, copy_to_file, fingerprint, put_back_from_file
from gui.background import Operation
from gui.icons import IconButton
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.ask import ask
from gui.widgets.banner import Banner
from gui.widgets.basics import as_card, label, row
from gui.widgets.pill import Pill

LOOK_MS = 300
_ABOUT = (
    "De-identification makes pseudonyms, new UIDs and shifts of dates from this key. Keep a copy of it where only "
    "those may look who may know the patients: when it is lost, patients get other pseudonyms from then on."
)


class PseudonymKey(QFrame):
    """A card for one key, by its name.

    Attributes
    ----------
    pill : Pill
        Whether there is such a key, with its fingerprint.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._app = session.app
        layout = as_card(self)
        head = row()
        head.addWidget(label("Key for pseudonyms", "strong"))
        self.pill = Pill("Looking", Tone.GREY)
        head.addWidget(self.pill)
        head.addStretch(1)
        layout.addLayout(head)
        layout.addWidget(label(_ABOUT, "soft", wrap=True))
        self.banner = Banner()
        layout.addWidget(self.banner)
        layout.addSpacing(STEP)
        line = row()
        self.name = QLineEdit(STANDARD)
        self.name.setMaximumWidth(200)
        self.name.setAccessibleName("Name of the key")
        self.name.setToolTip("The name of the key, as in the step “De-identify”")
        self.save = IconButton("Save a copy…", "export")
        self.load = IconButton("Put a copy back…", "retry")
        for widget in (self.name, self.save, self.load):
            line.addWidget(widget)
        line.addStretch(1)
        layout.addLayout(line)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(LOOK_MS)
        self._typing.timeout.connect(self.refresh)
        self.name.textChanged.connect(lambda: self._typing.start())
        self.save.clicked.connect(self._ask_to_save)
        self.load.clicked.connect(self._choose)

    def refresh(self) -> None:
        """Look for the key; nothing is made."""
        name = self.name.text().strip()
        self.banner.put_away()
        Operation(self, lambda: fingerprint(self._app.steps.surroundings(), name)).success(
            lambda found: self._show(name, found)
        ).failure(lambda error: self._fail(name, error)).run()

    def _show(self, name: str, found: str | None) -> None:
        if name != self.name.text().strip():
            return
        self.save.setEnabled(found is not None)
        if found:
            self.pill.show_state(f"Fingerprint {found}", Tone.GREEN)
        else:
            self.pill.show_state("Made at first use", Tone.GREY)

    def _fail(self, name: str, error: Exception) -> None:
        if name == self.name.text().strip():
            self.pill.show_state("Not available", Tone.AMBER)
            self.save.setEnabled(False)
            if not isinstance(error, SecretError):  # the card of passwords says what is wrong with the keyring
                self.banner.show_error(error)

    # a copy -----------------------------------------------------------------------------------------------

    def _ask_to_save(self) -> None:
        ask(
            self,
            "Save a copy of the key?",
            "Whoever has this key and a list of Patient IDs can tell whose pseudonym is whose. Keep the file where "
            "only those may look who may know the patients, and not beside the de-identified images.",
            "Save a copy",
            self._save,
        )

    def _save(self) -> None:
        name = self.name.text().strip()
        suggested = str(Path.home() / f"pseudonym-key-{name}.txt")
        file, _ = QFileDialog.getSaveFileName(self, "Save a copy of the key", suggested, "*.txt")
        if file:
            work = Operation(self, lambda: copy_to_file(self._app.steps.surroundings(), name, Path(file)))
            work.success(lambda _: self.banner.say("The key was copied.", file, tone=Tone.GREEN)).failure(
                self.banner.show_error
            ).run()

    # put back ---------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "The copy of the key", str(Path.home()), "*.txt;;*")
        if file:
            self._put_back(self.name.text().strip(), Path(file), replace=False)

    def _put_back(self, name: str, path: Path, *, replace: bool) -> None:
        def refused(error: Exception) -> None:
            if isinstance(error, FerryError) and error.code == OTHER_KEY:
                ask(
                    self,
                    "Replace the key?",
                    f"{error.sentence} Patients get the pseudonyms of the copy from now on, and other ones than those "
                    "made with this key. Save a copy of it first.",
                    "Replace the key",
                    lambda: self._put_back(name, path, replace=True),
                    refuse="Keep it",
                )
            else:
                self.banner.show_error(error)

        self.banner.put_away()
        work = Operation(self, lambda: put_back_from_file(self._app.steps.surroundings(), name, path, replace=replace))
        work.success(lambda found: self._show(name, found)).failure(refused).run()
