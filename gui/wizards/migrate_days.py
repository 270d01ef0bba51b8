"""Which studies a migration takes, by their dates: two days, or one of a few usual ranges."""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, JsonValue, ValidationError
from PySide6.QtCore import QDate, Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from core.model.fields import form_fields
from gui import words
from gui.icons import IconButton
from gui.theme import STEP
from gui.widgets.basics import label, restyle, row
from gui.widgets.day import FIRST, DayEdit
from gui.widgets.form import Editor

EVERYTHING = QDate(1900, 1, 1)
Range = tuple[QDate, QDate]


def usual_ranges(today: QDate) -> dict[str, Range]:
    """Ranges that are asked for often, by their names."""
    this_month, this_year = QDate(today.year(), today.month(), 1), QDate(today.year(), 1, 1)
    return {
        "This month": (this_month, today),
        "Last month": (this_month.addMonths(-1), this_month.addDays(-1)),
        "This year": (this_year, today),
        "Last year": (this_year.addYears(-1), this_year.addDays(-1)),
        "Everything": (EVERYTHING, today),
    }


class DaysBox(QWidget):
    """First and last day, the order, and what happens to studies without a date.

    Attributes
    ----------
    changed : Signal()
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model: type[BaseModel] | None = None
        self.order: Editor | None = None
        self.undated: Editor | None = None
        self.quick: dict[str, IconButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * STEP)
        today = QDate.currentDate()
        first, last = usual_ranges(today)["Last month"]
        chips = row(spacing=2 * STEP)
        for name in usual_ranges(today):
            chip = IconButton(name, kind="chip")
            chip.setCheckable(True)
            chip.setAutoDefault(False)
            chip.clicked.connect(partial(self._take, name))
            self.quick[name] = chip
            chips.addWidget(chip)
        chips.addStretch(1)
        layout.addLayout(chips)
        layout.addSpacing(STEP)
        line = row(spacing=2 * STEP)
        self.first = DayEdit(first, "First day")
        self.last = DayEdit(last, "Last day")
        for text, edit in (("From", self.first), ("to", self.last)):
            line.addWidget(label(text))
            line.addWidget(edit)
            edit.dateChanged.connect(self._tell)
        self.length = label("", "soft")
        line.addSpacing(STEP)
        line.addWidget(self.length)
        line.addStretch(1)
        layout.addLayout(line)
        self.problem = label("", "error", wrap=True)
        layout.addWidget(self.problem)
        layout.addWidget(label("By the study date; both days belong to the range.", "small"))
        layout.addSpacing(2 * STEP)
        self._editors = row(spacing=6 * STEP)
        layout.addLayout(self._editors)

    def show_model(self, model: type[BaseModel]) -> None:
        """The declared fields of the job's kind."""
        if self._model is model:
            return
        self._model = model
        declared = {f.name: f for f in form_fields(model)}
        self.order, self.undated = Editor(declared["order"]), Editor(declared["undated"])
        for editor in (self.order, self.undated):
            editor.changed.connect(self.changed)
            self._editors.addWidget(editor, 1, Qt.AlignmentFlag.AlignTop)
        self._tell()

    def _take(self, name: str) -> None:
        first, last = usual_ranges(QDate.currentDate())[name]
        for edit, day in ((self.first, first), (self.last, last)):
            edit.blockSignals(True)
            edit.setDate(day)
            edit.blockSignals(False)
        if name == "Everything" and self.undated is not None:
            self.undated.set_value("carry")
        self._tell()

    def _tell(self, *_: object) -> None:
        days = (self.first.date(), self.last.date())
        ranges = usual_ranges(QDate.currentDate())
        for name, chip in self.quick.items():
            chip.setChecked(ranges[name] == days)
        problem = self._wrong()
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        for edit in (self.first, self.last):
            edit.setProperty("wrong", "true" if problem else "false")
            restyle(edit)
        count = days[0].daysTo(days[1]) + 1
        everything = days[0] in (FIRST, EVERYTHING)
        self.length.setText("" if problem or everything else words.plural(count, "day"))
        self.changed.emit()

    def _wrong(self) -> str:
        """What the job's kind says to these days."""
        if self._model is None:
            return ""
        try:
            self._model.model_validate({"source": ["A"], "destination": ["B"], **self.values()})
        except ValidationError as error:
            text = str(error.errors(include_url=False, include_input=False)[0]["msg"]).removeprefix("Value error, ")
            return f"{text[:1].upper()}{text[1:]}."
        return ""

    def complete(self) -> bool:
        return self.problem.isHidden()

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {
            "date_from": self.first.date().toString("yyyyMMdd"),
            "date_to": self.last.date().toString("yyyyMMdd"),
        }
        if self.order is not None and self.undated is not None:
            found |= {"order": self.order.value(), "undated": self.undated.value()}
        return found

    def sentence(self) -> str:
        """The choice in words."""
        first, last = self.first.date(), self.last.date()
        if first == EVERYTHING:
            text = f"Everything up to {words.dicom_date(last.toString('yyyyMMdd'))}"
        else:
            days = (words.dicom_date(d.toString("yyyyMMdd")) for d in (first, last))
            text = "Studies from {} to {}".format(*days)
        order = self.values().get("order")
        return f"{text}, {order} first" if order else text
