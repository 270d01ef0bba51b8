"""The pipeline's side of the ledger: planning, claiming, and the outcome of every delivery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, case, func, insert, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, now
from core.ledger.bulk import BulkInsert, BulkUpdate
from core.ledger.writer import HAS_BYTES, Counted, Delta, Ticket, Tickets, derive_states
from core.model.outcome import (
    COUNT_NAMES,
    Counts,
    DeliveryState,
    Evidence,
    Failure,
    FailureClass,
    SourceState,
    StudyState,
)
from core.model.study import InstanceRef, StudyInfo

S = DeliveryState
CLAIMABLE = (S.PLANNED.value, S.SENDING.value, S.SENT.value)
UNSENT = (S.PLANNED.value, S.SENDING.value)
PROVED = (S.VERIFIED.value, S.COMMITTED.value, S.SKIPPED.value)
SWEEP = 50  # transfers that one entry brings to another state


@dataclass(slots=True)
class Delivery:
    """One delivery in the engine's hands: instance × destination.

    `known_digest` is the source's own MD5, from the source or from hashing what was read.
    `newly_stored` is True once the destination said that it had stored it anew.
    """

    id: int
    transfer_id: int
    instance_id: int
    state: DeliveryState
    attempt: int
    instance: InstanceRef
    known_digest: str | None
    answer: str = ""
    newly_stored: bool = False

    @property
    def size(self) -> int:
        return self.instance.size or 0


@dataclass(frozen=True, slots=True)
class Planned:
    """What came of planning a page: the study's key, its transfers by destination, and how many are new."""

    study_id: int
    transfer_ids: dict[str, int]
    new: int


@dataclass(frozen=True, slots=True)
class TransferTask:
    """A transfer as a lane needs it."""

    id: int
    study_id: int
    study: StudyInfo
    source: str
    destination: str
    path: str
    overwrite: bool
    priority: int
    mean_size: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Deletable:
    """An instance that may be deleted at the source: its key, with the digest that was proved.

    `same_everywhere` is False where it changed between two destinations: they hold different content.
    `proof` is the digest that was seen there (empty where none could be told), `proved_at` the time of the oldest
    evidence in seconds since 1970.
    """

    key: int
    instance: InstanceRef
    same_everywhere: bool
    proof: str
    proved_at: float


_SENDING = BulkUpdate(t.deliveries, ("attempt", "path"), {"state": S.SENDING.value, "next_attempt": None})
_SENT = BulkUpdate(t.deliveries, ("sent_at", "answer", "destination_ref"), {"state": S.SENT.value, "failure_id": None})
_EVIDENCE = BulkUpdate(
    t.deliveries,
    ("state", "method", "evidence_at", "evidence_digest", "evidence_note"),
    {"failure_id": None, "next_attempt": None},
)
_TROUBLE = BulkUpdate(t.deliveries, ("state", "attempt", "failure_id", "next_attempt"))
_SOURCE = BulkUpdate(t.instances, ("source_state", "source_answer", "source_at"))
_LEARNED = (
    update(t.instances)
    .where(t.instances.c.id == bindparam("b_id"), t.instances.c.digest.is_(None))
    .values(digest=bindparam("b_digest"))
)
_NEW_INSTANCES = BulkInsert(
    t.instances,
    (
        "id", "study_id", "sop_uid", "series_uid", "sop_class", "ref", "size", "digest", "transfer_syntax",
        "source_state",
    ),
)  # fmt: skip
_NEW_DELIVERIES = BulkInsert(t.deliveries, ("transfer_id", "instance_id", "state", "attempt", "planned_at"))


class Deliveries(LedgerPart):
    """Everything the engine writes about deliveries. Methods that return a `Ticket` don't wait."""

    # planning -------------------------------------------------------------------------------------------

    def plan_page(
        self,
        job_id: int,
        pass_number: int,
        source: str,
        study: StudyInfo,
        destinations: Sequence[str],
        page: Sequence[InstanceRef],
        *,
        last: bool,
    ) -> Ticket:
        """Plan a page of a study's instances for every destination; the ticket's result is a `Planned`.

        An instance that is planned already is left alone, unless it was deleted at the source, or has
        changed there, since: then it is planned anew. `last` marks the study as wholly listed.
        """

        def write(connection: Connection) -> Counted:
            at = now()
            if not page and _study_key(connection, job_id, pass_number, source, study) is None:
                return Counted(Planned(0, {}, 0))  # it vanished before its instances were listed
            study_id, fresh = _study_row(connection, job_id, pass_number, source, study)
            transfers = _transfer_rows(connection, job_id, pass_number, source, study_id, destinations, at, fresh)
            deltas: list[Delta] = []
            new = list(page)
            if not fresh and new:
                new, deltas = _known_instances(connection, study_id, new)
            if new:
                deltas += _insert(connection, study_id, list(transfers.values()), new, at, fresh)
            if last:
                connection.execute(update(t.studies).where(t.studies.c.id == study_id).values(listed=at))
            if deltas:
                connection.execute(update(t.studies).where(t.studies.c.id == study_id).values(settled=None))
            return Counted(Planned(study_id, transfers, len(new)), deltas)

        return self.writer.call(write)

    def is_listed(self, job_id: int, pass_number: int, source: str, study_uid: str) -> bool:
        """Whether this study was wholly listed earlier in this pass."""
        c = t.studies.c
        with self.reading() as connection:
            found = connection.execute(
                select(c.listed).where(
                    c.job_id == job_id,
                    c.pass_number == pass_number,
                    c.source == source,
                    c.study_uid == study_uid,
                )
            ).scalar()
        return found is not None

    # claiming -------------------------------------------------------------------------------------------

    def open_transfers(
        self, job_id: int, pass_number: int, source: str, destination: str, *, sent: bool = True
    ) -> list[int]:
        """Transfers of a route that still have something to do, in the order of priority and planning.

        `sent` counts what was sent and not proved as open (a job that asks for no proof passes False).
        """
        c = t.transfers.c
        still = c.planned + c.sending + c.sent if sent else c.planned + c.sending
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

    def claim(self, transfer_id: int, after: int, limit: int, at: float, *, sent: bool = True) -> list[Delivery]:
        """The next deliveries of a transfer that are due, by key, from `after` on."""
        d, i = t.deliveries.c, t.instances.c
        with self.reading() as connection:
            rows = connection.execute(
                select(
                    d.id, d.instance_id, d.state, d.attempt, d.answer,
                    i.sop_uid, i.series_uid, i.ref, i.size, i.digest, i.transfer_syntax, i.sop_class,
                    t.studies.c.study_uid, t.studies.c.patient_id,
                )
                .select_from(t.deliveries)
                .join(t.instances, i.id == d.instance_id)
                .join(t.studies, t.studies.c.id == i.study_id)
                .where(
                    d.transfer_id == transfer_id,
                    d.id > after,
                    d.state.in_(CLAIMABLE if sent else UNSENT),
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
            )
            for r in rows
        ]

    def next_due(self, transfer_id: int, *, sent: bool = True) -> tuple[int, float | None]:
        """How many deliveries are still open, and when the next of them is due (None: at once)."""
        d = t.deliveries.c
        with self.reading() as connection:
            row = connection.execute(
                select(func.count(), func.min(func.coalesce(d.next_attempt, 0.0))).where(
                    d.transfer_id == transfer_id, d.state.in_(CLAIMABLE if sent else UNSENT)
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
        delivery.answer = answer
        self.writer.rows(_SENT, ((delivery.id, now(), answer, ref),), (_moved(delivery, S.SENT),))

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
        sent: bool = True,
    ) -> Tickets:
        """Give every open delivery of some transfers the final `state` (cancelled, or failed with a reason).

        `sent` counts what was sent and not proved as open (a job that asks for no proof passes False).
        """

        def write(connection: Connection, part: Sequence[int]) -> Counted:
            return Counted(0, self._sweep(connection, part, CLAIMABLE if sent else UNSENT, state, failure))

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

    def rest(self, transfer_ids: Sequence[int]) -> Ticket:
        """The engine has let go of these transfers: derive their states as such."""

        def write(connection: Connection) -> Counted:
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

    def all_open_transfers(self, job_id: int, pass_number: int, *, sent: bool = True) -> list[int]:
        """Transfers of all routes that still have something to do; `sent` as for `open_transfers`."""
        c = t.transfers.c
        still = c.planned + c.sending + c.sent if sent else c.planned + c.sending
        with self.reading() as connection:
            return list(
                connection.scalars(select(c.id).where(c.job_id == job_id, c.pass_number == pass_number, still > 0))
            )

    def waiting_transfers(self, job_id: int, pass_number: int) -> list[int]:
        """Transfers of which something waits for its next attempt."""
        c = t.transfers.c
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(c.id).where(
                        c.job_id == job_id, c.pass_number == pass_number, c.planned > 0, c.next_attempt.is_not(None)
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

    # deleting at the source -----------------------------------------------------------------------------

    def study_is_done(self, study_id: int, *, sent: bool = True) -> bool:
        """Whether a study is wholly listed and none of its deliveries is open any more, at any destination."""
        c, s = t.transfers.c, t.studies.c
        still = c.planned + c.sending + c.sent if sent else c.planned + c.sending
        with self.reading() as connection:
            row = connection.execute(
                select(func.min(s.listed), func.sum(still)).join(t.studies, s.id == c.study_id).where(s.id == study_id)
            ).one()
        return row[0] is not None and not row[1]

    def source_of(self, study_id: int) -> str | None:
        """The source node of a study."""
        with self.reading() as connection:
            return connection.execute(select(t.studies.c.source).where(t.studies.c.id == study_id)).scalar()

    def destinations_of(self, study_id: int) -> list[str]:
        """The nodes that a study is sent to, a fallback in place of what it stands in for."""
        c = t.transfers.c
        with self.reading() as connection:
            return list(connection.scalars(select(c.destination).where(c.study_id == study_id).order_by(c.id)))

    def study_outcome(self, study_id: int) -> tuple[StudyInfo, Counts] | None:
        """A study and the counts of all of its deliveries together."""
        c = t.transfers.c
        with self.reading() as connection:
            row = connection.execute(
                select(*STUDY_COLUMNS, *(func.sum(c[n]).label(n) for n in COUNT_NAMES))
                .join(t.studies, t.studies.c.id == c.study_id)
                .where(c.study_id == study_id)
                .group_by(t.studies.c.id)
            ).first()
        if row is None:
            return None
        return study_of(row), Counts(*(int(getattr(row, n)) for n in COUNT_NAMES))

    def deletable(self, study_id: int, after: str, limit: int) -> list[Deletable]:
        """Instances whose every delivery is proved, and that are still at the source, in the order of their UIDs.

        `after` is the SOP Instance UID to go on from. Includes those found in "deleting": a deletion that was begun
        and whose end is unknown.
        """
        d, i = t.deliveries.c, t.instances.c
        page = (
            select(i.id, i.sop_uid)
            .where(
                i.study_id == study_id,
                i.sop_uid > after,
                i.source_state.in_((SourceState.KEPT.value, SourceState.DELETING.value)),
                select(d.id).where(d.instance_id == i.id).correlate(t.instances).exists(),
                ~select(d.id).where(d.instance_id == i.id, d.state.not_in(PROVED)).correlate(t.instances).exists(),
            )
            .order_by(i.sop_uid)
            .limit(limit)
            .subquery()
        )
        proofs = (
            select(
                d.instance_id,
                func.min(d.evidence_digest).label("least"),
                func.max(d.evidence_digest).label("most"),
                (func.count() - func.count(d.evidence_digest)).label("untold"),
                func.min(func.coalesce(d.evidence_at, 0.0)).label("proved_at"),
            )
            .join(page, page.c.id == d.instance_id)
            .group_by(d.instance_id)
            .subquery()
        )
        with self.reading() as connection:
            rows = connection.execute(
                select(
                    t.instances, t.studies.c.study_uid, t.studies.c.patient_id,
                    proofs.c.least, proofs.c.most, proofs.c.untold, proofs.c.proved_at,
                )
                .join(proofs, proofs.c.instance_id == i.id)
                .join(t.studies, t.studies.c.id == i.study_id)
                .order_by(i.sop_uid)
            ).all()  # fmt: skip
        return [
            Deletable(
                r.id,
                InstanceRef(
                    sop_uid=r.sop_uid,
                    series_uid=r.series_uid,
                    study_uid=r.study_uid,
                    ref=r.ref,
                    size=r.size,
                    digest=r.most or r.digest,
                    transfer_syntax=r.transfer_syntax,
                    sop_class=r.sop_class,
                    patient_id=r.patient_id,
                ),
                r.least == r.most and (not r.most or not r.untold or r.digest in (None, r.most)),
                r.most or "",
                float(r.proved_at),
            )
            for r in rows
        ]

    def source_states(self, rows: Sequence[tuple[int, SourceState, str]]) -> Ticket:
        """What happened to instances at the source: (instance key, state, answer). Wait before deleting."""
        at = now()
        ticket = self.writer.rows(_SOURCE, [(k, s.value, a, at) for k, s, a in rows], ticket=True)
        assert ticket is not None
        return ticket

    def reconsider_refused(self, job_id: int, pass_number: int) -> Ticket:
        """Try again to delete what the source would not delete (retry by a person); each is compared anew before."""
        i, s = t.instances.c, t.studies.c
        refused = i.source_state == SourceState.REFUSED.value
        studies = select(s.id).where(s.job_id == job_id, s.pass_number == pass_number)

        def write(connection: Connection) -> int:
            found = list(connection.scalars(select(i.study_id).where(refused, i.study_id.in_(studies)).distinct()))
            for start in range(0, len(found), 500):
                part = found[start : start + 500]
                connection.execute(
                    update(t.instances).where(refused, i.study_id.in_(part)).values(source_state=SourceState.KEPT.value)
                )
                connection.execute(update(t.studies).where(s.id.in_(part)).values(settled=None))
            return len(found)

        return self.writer.call(write)

    def settle_study(self, study_id: int, *, sent: bool = True) -> None:
        """Everything about a study is done, deletions at the source included; unless more was planned meanwhile."""
        d, c = t.deliveries.c, t.transfers.c
        still = (
            select(d.id)
            .join(t.transfers, c.id == d.transfer_id)
            .where(c.study_id == study_id, d.state.in_(CLAIMABLE if sent else UNSENT))
        )
        statement = update(t.studies).where(t.studies.c.id == study_id, ~still.exists()).values(settled=now())
        self.writer.call(lambda connection: connection.execute(statement) and None)

    def unsettled_studies(self, job_id: int, pass_number: int, *, sent: bool = True) -> list[int]:
        """Studies whose deliveries are all done but that were not settled yet (a stop came in between)."""
        s, c = t.studies.c, t.transfers.c
        still = c.planned + c.sending + c.sent if sent else c.planned + c.sending
        with self.reading() as connection:
            return list(
                connection.scalars(
                    select(s.id)
                    .join(t.transfers, c.study_id == s.id)
                    .where(
                        s.job_id == job_id,
                        s.pass_number == pass_number,
                        s.settled.is_(None),
                        s.listed.is_not(None),
                    )
                    .group_by(s.id)
                    .having(func.sum(still) == 0)
                )
            )


def _moved(delivery: Delivery, new: DeliveryState) -> Delta:
    delta = Delta(delivery.transfer_id, delivery.state, new, 1, delivery.size)
    delivery.state = new
    return delta


def _study_key(connection: Connection, job_id: int, pass_number: int, source: str, study: StudyInfo) -> int | None:
    c = t.studies.c
    return connection.execute(
        select(c.id).where(
            c.job_id == job_id,
            c.pass_number == pass_number,
            c.source == source,
            c.study_uid == study.study_uid,
        )
    ).scalar()


def _study_row(
    connection: Connection, job_id: int, pass_number: int, source: str, study: StudyInfo
) -> tuple[int, bool]:
    found = _study_key(connection, job_id, pass_number, source, study)
    if found is not None:
        return found, False
    made = connection.execute(
        insert(t.studies).values(
            job_id=job_id,
            pass_number=pass_number,
            source=source,
            study_uid=study.study_uid,
            ref=study.ref,
            patient_name=study.patient_name,
            patient_id=study.patient_id,
            birth_date=study.birth_date[:32],
            sex=study.sex[:16],
            study_date=study.study_date[:32],
            study_time=study.study_time[:32],
            description=study.description,
            accession=study.accession,
            modalities="\\".join(study.modalities),
        )
    )
    return int(made.inserted_primary_key[0]), True  # type: ignore[index]


def _transfer_rows(
    connection: Connection,
    job_id: int,
    pass_number: int,
    source: str,
    study_id: int,
    destinations: Sequence[str],
    at: float,
    fresh: bool,
) -> dict[str, int]:
    c = t.transfers.c
    found: dict[str, int] = {}
    if not fresh:
        for row in connection.execute(select(c.id, c.destination, c.instead_of).where(c.study_id == study_id)):
            found[row.instead_of or row.destination] = row.id
    for name in destinations:
        if name not in found:
            made = connection.execute(
                insert(t.transfers).values(
                    study_id=study_id,
                    job_id=job_id,
                    pass_number=pass_number,
                    source=source,
                    destination=name,
                    state="waiting",
                    updated=at,
                )
            )
            found[name] = int(made.inserted_primary_key[0])  # type: ignore[index]
    return found


def _known_instances(
    connection: Connection, study_id: int, page: Sequence[InstanceRef]
) -> tuple[list[InstanceRef], list[Delta]]:
    """Split a page into what is new, and plan anew what was deleted or has changed at the source since."""
    i, d = t.instances.c, t.deliveries.c
    known = {
        r.sop_uid: r
        for r in connection.execute(
            select(i.id, i.sop_uid, i.digest, i.source_state, i.size, i.transfer_syntax).where(
                i.study_id == study_id, i.sop_uid.in_([r.sop_uid for r in page])
            )
        )
    }
    new: list[InstanceRef] = []
    deltas: list[Delta] = []
    for ref in page:
        row = known.get(ref.sop_uid)
        if row is None:
            new.append(ref)
            continue
        changed = _differ(row.digest, ref.digest)
        if not (row.digest and ref.digest):
            changed = _differ(row.size, ref.size) or _differ(row.transfer_syntax, ref.transfer_syntax)
        if not changed and row.source_state != SourceState.DELETED.value:
            continue
        mine = connection.execute(select(d.id, d.transfer_id, d.state).where(d.instance_id == row.id)).all()
        # What is on its way carries the size it was planned with; its outcome is counted with that.
        resized = not any(r.state in CLAIMABLE for r in mine) and ref.size is not None
        for r in mine:
            if r.state in CLAIMABLE:
                continue
            connection.execute(
                update(t.deliveries)
                .where(d.id == r.id)
                .values(
                    state=S.PLANNED.value, attempt=0, next_attempt=None, failure_id=None,
                    method=None, evidence_at=None, evidence_digest=None, evidence_note=None,
                )
            )  # fmt: skip
            deltas.append(Delta(r.transfer_id, S(r.state), S.PLANNED, 1, row.size or 0))
            if resized:
                more = (ref.size or 0) - (row.size or 0)
                total = t.transfers.c.bytes_total + more
                connection.execute(
                    update(t.transfers).where(t.transfers.c.id == r.transfer_id).values(bytes_total=total)
                )
        values: dict[str, Any] = {"digest": ref.digest, "ref": ref.ref, "source_state": SourceState.KEPT.value}
        if ref.transfer_syntax:
            values["transfer_syntax"] = ref.transfer_syntax
        if resized:
            values["size"] = ref.size
        connection.execute(update(t.instances).where(i.id == row.id).values(values))
    return new, deltas


def _differ(one: object, other: object) -> bool:
    """Both are known, and not the same."""
    return bool(one) and bool(other) and one != other


def _insert(
    connection: Connection,
    study_id: int,
    transfer_ids: Sequence[int],
    page: Sequence[InstanceRef],
    at: float,
    fresh: bool,
) -> list[Delta]:
    unique = {ref.sop_uid: ref for ref in page}
    first = int(connection.execute(select(func.coalesce(func.max(t.instances.c.id), 0))).scalar() or 0) + 1
    _NEW_INSTANCES.execute(
        connection,
        [
            (first + n, study_id, ref.sop_uid, ref.series_uid, ref.sop_class, ref.ref, ref.size, ref.digest,
             ref.transfer_syntax, "kept")
            for n, ref in enumerate(unique.values())
        ],
    )  # fmt: skip
    _NEW_DELIVERIES.execute(
        connection,
        [(transfer_id, first + n, "planned", 0, at) for transfer_id in transfer_ids for n in range(len(unique))],
    )
    _series_rows(connection, study_id, unique.values())
    total = sum(ref.size or 0 for ref in unique.values())
    return [Delta(transfer_id, None, S.PLANNED, len(unique), total) for transfer_id in transfer_ids]


def _series_rows(connection: Connection, study_id: int, refs: Any) -> None:
    named = {ref.series.series_uid: ref.series for ref in refs if ref.series is not None}
    if not named:
        return
    c = t.series.c
    known = set(connection.scalars(select(c.series_uid).where(c.study_id == study_id, c.series_uid.in_(list(named)))))
    rows = [
        {
            "study_id": study_id,
            "series_uid": uid,
            "number": info.number[:16],
            "modality": info.modality[:16],
            "description": info.description,
        }
        for uid, info in named.items()
        if uid not in known
    ]
    if rows:
        connection.execute(insert(t.series), rows)
        _add_modalities(connection, study_id, {str(row["modality"]) for row in rows})


def _add_modalities(connection: Connection, study_id: int, found: set[str]) -> None:
    """Modalities in Study (0008,0061), where the source doesn't say, are those of the series seen so far."""
    of_study = t.studies.c.id == study_id
    known = {m for m in str(connection.scalar(select(t.studies.c.modalities).where(of_study)) or "").split("\\") if m}
    if found - known - {""}:
        together = "\\".join(sorted((known | found) - {""}))
        connection.execute(update(t.studies).where(of_study).values(modalities=together))


STUDY_COLUMNS = [
    t.studies.c.study_uid, t.studies.c.ref, t.studies.c.patient_name, t.studies.c.patient_id,
    t.studies.c.birth_date, t.studies.c.sex, t.studies.c.study_date, t.studies.c.study_time,
    t.studies.c.description, t.studies.c.accession, t.studies.c.modalities,
]  # fmt: skip


def study_of(row: Any) -> StudyInfo:
    """The study of a row that holds `STUDY_COLUMNS`."""
    return StudyInfo(
        study_uid=row.study_uid,
        ref=row.ref,
        patient_name=row.patient_name,
        patient_id=row.patient_id,
        birth_date=row.birth_date,
        sex=row.sex,
        study_date=row.study_date,
        study_time=row.study_time,
        description=row.description,
        accession=row.accession,
        modalities=tuple(m for m in row.modalities.split("\\") if m),
    )


__all__ = ["CLAIMABLE", "HAS_BYTES", "Deletable", "Deliveries", "Delivery", "Planned", "TransferTask"]
