"""A table of frozen records that is brought up to date by inserting, removing and changing rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from gui.models.roles import Bar, ModelRole
from gui.theme import Tone

T = TypeVar("T")
_NO_PARENT = QModelIndex()
Index = QModelIndex | QPersistentModelIndex


def _nothing(_record: Any) -> Any:
    return None


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A column: its title and what it says about a record."""

    title: str
    text: Callable[[T], str]
    second: Callable[[T], str | None] = _nothing
    tone: Callable[[T], Tone | None] = _nothing
    bar: Callable[[T], Bar | None] = _nothing
    tip: Callable[[T], str | None] = _nothing
    icon: Callable[[T], str | None] = _nothing
    right: bool = False


class KeyedModel(QAbstractTableModel, Generic[T]):
    """Rows of one type, known by a key.

    Parameters
    ----------
    key : Callable[[T], Hashable]
    fields : Sequence[Field[T]]
    """

    def __init__(self, key: Callable[[T], Hashable], fields: Sequence[Field[T]], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._key = key
        self._fields = tuple(fields)
        self._rows: list[T] = []

    @property
    def records(self) -> tuple[T, ...]:
        return tuple(self._rows)

    def record(self, row: int) -> T:
        return self._rows[row]

    def row_of(self, key: Hashable) -> int | None:
        return next((i for i, r in enumerate(self._rows) if self._key(r) == key), None)

    def show(self, records: Sequence[T]) -> None:
        """Become these records in this order; rows that stay keep their selection."""
        wanted = {self._key(r) for r in records}
        for at in range(len(self._rows) - 1, -1, -1):
            if self._key(self._rows[at]) not in wanted:
                self.remove(at)
        for at, record in enumerate(records):
            if at < len(self._rows) and self._key(self._rows[at]) == self._key(record):
                self.change(at, record)
                continue
            old = self.row_of(self._key(record))
            if old is not None:
                self.remove(old)
            self.insert(at, [record])

    def insert(self, at: int, records: Sequence[T]) -> None:
        if records:
            self.beginInsertRows(_NO_PARENT, at, at + len(records) - 1)
            self._rows[at:at] = records
            self.endInsertRows()

    def append(self, records: Sequence[T]) -> None:
        self.insert(len(self._rows), records)

    def remove(self, at: int, count: int = 1) -> None:
        self.beginRemoveRows(_NO_PARENT, at, at + count - 1)
        del self._rows[at : at + count]
        self.endRemoveRows()

    def change(self, at: int, record: T) -> None:
        if self._rows[at] != record:
            self._rows[at] = record
            self.dataChanged.emit(self.index(at, 0), self.index(at, len(self._fields) - 1))

    def touch(self) -> None:
        """What is shown depends on the time of day: paint again."""
        if self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, len(self._fields) - 1))

    def rowCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._fields)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        field = self._fields[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return field.title
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if field.right else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        record = self._rows[index.row()]
        field = self._fields[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return field.text(record)
        if role == ModelRole.SECOND:
            return field.second(record)
        if role == ModelRole.TONE:
            return field.tone(record)
        if role == ModelRole.BAR:
            return field.bar(record)
        if role == ModelRole.ICON:
            return field.icon(record)
        if role == Qt.ItemDataRole.ToolTipRole:
            return field.tip(record)
        if role == ModelRole.RECORD:
            return record
        if role == Qt.ItemDataRole.AccessibleTextRole:
            parts = (field.title, field.text(record), field.second(record))
            return " ".join(p for p in parts if p)
        return None
