"""Storage commitment in the ledger: what a destination took over, and what it did not (PS3.4 Annex J).

A commitment may be long in coming. What it finds changed meanwhile (cancelled, planned anew, taken over by a
fallback) stays as it is: its outcome was meant for something else.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, case, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart
from core.ledger.bulk import BulkUpdate
from core.ledger.rows import Delivery, S
from core.ledger.writer import Counted, Delta, Ticket
from core.model.outcome import DeliveryState, Evidence, Failure, FailureClass

_EVIDENCE = BulkUpdate(
    t.deliveries,
    ("state", "method", "evidence_at", "evidence_digest", "evidence_note"),
    {"failure_id": None, "next_attempt": None},
)
_TROUBLE = BulkUpdate(t.deliveries, ("state", "failure_id", "next_attempt"))


class Commitments(LedgerPart):
    """What the engine writes about storage commitment. The deliveries given are all of one transfer."""

    def committed(self, outcomes: Sequence[tuple[Delivery, DeliveryState, Evidence]]) -> Ticket:
        """The destination took these over: `DeliveryState.COMMITTED`, or `SKIPPED` for what had been there before."""
        outcomes = list(outcomes)

        def write(connection: Connection) -> Counted:
            here = _unchanged(connection, [d for d, _s, _e in outcomes])
            kept = [(d, state, evidence) for d, state, evidence in outcomes if d.id in here]
            rows = [
                (d.id, state.value, e.method.value, e.at.timestamp(), e.digest or None, e.note or None)
                for d, state, e in kept
            ]
            if rows:
                _EVIDENCE.execute(connection, rows)
                transfer = t.transfers.c.id == kept[0][0].transfer_id
                connection.execute(update(t.transfers).where(transfer).values(next_attempt=None))
            deltas = [Delta(d.transfer_id, d.state, state, 1, d.size) for d, state, _e in kept]
            for d, state, _e in kept:
                d.state = state
            return Counted(len(kept), deltas)

        return self.writer.call(write)

    def not_committed(
        self, outcomes: Sequence[tuple[Delivery, Failure, float | None]], *, look_again: bool = False
    ) -> Ticket:
        """A failure each: with a time it keeps its state and is asked for again then, without it has failed.

        With `look_again`, what the destination may not hold at all (`FailureClass.ASK`) is planned again: looked for,
        and sent if it is missing.
        """
        outcomes = list(outcomes)

        def write(connection: Connection) -> Counted:
            here = _unchanged(connection, [d for d, _f, _at in outcomes])
            rows, deltas = [], []
            last: tuple[Delivery, Failure, float | None] | None = None
            for d, failure, at in outcomes:
                if d.id not in here:
                    continue
                again = S.PLANNED if look_again and failure.cls is FailureClass.ASK else d.state
                new = S.FAILED if at is None else again
                rows.append((d.id, new.value, self.failure_id(connection, failure), at))
                deltas.append(Delta(d.transfer_id, d.state, new, 1, d.size))
                last = (d, failure, at)
                d.state = new
            if last is None:
                return Counted(0)
            _TROUBLE.execute(connection, rows)
            d, failure, at = last
            person = at is None and failure.cls in (FailureClass.PERSON, FailureClass.PERMANENT)
            connection.execute(
                update(t.transfers)
                .where(t.transfers.c.id == d.transfer_id)
                .values(
                    reason=failure.sentence,
                    next_step=failure.next_step,
                    next_attempt=at,
                    needs_person=case((t.transfers.c.needs_person, True), else_=person),
                )
            )
            return Counted(len(rows), deltas)

        return self.writer.call(write)


def _unchanged(connection: Connection, deliveries: Sequence[Delivery]) -> set[int]:
    """Keys of those that still are in the state in which they were claimed."""
    c = t.deliveries.c
    found = connection.execute(select(c.id, c.state).where(c.id.in_([d.id for d in deliveries])))
    states = {row.id: row.state for row in found}
    return {d.id for d in deliveries if states.get(d.id) == d.state.value}
