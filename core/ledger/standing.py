"""What a standing forward asks the ledger: what waits and since when, what is kept; times that a clock spoiled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, moment
from core.ledger.rows import OPEN_UNTIL, still_open
from core.model.gateway import RouteLevel
from core.model.job import JOB_UNFINISHED, JobState
from core.model.outcome import EvidenceLevel, SourceState


@dataclass(frozen=True, slots=True)
class OtherJob:
    """A job that takes from the same source.

    Attributes
    ----------
    cursor : int | None
        How far it has read the source's change log.
    inventoried : bool
        Its inventory of this pass is over.
    """

    id: int
    name: str
    state: JobState
    follow: bool
    pass_number: int
    cursor: int | None
    inventoried: bool


_NEWEST = 20  # rows of the transfers page among which the last proof and the last arrival are looked for


class Standing(LedgerPart):
    """Reads, but for the last part."""

    def route_level(
        self, job_id: int, pass_number: int, *, wanted: EvidenceLevel, emptied: Collection[str] = ()
    ) -> RouteLevel:
        """How a job that follows stands.

        Parameters
        ----------
        wanted : EvidenceLevel
            The proof that it asks for.
        emptied : Collection[str]
            Sources at which it deletes what is confirmed.
        """
        c = t.transfers.c
        mine = (c.job_id == job_id, c.pass_number == pass_number)
        still = still_open(wanted)
        sums = select(
            func.count().filter(still > 0),
            func.coalesce(func.sum(still), 0),
            func.coalesce(func.sum(c.failed), 0),
            func.coalesce(func.sum(c.conflict), 0),
            func.coalesce(func.sum(c.verified + c.committed + c.skipped), 0),
        ).where(*mine)
        with self.reading() as connection:
            waiting, images, failed, different, confirmed = connection.execute(sums).one()
            oldest = self._oldest(connection, mine, still, wanted) if waiting else None
            planned = self._newest(connection, t.deliveries.c.planned_at, mine, c.id)
            proved = self._newest(connection, t.deliveries.c.evidence_at, mine, c.updated)
            kept = self._kept(connection, job_id, pass_number, still, emptied) if emptied else 0
        return RouteLevel(
            int(waiting), int(images), int(failed), int(different), int(confirmed), moment(oldest), moment(planned),
            moment(proved), kept,
        )  # fmt: skip

    def _oldest(
        self, connection: Connection, mine: Any, still: ColumnElement[int], wanted: EvidenceLevel
    ) -> float | None:
        d = t.deliveries.c
        found = connection.execute(
            select(func.min(d.planned_at))
            .join(t.transfers, t.transfers.c.id == d.transfer_id)
            .where(*mine, still > 0, d.state.in_(OPEN_UNTIL[wanted]))
        ).scalar()
        return None if found is None else float(found)

    def _newest(self, connection: Connection, column: Any, mine: Any, order: Any) -> float | None:
        """The greatest time among the rows that changed, or came, last: looking at all would take too long."""
        some = select(t.transfers.c.id).where(*mine).order_by(order.desc()).limit(_NEWEST)
        found = connection.execute(select(func.max(column)).where(t.deliveries.c.transfer_id.in_(some))).scalar()
        return None if found is None else float(found)

    def _kept(
        self, connection: Connection, job_id: int, pass_number: int, still: ColumnElement[int], emptied: Collection[str]
    ) -> int:
        s, c = t.studies.c, t.transfers.c
        waiting = (
            select(s.id)
            .join(t.transfers, c.study_id == s.id)
            .where(
                s.job_id == job_id,
                s.pass_number == pass_number,
                s.source.in_(list(emptied)),
                s.settled.is_(None),
                s.listed.is_not(None),
            )
            .group_by(s.id)
            .having(func.sum(still) == 0)
            .subquery()
        )
        return int(connection.execute(select(func.count()).select_from(waiting)).scalar() or 0)

    def planned_images(self, job_id: int, pass_number: int, source: str, study_uid: str) -> int | None:
        """Images of a study that are planned and, as far as is known, still at the source; None for no such study."""
        s, i = t.studies.c, t.instances.c
        with self.reading() as connection:
            study = connection.execute(
                select(s.id).where(
                    s.job_id == job_id, s.pass_number == pass_number, s.source == source, s.study_uid == study_uid
                )
            ).scalar()
            if study is None:
                return None
            there = select(func.count()).where(i.study_id == study, i.source_state != SourceState.DELETED.value)
            return int(connection.execute(there).scalar() or 0)

    def last_proof(self, study_id: int) -> float | None:
        """When the newest evidence of a study was seen, in seconds since 1970; None where there is none."""
        d, c = t.deliveries.c, t.transfers.c
        with self.reading() as connection:
            found = connection.execute(
                select(func.max(d.evidence_at)).join(t.transfers, c.id == d.transfer_id).where(c.study_id == study_id)
            ).scalar()
        return None if found is None else float(found)

    def others_on(self, source: str, job_id: int) -> list[OtherJob]:
        """The other jobs that are not over and take from a source, with how far they have read its change log."""
        j, c = t.jobs.c, t.cursors.c
        with self.reading() as connection:
            rows = connection.execute(
                select(j.id, j.name, j.state, j.follow, j.pass_number, j.fields, c.cursor, c.inventoried_pass)
                .outerjoin(t.cursors, and_(c.job_id == j.id, c.source == source))
                .where(j.id != job_id, j.state.in_([state.value for state in JOB_UNFINISHED]))
            ).all()
        return [
            OtherJob(r.id, r.name, JobState(r.state), r.follow, r.pass_number, r.cursor,
                     (r.inventoried_pass or 0) >= r.pass_number)
            for r in rows
            if source in (r.fields.get("source") or ())
        ]  # fmt: skip

    def awaits(self, job_id: int, pass_number: int, source: str, study_uid: str) -> bool:
        """Whether a job has anything of a study that is neither proved nor cancelled: failed ones are tried again."""
        c, s = t.transfers.c, t.studies.c
        pending = c.planned + c.sending + c.sent + c.failed + c.conflict
        with self.reading() as connection:
            found = connection.execute(
                select(func.sum(pending))
                .join(t.studies, s.id == c.study_id)
                .where(s.job_id == job_id, s.pass_number == pass_number, s.source == source, s.study_uid == study_uid)
            ).scalar()
        return bool(found)

    # writing --------------------------------------------------------------------------------------------

    def set_field(self, job_id: int, name: str, value: JsonValue) -> None:
        """Set one field of a job and wait until it is durable; it stays the same job for whoever orders it again."""

        def write(connection: Connection) -> None:
            fields = connection.execute(select(t.jobs.c.fields).where(t.jobs.c.id == job_id)).scalar()
            if fields is not None:
                values = {**fields, name: value}
                connection.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(fields=values))

        self.writer.do(write)

    def shift_waits(self, seconds: float, after: float) -> None:
        """Move all next attempts that lie after a time: this computer's clock was set."""
        for table in (t.deliveries, t.transfers):
            later = update(table).where(table.c.next_attempt > after)
            self._write(later.values(next_attempt=table.c.next_attempt + seconds))

    def shorten_waits(self, job_id: int, pass_number: int, latest: float, at: float) -> None:
        """Let what waits for a time beyond `latest` wait until `at` only: a clock that was wrong had set it."""
        c, d = t.transfers.c, t.deliveries.c
        mine = (c.job_id == job_id, c.pass_number == pass_number)
        open_ones = select(c.id).where(*mine, (c.planned + c.verified) > 0)
        self._write(
            update(t.deliveries).where(d.transfer_id.in_(open_ones), d.next_attempt > latest).values(next_attempt=at)
        )
        self._write(update(t.transfers).where(*mine, c.next_attempt > latest).values(next_attempt=at))

    def _write(self, statement: Any) -> None:
        self.writer.do(lambda connection: connection.execute(statement) and None)
