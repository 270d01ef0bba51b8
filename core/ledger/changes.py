"""What processing steps made of instances: kept before they are sent, read again for retries, deletions and proof."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from core.ledger import schema as t
from core.ledger.base import LedgerPart
from core.ledger.bulk import BulkReplace
from core.ledger.rows import Deletable, Delivery
from core.ledger.writer import Ticket
from core.model.steps import Change
from core.model.study import StudyInfo

_FIELDS = ("sop_uid", "series_uid", "study_uid", "patient_id", "source_digest", "digest", "size")
_CHANGED = BulkReplace(t.changes, ("delivery_id", *_FIELDS, "done"))
_AT_ONCE = 500


class Changes(LedgerPart):
    """Written and read only for jobs that have steps."""

    def changed(self, delivery: Delivery, *, ticket: bool = False) -> Ticket | None:
        """Intent: this is what is about to be sent of an instance; what an earlier attempt made is forgotten."""
        c = delivery.change
        assert c is not None
        row = (
            delivery.id, c.sop_uid, c.series_uid, c.study_uid, c.patient_id, c.source_digest, c.digest, c.size,
            "\n".join(c.done),
        )  # fmt: skip
        return self.writer.rows(_CHANGED, (row,), ticket=ticket)

    def changes_of(self, deliveries: Iterable[int]) -> dict[int, Change]:
        """What earlier attempts made of these deliveries, by their keys."""
        ids = list(deliveries)
        found: dict[int, Change] = {}
        with self.reading() as connection:
            for start in range(0, len(ids), _AT_ONCE):
                which = t.changes.c.delivery_id.in_(ids[start : start + _AT_ONCE])
                for row in connection.execute(select(t.changes).where(which)):
                    found[row.delivery_id] = change_of(row)
        return found

    def study_at(self, study_id: int, destination: str) -> StudyInfo | None:
        """A study as a destination knows it, by the first of its instances that was sent there; None before that."""
        d, c = t.deliveries.c, t.transfers.c
        with self.reading() as connection:
            row = connection.execute(
                select(t.changes.c.study_uid, t.changes.c.patient_id)
                .join(t.deliveries, d.id == t.changes.c.delivery_id)
                .join(t.transfers, c.id == d.transfer_id)
                .where(c.study_id == study_id, c.destination == destination)
                .order_by(d.id)
                .limit(1)
            ).first()
        return None if row is None else StudyInfo(study_uid=row.study_uid, patient_id=row.patient_id)

    def changed_deletable(self, study_id: int, found: Sequence[Deletable]) -> list[Deletable]:
        """The same instances with what was sent of each: the source's own file is what was read, and may go as such.

        An instance of which a destination holds something else than what was last sent, or that was not the same file
        each time that it was read, is `same_everywhere` no longer.
        """
        d, c = t.deliveries.c, t.transfers.c
        sent: dict[int, list[tuple[str, Change, str | None]]] = {}
        keys = [one.key for one in found]
        with self.reading() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                rows = connection.execute(
                    select(d.instance_id, d.evidence_digest, c.destination, t.changes)
                    .join(t.transfers, c.id == d.transfer_id)
                    .join(t.changes, t.changes.c.delivery_id == d.id)
                    .where(c.study_id == study_id, d.instance_id.in_(keys[start : start + _AT_ONCE]))
                )
                for row in rows:
                    one = (row.destination, change_of(row), row.evidence_digest)
                    sent.setdefault(row.instance_id, []).append(one)
            wanted = set(connection.scalars(select(c.destination).where(c.study_id == study_id)))
        return [_judged(one, sent.get(one.key, []), wanted) for one in found]


def _judged(one: Deletable, sent: Sequence[tuple[str, Change, str | None]], wanted: set[str]) -> Deletable:
    read = {change.source_digest for _destination, change, _seen in sent}
    everywhere = {destination for destination, _change, _seen in sent} == wanted
    as_sent = all(seen in (None, "", change.digest) for _destination, change, seen in sent)
    same = everywhere and as_sent and len(read) == 1
    return replace(
        one,
        instance=replace(one.instance, digest=next(iter(read)) if same else one.instance.digest),
        same_everywhere=same,
        proof="",
        sent=tuple((destination, change, seen or "") for destination, change, seen in sent),
    )


CHANGE_COLUMNS = [c.label(f"change_{c.name}") for c in t.changes.c if c.name != "delivery_id"]


def change_of(row: Any, prefix: str = "") -> Change:
    """The change of a row that holds the columns of `changes`, or `CHANGE_COLUMNS` with the prefix ``change_``."""
    values = {name: getattr(row, prefix + name) for name in _FIELDS}
    done = tuple(line for line in getattr(row, prefix + "done").split("\n") if line)
    return Change(**values, done=done)
