"""What window, command line and reports read from the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, and_, case, false, func, or_, select

from core.ledger import schema as t
from core.ledger.base import FAILURE_COLUMNS, LedgerPart, failure_of, moment
from core.ledger.changes import CHANGE_COLUMNS, change_of
from core.ledger.rows import STUDY_COLUMNS, study_of
from core.model.events import TransferRow
from core.model.outcome import (
    COUNT_NAMES,
    Counts,
    DeliveryState,
    Evidence,
    EvidenceLevel,
    Method,
    SourceState,
    StudyState,
    study_state,
)
from core.model.views import (
    FILTER_STATES,
    DeliveryRow,
    FailureGroup,
    SeriesRow,
    StateFilter,
    TransferFilter,
)

S = DeliveryState


class Views(LedgerPart):
    """Reads; safe from any thread."""

    def transfers(self, filter: TransferFilter, *, offset: int = 0, limit: int = 500) -> list[TransferRow]:
        """Rows of the transfers page, newest first; of each job the present pass only."""
        ids = select(t.transfers.c.id).join(t.studies, t.studies.c.id == t.transfers.c.study_id)
        # Keys first: sorting whole rows, of which most are not wanted, costs several times as much.
        page = self._filtered(filter, ids).order_by(t.transfers.c.id.desc()).offset(offset).limit(limit)
        query = _TRANSFER.where(t.transfers.c.id.in_(page)).order_by(t.transfers.c.id.desc())
        with self.reading() as connection:
            return [_row(r) for r in connection.execute(query)]

    def transfer(self, transfer_id: int) -> TransferRow | None:
        rows = self.transfers_by_id([transfer_id])
        return rows[0] if rows else None

    def transfers_by_id(self, ids: list[int]) -> list[TransferRow]:
        found: list[TransferRow] = []
        with self.reading() as connection:
            for start in range(0, len(ids), 500):
                query = _TRANSFER.where(t.transfers.c.id.in_(ids[start : start + 500]))
                found += [_row(r) for r in connection.execute(query)]
        return found

    def changed_transfers(self, revision: int, *, limit: int = 500) -> tuple[list[TransferRow], int]:
        """Rows that changed after `revision`, and the revision to go on from (for an attached window)."""
        query = (
            _TRANSFER.add_columns(t.transfers.c.revision)
            .where(t.transfers.c.revision > revision)
            .order_by(t.transfers.c.revision)
            .limit(limit)
        )
        with self.reading() as connection:
            rows = connection.execute(query).all()
        return [_row(r) for r in rows], int(rows[-1].revision) if rows else revision

    def last_revision(self) -> int:
        with self.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(t.transfers.c.revision), 0))).scalar() or 0)

    def state_counts(self, filter: TransferFilter) -> dict[StateFilter, int]:
        """How many rows each chip would show, with the other filters as they are."""
        everything = TransferFilter(StateFilter.ALL, filter.text, filter.node, filter.job_id)
        base = select(t.transfers.c.state, func.count()).join(t.studies, t.studies.c.id == t.transfers.c.study_id)
        query = self._filtered(everything, base).group_by(t.transfers.c.state)
        with self.reading() as connection:
            by_state = {StudyState(r[0]): int(r[1]) for r in connection.execute(query)}
        return {f: sum(by_state.get(s, 0) for s in states) for f, states in FILTER_STATES.items()}

    def unconfirmed_studies(self) -> int:
        """Studies of jobs' present passes that are not yet proved at their destination."""
        c = t.transfers.c
        level = t.jobs.c.fields["evidence"].as_string()
        until_committed = select(t.jobs.c.id).where(level == EvidenceLevel.COMMITTED.value)
        query = (
            select(func.count())
            .join(t.jobs, and_(t.jobs.c.id == c.job_id, t.jobs.c.pass_number == c.pass_number))
            .where(
                or_(
                    (c.planned + c.sending + c.sent) > 0,
                    and_(c.verified > 0, c.job_id.in_(until_committed)),
                )
            )
        )
        with self.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def _filtered(self, filter: TransferFilter, query: Select[Any]) -> Select[Any]:
        c, s = t.transfers.c, t.studies.c
        query = query.join(t.jobs, and_(t.jobs.c.id == c.job_id, t.jobs.c.pass_number == c.pass_number))
        if filter.state is not StateFilter.ALL:
            query = query.where(c.state.in_([state.value for state in FILTER_STATES[filter.state]]))
        if filter.job_id is not None:
            query = query.where(c.job_id == filter.job_id)
        if filter.node:
            query = query.where(or_(c.source == filter.node, c.destination == filter.node))
        for word in filter.text.replace(",", " ").split():
            query = query.where(
                or_(
                    *(
                        column.icontains(word, autoescape=True)
                        for column in (s.patient_name, s.patient_id, s.accession, s.description, s.study_uid)
                    )
                )
            )
        return query

    def series(self, transfer_id: int) -> list[SeriesRow]:
        """The series of a row, with counts and how their instances were proved."""
        d, i = t.deliveries.c, t.instances.c
        query = (
            select(i.series_uid, d.state, d.method, func.count())
            .join(t.instances, i.id == d.instance_id)
            .where(d.transfer_id == transfer_id)
            .group_by(i.series_uid, d.state, d.method)
        )
        names = (
            select(t.series)
            .join(t.transfers, t.transfers.c.study_id == t.series.c.study_id)
            .where(t.transfers.c.id == transfer_id)
        )
        with self.reading() as connection:
            rows = connection.execute(query).all()
            named = {r.series_uid: r for r in connection.execute(names)}
        sums: dict[str, dict[str, int]] = {}
        methods: dict[str, set[str]] = {}
        for uid, state, method, count in rows:
            of_series = sums.setdefault(uid, {})
            of_series[state] = of_series.get(state, 0) + int(count)
            if method and state in (S.VERIFIED, S.COMMITTED, S.SKIPPED):
                methods.setdefault(uid, set()).add(method)
        found = []
        for uid, by_state in sums.items():
            counts = Counts(**{k: v for k, v in by_state.items() if k in COUNT_NAMES})
            info = named.get(uid)
            found.append(
                SeriesRow(
                    series_uid=uid,
                    description=info.description if info else "",
                    number=info.number if info else "",
                    modality=info.modality if info else "",
                    total=counts.total,
                    confirmed=counts.confirmed,
                    sent=counts.sent,
                    failed=counts.failed,
                    conflict=counts.conflict,
                    methods=tuple(sorted(methods.get(uid, ()))),
                    state=study_state(counts, active=counts.sending > 0, evidence=EvidenceLevel.VERIFIED),
                )
            )
        return sorted(found, key=lambda r: (int(r.number) if r.number.isdigit() else 10**9, r.series_uid))

    def deliveries(
        self,
        *,
        transfer_id: int | None = None,
        job_id: int | None = None,
        offset: int = 0,
        limit: int = 200,
        failed_first: bool = False,
        series_uid: str = "",
    ) -> list[DeliveryRow]:
        """Instances with their evidence, in the order of planning."""
        d = t.deliveries.c
        query = self._deliveries(transfer_id, job_id, series_uid)
        if failed_first:
            bad = d.state.in_((S.FAILED.value, S.CONFLICT.value))
            query = query.order_by(case((bad, 0), else_=1), d.id)
        else:
            query = query.order_by(d.id)
        with self.reading() as connection:
            return [_delivery(r) for r in connection.execute(query.offset(offset).limit(limit))]

    def _deliveries(self, transfer_id: int | None, job_id: int | None, series_uid: str) -> Select[Any]:
        d, i, c = t.deliveries.c, t.instances.c, t.transfers.c
        query = (
            select(
                t.deliveries, i.sop_uid, i.series_uid, i.sop_class, i.size, i.digest, i.source_state,
                c.source, c.destination, *CHANGE_COLUMNS, *FAILURE_COLUMNS,
            )
            .join(t.instances, i.id == d.instance_id)
            .join(t.transfers, c.id == d.transfer_id)
            .outerjoin(t.changes, t.changes.c.delivery_id == d.id)
            .outerjoin(t.failures, t.failures.c.id == d.failure_id)
        )  # fmt: skip
        if transfer_id is not None:
            query = query.where(d.transfer_id == transfer_id)
        elif job_id is not None:
            query = query.join(t.jobs, and_(t.jobs.c.id == c.job_id, t.jobs.c.pass_number == c.pass_number)).where(
                c.job_id == job_id
            )
        else:
            query = query.where(false())
        if series_uid:
            query = query.where(i.series_uid == series_uid)
        return query

    def failure_groups(self, *, job_id: int | None = None, transfer_id: int | None = None) -> list[FailureGroup]:
        """Equal failures as one message with a count, the most frequent first."""
        d, c = t.deliveries.c, t.transfers.c
        failed = select(d.failure_id, d.transfer_id, func.count().label("count")).where(
            d.failure_id.is_not(None), d.state == S.FAILED.value
        )
        if transfer_id is not None:
            failed = failed.where(d.transfer_id == transfer_id)
        counted = failed.group_by(d.failure_id, d.transfer_id).subquery()
        query = (
            select(*FAILURE_COLUMNS, t.failures.c.id, c.id, c.source, c.destination, counted.c.count)
            .join(t.failures, t.failures.c.id == counted.c.failure_id)
            .join(t.transfers, c.id == counted.c.transfer_id)
            .join(t.jobs, and_(t.jobs.c.id == c.job_id, t.jobs.c.pass_number == c.pass_number))
        )
        if job_id is not None:
            query = query.where(c.job_id == job_id)
        groups: dict[tuple[str, str], list[Any]] = {}
        with self.reading() as connection:
            for row in connection.execute(query):
                node = row.source if row.failure_side == "source" else row.destination
                key = (row.failure_sentence, node)
                groups.setdefault(key, []).append(row)
        made = []
        for (_sentence, node), rows in groups.items():
            failure = failure_of(rows[0])
            assert failure is not None
            made.append(
                FailureGroup(failure, sum(int(r[-1]) for r in rows), node, tuple(sorted({int(r[7]) for r in rows})))
            )
        return sorted(made, key=lambda g: -g.count)

    def job_counts(self, job_id: int) -> Counts:
        """Counts of a job's present pass from the deliveries themselves, not from the kept totals."""
        d, c = t.deliveries.c, t.transfers.c
        done = d.state.in_([S.SENT.value, S.VERIFIED.value, S.COMMITTED.value, S.SKIPPED.value])
        size = func.coalesce(t.instances.c.size, 0)
        query = (
            select(d.state, func.count(), func.sum(size), func.sum(case((done, size), else_=0)))
            .join(t.instances, t.instances.c.id == d.instance_id)
            .join(t.transfers, c.id == d.transfer_id)
            .join(t.jobs, and_(t.jobs.c.id == c.job_id, t.jobs.c.pass_number == c.pass_number))
            .where(c.job_id == job_id)
            .group_by(d.state)
        )
        with self.reading() as connection:
            rows = connection.execute(query).all()
        by_state = {str(r[0]): int(r[1]) for r in rows}
        return Counts(
            **by_state,
            bytes_total=sum(int(r[2] or 0) for r in rows),
            bytes_done=sum(int(r[3] or 0) for r in rows),
        )


_TRANSFER = (
    select(
        t.transfers.c.id, t.transfers.c.job_id, t.transfers.c.study_id, t.transfers.c.source,
        t.transfers.c.destination, t.transfers.c.instead_of, t.transfers.c.state, t.transfers.c.reason,
        t.transfers.c.next_step, t.transfers.c.path, t.transfers.c.path_reason, t.transfers.c.next_attempt,
        t.transfers.c.attempt, t.transfers.c.started, t.transfers.c.updated,
        *(t.transfers.c[n] for n in COUNT_NAMES),
        *STUDY_COLUMNS,
    )
    .join(t.studies, t.studies.c.id == t.transfers.c.study_id)
)  # fmt: skip


def _row(r: Any) -> TransferRow:
    counts = Counts(*(int(getattr(r, n)) for n in COUNT_NAMES))
    waiting = counts.planned or (counts.verified and r.next_attempt)  # to be sent again, or to be committed
    troubled = counts.failed or counts.conflict or waiting
    return TransferRow(
        id=r.id,
        job_id=r.job_id,
        study_id=r.study_id,
        study=study_of(r),
        source=r.source,
        destination=r.destination,
        state=StudyState(r.state),
        counts=counts,
        reason=r.reason if troubled or r.instead_of else "",
        next_step=r.next_step if troubled else "",
        path=r.path,
        path_reason=r.path_reason,
        next_attempt=moment(r.next_attempt) if waiting else None,
        attempt=r.attempt,
        started=moment(r.started),
        updated=moment(r.updated),
        instead_of=r.instead_of,
    )


def _delivery(r: Any) -> DeliveryRow:
    evidence = None
    if r.method:
        evidence = Evidence(
            method=Method(r.method),
            at=moment(r.evidence_at) or datetime.fromtimestamp(0, UTC),
            digest=r.evidence_digest or "",
            note=r.evidence_note or "",
        )
    return DeliveryRow(
        id=r.id,
        transfer_id=r.transfer_id,
        sop_uid=r.sop_uid,
        series_uid=r.series_uid,
        sop_class=r.sop_class,
        size=r.size,
        source=r.source,
        destination=r.destination,
        state=DeliveryState(r.state),
        path=r.path or "",
        attempt=r.attempt,
        planned_at=moment(r.planned_at),
        sent_at=moment(r.sent_at),
        answer=r.answer or "",
        evidence=evidence,
        failure=failure_of(r),
        next_attempt=moment(r.next_attempt),
        source_state=SourceState(r.source_state),
        source_digest=r.digest or "",
        destination_ref=r.destination_ref or "",
        change=None if r.change_digest is None else change_of(r, "change_"),
    )
