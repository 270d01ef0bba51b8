"""Nodes, jobs, commands and the log in the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from core.ledger import schema as t
from core.ledger.base import LedgerPart, moment, now
from core.model.diagnosis import Profile
from core.model.errors import ConfigurationError
from core.model.events import LogLevel, LogLine
from core.model.job import JobRecord, JobState
from core.model.node import NodeRecord
from core.model.outcome import COUNT_NAMES, Counts

_PROFILE: TypeAdapter[Profile] = TypeAdapter(Profile)
_C = t.transfers.c
# Made once: building a statement costs more than running it, and these run several times a second.
_SUMS = select(func.count(), *(func.coalesce(func.sum(_C[n]), 0) for n in COUNT_NAMES)).where(
    _C.job_id == bindparam("job"), _C.pass_number == bindparam("pass")
)
_LEFT_OUT = select(func.sum(t.cursors.c.left_out)).where(
    t.cursors.c.job_id == bindparam("job"), t.cursors.c.left_out_pass == bindparam("pass")
)
_JOB_BY_ID = select(t.jobs).where(t.jobs.c.id == bindparam("key"))
_JOB_BY_NAME = select(t.jobs).where(t.jobs.c.name == bindparam("key"))
_OPEN_COMMANDS = (
    select(t.commands.c.id, t.commands.c.verb, t.commands.c.job_id, t.commands.c.transfer_id)
    .where(t.commands.c.handled.is_(None))
    .order_by(t.commands.c.id)
)
REMOVED = 50  # studies that one entry removes
_CLOSED = (JobState.FINISHED.value, JobState.CANCELLED.value, JobState.SAVED.value)


class Verb(StrEnum):
    """Commands that other threads and processes write for the engine."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    REMOVE = "remove"
    RETRY_TRANSFER = "retry-transfer"
    CANCEL_TRANSFER = "cancel-transfer"
    PRIORITISE_TRANSFER = "prioritise-transfer"
    OVERWRITE_TRANSFER = "overwrite-transfer"
    NODE_CHANGED = "node-changed"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Command:
    id: int
    verb: Verb
    job_id: int | None
    transfer_id: int | None


class Book(LedgerPart):
    """Small tables: nodes with their profiles, jobs, commands, log."""

    # nodes ----------------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeRecord]:
        with self.reading() as connection:
            rows = connection.execute(select(t.nodes).order_by(func.lower(t.nodes.c.name))).all()
        return [NodeRecord(name=r.name, kind=r.kind, fields=r.fields) for r in rows]

    def node(self, name: str) -> NodeRecord | None:
        with self.reading() as connection:
            r = connection.execute(select(t.nodes).where(t.nodes.c.name == name)).first()
        return None if r is None else NodeRecord(name=r.name, kind=r.kind, fields=r.fields)

    def nodes_saved(self) -> dict[str, float]:
        """When each node was last saved: whether its fields or its secrets may be others by now."""
        with self.reading() as connection:
            rows = connection.execute(select(t.nodes.c.name, t.nodes.c.updated)).all()
        return {r.name: r.updated for r in rows}

    def save_node(self, record: NodeRecord) -> None:
        """Add or replace a node; a changed address drops its profile."""

        def write(connection: Connection) -> None:
            c = t.nodes.c
            old = connection.execute(select(c.fields, c.kind).where(c.name == record.name)).first()
            at = now()
            if old is None:
                connection.execute(
                    insert(t.nodes).values(
                        name=record.name, kind=record.kind, fields=record.fields, created=at, updated=at
                    )
                )
                return
            values: dict[str, Any] = {"kind": record.kind, "fields": record.fields, "updated": at}
            if old.fields != record.fields or old.kind != record.kind:
                values["profile"] = None
            connection.execute(update(t.nodes).where(c.name == record.name).values(values))

        self.writer.do(write)

    def remove_node(self, name: str) -> None:
        self.writer.do(lambda c: c.execute(delete(t.nodes).where(t.nodes.c.name == name)) and None)

    def profile(self, name: str) -> Profile | None:
        with self.reading() as connection:
            found = connection.execute(select(t.nodes.c.profile).where(t.nodes.c.name == name)).scalar()
        return None if found is None else _PROFILE.validate_python(found)

    def save_profile(self, name: str, profile: Profile) -> None:
        value = _PROFILE.dump_python(profile, mode="json")
        self.writer.do(
            lambda c: c.execute(update(t.nodes).where(t.nodes.c.name == name).values(profile=value)) and None
        )

    # jobs -----------------------------------------------------------------------------------------------

    def jobs(self) -> list[JobRecord]:
        """All jobs, newest first, with the counts of their present pass."""
        with self.reading() as connection:
            rows = connection.execute(select(t.jobs).order_by(t.jobs.c.id.desc())).all()
            return [self._job(connection, r) for r in rows]

    def job(self, key: int | str) -> JobRecord | None:
        """A job by its number or name."""
        query = _JOB_BY_ID if isinstance(key, int) else _JOB_BY_NAME
        with self.reading() as connection:
            row = connection.execute(query, {"key": key}).first()
            return None if row is None else self._job(connection, row)

    def job_by_fingerprint(self, fingerprint: str) -> JobRecord | None:
        """The newest job of the same kind, nodes and fields."""
        with self.reading() as connection:
            row = connection.execute(
                select(t.jobs).where(t.jobs.c.fingerprint == fingerprint).order_by(t.jobs.c.id.desc())
            ).first()
            return None if row is None else self._job(connection, row)

    def _job(self, connection: Connection, row: Any) -> JobRecord:
        keys = {"job": row.id, "pass": row.pass_number}
        sums = connection.execute(_SUMS, keys).one()
        left_out = connection.execute(_LEFT_OUT, keys).scalar()
        return JobRecord(
            id=row.id,
            name=row.name,
            kind=row.kind,
            fields=row.fields,
            state=JobState(row.state),
            pass_number=row.pass_number,
            follow=row.follow,
            created=moment(row.created),  # type: ignore[arg-type]
            started=moment(row.started),
            finished=moment(row.finished),
            planning=row.planning,
            counts=Counts(*(int(v) for v in sums[1:])),
            studies=int(sums[0]),
            left_out=int(left_out or 0),
            note=row.note,
            problem=row.problem,
        )

    def add_job(self, kind: str, name: str, fields: Mapping[str, JsonValue], *, follow: bool, state: JobState) -> int:
        """Add a job; its name is made unique by a number where needed."""
        values = dict(fields)

        def write(connection: Connection) -> int:
            unique, n = name, 1
            while connection.execute(select(t.jobs.c.id).where(t.jobs.c.name == unique)).first():
                n += 1
                unique = f"{name} ({n})"
            made = connection.execute(
                insert(t.jobs).values(
                    name=unique,
                    kind=kind,
                    fields=values,
                    fingerprint=fingerprint(kind, values, follow=follow),
                    follow=follow,
                    state=state.value,
                    pass_number=1,
                    planning=True,
                    created=now(),
                )
            )
            return int(made.inserted_primary_key[0])  # type: ignore[index]

        return int(self.writer.do(write))

    def update_job(self, job_id: int, **values: Any) -> None:
        """Set columns of a job and wait until it is durable."""
        self.writer.do(lambda c: c.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(**values)) and None)

    def next_pass(self, job_id: int) -> None:
        """Begin a new pass: inventory anew, counts from zero; what was is kept."""
        self.writer.do(
            lambda c: (
                c.execute(
                    update(t.jobs)
                    .where(t.jobs.c.id == job_id)
                    .values(
                        pass_number=t.jobs.c.pass_number + 1,
                        state=JobState.RUNNING.value,
                        planning=True,
                        note="",
                        problem="",
                        started=now(),
                        finished=None,
                    )
                )
                and None
            )
        )

    def set_left_out(self, job_id: int, pass_number: int, source: str, count: int) -> None:
        """How many instances of a source a filter has left out in this pass."""
        self._set_cursor(job_id, source, {"left_out": count, "left_out_pass": pass_number})

    def left_out(self, job_id: int, pass_number: int, source: str) -> int:
        c = t.cursors.c
        with self.reading() as connection:
            found = connection.execute(
                select(c.left_out).where(c.job_id == job_id, c.source == source, c.left_out_pass == pass_number)
            ).scalar()
        return int(found or 0)

    def remove_job(self, job_id: int) -> None:
        """Remove a job with everything known about it. Refused while it is unfinished."""

        def write(connection: Connection) -> bool:
            state = connection.execute(select(t.jobs.c.state).where(t.jobs.c.id == job_id)).scalar()
            if state is not None and state not in _CLOSED:
                raise ConfigurationError(
                    "This job is not finished, so it can't be removed.",
                    "Cancel it first.",
                    code="job-unfinished",
                )
            part = list(connection.scalars(select(t.studies.c.id).where(t.studies.c.job_id == job_id).limit(REMOVED)))
            if part:
                connection.execute(delete(t.studies).where(t.studies.c.id.in_(part)))
            else:
                connection.execute(delete(t.jobs).where(t.jobs.c.id == job_id))
            return not part

        while not self.writer.do(write):
            pass  # some studies at a time: other jobs' outcomes get in between

    def cursor(self, job_id: int, source: str) -> tuple[int | None, int]:
        """Where a source's change log was left (None: never read), and the last pass with a finished inventory."""
        c = t.cursors.c
        with self.reading() as connection:
            row = connection.execute(
                select(c.cursor, c.inventoried_pass).where(c.job_id == job_id, c.source == source)
            ).first()
        return (None, 0) if row is None else (row.cursor, row.inventoried_pass)

    def save_cursor(
        self, job_id: int, source: str, *, cursor: int | None = None, inventoried_pass: int | None = None
    ) -> None:
        values: dict[str, Any] = {}
        if cursor is not None:
            values["cursor"] = cursor
        if inventoried_pass is not None:
            values["inventoried_pass"] = inventoried_pass

        if values:
            self._set_cursor(job_id, source, values)

    def _set_cursor(self, job_id: int, source: str, values: dict[str, Any]) -> None:
        def write(connection: Connection) -> None:
            c = t.cursors.c
            done = connection.execute(update(t.cursors).where(c.job_id == job_id, c.source == source).values(**values))
            if done.rowcount == 0:
                connection.execute(insert(t.cursors).values(job_id=job_id, source=source, **values))

        self.writer.call(write)

    # commands -------------------------------------------------------------------------------------------

    def command(
        self, verb: Verb, *, job_id: int | None = None, transfer_id: int | None = None, origin: str = ""
    ) -> int:
        """Write a command for the engine; gives its number."""
        values = {
            "at": now(),
            "verb": verb.value,
            "job_id": job_id,
            "transfer_id": transfer_id,
            "origin": origin,
        }
        return int(
            self.writer.do(lambda c: c.execute(insert(t.commands).values(values)).inserted_primary_key[0])  # type: ignore[index]
        )

    def open_commands(self) -> list[Command]:
        """Commands that no engine has handled yet, in their order."""
        with self.reading() as connection:
            rows = connection.execute(_OPEN_COMMANDS).all()
        return [Command(r.id, Verb(r.verb), r.job_id, r.transfer_id) for r in rows]

    def handled(self, command_ids: Sequence[int]) -> None:
        self.writer.do(
            lambda c: (
                c.execute(update(t.commands).where(t.commands.c.id.in_(list(command_ids))).values(handled=now()))
                and None
            )
        )

    def is_handled(self, command_id: int) -> bool:
        with self.reading() as connection:
            return (
                connection.execute(select(t.commands.c.handled).where(t.commands.c.id == command_id)).scalar()
                is not None
            )

    # log ------------------------------------------------------------------------------------------------

    def add_log(
        self, level: LogLevel, text: str, *, job_id: int | None = None, node: str = "", detail: str = ""
    ) -> None:
        """A line for the log page; no patient data."""
        values = {
            "at": now(),
            "level": level.value,
            "text": text,
            "job_id": job_id,
            "node": node,
            "detail": detail[:4000],
        }
        self.writer.call(lambda c: c.execute(insert(t.log).values(values)) and None)

    def log(
        self, *, after_id: int = 0, level: LogLevel | None = None, limit: int = 500, text: str = ""
    ) -> list[LogLine]:
        """Lines after `after_id`, the newest `limit` of them, oldest first."""
        c = t.log.c
        query = select(t.log).where(c.id > after_id).order_by(c.id.desc()).limit(limit)
        if level is not None:
            levels = list(LogLevel)[list(LogLevel).index(level) :]
            query = query.where(c.level.in_([lv.value for lv in levels]))
        if text:
            query = query.where(c.text.icontains(text, autoescape=True))
        with self.reading() as connection:
            rows = connection.execute(query).all()
        return [
            LogLine(
                id=r.id,
                at=_sure(moment(r.at)),
                level=LogLevel(r.level),
                text=r.text,
                job_id=r.job_id,
                node=r.node,
                detail=r.detail,
            )
            for r in reversed(rows)
        ]


def _sure(value: datetime | None) -> datetime:
    assert value is not None
    return value


def fingerprint(kind: str, fields: Mapping[str, JsonValue], *, follow: bool) -> str:
    """What makes two jobs the same: kind, nodes and all fields."""
    text = json.dumps([kind, follow, dict(fields)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
