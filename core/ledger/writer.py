"""The ledger's one writer: a thread that commits in batches, so that durability costs little.

A batch is closed after 200 rows or 100 ms, and at once when somebody waits for it. Every commit is synced to the
disk (SQLite WAL, ``synchronous=FULL``); a `Ticket` tells when.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, select, update

from core.ledger import schema as t
from core.ledger.bulk import Bulk
from core.ledger.prepared import Prepared
from core.model import clock
from core.model.errors import FerryError, LedgerError
from core.model.outcome import COUNT_NAMES, Counts, DeliveryState, EvidenceLevel, study_state

log = logging.getLogger(__name__)

BATCH_ROWS = 1000
BATCH_SECONDS = 0.1
CACHE = 2000  # KiB of the database that the writer keeps; who reads keeps less, there are many of them
QUEUE_ROWS = 20_000
HAS_BYTES = frozenset({DeliveryState.SENT, DeliveryState.VERIFIED, DeliveryState.COMMITTED, DeliveryState.SKIPPED})


@dataclass(slots=True, frozen=True)
class Delta:
    """`count` deliveries of a transfer went from one state to another; `old` is None for new ones."""

    transfer_id: int
    old: DeliveryState | None
    new: DeliveryState
    count: int
    bytes: int


@dataclass(slots=True, frozen=True)
class Counted:
    """Result of a call together with the deltas that it caused, and other transfers that it changed."""

    result: Any
    deltas: Sequence[Delta] = ()
    touched: Sequence[int] = ()


class Ticket:
    """Becomes done when the batch it belongs to is on the disk."""

    __slots__ = ("_done", "_hurry", "error", "result")

    def __init__(self, hurry: Callable[[Ticket], None] = lambda _ticket: None) -> None:
        self._done = threading.Event()
        self._hurry = hurry
        self.error: FerryError | None = None
        self.result: Any = None

    def settle(self, error: FerryError | None = None) -> None:
        self.error = error
        self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until durable; gives what the call returned.

        Raises
        ------
        LedgerError
            It could not be written, or not within `timeout` seconds.
        FerryError
            What the call itself raised.
        """
        if not self._done.is_set():
            self._hurry(self)
        if not self._done.wait(timeout):
            raise LedgerError(
                "The ledger did not get to the disk in time.",
                "Check that the disk isn't full and that it answers.",
                code="ledger-slow",
            )
        if self.error:
            raise self.error
        return self.result


@dataclass(frozen=True, slots=True)
class Tickets:
    """The tickets of one wish that was written in several parts; the results are numbers."""

    parts: Sequence[Ticket]

    @property
    def done(self) -> bool:
        return all(ticket.done for ticket in self.parts)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all is durable; gives the sum of the results. Raises as `Ticket.wait`."""
        return sum(int(ticket.wait(timeout) or 0) for ticket in self.parts)


@dataclass(slots=True)
class _Item:
    statement: Bulk | None
    rows: Sequence[tuple[Any, ...]]
    deltas: Sequence[Delta]
    call: Callable[[Connection], Any] | None
    ticket: Ticket | None


class Writer:
    """Takes rows and calls from any thread, in order, and commits them.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    on_commit : Callable[[set[int]], None]
        Told the transfers whose row changed, after each commit, on the writer's thread.
    on_trouble : Callable[[LedgerError], None]
        Told when a commit fails and is tried again (disk full, locked).

    Attributes
    ----------
    committing : set[int]
        Jobs that want storage commitment: for those "verified" is not the end.
    on_rollback : Callable[[], None]
        Told when what a batch had written was taken back; it is tried again, or refused.
    refused : LedgerError or None
        Why something could not be written that no waiting helps against; the last such case.
    """

    def __init__(
        self,
        engine: Engine,
        on_commit: Callable[[set[int]], None] = lambda _ids: None,
        on_trouble: Callable[[LedgerError], None] = lambda _error: None,
    ) -> None:
        self._engine = engine
        self.on_commit = on_commit
        self.on_trouble = on_trouble
        self.on_rollback: Callable[[], None] = lambda: None
        self.refused: LedgerError | None = None
        self._cond = threading.Condition()
        self._items: list[_Item] = []
        self._rows = 0
        self._urgent = False
        self._closing = False
        self._closed = False
        self._giving_up = False
        self._first = 0.0
        self.committing: set[int] = set()
        self.commits = 0
        self.busy_seconds = 0.0
        self._connection: Connection | None = None  # of the writer's thread alone
        with engine.connect() as connection:
            self._revision = _newest(connection)
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def rows(
        self,
        statement: Any,
        rows: Sequence[tuple[Any, ...]],
        deltas: Sequence[Delta] = (),
        *,
        ticket: bool = False,
    ) -> Ticket | None:
        """Execute `statement` for each of `rows`; count `deltas` into the transfers' totals."""
        made = Ticket(self._hurry) if ticket else None
        self._put(_Item(statement, rows, deltas, None, made), len(rows), urgent=False)
        return made

    def call(
        self, function: Callable[[Connection], Any], deltas: Sequence[Delta] = (), *, urgent: bool = False
    ) -> Ticket:
        """Run `function(connection)` inside the batch's transaction; its result is the ticket's.

        The batch is closed as soon as somebody waits for the ticket, or at once when it is `urgent`.
        """
        made = Ticket(self._hurry)
        self._put(_Item(None, (), deltas, function, made), 1, urgent=urgent)
        return made

    def do(self, function: Callable[[Connection], Any]) -> Any:
        """As `call`, and wait until it is durable."""
        return self.call(function).wait()

    def take_over(self) -> None:
        """Go on where another process, which wrote deliveries until now, has left off."""

        def renew(connection: Connection) -> None:
            self._revision = max(self._revision, _newest(connection))

        self.do(renew)

    def flush(self) -> None:
        """Wait until everything given so far is on the disk."""
        self.call(lambda _connection: None).wait()

    def close(self, timeout: float = 30.0) -> None:
        """Commit what is queued and stop. What can't be written within `timeout` seconds is given up."""
        with self._cond:
            self._closing = True
            self._cond.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._giving_up = True
            with self._cond:
                self._cond.notify_all()
            self._thread.join(5.0)

    def _hurry(self, ticket: Ticket) -> None:
        with self._cond:
            if not self._urgent and not ticket.done and self._items:
                self._urgent = True
                self._cond.notify_all()

    def _put(self, item: _Item, rows: int, *, urgent: bool) -> None:
        with self._cond:
            while self._rows > QUEUE_ROWS and not self._closing and threading.current_thread() is not self._thread:
                self._cond.wait(1.0)
            if self._closed:
                raise LedgerError("The ledger is closed.", code="ledger-closed")
            if not self._items:
                self._first = time.monotonic()
            self._items.append(item)
            self._rows += rows
            self._urgent = self._urgent or urgent
            if urgent or self._rows >= BATCH_ROWS or len(self._items) == 1:
                self._cond.notify_all()

    def _run(self) -> None:
        try:
            self._write()
        finally:
            self._let_go()

    def _write(self) -> None:
        while True:
            with self._cond:
                while not self._ready():
                    if self._items:
                        self._cond.wait(max(0.001, self._first + BATCH_SECONDS - time.monotonic()))
                    elif self._closing:
                        self._closed = True
                        return
                    else:
                        self._cond.wait()
                items, self._items = self._items, []
                self._rows, self._urgent = 0, False
                self._cond.notify_all()
            self._commit_until_done(items)

    def _ready(self) -> bool:
        if not self._items:
            return False
        late = time.monotonic() - self._first >= BATCH_SECONDS
        return self._urgent or self._closing or self._rows >= BATCH_ROWS or late

    def _commit_until_done(self, items: list[_Item]) -> None:
        wait = 0.5
        while True:
            began = time.thread_time()
            try:
                changed = self._commit(items)
            except Exception as error:  # whatever an entry is made of must not end the one writer
                self.on_rollback()
                trouble = _trouble(error)
                if len(items) > 1 and trouble.code == "ledger-refused":
                    for item in items:  # one bad row must not take the others with it
                        self._commit_until_done([item])
                    return
                if trouble.code == "ledger-refused":
                    self.refused = trouble
                if self.refused is trouble or self._giving_up:
                    log.error("ledger: %s", trouble.sentence, exc_info=error)
                    for item in items:
                        if item.ticket:
                            item.ticket.settle(trouble)
                    if not any(item.ticket for item in items):
                        self._tell(trouble)
                    return
                self._tell(trouble)
                until = time.monotonic() + wait
                with self._cond:
                    while not self._giving_up and (left := until - time.monotonic()) > 0:
                        self._cond.wait(left)
                wait = min(wait * 2, 5.0)
                continue
            self.busy_seconds += time.thread_time() - began
            self.commits += 1
            for item in items:
                if item.ticket:
                    item.ticket.settle(item.ticket.error)
            if changed:
                self.on_commit(changed)
            return

    def _tell(self, trouble: LedgerError) -> None:
        try:
            self.on_trouble(trouble)
        except Exception:
            log.exception("whoever was told of trouble with the ledger")

    def _commit(self, items: list[_Item]) -> set[int]:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.exec_driver_sql(f"PRAGMA cache_size=-{CACHE}")
            self._connection.commit()
        try:
            with self._connection.begin():
                return self._execute(self._connection, items)
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _execute(self, connection: Connection, items: list[_Item]) -> set[int]:
        at = 0
        deltas: list[Delta] = []
        touched: set[int] = set()
        while at < len(items):
            item = items[at]
            if item.call:
                assert item.ticket is not None
                item.ticket.error = None
                try:
                    result = item.call(connection)
                    if isinstance(result, Counted):
                        deltas.extend(result.deltas)
                        touched.update(result.touched)
                        result = result.result
                    item.ticket.result = result
                    deltas.extend(item.deltas)
                except FerryError as error:
                    item.ticket.error = error
                at += 1
                continue
            rows = list(item.rows)
            deltas.extend(item.deltas)
            at += 1
            while at < len(items) and items[at].call is None and items[at].statement is item.statement:
                rows.extend(items[at].rows)
                deltas.extend(items[at].deltas)
                at += 1
            if rows and item.statement is not None:
                item.statement.execute(connection, rows)
        changed, self._revision = count_deltas(connection, deltas, self._revision, self.committing)
        for transfer_id in touched - changed:
            self._revision += 1
            _TOUCH.execute(connection, {"b_id": transfer_id, "b_revision": self._revision})
        changed |= touched
        return changed


def _trouble(error: Exception) -> LedgerError:
    words = str(getattr(error, "orig", error))
    if "full" in words or "disk I/O" in words or "readonly" in words or "locked" in words or "unable to open" in words:
        return LedgerError(
            "The ledger can't be written; transfers wait until it can.",
            "Free space on the disk that holds DICOM Ferry's folder, and check that it may be written.",
            detail=words,
            code="ledger-unwritable",
        )
    return LedgerError("The ledger refused an entry.", detail=words, code="ledger-refused")


def _newest(connection: Connection) -> int:
    newest = select(t.transfers.c.revision).order_by(t.transfers.c.revision.desc()).limit(1)
    return int(connection.execute(newest).scalar() or 0)


_ROW = [
    t.transfers.c.id,
    t.transfers.c.job_id,
    t.transfers.c.needs_person,
    t.transfers.c.state,
    *(t.transfers.c[n] for n in COUNT_NAMES),
]
_IS = t.transfers.c.id == bindparam("b_id")
_BUMP = Prepared(
    update(t.transfers)
    .where(_IS)
    .values(
        **{n: t.transfers.c[n] + bindparam("b_" + n) for n in COUNT_NAMES},
        revision=bindparam("b_revision"),
        updated=bindparam("b_updated"),
    )
    .returning(*_ROW)
)
_LOOK = Prepared(select(*_ROW).where(_IS))
_TOUCH = Prepared(update(t.transfers).where(_IS).values(revision=bindparam("b_revision")))
_STATE = Prepared(update(t.transfers).where(_IS).values(state=bindparam("b_state")))


def count_deltas(
    connection: Connection, deltas: Sequence[Delta], revision: int, committing: Collection[int] = ()
) -> tuple[set[int], int]:
    """Add deltas to the transfers' totals and derive their states; gives the changed ids and the last revision."""
    if not deltas:
        return set(), revision
    sums: dict[int, dict[str, int]] = {}
    for d in deltas:
        row = sums.get(d.transfer_id)
        if row is None:
            row = sums[d.transfer_id] = dict.fromkeys(COUNT_NAMES, 0)
        if d.old is None:
            row["bytes_total"] += d.bytes
        else:
            row[d.old] -= d.count  # a state is the name of its column
            if d.old in HAS_BYTES:
                row["bytes_done"] -= d.bytes
        row[d.new] += d.count
        if d.new in HAS_BYTES:
            row["bytes_done"] += d.bytes
    now = clock.time()
    for transfer_id, row in sums.items():
        revision += 1
        values: dict[str, object] = {"b_" + n: v for n, v in row.items()}
        values.update(b_id=transfer_id, b_revision=revision, b_updated=now)
        for found in _BUMP.execute(connection, values).all():
            _derive(connection, found, active=True, committing=committing)
    return set(sums), revision


def derive_states(
    connection: Connection, transfer_ids: Sequence[int], *, active: bool, committing: Collection[int] = ()
) -> None:
    """Derive the stored state of transfers from their totals.

    Parameters
    ----------
    active : bool
        The engine works on them.
    committing : Collection[int]
        Jobs that want storage commitment.
    """
    if len(transfer_ids) == 1:
        for row in _LOOK.execute(connection, {"b_id": transfer_ids[0]}).all():
            _derive(connection, row, active=active, committing=committing)
        return
    for start in range(0, len(transfer_ids), 500):
        part = transfer_ids[start : start + 500]
        for row in connection.execute(select(*_ROW).where(t.transfers.c.id.in_(part))).all():
            _derive(connection, row, active=active, committing=committing)


def _derive(connection: Connection, row: Row[Any], *, active: bool, committing: Collection[int]) -> None:
    """Write the state of one transfer, whose columns `row` gives as in `_ROW`, where it has become another."""
    transfer_id, job_id, needs_person, before = tuple(row)[:4]
    # A delivery that ends as "sent" belongs to a job that asked for no more; the engine marks such
    # rows itself, so here more proof is taken to be wanted.
    wanted = EvidenceLevel.COMMITTED if job_id in committing else EvidenceLevel.VERIFIED
    state = study_state(Counts(*tuple(row)[4:]), active=active, evidence=wanted, needs_person=bool(needs_person))
    if state.value != before:
        _STATE.execute(connection, {"b_id": transfer_id, "b_state": state.value})
