"""Which studies a migration takes, by a list: typed, pasted or from a file, with every row judged before the start."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, JsonValue
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QPlainTextEdit,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from core.app import App, Identifier, ListPreview
from core.model.errors import FerryError
from core.model.fields import form_fields
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.models.keyed import Field, KeyedModel
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.basics import CopyButton, label, row
from gui.widgets.cells import PillCell, Plain
from gui.widgets.chips import ChipBar
from gui.widgets.form import Editor
from gui.widgets.table import Share, Table

FILES = "Lists (*.csv *.txt *.tsv *.xlsx *.xlsm);;All files (*)"
COLUMN_HELP = "The one that counts."
WAIT_MS = 250  # until a person has stopped typing
# What the command line would be told is said otherwise here.
NEXT_STEPS = {
    "list-identifier": "Choose above what the list has.",
    "list-column": "Choose it above.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the list and what becomes of it."""

    row: int
    value: str
    reason: str = ""  # why it is left out; empty when it is looked for
    lost: bool = False  # it names something, and that is not looked for

    @property
    def state(self) -> tuple[str, Tone]:
        if not self.reason:
            return "Looked for", Tone.BLUE
        return ("Left out", Tone.AMBER) if self.lost else ("Not needed", Tone.GREY)


@dataclass(frozen=True, slots=True)
class _Judged:
    preview: ListPreview | None
    columns: tuple[str, ...] = ()
    problem: str = ""


FIELDS: tuple[Field[Line], ...] = (
    Field("Row", lambda x: words.count(x.row)),
    Field("Entry", lambda x: x.value or "–", tip=lambda x: x.value or None),
    Field("", lambda x: x.state[0], tone=lambda x: x.state[1]),
    Field("Why", lambda x: x.reason, tip=lambda x: x.reason or None),
)
CHIPS = (
    ("all", "All rows", Tone.GREY, True),
    ("taken", "Looked for", Tone.BLUE, True),
    ("lost", "Left out", Tone.RED, True),
    ("harmless", "Not needed", Tone.GREY, False),
)


def lines_of(preview: ListPreview) -> list[Line]:
    """Every row: first what is left out though it names something, then as the list has them."""
    lost = set(preview.lost)
    refused = [Line(r.row, r.value, r.reason, r in lost) for r in preview.refused]
    taken = [Line(e.row, e.value) for e in preview.accepted]
    return sorted((*refused, *taken), key=lambda x: (not x.lost, x.row))


def entries_of(text: str) -> list[str]:
    """What was typed or pasted: one entry a line, or several on one with a comma, semicolon or tab between."""
    lines = text.rstrip().splitlines()
    return [part.strip() for part in re.split(r"[,;\t]", lines[0])] if len(lines) == 1 else [x.strip() for x in lines]


class ListBox(QWidget):
    """The list and what was made of it.

    Attributes
    ----------
    changed : Signal()
    preview : ListPreview | None
        None while there is no list, or none that can be understood.
    """

    changed = Signal()

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._run = 0
        self._lines: list[Line] = []
        self.preview: ListPreview | None = None
        self.reading = False
        self.identifier: Editor | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * STEP)
        layout.addLayout(self._build_tabs())
        layout.addWidget(self._build_input())
        self._options = row(spacing=6 * STEP)
        self._build_column()
        layout.addLayout(self._options)
        self.problem = label("", "error", wrap=True)
        self.problem.hide()
        layout.addWidget(self.problem)
        layout.addWidget(self._build_result(), 1)
        self._rest = QWidget()  # takes the room as long as there are no rows
        layout.addWidget(self._rest, 1)
        self._waiting = QTimer(self)
        self._waiting.setSingleShot(True)
        self._waiting.setInterval(WAIT_MS)
        self._waiting.timeout.connect(self._read)

    # building -------------------------------------------------------------------------------------------

    def _build_tabs(self) -> QVBoxLayout:
        box = QVBoxLayout()
        line = row(spacing=STEP)
        self._tabs = QButtonGroup(self)
        self.typed_tab, self.file_tab = (
            IconButton("Type or paste", kind="quiet"),
            IconButton("From a file", kind="quiet"),
        )
        for number, tab in enumerate((self.typed_tab, self.file_tab)):
            tab.setCheckable(True)
            tab.setAutoDefault(False)
            self._tabs.addButton(tab, number)
            line.addWidget(tab)
        self.typed_tab.setChecked(True)
        self._tabs.idClicked.connect(self._show_input)
        line.addStretch(1)
        box.addLayout(line)
        return box

    def _build_input(self) -> QWidget:
        self._input = QStackedWidget()
        self.text = QPlainTextEdit()
        self.text.setPlaceholderText("One accession number, Study Instance UID or patient ID a line")
        self.text.setAccessibleName("Entries of the list")
        self.text.setFixedHeight(104)
        self.text.setTabChangesFocus(True)
        self.text.textChanged.connect(self._soon)
        file_box = QWidget()
        line = row()
        file_box.setLayout(line)
        self.file = QLineEdit()
        self.file.setPlaceholderText("A CSV or Excel file (.xlsx) with one study or patient in each row")
        self.file.setAccessibleName("File of the list")
        self.file.textChanged.connect(self._new_file)
        self.choose = IconButton("Choose…")
        self.choose.setAutoDefault(False)
        self.choose.clicked.connect(self._choose)
        line.addWidget(self.file, 1)
        line.addWidget(self.choose)
        self._input.addWidget(self.text)
        self._input.addWidget(file_box)
        self._input.setFixedHeight(104)
        return self._input

    def _build_column(self) -> None:
        self._column_box = QWidget()
        box = QVBoxLayout(self._column_box)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(STEP)
        title = label("Column", "strong")
        self.column = QComboBox()
        self.column.setAccessibleName("Column")
        self.column.addItem("Recognise it", "")
        self.column.currentIndexChanged.connect(self._soon)
        title.setBuddy(self.column)
        self.column_help = label(COLUMN_HELP, "small", wrap=True)
        for part in (title, self.column, self.column_help):
            box.addWidget(part)
        self._column_box.hide()
        self._options.addWidget(self._column_box, 1, Qt.AlignmentFlag.AlignTop)

    def _build_result(self) -> QWidget:
        self.result = QWidget()
        layout = QVBoxLayout(self.result)
        layout.setContentsMargins(0, 2 * STEP, 0, 0)
        layout.setSpacing(2 * STEP)
        head = row(spacing=2 * STEP)
        self.chips = ChipBar(CHIPS)
        self.chips.chosen.connect(lambda _: self._filter())
        self.copy = CopyButton("Copy what is left out")
        self.copy.setAutoDefault(False)
        head.addWidget(self.chips, 1)
        head.addWidget(self.copy)
        layout.addLayout(head)
        self.model: KeyedModel[Line] = KeyedModel(lambda x: x.row, FIELDS)
        self.table = Table(
            self.model,
            (Plain(soft=True, tabular=True), Plain(tabular=True), PillCell(), Plain(soft=True)),
            (Share(52), Share(120, 2), Share(112), Share(200, 5)),
            row_px=30,
        )
        self.table.setAccessibleName("Rows of the list")
        self.table.setMinimumHeight(156)
        layout.addWidget(self.table, 1)
        self.result.hide()
        return self.result

    def show_model(self, model: type[BaseModel]) -> None:
        """The declared fields of the job's kind."""
        if self.identifier is None:
            self.identifier = Editor(next(f for f in form_fields(model) if f.name == "identifier"))
            self.identifier.changed.connect(self._soon)
            self._options.insertWidget(0, self.identifier, 1, Qt.AlignmentFlag.AlignTop)

    # input ----------------------------------------------------------------------------------------------

    @property
    def from_file(self) -> bool:
        return self.file_tab.isChecked()

    def _show_input(self, number: int) -> None:
        self._input.setCurrentIndex(number)
        self._input.setFixedHeight(34 if number else 104)
        self._column_box.setVisible(bool(number))
        (self.file if number else self.text).setFocus()
        self._read()

    def _choose(self) -> None:
        found, _ = QFileDialog.getOpenFileName(self, "The list", self.file.text(), FILES)
        if found:
            self.file.setText(found)

    def _new_file(self) -> None:
        self.column.blockSignals(True)
        self.column.clear()
        self.column.addItem("Recognise it", "")
        self.column.blockSignals(False)
        self._soon()

    def _soon(self) -> None:
        self.reading = True
        self._run += 1  # what is being read now is old already
        self._waiting.start()
        self.changed.emit()

    # judging --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Judge the list on a background thread: a file may be large, or lie on a slow drive."""
        self._waiting.stop()
        self._run += 1
        run = self._run
        judge = self._judge()
        if judge is None:
            self._take(None, "")
            return
        self.reading = True

        def done(judged: _Judged) -> None:
            if run == self._run:
                self._show_columns(judged.columns)
                self._take(judged.preview, judged.problem)

        def failed(error: Exception) -> None:
            if run == self._run:
                self._take(None, _told(error))

        Operation(self, judge).success(done).failure(failed).run()
        self.changed.emit()

    def _judge(self) -> Callable[[], _Judged] | None:
        app, identifier = self._session.app, Identifier(self._what())
        if self.from_file:
            file, column = self.file.text().strip(), str(self.column.currentData() or "")
            return (lambda: _of_file(app, Path(file), column, identifier)) if file else None
        entries = entries_of(self.text.toPlainText()) if self.text.toPlainText().strip() else []
        return (lambda: _Judged(app.typed_list(entries, identifier))) if entries else None

    def _what(self) -> str:
        return str(self.identifier.value() or Identifier.AUTO.value) if self.identifier else Identifier.AUTO.value

    def _take(self, preview: ListPreview | None, problem: str) -> None:
        self.reading = False
        self.preview = preview
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.result.setVisible(preview is not None)
        self._rest.setVisible(preview is None)
        named = preview is not None and preview.column and not preview.column.isdigit()
        self.column_help.setText(f"Taken: “{preview.column}”." if named and preview else COLUMN_HELP)
        if preview is not None:
            self._lines = lines_of(preview)
            lost = [x for x in self._lines if x.lost]
            harmless = len(self._lines) - len(lost) - len(preview.accepted)
            counts = {"all": len(self._lines), "taken": len(preview.accepted), "lost": len(lost), "harmless": harmless}
            self.chips.show_counts(counts)
            self.copy.setVisible(bool(lost or harmless))
            self.copy.copied_text = left_out_text(self._lines)
            self._filter()
        self.changed.emit()

    def _show_columns(self, columns: Sequence[str]) -> None:
        """Offer the file's columns; the one that was chosen stays."""
        chosen = self.column.currentData()
        self.column.blockSignals(True)
        self.column.clear()
        self.column.addItem("Recognise it", "")
        for number, name in enumerate(columns, 1):
            self.column.addItem(name, str(number))
        self.column.setCurrentIndex(max(0, self.column.findData(chosen)))
        self.column.blockSignals(False)

    def _filter(self) -> None:
        wanted = self.chips.value
        shown = [x for x in self._lines if wanted == "all" or wanted == _group(x)]
        if self.model.rowCount():
            self.model.remove(0, self.model.rowCount())
        self.model.append(shown)

    # what is chosen -------------------------------------------------------------------------------------

    def take_focus(self) -> None:
        (self.file if self.from_file else self.text).setFocus()

    def complete(self) -> bool:
        return not self.reading and self.preview is not None and bool(self.preview.accepted)

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {"identifier": self._what()}
        if self.from_file:
            found |= {"list": self.file.text().strip(), "list_column": str(self.column.currentData() or "")}
        else:
            found["entries"] = list(entries_of(self.text.toPlainText()))
        return found

    def sentence(self) -> str:
        """The choice in words."""
        if self.preview is None:
            return ""
        p = self.preview
        of = f" of {Path(self.file.text()).name}" if self.from_file else ""
        names = {
            Identifier.ACCESSION: ("accession number", "accession numbers"),
            Identifier.STUDY_UID: ("Study Instance UID", "Study Instance UIDs"),
            Identifier.PATIENT_ID: ("patient ID, with all studies", "patient IDs, with all their studies"),
        }[p.identifier]
        text = words.plural(len(p.accepted), *names) + of
        return f"{text}; {words.plural(len(p.lost), 'row')} left out" if p.lost else text


def _of_file(app: App, file: Path, column: str, identifier: Identifier) -> _Judged:
    """The file as it was asked for; where that is not clear, at least which columns there are to choose from."""
    try:
        preview = app.read_list(file, column, identifier)
    except FerryError as error:
        if error.code not in NEXT_STEPS:
            raise
        tops = (f"{n}: {top}" if top else f"Column {n}" for n, top in enumerate(app.list_columns(file), 1))
        return _Judged(None, tuple(tops), _told(error))
    numbered = enumerate(preview.columns, 1)
    return _Judged(preview, tuple(f"Column {n}" if name == str(n) else name for n, name in numbered))


def left_out_text(lines: Sequence[Line]) -> str:
    """All rows that are not looked for, with their reasons, to be pasted anywhere."""
    out = [x for x in lines if x.reason]
    head = "1 row was left out:" if len(out) == 1 else f"{words.count(len(out))} rows were left out:"
    return "\n".join((head, *(f"Row {x.row}\t{x.value}\t{x.reason}" for x in out)))


def _group(line: Line) -> str:
    return "taken" if not line.reason else ("lost" if line.lost else "harmless")


def _told(error: Exception) -> str:
    sentence, next_step, _detail = words.sentence_of(error)
    code = error.code if isinstance(error, FerryError) else ""
    return f"{sentence} {NEXT_STEPS.get(code, next_step)}"
