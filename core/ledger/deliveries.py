"""The pipeline's side of the ledger: claiming deliveries, and the outcome of every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, func, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, now
from core.ledger.bulk import BulkUpdate
from core.ledger.rows import (
    CLAIMABLE,
    OPEN_UNTIL,
    PROVED,
    STUDY_COLUMNS,
    Delivery,
    S,
    TransferTask,
    still_open,
    study_of,
)
from core.ledger.writer import Counted, Delta, Ticket, Tickets, derive_states
from core.model.outcome import (
    DeliveryState,
    Evidence,
    EvidenceLevel,
    Failure,
    FailureClass,
    SourceState,
    StudyState,
)
from core.model.study import InstanceRef

SWEEP = 50  # transfers that one entry brings to another state


_SENDING = BulkUpdate(t.deliveries, ("attempt", "path"), {"state": S.SENDING.value, "next_attempt": None})
_SENT = BulkUpdate(t.deliveries, ("sent_at", "answer", "destination_ref"), {"state": S.SENT.value, "failure_id": None})
_EVIDENCE = BulkUpdate(
    t.deliveries,
    ("state", "method", "evidence_at", "evidence_digest", "evidence_note"),
    {"failure_id": None, "next_attempt": None},
)
_TROUBLE = BulkUpdate(t.deliveries, ("state", "attempt", "failure_id", "next_attempt"))
_LEARNED = (
    update(t.instances)
    .where(t.instances.c.id == bindparam("b_id"), t.instances.c.digest.is_(None))
    .values(digest=bindparam("b_digest"))
)


class Deliveries(LedgerPart):
    """Everything the engine writes about deliveries. Methods that return a `Ticket` don't wait."""

    # claiming -------------------------------------------------------------------------------------------

    def open_transfers(
        self,
        job_id: int,
        pass_number: int,
        source: str,
        destination: str,
        *,
        wanted: EvidenceLevel = EvidenceLevel.VERIFIED,
    ) -> list[int]:
        """Transfers of a route that still have something to do, in the order of priority and planning.

        `wanted` is the proof that the job asks for: what has less is open.
        """
        c = t.transfers.c
        still = still_open(wanted)
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(c.id)
                    .where(
                        c.job_id == job_id,
                        c.pass_number == pass_number,
                        c.source == source,
                        c.destination == destination,
                        still > 0,
                    )
                    .order_by(c.priority.desc(), c.id)
                )
            )

    def task(self, transfer_id: int) -> TransferTask | None:
        """A transfer with its study, for a lane."""
        with self.reading() as connection:
            row = connection.execute(
                select(t.transfers, *STUDY_COLUMNS)
                .join(t.studies, t.studies.c.id == t.transfers.c.study_id)
                .where(t.transfers.c.id == transfer_id)
            ).first()
        if row is None:
            return None
        total = sum(
            getattr(row, n)
            for n in ("planned", "sending", "sent", "verified", "committed", "skipped", "conflict", "failed")
        )
        return TransferTask(
            id=row.id,
            study_id=row.study_id,
            study=study_of(row),
            source=row.source,
            destination=row.destination,
            path=row.path,
            overwrite=row.overwrite,
            priority=row.priority,
            mean_size=row.bytes_total / total if total else 0.0,
            attempt=row.attempt,
        )

    def claim(
        self, transfer_id: int, after: int, limit: int, at: float, *, states: Sequence[str] = CLAIMABLE
    ) -> list[Delivery]:
        """The next deliveries of a transfer that are in one of `states` and due, by key, from `after` on."""
        d, i = t.deliveries.c, t.instances.c
        with self.reading() as connection:
            rows = connection.execute(
                select(
                    d.id, d.instance_id, d.state, d.attempt, d.answer, d.path, d.evidence_digest, d.evidence_note,
                    i.sop_uid, i.series_uid, i.ref, i.size, i.digest, i.transfer_syntax, i.sop_class,
                    t.studies.c.study_uid, t.studies.c.patient_id,
                )
                .select_from(t.deliveries)
                .join(t.instances, i.id == d.instance_id)
                .join(t.studies, t.studies.c.id == i.study_id)
                .where(
                    d.transfer_id == transfer_id,
                    d.id > after,
                    d.state.in_(states),
                    (d.next_attempt.is_(None)) | (d.next_attempt <= at),
                )
                .order_by(d.id)
                .limit(limit)
            ).all()  # fmt: skip
        return [
            Delivery(
                id=r.id,
                transfer_id=transfer_id,
                instance_id=r.instance_id,
                state=DeliveryState(r.state),
                attempt=r.attempt,
                instance=InstanceRef(
                    sop_uid=r.sop_uid,
                    series_uid=r.series_uid,
                    study_uid=r.study_uid,
                    ref=r.ref,
                    size=r.size,
                    digest=r.digest,
                    transfer_syntax=r.transfer_syntax,
                    sop_class=r.sop_class,
                    patient_id=r.patient_id,
                ),
                known_digest=r.digest,
                answer=r.answer or "",
                tried=r.path is not None,
                proof=r.evidence_digest or "",
                proof_note=r.evidence_note or "",
            )
            for r in rows
        ]

    def next_due(self, transfer_id: int, *, states: Sequence[str] = CLAIMABLE) -> tuple[int, float | None]:
        """How many deliveries are in one of `states`, and when the next of them is due (None: at once)."""
        d = t.deliveries.c
        with self.reading() as connection:
            row = connection.execute(
                select(func.count(), func.min(func.coalesce(d.next_attempt, 0.0))).where(
                    d.transfer_id == transfer_id, d.state.in_(states)
                )
            ).one()
        due = row[1]
        return int(row[0]), None if not due else float(due)

    # outcomes -------------------------------------------------------------------------------------------

    def sending(self, deliveries: Sequence[Delivery], path: str) -> Ticket:
        """Intent: these are about to be sent. Wait for the ticket before sending."""
        rows, deltas = [], []
        for d in deliveries:
            d.attempt += 1
            rows.append((d.id, d.attempt, path))
            deltas.append(_moved(d, S.SENDING))
        ticket = self.writer.rows(_SENDING, rows, deltas, ticket=True)
        assert ticket is not None
        return ticket

    def sent(self, delivery: Delivery, answer: str, ref: str) -> None:
        """The destination acknowledged it."""
        self.sent_together([(delivery, answer, ref)])

    def sent_together(self, acknowledged: Sequence[tuple[Delivery, str, str]]) -> None:
        """The destination acknowledged these, with its answer and its handle for each."""
        at = now()
        rows, deltas = [], []
        for delivery, answer, ref in acknowledged:
            delivery.answer = answer
            rows.append((delivery.id, at, answer, ref))
            deltas.append(_moved(delivery, S.SENT))
        self.writer.rows(_SENT, rows, deltas)

    def proved(
        self, outcomes: Sequence[tuple[Delivery, DeliveryState, Evidence]], *, ticket: bool = False
    ) -> Ticket | None:
        """Evidence was seen: verified, committed, skipped (already there) or conflict (different there)."""
        rows, deltas = [], []
        for d, state, evidence in outcomes:
            at = evidence.at.timestamp()
            rows.append((d.id, state.value, evidence.method.value, at, evidence.digest or None, evidence.note or None))
            deltas.append(_moved(d, state))
        return self.writer.rows(_EVIDENCE, rows, deltas, ticket=ticket)

    def learned(self, deliveries: Sequence[Delivery]) -> None:
        """Keep the digest of what was read where neither inventory nor evidence has one: a deletion asks for it."""
        rows = [
            {"b_id": d.instance_id, "b_digest": d.known_digest}
            for d in deliveries
            if d.known_digest and not d.instance.digest
        ]
        if rows:
            self.writer.call(lambda connection: connection.execute(_LEARNED, rows) and None)

    def back(self, deliveries: Sequence[Delivery]) -> None:
        """Not begun after all (pause, stop): planned again, without a trace of a failure."""
        if not deliveries:
            return
        rows = [(d.id, S.PLANNED.value, max(0, d.attempt - 1), None, None) for d in deliveries]
        for d in deliveries:
            d.attempt = max(0, d.attempt - 1)
        self.writer.rows(_TROUBLE, rows, [_moved(d, S.PLANNED) for d in deliveries])

    def trouble(
        self,
        outcomes: Sequence[tuple[Delivery, Failure, float | None]],
        *,
        final: DeliveryState = DeliveryState.FAILED,
    ) -> Ticket:
        """A failure each: with the time of the next attempt it is planned again, without it is `final`."""
        outcomes = list(outcomes)
        moves = [(d, d.state, S.PLANNED if at is not None else final) for d, _f, at in outcomes]
        deltas = [_moved(d, new) for d, _old, new in moves]

        def write(connection: Connection) -> None:
            rows = []
            for (d, failure, at), (_d, _old, new) in zip(outcomes, moves, strict=True):
                rows.append((d.id, new.value, d.attempt, self.failure_id(connection, failure), at))
            _TROUBLE.execute(connection, rows)
            by_transfer: dict[int, tuple[Failure, float | None, int]] = {}
            for d, failure, at in outcomes:
                by_transfer[d.transfer_id] = (failure, at, d.attempt)
            for transfer_id, (failure, at, attempt) in by_transfer.items():
                person = failure.cls in (FailureClass.PERSON, FailureClass.PERMANENT) and at is None
                connection.execute(
                    update(t.transfers)
                    .where(t.transfers.c.id == transfer_id)
                    .values(
                        reason=failure.sentence,
                        next_step=failure.next_step,
                        next_attempt=at,
                        attempt=func.max(t.transfers.c.attempt, attempt)
                        if connection.dialect.name == "sqlite"
                        else func.greatest(t.transfers.c.attempt, attempt),
                        needs_person=case((t.transfers.c.needs_person, True), else_=person),
                    )
                )

        return self.writer.call(write, deltas)

    def close_open(
        self,
        transfers: int | Sequence[int],
        state: DeliveryState,
        failure: Failure | None = None,
        *,
        wanted: EvidenceLevel = EvidenceLevel.VERIFIED,
    ) -> Tickets:
        """Give every open delivery of some transfers the final `state` (cancelled, or failed with a reason).

        `wanted` is the proof that the job asks for: what has less is open.
        """

        def write(connection: Connection, part: Sequence[int]) -> Counted:
            return Counted(0, self._sweep(connection, part, OPEN_UNTIL[wanted], state, failure))

        return self._in_parts(transfers, write)

    def reopen(
        self, transfers: int | Sequence[int], states: Sequence[DeliveryState], *, overwrite: bool = False
    ) -> Tickets:
        """Plan again what ended in one of `states`, with all attempts to go (retry by a person).

        What waits for its next attempt doesn't wait any longer. The tickets' result is how many deliveries ended
        in those states.
        """
        d = t.deliveries.c

        def write(connection: Connection, part: Sequence[int]) -> Counted:
            deltas = self._sweep(connection, part, [s.value for s in states], S.PLANNED, None)
            connection.execute(
                update(t.deliveries)
                .where(d.transfer_id.in_(part), d.state == S.PLANNED.value, d.next_attempt.is_not(None))
                .values(next_attempt=None, attempt=0)
            )
            connection.execute(  # what waits for its next commitment keeps its proof
                update(t.deliveries)
                .where(d.transfer_id.in_(part), d.state == S.VERIFIED.value, d.next_attempt.is_not(None))
                .values(next_attempt=None)
            )
            values: dict[str, Any] = {
                "reason": "",
                "next_step": "",
                "needs_person": False,
                "next_attempt": None,
                "attempt": 0,
            }
            if overwrite:
                values["overwrite"] = True
            connection.execute(update(t.transfers).where(t.transfers.c.id.in_(part)).values(values))
            studies = select(t.transfers.c.study_id).where(t.transfers.c.id.in_(part))
            connection.execute(update(t.studies).where(t.studies.c.id.in_(studies)).values(settled=None))
            return Counted(sum(d.count for d in deltas), deltas)

        return self._in_parts(transfers, write)

    def _in_parts(
        self, transfers: int | Sequence[int], write: Callable[[Connection, Sequence[int]], Counted]
    ) -> Tickets:
        """Write about many transfers some at a time, so that others' outcomes get in between."""
        ids = [transfers] if isinstance(transfers, int) else list(transfers)
        parts = [ids[start : start + SWEEP] for start in range(0, len(ids), SWEEP)]
        return Tickets([self.writer.call(lambda c, part=part: write(c, part)) for part in parts])  # type: ignore[misc]

    def divert(self, transfer_id: int, fallback: str) -> Ticket:
        """Let a fallback destination take over a whole study: what the primary has is sent again to it.

        What was deleted at the source on the primary's proof keeps that proof.
        """

        def write(connection: Connection) -> Counted:
            row = connection.execute(
                select(t.transfers.c.destination, t.transfers.c.verified).where(t.transfers.c.id == transfer_id)
            ).first()
            if row is None or row.destination == fallback:
                return Counted(None)
            everything = [s.value for s in DeliveryState if s is not S.PLANNED]
            d, i = t.deliveries.c, t.instances.c
            gone = select(d.id).join(t.instances, i.id == d.instance_id).where(
                d.transfer_id == transfer_id,
                d.state.in_(PROVED),
                i.source_state.in_((SourceState.DELETED.value, SourceState.DELETING.value)),
            )  # fmt: skip
            connection.execute(
                update(t.deliveries)
                .where(d.id.in_(gone), d.evidence_note.is_(None))
                .values(evidence_note=f"Confirmed at {row.destination}, before {fallback} took over.")
            )
            deltas = self._sweep(connection, [transfer_id], everything, S.PLANNED, None, keep=gone)
            connection.execute(  # to the fallback nothing was ever sent
                update(t.deliveries).where(d.transfer_id == transfer_id, d.state == S.PLANNED.value).values(path=None)
            )
            also = f" {row.verified} images had been confirmed at {row.destination} before." if row.verified else ""
            connection.execute(
                update(t.transfers)
                .where(t.transfers.c.id == transfer_id)
                .values(
                    destination=fallback,
                    instead_of=row.destination,
                    path="",
                    path_reason="",
                    reason=f"{row.destination} is down: sent to {fallback} instead.{also}",
                    next_step="",
                    next_attempt=None,
                )
            )
            return Counted(None, deltas, (transfer_id,))

        return self.writer.call(write)

    def _sweep(
        self,
        connection: Connection,
        transfer_ids: Sequence[int],
        old_states: Sequence[str],
        new: DeliveryState,
        failure: Failure | None,
        *,
        keep: Select[Any] | None = None,
    ) -> list[Delta]:
        """Bring all deliveries of some transfers that are in `old_states` to `new`, but those that `keep` selects."""
        d = t.deliveries.c
        which = [d.transfer_id.in_(transfer_ids), d.state.in_(old_states)]
        if keep is not None:
            which.append(d.id.not_in(keep))
        found = connection.execute(
            select(d.transfer_id, d.state, func.count(), func.coalesce(func.sum(t.instances.c.size), 0))
            .join(t.instances, t.instances.c.id == d.instance_id)
            .where(*which)
            .group_by(d.transfer_id, d.state)
        ).all()
        if not found:
            return []
        values: dict[str, Any] = {"state": new.value, "next_attempt": None, "failure_id": None}
        if failure:
            values["failure_id"] = self.failure_id(connection, failure)
        if new is S.PLANNED:
            values |= {
                "attempt": 0, "method": None, "evidence_at": None, "evidence_digest": None, "evidence_note": None,
                "sent_at": None, "answer": None, "destination_ref": None,
            }  # fmt: skip
        connection.execute(update(t.deliveries).where(*which).values(values))
        if failure:
            connection.execute(
                update(t.transfers)
                .where(t.transfers.c.id.in_({r[0] for r in found}))
                .values(
                    reason=failure.sentence,
                    next_step=failure.next_step,
                    next_attempt=None,
                    needs_person=failure.cls is FailureClass.PERSON,
                )
            )
        return [Delta(int(r[0]), DeliveryState(r[1]), new, int(r[2]), int(r[3])) for r in found]

    def note(self, transfer_id: int, **values: Any) -> Ticket:
        """Set path, path_reason, reason, started, priority or next_attempt of a transfer."""

        def write(connection: Connection) -> Counted:
            connection.execute(update(t.transfers).where(t.transfers.c.id == transfer_id).values(**values))
            return Counted(None, touched=(transfer_id,))

        return self.writer.call(write)

    def rest(self, transfer_ids: Sequence[int], *, done: bool = False) -> Ticket:
        """The engine has let go of these transfers: derive their states as such. `done`: nothing more is to come."""

        def write(connection: Connection) -> Counted:
            if done:
                c = t.transfers.c
                which = [c.id.in_(transfer_ids), c.next_attempt.is_not(None)]
                connection.execute(update(t.transfers).where(*which).values(next_attempt=None))
            derive_states(connection, list(transfer_ids), active=False)
            return Counted(None, touched=transfer_ids)

        return self.writer.call(write)

    def begun_transfers(self, job_id: int, pass_number: int) -> list[int]:
        """Transfers with something between planned and proved, or that are said to be at work."""
        c = t.transfers.c
        working = c.state.in_((StudyState.SENDING.value, StudyState.CONFIRMING.value))
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(c.id).where(
                        c.job_id == job_id, c.pass_number == pass_number, ((c.sending + c.sent) > 0) | working
                    )
                )
            )

    def all_open_transfers(
        self, job_id: int, pass_number: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED
    ) -> list[int]:
        """Transfers of all routes that still have something to do; `wanted` as for `open_transfers`."""
        c = t.transfers.c
        still = still_open(wanted)
        with self.reading() as connection:
            return list(
                connection.scalars(select(c.id).where(c.job_id == job_id, c.pass_number == pass_number, still > 0))
            )

    def waiting_transfers(
        self, job_id: int, pass_number: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED
    ) -> list[int]:
        """Transfers of which something waits for its next attempt, or for its next request for commitment."""
        c = t.transfers.c
        waiting = c.planned + c.verified if wanted is EvidenceLevel.COMMITTED else c.planned
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(c.id).where(
                        c.job_id == job_id,
                        c.pass_number == pass_number,
                        waiting > 0,
                        c.next_attempt.is_not(None),
                    )
                )
            )

    def transfers_with(self, job_id: int, pass_number: int, states: Sequence[DeliveryState]) -> list[int]:
        """Transfers that have deliveries in one of these states."""
        c = t.transfers.c
        total = sum((c[s.value] for s in states[1:]), c[states[0].value])
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(c.id).where(c.job_id == job_id, c.pass_number == pass_number, total > 0).order_by(c.id)
                )
            )


def _moved(delivery: Delivery, new: DeliveryState) -> Delta:
    delta = Delta(delivery.transfer_id, delivery.state, new, 1, delivery.size)
    delivery.state = new
    return delta
