"""Planning in the ledger: studies, series, instances and their deliveries, each planned once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, now
from core.ledger.bulk import BulkInsert
from core.ledger.prepared import Prepared, new_row
from core.ledger.rows import (
    CLAIMABLE,
    Planned,
    S,
)
from core.ledger.writer import Counted, Delta, Ticket
from core.model.outcome import (
    SourceState,
)
from core.model.study import InstanceRef, StudyInfo

_NEW_INSTANCES = BulkInsert(
    t.instances,
    (
        "id", "study_id", "sop_uid", "series_uid", "sop_class", "ref", "size", "digest", "transfer_syntax",
        "source_state",
    ),
)  # fmt: skip
_OF_STUDY = t.studies.c.id == bindparam("study")
_STUDY_KEY = Prepared(
    select(t.studies.c.id).where(
        *(t.studies.c[name] == bindparam(name) for name in ("job_id", "pass_number", "source", "study_uid"))
    )
)
_NEW_STUDY = new_row(
    t.studies,
    "job_id", "pass_number", "source", "study_uid", "ref", "patient_name", "patient_id", "birth_date", "sex",
    "study_date", "study_time", "description", "accession", "modalities",
)  # fmt: skip
_NEW_TRANSFER = new_row(t.transfers, "study_id", "job_id", "pass_number", "source", "destination", "state", "updated")
_LISTED = Prepared(update(t.studies).where(_OF_STUDY).values(listed=bindparam("at")))
_NOT_SETTLED = Prepared(update(t.studies).where(_OF_STUDY, t.studies.c.settled.is_not(None)).values(settled=None))
_MODALITIES = Prepared(select(t.studies.c.modalities).where(_OF_STUDY))
_LAST_INSTANCE = Prepared(select(func.coalesce(func.max(t.instances.c.id), 0)))
_NEW_DELIVERIES = BulkInsert(t.deliveries, ("transfer_id", "instance_id", "state", "attempt", "planned_at"))


class Planning(LedgerPart):
    """What planners write."""

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
            transfers = {name: transfers[name] for name in destinations}  # others may have been of earlier pages
            deltas: list[Delta] = []
            new = list(page)
            if not fresh and new:
                new, deltas = _known_instances(connection, study_id, new)
            if new:
                deltas += _insert(connection, study_id, list(transfers.values()), new, at, fresh)
            if last:
                _LISTED.execute(connection, {"study": study_id, "at": at})
            if deltas:
                _NOT_SETTLED.execute(connection, {"study": study_id})
            return Counted(Planned(study_id, transfers, len(new)), deltas)

        return self.writer.call(write, urgent=True)  # the lanes begin with it

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


def _study_key(connection: Connection, job_id: int, pass_number: int, source: str, study: StudyInfo) -> int | None:
    key = {"job_id": job_id, "pass_number": pass_number, "source": source, "study_uid": study.study_uid}
    found = _STUDY_KEY.execute(connection, key).scalar()
    return None if found is None else int(found)


def _study_row(
    connection: Connection, job_id: int, pass_number: int, source: str, study: StudyInfo
) -> tuple[int, bool]:
    found = _study_key(connection, job_id, pass_number, source, study)
    if found is not None:
        return found, False
    made = _NEW_STUDY.execute(
        connection,
        {
            "job_id": job_id,
            "pass_number": pass_number,
            "source": source,
            "study_uid": study.study_uid,
            "ref": study.ref,
            "patient_name": study.patient_name,
            "patient_id": study.patient_id,
            "birth_date": study.birth_date[:32],
            "sex": study.sex[:16],
            "study_date": study.study_date[:32],
            "study_time": study.study_time[:32],
            "description": study.description,
            "accession": study.accession,
            "modalities": "\\".join(study.modalities),
        },
    )
    return int(made.scalar_one()), True


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
            made = _NEW_TRANSFER.execute(
                connection,
                {
                    "study_id": study_id,
                    "job_id": job_id,
                    "pass_number": pass_number,
                    "source": source,
                    "destination": name,
                    "state": "waiting",
                    "updated": at,
                },
            )
            found[name] = int(made.scalar_one())
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
    first = int(_LAST_INSTANCE.execute(connection, {}).scalar() or 0) + 1
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
    _series_rows(connection, study_id, unique.values(), fresh=fresh)
    total = sum(ref.size or 0 for ref in unique.values())
    return [Delta(transfer_id, None, S.PLANNED, len(unique), total) for transfer_id in transfer_ids]


def _series_rows(connection: Connection, study_id: int, refs: Any, *, fresh: bool) -> None:
    named = {ref.series.series_uid: ref.series for ref in refs if ref.series is not None}
    if not named:
        return
    c = t.series.c
    known: set[str] = set()
    if not fresh:
        mine = c.study_id == study_id
        known.update(connection.scalars(select(c.series_uid).where(mine, c.series_uid.in_(list(named)))))
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
    known = {m for m in str(_MODALITIES.execute(connection, {"study": study_id}).scalar() or "").split("\\") if m}
    if found - known - {""}:
        together = "\\".join(sorted((known | found) - {""}))
        connection.execute(update(t.studies).where(t.studies.c.id == study_id).values(modalities=together))
