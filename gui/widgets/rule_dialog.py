"""The rule of a job that exists: read on the jobs page, and changed in a dialog of its own."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from core.app import App
from core.job_book import rule_field
from core.model.errors import FerryError
from core.model.job import JOB_UNFINISHED, JobRecord
from core.model.rules import parse_rule
from core.model.rules.words import sentence
from gui.background import Operation
from gui.icons import IconButton
from gui.session import Session
from gui.theme import STEP
from gui.widgets.banner import Banner
from gui.widgets.basics import divider, label, row, scrolled
from gui.widgets.rule_editor import RuleEditor
from gui.widgets.rule_trial import trying

_LONGEST = 240


class RuleDialog(QDialog):
    """Changes the rule of a job that doesn't run."""

    def __init__(self, session: Session, job: JobRecord, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Which studies: {job.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(800, 680)
        self.setMinimumSize(640, 440)
        self._session, self._job = session, job
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6 * STEP, 5 * STEP, 4 * STEP, 4 * STEP)
        layout.setSpacing(2 * STEP)
        layout.addWidget(label("Which studies?", "title"))
        text = "It holds for what is found from the next start on."
        if job.state in JOB_UNFINISHED:
            text += " What was found before stays as it is; cancel the job where that is not to be sent."
        layout.addWidget(label(text, "soft", wrap=True))
        self.banner = Banner()
        layout.addWidget(self.banner)
        self.rule = RuleEditor()
        self.rule.set_value(rule_text(session.app, job))
        self.rule.trial.offer(trying(session.app), job.sources)
        inner = QWidget()
        body = QVBoxLayout(inner)
        body.setContentsMargins(0, 0, 2 * STEP, 0)
        body.addWidget(self.rule)
        body.addStretch(1)
        layout.addWidget(scrolled(inner), 1)
        layout.addWidget(divider())
        buttons = row()
        self.cancel = IconButton("Cancel")
        self.save = IconButton("Save", kind="primary")
        self.cancel.setAutoDefault(False)
        self.cancel.clicked.connect(self.reject)
        self.save.clicked.connect(self._save)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel)
        buttons.addWidget(self.save)
        layout.addLayout(buttons)
        self.rule.changed.connect(self._tell)
        self.finished.connect(lambda _: self.rule.trial.halt())

    def _tell(self) -> None:
        self.save.setEnabled(not self.rule.wrong)

    def _save(self) -> None:
        text = self.rule.value()
        if self.rule.wrong:
            return
        job_id, jobs = self._job.id, self._session.app.jobs
        self.save.setEnabled(False)

        def saved(_job: JobRecord) -> None:
            self._session.jobs_edited.emit()
            self.accept()

        def refused(error: Exception) -> None:
            self.save.setEnabled(True)
            self.banner.show_error(error)

        Operation(self, lambda: jobs.change_rule(job_id, text)).success(saved).failure(refused).run()


def change_rule(parent: QWidget, session: Session, job: JobRecord) -> RuleDialog:
    """Open the dialog, without stopping the event loop."""
    dialog = RuleDialog(session, job, parent.window())
    dialog.open()
    return dialog


def has_rule(app: App, job: JobRecord) -> bool:
    """Whether jobs of its kind have a rule."""
    kind = app.job_kinds().get(job.kind)
    return kind is not None and bool(rule_field(kind))


def rule_text(app: App, job: JobRecord) -> str:
    """As it was saved."""
    kind = app.job_kinds().get(job.kind)
    return str(job.fields.get(rule_field(kind)) or "") if kind is not None else ""


def rule_words(app: App, job: JobRecord) -> str:
    """ "Only what fits: Modality is CT"; nothing for a job that takes everything."""
    text = rule_text(app, job)
    if not text:
        return ""
    try:
        said = sentence(parse_rule(text))
    except FerryError:  # of an older or newer version; the engine says what is wrong with it
        said = text
    return f"Only what fits: {said if len(said) <= _LONGEST else said[:_LONGEST] + '…'}"
