"""The settings page: what concerns the whole program, and where it keeps what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QVBoxLayout, QWidget

from gui.background import Operation
from gui.icons import IconButton
from gui.session import Session
from gui.theme import STEP, Appearance, Tone, theme
from gui.widgets.at_login import StartAtLogin
from gui.widgets.basics import card, label, row, scrolled
from gui.widgets.form import Form
from gui.widgets.page import Page
from gui.widgets.pill import Pill
from gui.widgets.pseudonym_key import PseudonymKey
from gui.widgets.unattended import UnattendedCard

if TYPE_CHECKING:
    from core.app import SecretsStatus

SAVE_MS = 400


class SettingsPage(Page):
    """Saved as they are changed.

    Attributes
    ----------
    compact : Signal(bool)
        Rows of one line were chosen, or of two.
    """

    name = "settings"
    compact = Signal(bool)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Settings", parent)
        self._session = session
        self._app = session.app
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 2 * STEP, 0)
        layout.setSpacing(4 * STEP)
        layout.addWidget(self._build_form())
        self.at_login = StartAtLogin(session)
        self.at_login.failed.connect(self.banner.show_error)
        layout.addWidget(self.at_login)
        layout.addWidget(self._build_keyring())
        self.key = PseudonymKey(session)
        layout.addWidget(self.key)
        layout.addWidget(self._build_place())
        self.unattended = UnattendedCard(session)
        layout.addWidget(self.unattended)
        layout.addStretch(1)
        self.body.addWidget(scrolled(content), 1)
        self._saving = QTimer(self)
        self._saving.setSingleShot(True)
        self._saving.setInterval(SAVE_MS)
        self._saving.timeout.connect(self._save)

    def _build_form(self) -> QWidget:
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP)
        self.form = Form(type(self._app.settings))
        self.form.setMaximumWidth(560)
        self.form.set_values(self._app.settings.model_dump(mode="json"))
        self.form.changed.connect(lambda: self._saving.start())
        layout.addWidget(self.form)
        return box

    def _build_keyring(self) -> QWidget:
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(STEP)
        head = row()
        head.addWidget(label("Passwords", "strong"))
        self.keyring_pill = Pill("Looking", Tone.GREY)
        head.addWidget(self.keyring_pill)
        head.addStretch(1)
        layout.addLayout(head)
        self.keyring = label("", "soft", wrap=True, selectable=True)
        layout.addWidget(self.keyring)
        return box

    def _build_place(self) -> QWidget:
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(STEP)
        layout.addWidget(label("Kept on this computer", "strong"))
        folder = self._app.home.folder
        layout.addWidget(label(str(folder), "soft", wrap=True, selectable=True))
        owner = self._app.home.unattended
        who = f"The account {owner.account}{' and the group ' + owner.group if owner.group else ''}" if owner else "You"
        text = f"Nodes, jobs, the proof of every image and the log files. {who} alone can read it."
        layout.addWidget(label(text, "small", wrap=True))
        line = row()
        show = IconButton("Open the folder", "folder")
        show.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))))
        line.addWidget(show)
        line.addStretch(1)
        layout.addLayout(line)
        return box

    def entered(self, wish: object) -> None:
        self.refresh()

    def refresh(self) -> None:
        self._session.read(self, self._app.secrets.status, self._show_keyring)
        self.key.refresh()
        self.at_login.refresh()
        self.unattended.refresh()

    def _show_keyring(self, status: SecretsStatus) -> None:
        works = ("Works", Tone.GREEN) if status.available else ("Not available", Tone.AMBER)
        self.keyring_pill.show_state(*works)
        self.keyring.setText(f"{status.sentence} {status.next_step}".strip())

    def _save(self) -> None:
        if not self.form.check():
            return
        values = self.form.values()
        settings = type(self._app.settings).model_validate(values)
        theme().choose(Appearance(settings.appearance.value))
        self.compact.emit(settings.compact_rows)
        Operation(self, lambda: self._app.save_settings(settings)).success(lambda _: None).failure(
            self.banner.show_error
        ).run()
