"""What is done to images on their way: the steps of a job, and a look at what they make of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue
from PySide6.QtWidgets import QCheckBox

from core import step_book
from gui.icons import IconButton
from gui.theme import Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import row
from gui.widgets.steps import StepsEditor
from gui.widgets.steps_preview import PreviewDialog
from gui.wizards.frame import WizardPage

if TYPE_CHECKING:
    from core.app import App


class StepsPage(WizardPage):
    """The list of steps; empty for most jobs."""

    step = "On the way"
    title = "What is done to images on the way?"
    hint = "Usually nothing. Steps change tags, look up patients, de-identify, or run a program of yours."

    def __init__(self) -> None:
        super().__init__()
        self._app: App | None = None
        self._sources: Sequence[str] = ()
        self._moves = False
        self.preview: PreviewDialog | None = None
        self.editor = StepsEditor()
        self.editor.changed.connect(self._changed)
        self.body.addWidget(self.editor)
        line = row()
        self.look = IconButton("Preview on an image…", "eye")
        self.look.setAutoDefault(False)
        self.look.clicked.connect(self.open_preview)
        line.addWidget(self.look)
        line.addStretch(1)
        self.body.addLayout(line)
        self.warning = Banner(closable=False)
        self.body.addWidget(self.warning)
        self.elsewhere = QCheckBox("The originals are kept elsewhere")
        self.elsewhere.toggled.connect(lambda _: self.changed.emit())
        self.body.addWidget(self.elsewhere)
        self.body.addStretch(1)
        self._changed()

    def offer(self, app: App, sources: Sequence[str], *, moves: bool) -> None:
        """Where images for a preview come from, and whether they are deleted there afterwards."""
        self._app, self._sources, self._moves = app, tuple(sources), moves
        self._changed()

    def open_preview(self) -> None:
        """Show what the steps make of an image."""
        assert self._app is not None
        self.preview = PreviewDialog(self._app, self._sources, self.editor.choices, self.window())
        self.preview.open()

    def _changed(self) -> None:
        self.look.setVisible(bool(self.editor.choices))
        self.elsewhere.setVisible(self._loses_identity)
        if self._loses_identity:
            self.warning.say(
                "This move would delete the only images that say whose they are.",
                "What is sent is de-identified. Keep the images at the source, or confirm that another system has the "
                "originals.",
                tone=Tone.AMBER,
            )
        else:
            self.warning.put_away()
        self.changed.emit()

    @property
    def _loses_identity(self) -> bool:
        return self._moves and any(step_book.kinds()[c.kind].deidentifies for c in self.editor.choices)

    def complete(self) -> bool:
        return not self._loses_identity or self.elsewhere.isChecked()

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {"step": self.editor.value()}
        if self._loses_identity:
            found["originals_elsewhere"] = self.elsewhere.isChecked()
        return found

    def sentence(self) -> str:
        """The steps in words, for the summary."""
        return "; then ".join(step_book.describe(c) for c in self.editor.choices)
