"""Opening the catalogue's database: durable settings, and what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, insert, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from core.model.errors import LocalError
from core.spool import schema as t


class DamagedError(Exception):
    """The catalogue can't be read, or is of another version: it is to be made anew."""


def open_database(path: Path) -> tuple[Engine, Engine]:
    """Open (or make) the catalogue; one engine to read with and one to write with.

    Raises
    ------
    DamagedError
    LocalError
        It can't be written, or is locked.
    """
    reading, writing = _engine(path, "BEGIN"), _engine(path, "BEGIN IMMEDIATE")
    try:
        with writing.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("PRAGMA journal_mode=WAL")
        with writing.begin() as connection:
            version = connection.execute(text("PRAGMA user_version")).scalar()
            tables = connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar()
            if version == 0 and not tables:
                t.metadata.create_all(connection)
                # Begins with the time in microseconds: numbers of an earlier catalogue are smaller, always.
                connection.execute(insert(t.state), {"name": "sequence", "value": time.time_ns() // 1000})
                connection.execute(text(f"PRAGMA user_version={t.VERSION}"))
            elif version != t.VERSION:
                raise DamagedError(f"version {version}")
        with reading.connect() as connection:
            if connection.execute(text("PRAGMA quick_check(1)")).scalar() != "ok":
                raise DamagedError("quick_check")
    except DamagedError:
        dispose(reading, writing)
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        dispose(reading, writing)
        words = str(getattr(error, "orig", error))
        if any(w in words for w in ("malformed", "not a database", "corrupt", "disk image")):
            raise DamagedError(words) from error
        raise trouble(error) from error
    return reading, writing


def dispose(*engines: Engine) -> None:
    for engine in engines:
        engine.dispose()


def _engine(path: Path, begin: str) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=56,
        connect_args={"check_same_thread": False, "timeout": 30.0, "isolation_level": None},
    )

    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=FULL")  # a record must survive a power cut before 0000 is answered
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-8000")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.close()

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


@contextmanager
def speaking() -> Iterator[None]:
    """Turn the database's errors into one that a person can read."""
    try:
        yield
    except SQLAlchemyError as error:
        raise trouble(error) from error


def trouble(error: Exception) -> LocalError:
    words = str(getattr(error, "orig", error))
    full = "full" in words
    return LocalError(
        "The disk of the received images is full."
        if full
        else "The catalogue of the received images can't be read or written.",
        "Free space there; what is missing is tried again."
        if full
        else "Check the disk that holds DICOM Ferry's folder; nothing was lost that had been acknowledged.",
        detail=words,
        code="disk-full" if full else "catalogue",
    )
