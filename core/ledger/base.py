"""What all parts of the ledger share: the database, its writer, times and failures as rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from core.ledger import schema as t
from core.ledger.writer import Writer
from core.model import clock
from core.model.errors import LedgerError
from core.model.outcome import Failure, FailureClass


class LedgerPart:
    """Base of the ledger's parts.

    Attributes
    ----------
    database : sqlalchemy.Engine
        For reading, from any thread.
    writer : Writer
        All writing goes through it.
    broken : LedgerError or None
        Why it could not be read, or refused what was written, at some time since it was opened.
    """

    def __init__(self, database: Engine, writer: Writer) -> None:
        self.database = database
        self.writer = writer
        self._unreadable: LedgerError | None = None
        self._failure_ids: dict[str, int] = {}
        writer.on_rollback = self._failure_ids.clear  # a row that was taken back has no key

    @property
    def broken(self) -> LedgerError | None:
        return self._unreadable or self.writer.refused

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read connection; database errors become a `LedgerError` with a sentence."""
        try:
            with self.database.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            self._unreadable = LedgerError(
                "The ledger can't be read.",
                "Check the disk that holds DICOM Ferry's folder; nothing was changed.",
                detail=str(error),
                code="ledger-unreadable",
            )
            raise self._unreadable from error

    def failure_id(self, connection: Connection, failure: Failure) -> int:
        """Key of a failure; equal ones share a row. To be called inside the writer."""
        key = hashlib.sha256(
            "\0".join((failure.code, failure.cls, failure.sentence, failure.detail, failure.side)).encode()
        ).hexdigest()
        if key not in self._failure_ids:
            found = connection.execute(select(t.failures.c.id).where(t.failures.c.hash == key)).scalar()
            if found is None:
                values = {
                    "code": failure.code,
                    "class": failure.cls.value,
                    "sentence": failure.sentence,
                    "next_step": failure.next_step,
                    "detail": failure.detail[:4000],
                    "side": failure.side,
                    "hash": key,
                }
                found = connection.execute(insert(t.failures).values(values)).inserted_primary_key[0]  # type: ignore[index]
            if len(self._failure_ids) > 1000:
                self._failure_ids.clear()
            self._failure_ids[key] = int(found)
        return self._failure_ids[key]


def moment(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time with zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone()


def now() -> float:
    return clock.time()


def failure_of(row: Any) -> Failure | None:
    """The failure of a row that was joined with `failures` (columns prefixed ``failure_``)."""
    if row.failure_code is None:
        return None
    return Failure(
        code=row.failure_code,
        cls=FailureClass(row.failure_class),
        sentence=row.failure_sentence,
        next_step=row.failure_next_step,
        detail=row.failure_detail,
        side=row.failure_side,
    )


FAILURE_COLUMNS = [
    t.failures.c.code.label("failure_code"),
    t.failures.c["class"].label("failure_class"),
    t.failures.c.sentence.label("failure_sentence"),
    t.failures.c.next_step.label("failure_next_step"),
    t.failures.c.detail.label("failure_detail"),
    t.failures.c.side.label("failure_side"),
]
