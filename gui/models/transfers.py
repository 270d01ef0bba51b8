"""The rows of the transfers page: batches from the ledger, live changes, never a reset."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, QSortFilterProxyModel, Qt

from core.model.events import TransferRow
from core.model.outcome import Counts, StudyState
from core.model.views import FILTER_STATES, TransferFilter
from gui import words
from gui.background import Operation
from gui.models.roles import Bar, ModelRole
from gui.theme import Role

BATCH = 500
_NO_PARENT = QModelIndex()
Index = QModelIndex | QPersistentModelIndex
Fetch = Callable[[TransferFilter, int, int], list[TransferRow]]


class Column(IntEnum):
    PATIENT = 0
    STUDY = 1
    ROUTE = 2
    STATE = 3
    IMAGES = 4
    SPEED = 5
    LEFT = 6


TITLES = {
    Column.PATIENT: "Patient",
    Column.STUDY: "Study",
    Column.ROUTE: "From → to",
    Column.STATE: "State",
    Column.IMAGES: "Images",
    Column.SPEED: "Speed",
    Column.LEFT: "Left",
}

_STATE_ORDER = {
    state: place
    for place, state in enumerate(
        (
            StudyState.ATTENTION,
            StudyState.FAILED,
            StudyState.DIFFERENT,
            StudyState.SENDING,
            StudyState.CONFIRMING,
            StudyState.SENT,
            StudyState.WAITING,
            StudyState.CANCELLED,
            StudyState.ALREADY_THERE,
            StudyState.CONFIRMED,
            StudyState.COMMITTED,
        )
    )
}


def bar(counts: Counts, state: StudyState) -> Bar:
    """Confirmed, then sent, then what failed."""
    total = counts.total or 1
    if state is StudyState.ALREADY_THERE:
        return Bar(((1.0, Role.SOFT),))
    sent = Role.AMBER if state is StudyState.SENT else Role.ACCENT
    parts = (
        ((counts.verified + counts.committed + counts.skipped) / total, Role.GREEN),
        (counts.sent / total, sent),
        (counts.conflict / total, Role.AMBER),
        (counts.failed / total, Role.RED),
    )
    return Bar(tuple(p for p in parts if p[0] > 0))


def matches(row: TransferRow, wanted: TransferFilter) -> bool:
    """Whether the ledger would give this row for that filter."""
    if row.state not in FILTER_STATES[wanted.state]:
        return False
    if wanted.job_id is not None and row.job_id != wanted.job_id:
        return False
    if wanted.node and wanted.node not in (row.source, row.destination):
        return False
    if not wanted.text:
        return True
    s = row.study
    texts = [t.casefold() for t in (s.patient_name, s.patient_id, s.accession, s.description, s.study_uid)]
    return all(any(word in t for t in texts) for word in wanted.text.casefold().replace(",", " ").split())


class TransfersModel(QAbstractTableModel):
    """Newest first, in batches as the view scrolls; changes are applied to the rows that they concern.

    Parameters
    ----------
    fetch : Callable[[TransferFilter, int, int], list[TransferRow]]
        `Ledger.transfers` with offset and limit; called on a background thread.
    """

    def __init__(self, fetch: Fetch, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._fetch = fetch
        self._rows: list[TransferRow] = []
        self._keys: list[int] = []  # −id of each row: ascending, for bisect
        self._filter = TransferFilter()
        self._generation = 0
        self._loading = False
        self._all = False
        self._wants_all = False
        self._more = False
        self._newest = 0
        self._notes: dict[int, str] = {}
        self._outcomes: dict[int, str] = {}
        self._failure: Callable[[Exception], object] | None = None
        self._loaded: Callable[[], object] | None = None

    # what is shown --------------------------------------------------------------------------------------

    def on_failure(self, then: Callable[[Exception], object]) -> None:
        """What is called on the GUI thread when the ledger can't be read."""
        self._failure = then

    def on_loaded(self, then: Callable[[], object]) -> None:
        """What is called after each batch, so that the page can show that there is nothing."""
        self._loaded = then

    def show_notes(self, notes: Mapping[int, str]) -> None:
        """What jobs say of themselves as a whole, by their numbers: why their studies wait."""
        self._say(self._notes, notes)

    def show_outcomes(self, outcomes: Mapping[int, str]) -> None:
        """Short names of what went wrong, by the keys of the rows."""
        self._say(self._outcomes, outcomes)

    def _say(self, said: dict[int, str], now: Mapping[int, str]) -> None:
        new = {key: text for key, text in now.items() if text}
        if new == said:
            return
        said.clear()
        said.update(new)
        if self._rows:
            self.dataChanged.emit(self.index(0, Column.STATE), self.index(len(self._rows) - 1, Column.STATE))

    @property
    def filter(self) -> TransferFilter:
        return self._filter

    @property
    def complete(self) -> bool:
        """Every row of the ledger that matches is here."""
        return self._all

    def show(self, wanted: TransferFilter) -> None:
        """Show other rows; those that match both filters stay where they are, with their selection."""
        self._filter = wanted
        self._generation += 1
        self._loading = self._more = False
        self._all = False
        self._drop([i for i, row in enumerate(self._rows) if not matches(row, wanted)])
        self._load(0)

    def load_all(self) -> None:
        """Load every batch: needed once a column other than time is sorted by."""
        self._wants_all = True
        self._load(len(self._rows))

    def reload(self) -> None:
        """Read again what is loaded: rows of a pass that was begun anew, or of a removed job, are gone."""
        self._generation += 1
        self._loading = True
        generation, wanted, limit = self._generation, self._filter, max(BATCH, len(self._rows))

        def take(rows: list[TransferRow]) -> None:
            if generation != self._generation:
                return
            self._loading = False
            self._all = len(rows) < limit
            there = {r.id for r in rows}
            oldest = rows[-1].id if rows and not self._all else 0
            # What is newer than this answer came by an event while it was read.
            newest = rows[0].id if rows else self._newest
            gone = [i for i, r in enumerate(self._rows) if r.id not in there and oldest <= r.id <= newest]
            self._drop(gone)
            known = {r.id for r in self._rows}
            self._insert(rows)
            self.apply([r for r in rows if r.id in known and not self._moves(r.id)])
            if self._more or self._wants_all:
                self._more = False
                self._load(len(self._rows))
            if self._loaded is not None:
                self._loaded()

        def fail(error: Exception) -> None:
            if generation == self._generation:
                self._loading = False
            if self._failure is not None:
                self._failure(error)

        self._newest = -self._keys[0] if self._keys else 0
        Operation(self, lambda: self._fetch(wanted, 0, limit)).success(take).failure(fail).run()

    def _moves(self, transfer_id: int) -> bool:
        """Speed comes by events alone: a row that moves is newer than the ledger's answer."""
        at = self.row_of(transfer_id)
        return at is not None and self._rows[at].speed > 0

    def row_of(self, transfer_id: int) -> int | None:
        at = bisect_left(self._keys, -transfer_id)
        return at if at < len(self._keys) and self._keys[at] == -transfer_id else None

    def record(self, row: int) -> TransferRow:
        return self._rows[row]

    # changes --------------------------------------------------------------------------------------------

    def apply(self, changed: Sequence[TransferRow]) -> None:
        """Take in changes, at most one for each row; selection and scroll position stay."""
        touched: list[int] = []
        leaving: list[int] = []
        arriving: list[TransferRow] = []
        for row in changed:
            at = self.row_of(row.id)
            fits = matches(row, self._filter)
            if at is None:
                if fits and self._belongs(row.id):
                    arriving.append(row)
            elif fits:
                self._rows[at] = row
                touched.append(at)
            else:
                leaving.append(at)
        for first, last in _runs(sorted(touched)):
            self.dataChanged.emit(self.index(first, 0), self.index(last, len(Column) - 1))
        self._drop(sorted(leaving))
        self._insert(arriving)

    def _belongs(self, transfer_id: int) -> bool:
        """Rows older than what is loaded come with their batch."""
        return self._all or not self._keys or -transfer_id < self._keys[-1]

    def _drop(self, places: list[int]) -> None:
        for first, last in reversed(_runs(places)):
            self.beginRemoveRows(_NO_PARENT, first, last)
            del self._rows[first : last + 1]
            del self._keys[first : last + 1]
            self.endRemoveRows()

    def _insert(self, rows: Sequence[TransferRow]) -> None:
        """Each run of neighbours in one step."""
        fresh = sorted((r for r in rows if self.row_of(r.id) is None), key=lambda r: -r.id)
        start = 0
        while start < len(fresh):
            at = bisect_left(self._keys, -fresh[start].id)
            end = start + 1
            while end < len(fresh) and bisect_left(self._keys, -fresh[end].id) == at:
                end += 1
            part = fresh[start:end]
            self.beginInsertRows(_NO_PARENT, at, at + len(part) - 1)
            self._rows[at:at] = part
            self._keys[at:at] = [-r.id for r in part]
            self.endInsertRows()
            start = end

    # batches --------------------------------------------------------------------------------------------

    def canFetchMore(self, parent: Index = _NO_PARENT) -> bool:
        return not parent.isValid() and not self._all

    def fetchMore(self, parent: Index = _NO_PARENT) -> None:
        self._load(len(self._rows))

    def _load(self, offset: int) -> None:
        if self._all:
            return
        if self._loading:
            self._more = True  # the view asks once for each scroll: it must not have asked in vain
            return
        self._loading = True
        generation, wanted = self._generation, self._filter

        def take(rows: list[TransferRow]) -> None:
            if generation != self._generation:
                return  # the filter has changed meanwhile
            self._loading = False
            known = [r for r in rows if self.row_of(r.id) is not None]
            self._insert(rows)
            self.apply(known)
            self._all = len(rows) < BATCH
            if self._loaded is not None:
                self._loaded()
            if (self._wants_all or self._more) and not self._all:
                self._more = False
                self._load(offset + len(rows))

        def fail(error: Exception) -> None:
            if generation == self._generation:
                self._loading = False
                self._all = True  # no endless attempts from a view that is being scrolled
            if self._failure is not None:
                self._failure(error)

        Operation(self, lambda: self._fetch(wanted, offset, BATCH)).success(take).failure(fail).run()

    # Qt's side ------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = _NO_PARENT) -> int:
        return 0 if parent.isValid() else len(Column)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return TITLES[Column(section)]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            right = Column(section) in (Column.SPEED, Column.LEFT)
            side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        row = self._rows[index.row()]
        column = Column(index.column())
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == ModelRole.SECOND:
            return self._second(row, column)
        if role == ModelRole.TONE:
            return words.STATE_TONES[row.state] if column is Column.STATE else None
        if role == ModelRole.BAR:
            return bar(row.counts, row.state) if column is Column.IMAGES else None
        if role == ModelRole.RECORD:
            return row
        if role == ModelRole.SORT:
            return _sort_key(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._second(row, column) or None if column is Column.STATE and not row.reason else _tip(row, column)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return " ".join(t for t in (TITLES[column], _text(row, column), self._second(row, column)) if t)
        return None

    def _second(self, row: TransferRow, column: Column) -> str:
        if column is Column.STATE:
            troubled = row.state in (StudyState.ATTENTION, StudyState.FAILED)
            outcome = self._outcomes.get(row.id, "") if troubled else ""
            return outcome or words.state_more(row, self._notes.get(row.job_id, ""))
        return _second(row, column)


def _text(row: TransferRow, column: Column) -> str:
    if column is Column.PATIENT:
        return words.person(row.study.patient_name)
    if column is Column.STUDY:
        return words.study_when(row.study)
    if column is Column.ROUTE:
        return f"{row.source} → {row.destination}"
    if column is Column.STATE:
        return words.state(row)
    if column is Column.IMAGES:
        return words.images(row.counts)
    if column is Column.SPEED:
        return words.speed(row.speed)
    return words.duration(row.seconds_left) if row.seconds_left is not None else ""


def _second(row: TransferRow, column: Column) -> str:
    if column is Column.PATIENT:
        return words.patient_line(row.study)
    if column is Column.STUDY:
        return words.study_what(row.study)
    if column is Column.ROUTE:
        return f"instead of {row.instead_of}" if row.instead_of else ""
    return ""


def _tip(row: TransferRow, column: Column) -> str | None:
    if column is Column.STATE:
        return " ".join(t for t in (row.reason, row.next_step) if t) or None
    if column is Column.ROUTE:
        return f"{row.source} → {row.destination}"
    if column is Column.STUDY:
        return words.study_what(row.study) or None
    return None


def _sort_key(row: TransferRow, column: Column) -> Any:
    if column is Column.PATIENT:
        return words.person(row.study.patient_name).casefold()
    if column is Column.STUDY:
        return row.study.study_date + row.study.study_time
    if column is Column.ROUTE:
        return f"{row.source}\n{row.destination}".casefold()
    if column is Column.STATE:
        return _STATE_ORDER[row.state]
    if column is Column.IMAGES:
        return row.counts.total
    if column is Column.SPEED:
        return row.speed
    return row.seconds_left if row.seconds_left is not None else -1.0


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending places as runs of neighbours, first and last included."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs


class SortedTransfers(QSortFilterProxyModel):
    """Sorts by the model's own keys; unsorted it keeps newest first."""

    def __init__(self, model: TransfersModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setSortRole(ModelRole.SORT)
        self.setSourceModel(model)
        self._model = model

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        if column >= 0:
            self._model.load_all()
        # While everything is in its place already, moving rows about at each change would only cost time.
        self.setDynamicSortFilter(column >= 0)
        super().sort(column, order)

    def record(self, index: Index) -> TransferRow:
        return self._model.record(self.mapToSource(index).row())


def oldest_unconfirmed(rows: Sequence[TransferRow]) -> float | None:
    """Seconds since the oldest of these rows was begun; None when there is none."""
    begun = [r.started for r in rows if r.started is not None]
    return (datetime.now(UTC) - min(words.local(b) for b in begun)).total_seconds() if begun else None
