"""The editor of a rule: rows to be filled in and the same as text, each in step with the other."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit, QTextEdit, QVBoxLayout, QWidget

from core.model.rules import Condition, Rule, RuleError, parse_rule
from core.model.rules.tags import tag_choices
from core.model.rules.words import remarks
from gui.background import Operation
from gui.icons import IconButton, IconLabel
from gui.theme import STEP, Role, theme
from gui.widgets.basics import label, restyle, row
from gui.widgets.rule_rows import DEEPEST, GroupBox, unfinished
from gui.widgets.rule_trial import TrialPanel

_MOST_ROWS = 40
_MOST_LINES = 6
_OFFERED = (("Modality", "Modality"), ("StudyDate", "Study date"), ("StudyDescription", "Description"))
_AFTER_TYPING_MS = 250


class RuleText(QPlainTextEdit):
    """A rule as text; as high as it needs to be."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setTabChangesFocus(True)
        self.setAccessibleName("The rule as text")
        self.setPlaceholderText("Modality in CT, MR and StudyDate in last 7 days")
        self.document().documentLayout().documentSizeChanged.connect(lambda _: self.updateGeometry())
        self._fit()

    def sizeHint(self) -> QSize:
        lines = min(_MOST_LINES, max(1, int(self.document().size().height())))
        return QSize(200, lines * self.fontMetrics().lineSpacing() + 18)

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def updateGeometry(self) -> None:
        self._fit()
        super().updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()  # in another width it has other lines

    def _fit(self) -> None:
        self.setFixedHeight(self.sizeHint().height())
        long = self.document().size().height() > _MOST_LINES
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if long else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(policy)

    def written(self) -> str:
        """What was written, to the letter: Qt makes plain blanks of others where it gives plain text."""
        return self.document().toRawText().replace("\u2029", "\n").replace("\u2028", "\n")

    def mark(self, error: RuleError | None) -> None:
        """Underline where it goes wrong."""
        self.setProperty("wrong", "true" if error is not None else "false")
        restyle(self)
        if error is None:
            self.setExtraSelections([])
            return
        text = self.written()
        at = min(error.at, max(0, len(text.rstrip()) - 1))  # what is missing at the end is marked at the last character
        start, end = _units(text[:at]), _units(text[: at + error.length])
        cursor = QTextCursor(self.document())
        cursor.setPosition(start)
        cursor.setPosition(min(end, _units(text)), QTextCursor.MoveMode.KeepAnchor)
        look = QTextCharFormat()
        look.setUnderlineStyle(QTextCharFormat.UnderlineStyle.WaveUnderline)
        look.setUnderlineColor(theme().colour(Role.RED))
        look.setBackground(theme().colour(Role.RED_TINT))
        selection = QTextEdit.ExtraSelection()
        selection.cursor = cursor
        selection.format = look
        self.setExtraSelections([selection])


def _units(text: str) -> int:
    """Length as Qt counts it, in UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class RuleEditor(QWidget):
    """A rule: rows, text, what is wrong with it, and what it takes of what a node holds.

    Attributes
    ----------
    changed, left : Signal()
    wrong : str
        Why the rule can't be used as it is; empty where it can.
    trial : TrialPanel
        Hidden until it is told which nodes there are to try on.
    """

    changed = Signal()
    left = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.wrong = ""
        self._rule = Rule()
        self._error: RuleError | None = None
        self._syncing = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * STEP)
        self.nothing = QWidget()
        nothing = row()
        nothing.addWidget(IconLabel("info", Role.SOFT))
        nothing.addWidget(label("Everything: there is no condition yet.", "soft"), 1)
        self.nothing.setLayout(nothing)
        layout.addWidget(self.nothing)
        self.group = GroupBox()
        self.group.changed.connect(self._rows_changed)
        layout.addWidget(self.group)
        self.offers: dict[str, IconButton] = {}
        for at, (tag, words) in enumerate(_OFFERED):
            button = IconButton(words, "plus", kind="quiet")
            button.setToolTip(f"Add a condition on this: {words}")
            button.setAutoDefault(False)
            button.clicked.connect(lambda _=False, t=tag: self.group.begin(t))
            self.group.foot.insertWidget(1 + at, button)
            self.offers[tag] = button
        self.too_much = label(
            "This rule is too long or nested too deep to be shown in rows; it can be edited as text.", "soft", wrap=True
        )
        layout.addWidget(self.too_much)
        title = label("The same as text", "small")
        self.text = RuleText()
        title.setBuddy(self.text)
        layout.addSpacing(STEP)
        layout.addWidget(title)
        layout.addWidget(self.text)
        self.problem = label("", "error", wrap=True, selectable=True)
        self.problem.setAccessibleName("What is wrong with the rule")
        layout.addWidget(self.problem)
        self.remarks = label("", "small", wrap=True)
        layout.addWidget(self.remarks)
        self.trial = TrialPanel()
        self.trial.hide()
        layout.addWidget(self.trial)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(_AFTER_TYPING_MS)
        self._typing.timeout.connect(self._text_changed)
        self.text.textChanged.connect(self._typed)
        self.setFocusProxy(self.group.add)
        theme().changed.connect(self._colour)
        self._show()
        Operation(self, tag_choices).run()  # the dictionary takes a second to load: it is there when a row is added

    # values ---------------------------------------------------------------------------------------------

    def value(self) -> str:
        """The rule as text, as it is now: what is wrong with it included."""
        if self._typing.isActive():
            self._typing.stop()
            self._text_changed()
        return self.text.written().strip()

    def set_value(self, text: str) -> None:
        self._syncing = True
        self.text.setPlainText(text)
        self._syncing = False
        self._text_changed()

    @property
    def rule(self) -> Rule | None:
        """None while something is wrong with it."""
        return None if self.wrong else self._rule

    # in step --------------------------------------------------------------------------------------------

    def _rows_changed(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        self.text.setPlainText(str(self.group.rule()))
        self._syncing = False
        self._typing.stop()
        self._read()
        self._show(by_text=False)
        self.changed.emit()

    def _typed(self) -> None:
        if not self._syncing:
            self._typing.start()

    def _text_changed(self) -> None:
        """Rows follow the text once it can be read; until then they stay as they were."""
        if self._read() and (self.group.rule() != self._rule or unfinished(self.group)):
            self._syncing = True
            self.group.set_rule(self._rule if self._fits() else Rule())
            self._syncing = False
        self._show()
        self.changed.emit()

    def _read(self) -> bool:
        self._error = None
        try:
            self._rule = parse_rule(self.text.written())
        except RuleError as error:
            self._error = error
        return self._error is None

    def _fits(self) -> bool:
        return _depth(self._rule) <= DEEPEST and sum(1 for _ in self._rule.conditions()) <= _MOST_ROWS

    def _show(self, *, by_text: bool = True) -> None:
        error = self._error
        fits = self._fits()
        missing = unfinished(self.group) if fits else 0
        self.text.mark(error)
        if error is not None:
            self.wrong = f"{error.sentence} {error.next_step}"
        elif missing:
            what = "1 condition is" if missing == 1 else f"{missing} conditions are"
            self.wrong = f"{what} not finished: choose a tag and a value, or remove it."
        else:
            self.wrong = ""
        marks = [row.tag.wrong for row in self.group.rows() if row.tag.wrong]
        self.problem.setText(marks[0] if marks and error is None else self.wrong)
        self.problem.setProperty("text_role", "error" if error is not None or marks else "warning")
        restyle(self.problem)
        self.problem.setVisible(bool(self.wrong))
        self.group.setVisible(fits)
        self.group.setEnabled(error is None or not by_text)  # they would not be what is read beside them
        self.too_much.setVisible(not fits)
        self.nothing.setVisible(fits and not self.group.parts and error is None)
        told = "" if self.wrong else "\n".join(remarks(self._rule))
        self.remarks.setText(told)
        self.remarks.setVisible(bool(told))
        self.trial.show_rule(None if self.wrong else self._rule)

    def _colour(self) -> None:
        self.text.mark(self._error)


def _depth(rule: Rule | Condition) -> int:
    return 0 if isinstance(rule, Condition) else 1 + max((_depth(p) for p in rule.parts), default=0)
