"""Every image of a transfer with its evidence, loaded as it is scrolled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from PySide6.QtCore import QModelIndex, QObject

from core.model.outcome import DeliveryState
from core.model.views import DeliveryRow
from gui import words
from gui.background import Operation
from gui.models.keyed import Field, Index, KeyedModel
from gui.theme import Tone

BATCH = 200
_NO_PARENT = QModelIndex()
Fetch = Callable[[int, int, int], list[DeliveryRow]]


def state_text(row: DeliveryRow) -> str:
    word, _ = words.DELIVERY_WORDS[row.state]
    if row.state is DeliveryState.PLANNED and row.next_attempt is not None:
        return f"{word} (retry at {words.clock(row.next_attempt)})"
    if row.state is DeliveryState.FAILED and row.failure is not None:
        return words.FAILURE_WORDS.get(row.failure.code, word)
    return word


def state_tone(row: DeliveryRow) -> Tone:
    return words.DELIVERY_WORDS[row.state][1]


def method_text(row: DeliveryRow) -> str:
    if row.evidence is not None:
        return words.METHOD_WORDS[row.evidence.method]
    return ""


def remark(row: DeliveryRow) -> str:
    """The failure and what to do, or what is special about the evidence, and what processing steps did."""
    if row.failure is not None:
        return f"{row.failure.sentence} {row.failure.next_step}".strip()
    note = row.evidence.note if row.evidence is not None else ""
    return " ".join((note, *(row.change.done if row.change is not None else ()))).strip()


def whole_story(row: DeliveryRow) -> str:
    """Everything that is known, as text to copy."""
    lines = [
        f"SOP Instance UID: {row.sop_uid}",
        f"Series Instance UID: {row.series_uid}",
        f"SOP Class UID: {row.sop_class}",
        f"From {row.source} to {row.destination}, {words.path(row.path) or 'not begun'}, attempt {row.attempt}",
        f"State: {state_text(row)}",
    ]
    if row.size is not None:
        lines.append(f"Size: {row.size} bytes")
    if row.planned_at is not None:
        lines.append(f"Planned: {words.exact(row.planned_at)}")
    if row.sent_at is not None:
        lines.append(f"Sent: {words.exact(row.sent_at)}")
    if row.answer:
        lines.append(f"Answer of {row.destination}: {row.answer}")
    if row.evidence is not None:
        lines.append(f"Proof: {method_text(row)}, {words.exact(row.evidence.at)}")
        if row.evidence.digest:
            changed = row.change is not None and bool(row.change.done)
            lines.append(f"MD5 {'as sent' if changed else 'on both sides'}: {row.evidence.digest}")
        if row.evidence.note:
            lines.append(row.evidence.note)
    if row.failure is not None:
        lines.append(f"{row.failure.sentence} {row.failure.next_step} ({row.failure.code})".replace("  ", " "))
        if row.failure.detail:
            lines.append(row.failure.detail)
    if row.change is not None and row.change.done:
        lines += [*row.change.done, f"Sent as SOP Instance UID: {row.change.sop_uid}"]
        lines += [f"Sent as Study Instance UID: {row.change.study_uid}", f"MD5 as read: {row.change.source_digest}"]
    lines.append(f"At the source: {row.source_state.value}")
    return "\n".join(lines)


def _digest(row: DeliveryRow) -> str:
    return row.evidence.digest if row.evidence is not None and row.evidence.digest else ""


def _when(row: DeliveryRow) -> datetime | None:
    return row.evidence.at if row.evidence is not None else row.sent_at


FIELDS: tuple[Field[DeliveryRow], ...] = (
    Field("Image", lambda r: words.short_uid(r.sop_uid), tip=lambda r: r.sop_uid),
    Field("State", state_text, tone=state_tone),
    Field("Proof", method_text, tip=lambda r: r.evidence.note if r.evidence else None),
    Field("When", lambda r: words.stamp(_when(r)), tip=lambda r: words.exact(_when(r)) or None),
    Field("Answer", lambda r: r.answer, tip=lambda r: r.answer or None),
    Field("Digest", _digest, tip=_digest),
    Field("Remark", remark, tip=lambda r: remark(r) or None),
)
STATE_COLUMN, DIGEST_COLUMN = 1, 5


class DeliveriesModel(KeyedModel[DeliveryRow]):
    """Images of one transfer; what needs a person comes first.

    Parameters
    ----------
    fetch : Callable[[int, int, int], list[DeliveryRow]]
        Transfer, offset, limit; called on a background thread.
    """

    def __init__(self, fetch: Fetch, parent: QObject | None = None) -> None:
        super().__init__(lambda r: r.id, FIELDS, parent)
        self._fetch = fetch
        self._transfer: int | None = None
        self._generation = 0
        self._loading = False
        self._all = True
        self._stale = False
        self._more = False

    def show_transfer(self, transfer_id: int | None) -> None:
        if transfer_id == self._transfer:
            return
        self._transfer = transfer_id
        self._generation += 1
        self._loading = False
        self._stale = self._more = False
        self._all = transfer_id is None
        if self._rows:
            self.remove(0, len(self._rows))
        self.fetchMore()

    def refresh(self) -> None:
        """Read again what is loaded: it may have changed."""
        if self._loading:
            self._stale = True
            return
        self._load(0, max(BATCH, len(self._rows)), more=False)

    def canFetchMore(self, parent: Index = _NO_PARENT) -> bool:
        return not parent.isValid() and not self._all

    def fetchMore(self, parent: Index = _NO_PARENT) -> None:
        if self._all:
            return
        if self._loading:
            self._more = True  # the view asks once for each scroll: it must not have asked in vain
            return
        self._more = False
        self._load(len(self._rows), BATCH, more=True)

    def _load(self, offset: int, limit: int, *, more: bool) -> None:
        transfer, generation = self._transfer, self._generation
        if transfer is None:
            return
        self._loading = True

        def take(rows: list[DeliveryRow]) -> None:
            if generation != self._generation:
                return
            self._loading = False
            self._all = len(rows) < limit
            if more:
                known = {r.id for r in self._rows}
                self.append([r for r in rows if r.id not in known])
            else:
                self.show(rows)
            if self._more:
                self.fetchMore()
            elif self._stale:
                self._stale = False
                self.refresh()

        def fail(_error: Exception) -> None:
            if generation == self._generation:
                self._loading = False
                self._all = True

        Operation(self, lambda: self._fetch(transfer, offset, limit)).success(take).failure(fail).run()
