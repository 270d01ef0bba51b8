"""Writing the catalogue: files get their records in batches, each made durable as a whole.

Whoever wants something written and finds nobody writing does so himself, for all who have come meanwhile: so a lone
sender's image passes through no other thread, and many senders share their syncs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from core.model.errors import FerryError, LocalError
from core.spool import schema as t
from core.spool.catalogue import held
from core.spool.database import trouble
from core.spool.incoming import Complete
from core.spool.record import InstanceRecord, Removed

log = logging.getLogger(__name__)

BATCH = 256
"""Most files of one batch."""
NUMBERS_EACH = 3
"""An image, and perhaps its series and its study."""
PATIENCE = 300.0
"""Seconds for which somebody waits for the disk."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Wish:
    """A file to be kept, or a change of the catalogue.

    Attributes
    ----------
    done : bool
        It is on the disk, or refused.
    leads : bool
        Whoever waits for it is the next to write.
    turn : threading.Event
        Set with either.
    """

    complete: Complete | None = None
    sender: str = ""
    received: float = 0.0
    call: Callable[[Connection, Numbers], Any] | None = None
    done: bool = False
    leads: bool = False
    turn: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: Exception | None = None


class Numbers:
    """Sequence numbers within one transaction: reserved at its beginning, so that no other process has them.

    Attributes
    ----------
    first : int
        The first that this transaction may give.
    """

    def __init__(self, connection: Connection, count: int) -> None:
        self._connection = connection
        self._last = self._reserved(count)
        self.first = self._last - count + 1
        self._next = self.first

    def next(self) -> int:
        if self._next > self._last:
            self._last = self._reserved(BATCH)  # nobody else can have reserved any in between
        self._next += 1
        return self._next - 1

    def _reserved(self, count: int) -> int:
        return int(self._connection.exec_driver_sql(_RESERVE, (count,)).scalar_one())


class Keeper:
    """Takes complete files from any thread.

    Parameters
    ----------
    database : sqlalchemy.Engine
        Its transactions begin as writing ones, so that other processes' batches don't mix with ours.
    folder : Path
        The spool's folder.
    """

    def __init__(self, database: Engine, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._queue = threading.Condition()
        self._wishes: list[_Wish] = []
        self._busy = False  # somebody writes, or has been told to
        self._closed = False
        self._studies: dict[str, int] = {}
        self._series: dict[tuple[str, str], int] = {}
        self._touched: dict[int, float] = {}
        self._connection: Connection | None = None
        self.commits = 0

    def keep(self, complete: Complete, sender: str, *, received: float | None = None) -> tuple[InstanceRecord, bool]:
        """Record a file, durably.

        Parameters
        ----------
        complete : Complete
        sender : str
        received : float | None
            Seconds since 1970; None for now.

        Returns
        -------
        InstanceRecord
            What is held under its SOP Instance UID from now on.
        bool
            Whether that is this file; otherwise something was there before, and the file is left where it is.

        Raises
        ------
        OSError, LocalError
            It isn't kept.
        """
        found: tuple[InstanceRecord, bool] = self._ask(
            _Wish(complete, sender, time.time() if received is None else received)
        )
        return found

    def call(self, function: Callable[[Connection, Numbers], T]) -> T:
        """Run `function` inside a transaction of the writer; returns when that is durable."""
        result: T = self._ask(_Wish(call=function))
        return result

    def forget(self) -> None:
        """Rows may be gone: look them up anew. To be called inside the writer."""
        self._studies.clear()
        self._series.clear()
        self._touched.clear()

    def close(self) -> None:
        """Wait for what is being written; nothing more is taken."""
        with self._queue:
            self._closed = True
            self._queue.wait_for(lambda: not self._busy, PATIENCE)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, wish: _Wish) -> Any:
        with self._queue:
            if self._closed:
                raise closed()
            self._wishes.append(wish)
            mine = not self._busy
            self._busy = True
        if not mine and not wish.turn.wait(PATIENCE):
            self._give_up(wish)
        try:
            while not wish.done:
                self._write_batch()
        finally:
            if mine or wish.leads:
                self._hand_on()
        if wish.error is not None:
            raise wish.error
        return wish.result

    def _give_up(self, wish: _Wish) -> None:
        with self._queue:
            if wish.turn.is_set():
                return
            if wish in self._wishes:
                self._wishes.remove(wish)
        raise LocalError(
            "The disk of the received images did not take a file in time.",
            "Check that the disk answers.",
            code="disk-fault",
        )

    def _hand_on(self) -> None:
        """The next one writes, if there is one."""
        with self._queue:
            if self._wishes:
                self._wishes[0].leads = True
                self._wishes[0].turn.set()
            else:
                self._busy = False
                self._queue.notify_all()

    def _write_batch(self) -> None:
        with self._queue:
            wishes, self._wishes = self._wishes[:BATCH], self._wishes[BATCH:]
        error = self._try(wishes)
        if error is not None and len(wishes) > 1:
            # One of them may be what spoils it for all.
            for wish in wishes:
                wish.error = self._try([wish])
        elif error is not None:
            wishes[0].error = error
        for wish in wishes:
            wish.done = True
            wish.turn.set()

    def _try(self, wishes: Sequence[_Wish]) -> Exception | None:
        try:
            connection = self._connected()
            with connection.begin():
                numbers = Numbers(connection, NUMBERS_EACH * len(wishes))
                self._keep_all([wish for wish in wishes if wish.complete is not None], connection, numbers)
                for wish in wishes:
                    if wish.call is not None:
                        wish.result = wish.call(connection, numbers)
            self.commits += 1
            return None
        except SQLAlchemyError as error:
            log.warning("the spool's catalogue could not be written: %s", type(error).__name__)
            self._take_back()
            return trouble(error)
        except (OSError, FerryError) as error:
            self._take_back()
            return error
        except Exception as error:
            log.exception("the spool's writer")
            self._take_back()
            return LocalError("An image could not be recorded.", detail=repr(error), code="catalogue")

    def _connected(self) -> Connection:
        """One connection for all: taking one from the pool and giving it back costs as much as a commit."""
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _take_back(self) -> None:
        self.forget()
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

    def _keep_all(self, wishes: Sequence[_Wish], connection: Connection, numbers: Numbers) -> None:
        if not wishes:
            return
        uids = [w.complete.attributes.sop_uid for w in wishes if w.complete]
        there_already = connection.exec_driver_sql(_WHICH_ARE_HELD, (json.dumps(uids),)).scalars().all()
        known = held(connection, there_already) if there_already else {}
        rows: list[tuple[Any, ...]] = []
        for wish in wishes:
            complete = wish.complete
            assert complete is not None
            there = known.get(complete.attributes.sop_uid)
            if there is not None:
                wish.result = there, False
                continue
            record, row = self._row(wish, complete, connection, numbers)
            known[record.sop_uid] = record
            rows.append(row)
            wish.result = record, True
        if rows:
            connection.exec_driver_sql(_INSERT_INSTANCE, rows)

    def _row(
        self, wish: _Wish, complete: Complete, connection: Connection, numbers: Numbers
    ) -> tuple[InstanceRecord, tuple[Any, ...]]:
        a = complete.attributes
        series_id = self._series_id(complete, wish.received, connection, numbers)
        number = numbers.next()
        name = complete.path.relative_to(self._folder).as_posix()
        record = InstanceRecord(
            a.sop_uid, a.sop_class, a.series_uid, a.study_uid, complete.meta.transfer_syntax, complete.size,
            complete.digest, complete.meta.length, name, wish.received, wish.sender, a.study.get("PatientID", ""),
            a.instance,
        )  # fmt: skip
        return record, (
            number, a.sop_uid, series_id, a.sop_class, record.transfer_syntax, record.size, record.digest,
            record.data_offset, name, record.received, record.sender, _packed(a.instance),
        )  # fmt: skip

    def _series_id(self, complete: Complete, now: float, connection: Connection, numbers: Numbers) -> int:
        a = complete.attributes
        key = (a.study_uid, a.series_uid)
        study_id = self._studies.get(a.study_uid)
        if study_id is None:
            study_id = connection.execute(_STUDY_ID, {"b_uid": a.study_uid}).scalar()
            if study_id is None:
                study_id = numbers.next()
                connection.execute(
                    insert(t.studies),
                    {
                        "id": study_id,
                        "study_uid": a.study_uid,
                        "patient_id": a.study.get("PatientID", ""),
                        "study_date": a.study.get("StudyDate", "").replace(".", ""),
                        "accession": a.study.get("AccessionNumber", ""),
                        "attributes": _packed(a.study),
                        "last": now,
                    },
                )
            self._studies[a.study_uid] = study_id
        series_id = self._series.get(key)
        if series_id is None:
            series_id = connection.execute(_SERIES_ID, {"b_study": study_id, "b_uid": a.series_uid}).scalar()
            if series_id is None:
                series_id = numbers.next()
                connection.execute(
                    insert(t.series),
                    {
                        "id": series_id,
                        "study_id": study_id,
                        "series_uid": a.series_uid,
                        "modality": a.series.get("Modality", ""),
                        "attributes": _packed(a.series),
                        "last": now,
                    },
                )
            self._series[key] = series_id
        # Once a second is enough: what counts as quiet is longer, so nobody takes it for stable in between.
        if not 0 <= now - self._touched.get(series_id, 0.0) < 1.0:
            connection.execute(_TOUCH_STUDY, {"b_id": study_id, "b_last": now})
            connection.execute(_TOUCH_SERIES, {"b_id": series_id, "b_last": now})
            self._touched[series_id] = now
        if len(self._series) > 10_000:
            self.forget()
        return series_id


def closed() -> LocalError:
    return LocalError("The store of received images is closed.", "Open it again.", code="spool-closed")


def remove_records(connection: Connection, wanted: Sequence[tuple[str, str | None]]) -> list[tuple[Removed, str]]:
    """Delete the records of these instances, each only if it has the digest that is named with it (None for any).

    What becomes of each, with the name of its file where it was deleted. Their files are noted as garbage.
    """
    known = held(connection, [uid for uid, _ in wanted])
    found: list[tuple[Removed, str]] = []
    for sop_uid, digest in wanted:
        record = known.pop(sop_uid, None)
        if record is None:
            found.append((Removed.GONE, ""))
        elif digest is not None and record.digest != digest.lower():
            known[sop_uid] = record
            found.append((Removed.CHANGED, ""))
        else:
            series_id = connection.execute(
                select(t.instances.c.series_id).where(t.instances.c.sop_uid == sop_uid)
            ).scalar_one()
            connection.execute(delete(t.instances).where(t.instances.c.sop_uid == sop_uid))
            connection.execute(insert(t.garbage), {"name": record.name})
            _remove_if_empty(connection, series_id)
            found.append((Removed.DELETED, record.name))
    return found


def _remove_if_empty(connection: Connection, series_id: int) -> None:
    if connection.execute(select(t.instances.c.id).where(t.instances.c.series_id == series_id).limit(1)).first():
        return
    study_id = connection.execute(select(t.series.c.study_id).where(t.series.c.id == series_id)).scalar_one()
    connection.execute(delete(t.series).where(t.series.c.id == series_id))
    if not connection.execute(select(t.series.c.id).where(t.series.c.study_id == study_id).limit(1)).first():
        connection.execute(delete(t.studies).where(t.studies.c.id == study_id))


def settle_quiet(connection: Connection, numbers: Numbers, quiet: float) -> int:
    """Number the series and studies to which nothing has come for `quiet` seconds as stable; how many."""
    now = time.time()
    count = 0
    for table in (t.series, t.studies):
        # After the clock was set back, the quiet time begins anew.
        connection.execute(update(table).where(table.c.settled.is_(None), table.c.last > now + 1).values(last=now))
        due = select(table.c.id).where(table.c.settled.is_(None), table.c.last <= now - quiet).order_by(table.c.last)
        for table_id in connection.execute(due).scalars().all():
            connection.execute(update(table).where(table.c.id == table_id).values(settled=numbers.next()))
            count += 1
    return count


def _packed(attributes: Any) -> str:
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))


# Each image takes these; as plain SQL they cost a third of what they do composed.
_RESERVE = "UPDATE state SET value = value + ? WHERE name = 'sequence' RETURNING value"
_WHICH_ARE_HELD = "SELECT sop_uid FROM instances WHERE sop_uid IN (SELECT value FROM json_each(?))"
_INSERT_INSTANCE = (
    "INSERT INTO instances (id, sop_uid, series_id, sop_class, transfer_syntax, size, digest, data_offset, name,"
    " received, sender, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_STUDY_ID = select(t.studies.c.id).where(t.studies.c.study_uid == bindparam("b_uid"))
_SERIES_ID = select(t.series.c.id).where(
    t.series.c.study_id == bindparam("b_study"), t.series.c.series_uid == bindparam("b_uid")
)
_TOUCH_STUDY = (
    update(t.studies).where(t.studies.c.id == bindparam("b_id")).values(last=bindparam("b_last"), settled=None)
)
_TOUCH_SERIES = (
    update(t.series).where(t.series.c.id == bindparam("b_id")).values(last=bindparam("b_last"), settled=None)
)
