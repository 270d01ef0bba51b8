"""Conditions as rows to be filled in, and groups of them within groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QVBoxLayout, QWidget

from core.model.rules import Condition, Operator, Rule
from core.model.rules.rule import RELATIVE
from core.model.rules.words import Phrase, Shape, phrase_of, phrases
from gui.icons import IconButton, IconToolButton
from gui.theme import STEP
from gui.widgets.basics import label, row
from gui.widgets.rule_tag import TagEdit
from gui.widgets.rule_values import SpanValue, value_field

DEEPEST = 5
_TAG_PX = 186
_PHRASE_PX = 168
_REMOVE_PX = 30


class ConditionRow(QWidget):
    """One tag–operator–value.

    Attributes
    ----------
    changed, removed : Signal()
    """

    changed = Signal()
    removed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = QHBoxLayout(self)
        self._line.setContentsMargins(0, 0, 0, 0)
        self._line.setSpacing(2 * STEP)
        self.tag = TagEdit()
        self.tag.setFixedWidth(_TAG_PX)
        self.phrase = QComboBox()
        self.phrase.setFixedWidth(_PHRASE_PX)
        self.phrase.setAccessibleName("Operator")
        self.phrase.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._place = QHBoxLayout()
        self._place.setContentsMargins(0, 0, 0, 0)
        self.remove = IconToolButton("remove", "Remove this condition")
        self.remove.setFixedWidth(_REMOVE_PX)
        self._line.addWidget(self.tag)
        self._line.addWidget(self.phrase)
        self._line.addLayout(self._place, 1)
        self._line.addWidget(self.remove)
        self._phrases: Sequence[Phrase] = ()
        self.value = value_field("", _TEXT)
        self._put_value(self.value)
        self.tag.chosen.connect(self._tag_chosen)
        self.phrase.activated.connect(lambda _: self._phrase_chosen())
        self.remove.clicked.connect(self.removed)
        self._offer(None)

    def condition(self) -> Condition | None:
        """None while something is missing."""
        if not self.tag.key:
            return None
        values, phrase = self.value.values(), self._phrase
        if values is None:
            return None
        return Condition(self.tag.key, phrase.operator, tuple(phrase.pattern(v) for v in values))

    def set_condition(self, condition: Condition) -> None:
        self.tag.set_key(condition.tag)
        phrase, values = phrase_of(condition)
        self._offer(phrase)
        self._put_value(value_field(condition.tag, phrase, values))

    def begin_with(self, tag: str) -> None:
        """A tag with what is said of it most; the value is still missing."""
        self.tag.set_key(tag)
        self._tag_chosen()

    @property
    def _phrase(self) -> Phrase:
        at = self.phrase.currentIndex()
        return self._phrases[at] if 0 <= at < len(self._phrases) else _TEXT

    def _offer(self, chosen: Phrase | None) -> None:
        """Put what can be said of the tag into the box; what is said of it already stays, whatever it is."""
        found = list(phrases(self.tag.key)) if self.tag.key else []
        if chosen is not None and chosen not in found:
            found.append(chosen)
        self._phrases = found
        self.phrase.blockSignals(True)
        self.phrase.clear()
        for one in found:
            self.phrase.addItem(one.words)
        self.phrase.setCurrentIndex(found.index(chosen) if chosen in found else 0)
        self.phrase.blockSignals(False)
        self.phrase.setEnabled(bool(found))
        self._explain()

    def _tag_chosen(self) -> None:
        before, kept = self._phrase, self.value.values() or ()
        known = phrases(self.tag.key) if self.tag.key and self._phrases else ()
        fits = [p for p in known if p == before]
        self._offer(fits[0] if fits else None)
        self._put_value(value_field(self.tag.key, self._phrase, kept if fits else ()))
        if self.tag.key:
            self.value.first.setFocus()
        self.changed.emit()

    def _phrase_chosen(self) -> None:
        spans = self._phrase.operator in RELATIVE or isinstance(self.value, SpanValue)
        kept = () if spans else self.value.values() or ()  # seven days are no date
        self._put_value(value_field(self.tag.key, self._phrase, kept))
        self._explain()
        self.changed.emit()

    def _explain(self) -> None:
        self.phrase.setToolTip(self.phrase.currentText())

    def _put_value(self, field: QWidget) -> None:
        old = self.value
        self._place.removeWidget(old)
        if old is not field:
            old.hide()
            old.deleteLater()
        self.value = field  # type: ignore[assignment]
        self._place.addWidget(field)
        self.value.changed.connect(self.changed)
        self.value.setEnabled(bool(self.tag.key))
        QWidget.setTabOrder(self.phrase, self.value.first)
        QWidget.setTabOrder(self.value.first, self.remove)


_TEXT = Phrase(Operator.MATCHES, "contains", Shape.CONTAINS)  # until a tag is chosen


class GroupBox(QFrame):
    """All or any of some conditions and groups.

    Attributes
    ----------
    changed, removed : Signal()
    parts : list[ConditionRow | GroupBox]
    """

    changed = Signal()
    removed = Signal()

    def __init__(self, depth: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._depth = depth
        self.parts: list[ConditionRow | GroupBox] = []
        layout = QVBoxLayout(self)
        layout.setSpacing(2 * STEP)
        if depth:
            self.setProperty("card", "true")
            layout.setContentsMargins(3 * STEP, 2 * STEP, 2 * STEP, 2 * STEP)
        else:
            layout.setContentsMargins(0, 0, 0, 0)
        self.head = QWidget()
        head = row()
        self.mode = QComboBox()
        self.mode.setAccessibleName("All or any")
        self.mode.addItem("all of these", False)
        self.mode.addItem("any of these", True)
        self.mode.setMinimumWidth(130)
        self.mode.currentIndexChanged.connect(lambda _: self.changed.emit())
        head.addWidget(label("Take what fits" if not depth else "It fits"))
        head.addWidget(self.mode)
        head.addStretch(1)
        self.remove = IconToolButton("remove", "Remove this group")
        self.remove.setFixedWidth(_REMOVE_PX)
        if not depth:
            self.remove.hide()
        self.remove.clicked.connect(self.removed)
        head.addWidget(self.remove)
        self.head.setLayout(head)
        layout.addWidget(self.head)
        self._place = QVBoxLayout()
        self._place.setSpacing(2 * STEP)
        layout.addLayout(self._place)
        foot = row()
        self.add = IconButton("Add condition", "plus", kind="small")
        self.add_group = IconButton("Add group", "plus", kind="quiet")
        self.add_group.setToolTip("Conditions of which all or any must be true, within this one")
        self.add.setAutoDefault(False)
        self.add_group.setAutoDefault(False)
        self.add.clicked.connect(lambda: self.begin(""))
        self.add_group.clicked.connect(self._begin_group)
        if depth + 1 >= DEEPEST:
            self.add_group.hide()
        foot.addWidget(self.add)
        foot.addWidget(self.add_group)
        foot.addStretch(1)
        self.foot = foot
        layout.addLayout(foot)
        self._told()

    # rules ----------------------------------------------------------------------------------------------

    def rule(self) -> Rule:
        """What is filled in; rows in which something is missing are left out."""
        parts = (p.rule() if isinstance(p, GroupBox) else p.condition() for p in self.parts)
        return Rule(bool(self.mode.currentData()), tuple(p for p in parts if p is not None))

    def set_rule(self, rule: Rule) -> None:
        """Show a rule; nothing is told."""
        for part in list(self.parts):
            self._drop(part)
        if len(rule.parts) > 1:  # of one, all and any are the same: what was chosen stays
            self._choose(rule.any_of)
        for one in rule.parts:
            if isinstance(one, Rule):
                self._group().set_rule(one)
            else:
                self._row().set_condition(one)
        self._told()

    def rows(self) -> Iterator[ConditionRow]:
        """All rows, those of groups within this one included."""
        for part in self.parts:
            if isinstance(part, GroupBox):
                yield from part.rows()
            else:
                yield part

    def _choose(self, any_of: bool) -> None:
        self.mode.blockSignals(True)
        self.mode.setCurrentIndex(1 if any_of else 0)
        self.mode.blockSignals(False)

    # adding and removing --------------------------------------------------------------------------------

    def begin(self, tag: str) -> ConditionRow:
        """A new row, with a tag already chosen or not; it takes the keyboard."""
        made = self._row()
        self._told()
        if tag:
            made.begin_with(tag)
        else:
            made.tag.setFocus()
            self.changed.emit()
        return made

    def _begin_group(self) -> None:
        group = self._group()
        group._choose(not self.mode.currentData())  # a group of the same kind would say nothing new
        self._told()
        group.begin("")

    def _row(self) -> ConditionRow:
        made = ConditionRow()
        self._take(made)
        return made

    def _group(self) -> GroupBox:
        made = GroupBox(self._depth + 1)
        self._take(made)
        return made

    def _take(self, part: ConditionRow | GroupBox) -> None:
        part.changed.connect(self.changed)
        part.removed.connect(lambda: self._removed(part))
        self.parts.append(part)
        self._place.addWidget(part)

    def _removed(self, part: ConditionRow | GroupBox) -> None:
        self._drop(part)
        self._told()
        self.add.setFocus(Qt.FocusReason.OtherFocusReason)
        self.changed.emit()

    def _drop(self, part: ConditionRow | GroupBox) -> None:
        self.parts.remove(part)
        self._place.removeWidget(part)
        part.hide()
        part.deleteLater()

    def _told(self) -> None:
        self.head.setVisible(len(self.parts) > 1 or self._depth > 0)


def unfinished(group: GroupBox) -> int:
    """Rows in which something is missing, and groups without any."""
    empty = sum(1 for part in group.parts if isinstance(part, GroupBox) and not part.parts)
    inner = sum(unfinished(part) for part in group.parts if isinstance(part, GroupBox))
    return empty + inner + sum(1 for p in group.parts if isinstance(p, ConditionRow) and p.condition() is None)
