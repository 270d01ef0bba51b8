"""The button that exports the proof of a job: every image, as a report to print, a table, or JSON."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from core.model.job import JobRecord
from gui.icons import IconButton
from gui.session import Session

FORMATS = (("As a report to print (HTML)…", "html"), ("As a table (CSV)…", "csv"), ("As JSON…", "json"))


def file_name(title: str) -> str:
    """A title as every system takes it for the name of a file."""
    return "".join(c if c.isalnum() or c in " -_." else "-" for c in title)


class ProofButton(IconButton):
    """Asks for the file, and writes it in the background."""

    def __init__(self, session: Session, *, kind: str = "", parent: QWidget | None = None) -> None:
        super().__init__("Export proof", "export", parent, kind=kind)
        self._session = session
        self._job: JobRecord | None = None
        self.setToolTip("Every image of this job with its proof, as a file")
        menu = QMenu(self)
        for title, form in FORMATS:
            menu.addAction(title, partial(self._choose, form))
        self.setMenu(menu)
        self.show_job(None)

    def show_job(self, job: JobRecord | None) -> None:
        """The job whose proof is meant; None while it is not known."""
        self._job = job
        self.setEnabled(job is not None and job.counts.total > 0)

    def _choose(self, form: str) -> None:
        if self._job is None:
            return
        suggested = Path.home() / f"{file_name(f'Proof {self._job.name}')}.{form}"
        file, _ = QFileDialog.getSaveFileName(self, "Export proof", str(suggested), f"*.{form}")
        if file:
            self.export(form, Path(file))

    def export(self, form: str, file: Path) -> None:
        """Write the proof of the whole job; it names patients, so the person chose where it goes."""
        if self._job is None:
            return
        job_id, app = self._job.id, self._session.app

        def told() -> None:
            self._session.told.emit("The proof is written.", str(file))

        self._session.command(self, lambda: app.report(job_id, form, file), told)
