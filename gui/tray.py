"""The tray: the state at a glance, pause, and quitting safely."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from core.model.events import EngineChanged, JobChanged
from core.model.job import JobState
from gui import words
from gui.icons import application_icon
from gui.session import Session

if TYPE_CHECKING:
    from gui.main_window import MainWindow


class Tray(QObject):
    """Only where the desktop has a tray; closing the window quits nevertheless."""

    def __init__(self, session: Session, window: MainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self._icon = QSystemTrayIcon(application_icon(), self)
        self._menu = QMenu(window)
        self._state = self._menu.addAction("DICOM Ferry")
        self._state.setEnabled(False)
        self._menu.addSeparator()
        self._menu.addAction("Open", self.show_window)
        self._menu.addAction("Pause all jobs", lambda: session.command(self, session.app.jobs.pause_all))
        self._menu.addAction("Resume all jobs", lambda: session.command(self, session.app.jobs.resume_all))
        self._menu.addSeparator()
        self._menu.addAction("Quit safely", window.quit)
        self._icon.setContextMenu(self._menu)
        self._icon.activated.connect(self._activated)
        session.engine.connect(self._tell)
        session.jobs.connect(self._jobs)
        window.in_tray = True
        window.left_for_tray.connect(self._stay)
        self._seen: dict[int, JobState] = {}
        self._tell(session.state)
        self._icon.show()

    def show_window(self) -> None:
        self._window.showNormal()
        self._window.raise_()
        self._window.activateWindow()

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason is QSystemTrayIcon.ActivationReason.Trigger:
            self.show_window()

    def _stay(self) -> None:
        """Say where the window went, or it would seem to have ended."""
        text = "It goes on here, so that images can be sent to this computer. Choose “Quit safely” to end it."
        self._icon.showMessage("DICOM Ferry is still running", text, QSystemTrayIcon.MessageIcon.Information)

    def _jobs(self, changes: list[JobChanged]) -> None:
        """Tell when a job ends; a notification never names a patient."""
        for job in changes:
            before = self._seen.get(job.job_id)
            self._seen[job.job_id] = job.state
            if (
                before is JobState.RUNNING
                and job.state is JobState.FINISHED
                and self._session.app.settings.notifications
            ):
                c = job.counts
                trouble = c.failed + c.conflict
                text = f"{words.plural(c.confirmed + c.sent, 'image')} arrived" + (
                    f", {words.count(trouble)} need attention" if trouble else ""
                )
                kind = QSystemTrayIcon.MessageIcon
                self._icon.showMessage(f"“{job.name}” has ended", text, kind.Warning if trouble else kind.Information)

    def _tell(self, state: EngineChanged) -> None:
        waiting = state.unconfirmed_studies
        text = f"{words.studies(waiting)} not yet confirmed" if waiting else "Everything is confirmed"
        self._state.setText(text)
        self._icon.setToolTip(f"DICOM Ferry: {words.lower_first(text)}")
