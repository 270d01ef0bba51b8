"""The source's side of the ledger: what is done with a study, and which instances may be deleted."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, now
from core.ledger.bulk import BulkUpdate
from core.ledger.rows import (
    ENOUGH,
    OPEN_UNTIL,
    STUDY_COLUMNS,
    Deletable,
    still_open,
    study_of,
)
from core.ledger.writer import Ticket
from core.model.outcome import (
    COUNT_NAMES,
    Counts,
    DeliveryState,
    EvidenceLevel,
    Method,
    SourceState,
)
from core.model.study import InstanceRef, StudyInfo

_SOURCE = BulkUpdate(t.instances, ("source_state", "source_answer", "source_at"))


class SourceSide(LedgerPart):
    """What settling a study reads and writes."""

    def study_is_done(self, study_id: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED) -> bool:
        """Whether a study is wholly listed and none of its deliveries is open any more, at any destination."""
        c, s = t.transfers.c, t.studies.c
        still = still_open(wanted)
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

    def destinations_in(self, job_id: int, pass_number: int) -> list[str]:
        """All nodes that studies of a pass are sent to, those that later ones are not sent to any more included."""
        c = t.transfers.c
        mine = select(c.destination).where(c.job_id == job_id, c.pass_number == pass_number).distinct()
        with self.reading() as connection:
            return sorted(connection.scalars(mine))

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

    def deletable(
        self, study_id: int, after: str, limit: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED
    ) -> list[Deletable]:
        """Instances whose every delivery has the proof that is `wanted`, and that are still at the source.

        In the order of their UIDs.
        `after` is the SOP Instance UID to go on from. Includes those found in "deleting": a deletion that was begun
        and whose end is unknown.
        """
        d, i = t.deliveries.c, t.instances.c
        page = _deletable(study_id, after, wanted).order_by(i.sop_uid).limit(limit).subquery()
        proofs = (
            select(
                d.instance_id,
                func.min(d.evidence_digest).label("least"),
                func.max(d.evidence_digest).label("most"),
                (func.count() - func.count(d.evidence_digest)).label("untold"),
                func.min(func.coalesce(d.evidence_at, 0.0)).label("proved_at"),
                func.max(case((_listed_only(), 1), else_=0)).label("listed_only"),
            )
            .join(page, page.c.id == d.instance_id)
            .group_by(d.instance_id)
            .subquery()
        )
        with self.reading() as connection:
            rows = connection.execute(
                select(
                    t.instances, t.studies.c.study_uid, t.studies.c.patient_id,
                    proofs.c.least, proofs.c.most, proofs.c.untold, proofs.c.proved_at, proofs.c.listed_only,
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
                compared=not r.listed_only,
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

    def settle_study(
        self, study_id: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED, deleting: bool = False
    ) -> None:
        """Everything about a study is done, deletions at the source included; unless there is more to do by now."""
        d, c = t.deliveries.c, t.transfers.c
        still = (
            select(d.id)
            .join(t.transfers, c.id == d.transfer_id)
            .where(c.study_id == study_id, d.state.in_(OPEN_UNTIL[wanted]))
        )
        which = [t.studies.c.id == study_id, ~still.exists()]
        if deleting:
            which.append(~_deletable(study_id, "", wanted).exists())
        statement = update(t.studies).where(*which).values(settled=now())
        # A job that waits for nothing else ends with it.
        self.writer.call(lambda connection: connection.execute(statement) and None, urgent=True)

    def unsettled_studies(
        self, job_id: int, pass_number: int, *, wanted: EvidenceLevel = EvidenceLevel.VERIFIED
    ) -> list[int]:
        """Studies whose deliveries are all done but that were not settled yet (a stop came in between)."""
        s, c = t.studies.c, t.transfers.c
        still = still_open(wanted)
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


def _listed_only() -> ColumnElement[bool]:
    """A delivery that was never sent, of something that was there under the same UID: what that is, nobody looked."""
    d = t.deliveries.c
    by_uid = d.method.in_((Method.UID.value, Method.COMMITMENT.value))
    return and_(d.state == DeliveryState.SKIPPED.value, by_uid, d.evidence_digest.is_(None))


def _deletable(study_id: int, after: str, wanted: EvidenceLevel) -> Select[tuple[int, str]]:
    d, i = t.deliveries.c, t.instances.c
    return select(i.id, i.sop_uid).where(
        i.study_id == study_id,
        i.sop_uid > after,
        i.source_state.in_((SourceState.KEPT.value, SourceState.DELETING.value)),
        select(d.id).where(d.instance_id == i.id).correlate(t.instances).exists(),
        ~select(d.id).where(d.instance_id == i.id, d.state.not_in(ENOUGH[wanted])).correlate(t.instances).exists(),
    )
