"""Asking the catalogue: studies, series, instances, what is held, and the change log."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Select, distinct, func, select

from core.model.study import Change, ChangeKind, ChangePage
from core.spool import schema as t
from core.spool.database import speaking
from core.spool.record import InstanceRecord, SeriesRecord, StudyRecord

PAGE = 300
CHANGES_PAGE = 500
_IN = 500

_INSTANCE = select(
    t.instances.c.sop_uid,
    t.instances.c.sop_class,
    t.series.c.series_uid,
    t.studies.c.study_uid,
    t.instances.c.transfer_syntax,
    t.instances.c.size,
    t.instances.c.digest,
    t.instances.c.data_offset,
    t.instances.c.name,
    t.instances.c.received,
    t.instances.c.sender,
    t.studies.c.patient_id,
    t.instances.c.attributes,
).select_from(
    t.instances.join(t.series, t.instances.c.series_id == t.series.c.id).join(
        t.studies, t.series.c.study_id == t.studies.c.id
    )
)


def _instance(row: Any) -> InstanceRecord:
    return InstanceRecord(*(*row[:12], json.loads(row[12])))


def held(connection: Any, sop_uids: Sequence[str]) -> dict[str, InstanceRecord]:
    """What is held under these SOP Instance UIDs; of those that aren't, nothing."""
    found: dict[str, InstanceRecord] = {}
    for start in range(0, len(sop_uids), _IN):
        part = sop_uids[start : start + _IN]
        for row in connection.execute(_INSTANCE.where(t.instances.c.sop_uid.in_(part))):
            record = _instance(row)
            found[record.sop_uid] = record
    return found


class Catalogue:
    """Reads from any thread; each answer is of one moment. Raises `LocalError` when the database can't be read."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def studies(
        self,
        *,
        study_uids: Sequence[str] = (),
        patient_id: str = "",
        accession: str = "",
        date_from: str = "",
        date_to: str = "",
    ) -> Iterator[StudyRecord]:
        """Studies in the order in which they came first; one that comes or goes meanwhile makes it skip no other.

        Parameters
        ----------
        study_uids, patient_id, accession
            Exactly these (no wildcards); empty for all.
        date_from, date_to
            YYYYMMDD, both included; a study without a date is in no range.
        """
        wanted = select(t.studies.c.id, t.studies.c.study_uid, t.studies.c.attributes).order_by(t.studies.c.id)
        if study_uids:
            wanted = wanted.where(t.studies.c.study_uid.in_(study_uids))
        if patient_id:
            wanted = wanted.where(t.studies.c.patient_id == patient_id)
        if accession:
            wanted = wanted.where(t.studies.c.accession == accession)
        if date_from:
            wanted = wanted.where(t.studies.c.study_date >= date_from)
        if date_to:
            wanted = wanted.where(t.studies.c.study_date <= date_to, t.studies.c.study_date != "")
        last = 0
        while True:
            page, last = self._study_page(wanted.where(t.studies.c.id > last).limit(PAGE), last)
            if not page:
                return
            yield from page

    def study(self, study_uid: str) -> StudyRecord | None:
        wanted = select(t.studies.c.id, t.studies.c.study_uid, t.studies.c.attributes)
        page, _ = self._study_page(wanted.where(t.studies.c.study_uid == study_uid), 0)
        return page[0] if page else None

    def _study_page(self, wanted: Select[Any], last: int) -> tuple[list[StudyRecord], int]:
        with speaking(), self._database.connect() as connection:
            rows = connection.execute(wanted).all()
            if not rows:
                return [], last
            ids = [row.id for row in rows]
            joined = t.instances.join(t.series, t.instances.c.series_id == t.series.c.id)
            of = t.series.c.study_id
            totals = {
                row[0]: row[1:]
                for row in connection.execute(
                    select(of, func.count(distinct(t.series.c.id)), func.count(), func.sum(t.instances.c.size))
                    .select_from(joined)
                    .where(of.in_(ids))
                    .group_by(of)
                )
            }
            modalities: dict[int, list[str]] = {}
            for study_id, modality in connection.execute(
                select(of, t.series.c.modality).where(of.in_(ids), t.series.c.modality != "").distinct().order_by(
                    t.series.c.modality
                )
            ):  # fmt: skip
                modalities.setdefault(study_id, []).append(modality)
            classes: dict[int, list[str]] = {}
            for study_id, sop_class in connection.execute(
                select(of, t.instances.c.sop_class).select_from(joined).where(of.in_(ids)).distinct()
            ):
                classes.setdefault(study_id, []).append(sop_class)
        found = []
        for row in rows:
            series, instances, size = totals.get(row.id, (0, 0, 0))
            found.append(
                StudyRecord(
                    row.study_uid,
                    series,
                    instances,
                    size,
                    tuple(modalities.get(row.id, ())),
                    tuple(sorted(classes.get(row.id, ()))),
                    json.loads(row.attributes),
                )
            )
        return found, ids[-1]

    def series(self, study_uid: str) -> list[SeriesRecord]:
        """The series of a study, in the order in which they came first."""
        with speaking(), self._database.connect() as connection:
            rows = connection.execute(
                select(t.series.c.series_uid, t.series.c.attributes, func.count(t.instances.c.id))
                .select_from(
                    t.studies.join(t.series, t.series.c.study_id == t.studies.c.id).join(
                        t.instances, t.instances.c.series_id == t.series.c.id
                    )
                )
                .where(t.studies.c.study_uid == study_uid)
                .group_by(t.series.c.id)
                .order_by(t.series.c.id)
            ).all()
        return [SeriesRecord(uid, study_uid, count, json.loads(attributes)) for uid, attributes, count in rows]

    def instances(self, study_uid: str, series_uid: str = "") -> Iterator[Sequence[InstanceRecord]]:
        """The instances of a study, or of one of its series, in pages, series by series."""
        with speaking(), self._database.connect() as connection:
            wanted = (
                select(t.series.c.id)
                .select_from(t.series.join(t.studies, t.series.c.study_id == t.studies.c.id))
                .where(t.studies.c.study_uid == study_uid)
                .order_by(t.series.c.id)
            )
            if series_uid:
                wanted = wanted.where(t.series.c.series_uid == series_uid)
            ids = connection.execute(wanted).scalars().all()
        for series_id in ids:
            last = ""
            while True:
                with speaking(), self._database.connect() as connection:
                    rows = connection.execute(
                        _INSTANCE.where(t.instances.c.series_id == series_id, t.instances.c.sop_uid > last)
                        .order_by(t.instances.c.sop_uid)
                        .limit(PAGE)
                    ).all()
                if not rows:
                    break
                yield [_instance(row) for row in rows]
                last = rows[-1].sop_uid

    def find(self, sop_uids: Sequence[str]) -> dict[str, InstanceRecord]:
        """What is held under these SOP Instance UIDs; of those that aren't, nothing."""
        with speaking(), self._database.connect() as connection:
            return held(connection, sop_uids)

    def syntaxes_held(self, sop_class: str) -> list[str]:
        """Transfer syntaxes in which images of a SOP class are held, the most frequent one first."""
        syntax = t.instances.c.transfer_syntax
        wanted = (
            select(syntax).where(t.instances.c.sop_class == sop_class).group_by(syntax).order_by(func.count().desc())
        )
        with speaking(), self._database.connect() as connection:
            return list(connection.execute(wanted.order_by(func.count().desc())).scalars())

    def totals(self) -> tuple[int, int, int]:
        """Studies, instances, and the bytes of their files."""
        with speaking(), self._database.connect() as connection:
            studies = connection.execute(select(func.count()).select_from(t.studies)).scalar() or 0
            instances, size = connection.execute(
                select(func.count(), func.coalesce(func.sum(t.instances.c.size), 0)).select_from(t.instances)
            ).one()
        return studies, instances, size

    def last_received(self) -> float | None:
        """When the newest of what is held came (seconds since 1970); None where nothing is held."""
        newest = select(t.instances.c.received).order_by(t.instances.c.id.desc()).limit(1)
        with speaking(), self._database.connect() as connection:
            found = connection.execute(newest).scalar()
        return None if found is None else float(found)

    def is_filled(self) -> bool:
        """Whether every file has its record: False while a catalogue is being made anew."""
        with speaking(), self._database.connect() as connection:
            return connection.execute(select(t.state.c.value).where(t.state.c.name == "filled")).first() is not None

    # the change log -------------------------------------------------------------------------------------

    def cursor(self) -> int:
        """The number given last."""
        with speaking(), self._database.connect() as connection:
            return _last(connection)

    def changes(self, since: int, limit: int = CHANGES_PAGE) -> ChangePage:
        """What happened after number `since`. What is deleted is missing from the log too."""
        with speaking(), self._database.connect() as connection:
            end = _last(connection)
            if since > end:
                return ChangePage((), end, True, True)
            instances = select(t.instances.c.id, t.instances.c.sop_uid).where(t.instances.c.id > since)
            found = [
                Change(seq, ChangeKind.NEW_INSTANCE, uid)
                for seq, uid in connection.execute(instances.order_by(t.instances.c.id).limit(limit))
            ]
            settled = t.series.c.settled
            series = select(settled, t.studies.c.study_uid, t.series.c.series_uid).join(
                t.studies, t.series.c.study_id == t.studies.c.id
            )
            some = [
                Change(seq, ChangeKind.STABLE_SERIES, f"{study}/{uid}")
                for seq, study, uid in connection.execute(
                    series.where(settled > since).order_by(settled).limit(limit)
                )
            ]  # fmt: skip
            settled = t.studies.c.settled
            whole = select(settled, t.studies.c.study_uid).where(settled > since).order_by(settled).limit(limit)
            more = [Change(seq, ChangeKind.STABLE_STUDY, uid) for seq, uid in connection.execute(whole)]
        merged = list(heapq.merge(found, some, more, key=lambda change: change.sequence))
        if len(merged) < limit:
            return ChangePage(tuple(merged), end, True)
        page = merged[:limit]
        return ChangePage(tuple(page), page[-1].sequence, page[-1].sequence >= end)

    def quiet_since(self, study_uid: str, series_uid: str = "") -> float | None:
        """When an instance came last (seconds since 1970); None when the study or series is gone."""
        wanted = select(t.studies.c.last).where(t.studies.c.study_uid == study_uid)
        if series_uid:
            wanted = (
                select(t.series.c.last)
                .select_from(t.series.join(t.studies, t.series.c.study_id == t.studies.c.id))
                .where(t.studies.c.study_uid == study_uid, t.series.c.series_uid == series_uid)
            )
        with speaking(), self._database.connect() as connection:
            found = connection.execute(wanted).scalar()
        return None if found is None else float(found)

    def unsettled_before(self, moment: float) -> bool:
        """Whether a series or study waits for being called stable, and nothing has come to it since `moment`."""
        with speaking(), self._database.connect() as connection:
            for table in (t.series, t.studies):
                due = table.c.last <= moment
                # The clock was set back: what seems to come from the future waits too.
                strange = table.c.last > time.time() + 1
                wanted = select(table.c.id).where(table.c.settled.is_(None), due | strange).limit(1)
                if connection.execute(wanted).first():
                    return True
        return False


def _last(connection: Any) -> int:
    return int(connection.execute(select(t.state.c.value).where(t.state.c.name == "sequence")).scalar_one())
