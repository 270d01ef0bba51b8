"""What the steps of a job would make of a real image, tag by tag; nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QDialog, QLineEdit, QMenu, QVBoxLayout, QWidget

from core.app import Abort, App
from core.model.step_preview import StepsPreview, TagRow
from core.model.steps import StepChoice
from core.model.study import StudyInfo
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.models.keyed import KeyedModel
from gui.models.tag_rows import FIELDS, as_text
from gui.theme import COMPACT_ROW_PX, STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import copy, divider, label, row
from gui.widgets.cells import PillCell, Plain
from gui.widgets.table import Share, Table

STUDIES = 100  # that are offered to choose from; any other by its UID


class PreviewDialog(QDialog):
    """Chooses an image of a node, and shows its tags before and after the steps.

    Parameters
    ----------
    sources : Sequence[str]
        Nodes that the image may come from.
    """

    def __init__(
        self, app: App, sources: Sequence[str], choices: Sequence[StepChoice], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Preview of the steps")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setModal(True)
        self.resize(1040, 680)
        self._app = app
        self._choices = tuple(choices)
        self._abort = Abort()
        self._run = 0
        self.found: StepsPreview | None = None
        self.working = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6 * STEP, 5 * STEP, 6 * STEP, 4 * STEP)
        layout.setSpacing(3 * STEP)
        layout.addWidget(label("What becomes of an image", "title"))
        layout.addWidget(
            label("The steps are done in memory on a real image. Nothing is sent, nothing is kept.", "soft")
        )
        layout.addLayout(self._build_choice(sources))
        self.banner = Banner(closable=False)
        layout.addWidget(self.banner)
        self.done_words = label("", "soft", wrap=True, selectable=True)
        layout.addWidget(self.done_words)
        layout.addLayout(self._build_filter())
        self.model: KeyedModel[TagRow] = KeyedModel(lambda r: r.path, FIELDS)
        cells = (PillCell(), Plain(), Plain(), Plain(soft=True), Plain())
        shares = (Share(96), Share(150, 1), Share(190, 2), Share(200, 4), Share(200, 4))
        self.table = Table(self.model, cells, shares, row_px=COMPACT_ROW_PX, several=True)
        self.table.setAccessibleName("Tags before and after")
        self.table.copied = lambda: "\n".join(as_text(self.model.record(r)) for r in self.table.selected_rows())
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._menu)
        layout.addWidget(self.table, 1)
        layout.addWidget(divider())
        buttons = row()
        self.count = label("", "soft")
        buttons.addWidget(self.count)
        buttons.addStretch(1)
        self.close_button = IconButton("Close", kind="primary")
        self.close_button.clicked.connect(self.accept)
        buttons.addWidget(self.close_button)
        layout.addLayout(buttons)
        self.finished.connect(lambda _: self._abort.abort())
        self._read_studies()

    def _build_choice(self, sources: Sequence[str]) -> QVBoxLayout:
        outer = QVBoxLayout()
        line = row()
        self.node = QComboBox()
        self.node.setAccessibleName("From")
        self.node.addItems(list(sources))
        self.study = QComboBox()
        self.study.setAccessibleName("Study")
        self.study.setEditable(True)
        self.study.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        edit = self.study.lineEdit()
        assert edit is not None
        edit.setPlaceholderText("A study, or its UID")
        line.addWidget(label("An image of", "soft"))
        line.addWidget(self.node, 1)
        line.addWidget(self.study, 4)
        outer.addLayout(line)
        self.node.currentIndexChanged.connect(lambda _: self._read_studies())
        self.study.activated.connect(lambda _: self.look())
        edit.returnPressed.connect(self.look)
        return outer

    def _build_filter(self) -> QVBoxLayout:
        outer = QVBoxLayout()
        line = row()
        self.only_changes = QCheckBox("Only changes")
        self.only_changes.setChecked(True)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a tag, name or value")
        self.search.setAccessibleName("Find a tag, name or value")
        self.search.setClearButtonEnabled(True)
        self.search.setFixedWidth(280)
        line.addWidget(self.only_changes)
        line.addStretch(1)
        line.addWidget(self.search)
        outer.addLayout(line)
        self.only_changes.toggled.connect(lambda _: self._show_rows())
        self.search.textChanged.connect(lambda _: self._show_rows())
        return outer

    # reading --------------------------------------------------------------------------------------------

    def _read_studies(self) -> None:
        """The first studies of the node; the first of them is looked at at once."""
        run = self._begin("Asking for studies…")
        name, nodes, abort = self.node.currentText(), self._app.steps, self._abort

        def show(found: list[StudyInfo]) -> None:
            if run != self._run:
                return
            self.study.clear()
            for study in found:
                self.study.addItem(_words(study), study.study_uid)
            if found:
                self.study.setCurrentIndex(0)
                self.look()
            else:
                self._fail("", f"{name} holds no studies.", "Choose another source.")

        work = partial(nodes.some_studies, name, STUDIES, abort=abort)
        Operation(self, work).success(show).failure(partial(self._failed, run)).run()

    def look(self) -> None:
        """Do the steps on an image of the study that is chosen."""
        chosen = self.study.currentIndex()
        typed = self.study.currentText().strip()
        uid = str(self.study.itemData(chosen)) if chosen >= 0 and self.study.itemText(chosen) == typed else typed
        run = self._begin("Doing the steps…")
        name, choices, abort = self.node.currentText(), self._choices, self._abort

        def work() -> StepsPreview:
            return self._app.steps.preview(name, choices, study_uid=uid, abort=abort)

        Operation(self, work).success(partial(self._show, run)).failure(partial(self._failed, run)).run()

    def _begin(self, what: str) -> int:
        self._abort.abort()
        self._abort = Abort()
        self._run += 1
        self.found = None
        self.working = True
        self.banner.put_away()
        self.done_words.setText(what)
        self.count.setText("")
        self.model.show([])
        return self._run

    # showing --------------------------------------------------------------------------------------------

    def _show(self, run: int, found: StepsPreview) -> None:
        if run != self._run:
            return
        self.working = False
        self.found = found
        self.done_words.setText("\n".join(found.done))
        self.done_words.setVisible(bool(found.done))
        if found.failure:
            self.banner.say("This image would not be sent.", found.failure, tone=Tone.RED)
            self.only_changes.setChecked(False)
        elif not found.changes:
            self.banner.say("The steps change nothing in this image.", "It would be sent as it is.", tone=Tone.GREY)
        self._show_rows()

    def _show_rows(self) -> None:
        if self.found is None:
            return
        wanted = self.search.text().casefold().split()
        rows = self.found.changes if self.only_changes.isChecked() else self.found.rows
        shown = [r for r in rows if not wanted or _has(r, wanted)]
        self.model.show(shown)
        changes = len(self.found.changes)
        of = words.plural(len(self.found.rows), "tag")
        self.count.setText(f"{changes:,} of {of} differ" if changes != 1 else f"1 of {of} differs")

    def _failed(self, run: int, error: Exception) -> None:
        if run != self._run:
            return
        self.working = False
        self.done_words.setText("")
        self.banner.show_error(error)

    def _fail(self, done: str, sentence: str, step: str) -> None:
        self.working = False
        self.done_words.setText(done)
        self.banner.say(sentence, step, tone=Tone.AMBER)

    def _menu(self, where: QPoint) -> None:
        index = self.table.indexAt(where)
        if not index.isValid():
            return
        record = self.model.record(index.row())
        menu = QMenu(self)
        for title, text in (("Copy value before", record.before), ("Copy value after", record.after)):
            action = menu.addAction(title, partial(copy, text))
            action.setEnabled(bool(text))
        menu.addAction("Copy rows", self.table.copy_rows)
        menu.exec(self.table.viewport().mapToGlobal(where))


def _has(record: TagRow, wanted: Sequence[str]) -> bool:
    text = f"{record.path} {record.name} {record.before} {record.after}".casefold()
    return all(word in text for word in wanted)


def _words(study: StudyInfo) -> str:
    parts = (
        words.person(study.patient_name), study.patient_id, words.dicom_date(study.study_date),
        "/".join(study.modalities), study.description,
    )  # fmt: skip
    return " · ".join(p for p in parts if p) or study.study_uid
