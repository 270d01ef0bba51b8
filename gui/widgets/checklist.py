"""A diagnosis as a checklist that grows while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from core.model.diagnosis import DiagnosisStep, StepResult
from gui import words
from gui.icons import IconLabel
from gui.theme import STEP, Role
from gui.widgets.basics import CopyButton, clear, column, divider, label, row

_SIGNS = {
    StepResult.OK: ("check", Role.GREEN, "passed"),
    StepResult.WARNING: ("warning", Role.AMBER, "with a warning"),
    StepResult.FAILED: ("cross", Role.RED, "failed"),
    StepResult.SKIPPED: ("skip", Role.SOFT, "not tried"),
}


class TellBox(QFrame):
    """A text for somebody else, in full, with the button that copies it."""

    def __init__(self, title: str, text: str, copied: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("tone", "grey")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(3 * STEP, 2 * STEP, 2 * STEP, 2 * STEP)
        layout.setSpacing(STEP)
        head = row()
        self.copy = CopyButton("Copy", copied or text)
        self.copy.setAccessibleName(f"Copy: {title}")
        head.addWidget(label(title, "strong"), 1)
        head.addWidget(self.copy)
        layout.addLayout(head)
        self.text = label(text, "small", wrap=True, selectable=True)
        layout.addWidget(self.text)


class StepLine(QWidget):
    """One step: its sign, name, finding, and for a failed one what to do next."""

    def __init__(
        self, step: DiagnosisStep, subject: str, *, offers: bool = True, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.step = step
        sign, role, spoken = _SIGNS[step.result]
        line = QHBoxLayout(self)
        line.setContentsMargins(4 * STEP, 2 * STEP, 4 * STEP, 2 * STEP)
        line.setSpacing(3 * STEP)
        line.addWidget(IconLabel(sign, role), 0, Qt.AlignmentFlag.AlignTop)
        texts = column(spacing=1)
        texts.addWidget(label(step.name, "strong"))
        if step.finding:
            texts.addWidget(label(step.finding, "small", wrap=True, selectable=True))
        if step.next_step and step.result in (StepResult.FAILED, StepResult.WARNING):
            role_name = "error" if step.result is StepResult.FAILED else "warning"
            texts.addWidget(label(words.without_options(step.next_step), role_name, wrap=True, selectable=True))
        line.addLayout(texts, 1)
        self.copy: CopyButton | None = None
        wrong = step.result in (StepResult.FAILED, StepResult.WARNING)
        if step.tell and wrong:
            texts.addSpacing(STEP)
            box = TellBox("What to tell the PACS administrator", step.tell, advice(step, subject))
            self.copy = box.copy
            texts.addWidget(box)
        elif step.tell and offers:
            self.copy = CopyButton("Copy this for your PACS administrator", step.tell)
            self.copy.setToolTip(step.tell)
            texts.addSpacing(STEP)
            texts.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        elif step.result is StepResult.FAILED:
            self.copy = CopyButton("What to tell the administrator", advice(step, subject))
            texts.addSpacing(STEP)
            texts.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        self.setAccessibleName(f"{step.name}: {spoken}. {step.finding} {step.next_step}")


class NotTried(QWidget):
    """Steps that could not be tried, for one reason, together."""

    def __init__(self, step: DiagnosisStep, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._names: list[str] = []
        self.reason = step.finding
        line = QHBoxLayout(self)
        line.setContentsMargins(4 * STEP, 2 * STEP, 4 * STEP, 2 * STEP)
        line.setSpacing(3 * STEP)
        line.addWidget(IconLabel("skip", Role.SOFT), 0, Qt.AlignmentFlag.AlignTop)
        texts = column(spacing=1)
        self._title = label("", wrap=True)
        texts.addWidget(self._title)
        texts.addWidget(label(step.finding, "small", wrap=True, selectable=True))
        line.addLayout(texts, 1)
        self.add(step)

    def add(self, step: DiagnosisStep) -> None:
        self._names.append(step.name if not self._names else words.lower_first(step.name))
        self._title.setText(", ".join(self._names))
        self.setAccessibleName(f"{self._title.text()}: not tried. {self.reason}")


class Checklist(QWidget):
    """Steps in the order in which they ended.

    Attributes
    ----------
    stepped : Signal(object)
        A `DiagnosisStep` was added.
    subject : str
        What is tested, for texts to copy.
    offers : bool
        Steps that passed offer what others must be told to be copied; False where that is offered elsewhere.
    """

    stepped = Signal(object)

    def __init__(self, subject: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.subject = subject
        self.offers = True
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.lines: list[StepLine] = []
        self._steps: list[DiagnosisStep] = []
        self._skipped: NotTried | None = None
        self._busy: QWidget | None = None

    @property
    def steps(self) -> tuple[DiagnosisStep, ...]:
        return tuple(self._steps)

    def clear(self) -> None:
        clear(self._layout)
        self.lines = []
        self._steps = []
        self._skipped = None
        self._busy = None

    def show_steps(self, steps: Sequence[DiagnosisStep]) -> None:
        self.clear()
        for step in steps:
            self.add(step)

    def start(self) -> None:
        """Empty, and say that the test runs."""
        self.clear()
        busy = QWidget()
        line = QHBoxLayout(busy)
        line.setContentsMargins(4 * STEP, 2 * STEP, 4 * STEP, 2 * STEP)
        line.setSpacing(3 * STEP)
        line.addWidget(IconLabel("clock", Role.SOFT))
        line.addWidget(label("Testing…", "soft"), 1)
        self._layout.addWidget(busy)
        self._busy = busy

    def add(self, step: DiagnosisStep) -> None:
        """Add a step above "Testing…"."""
        self._steps.append(step)
        same = self._skipped is not None and step.finding == self._skipped.reason
        if step.result is not StepResult.SKIPPED or not step.finding:
            self._skipped = None
            line = StepLine(step, self.subject, offers=self.offers)
            self.lines.append(line)
            self._insert(line)
        elif same and self._skipped is not None:
            self._skipped.add(step)
        else:
            self._skipped = NotTried(step)
            self._insert(self._skipped)
        self.stepped.emit(step)

    @property
    def first_trouble(self) -> StepLine | None:
        """The first step that failed, else the first with a warning."""
        for result in (StepResult.FAILED, StepResult.WARNING):
            found = next((line for line in self.lines if line.step.result is result), None)
            if found is not None:
                return found
        return None

    def _insert(self, line: QWidget) -> None:
        at = self._layout.count() - (1 if self._busy is not None else 0)
        self._layout.insertWidget(at, line)
        self._layout.insertWidget(at + 1, divider())

    def stop(self) -> None:
        if self._busy is not None:
            self._layout.removeWidget(self._busy)
            self._busy.hide()
            self._busy.deleteLater()
            self._busy = None


def advice(step: DiagnosisStep, subject: str) -> str:
    """Text ready to paste into a message to whoever runs the server."""
    lines = [f"DICOM Ferry tested {subject}." if subject else "DICOM Ferry tested a server."]
    lines.append(f"The step “{step.name}” did not pass: {step.finding}".rstrip(": "))
    if step.tell:
        lines += ["", step.tell]
    elif step.next_step:
        lines.append(words.without_options(step.next_step))
    if step.detail:
        lines += ["", "Raw answer:", step.detail]
    return "\n".join(lines)
