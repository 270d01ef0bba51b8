"""Opening the ledger's database: durable settings, a check of its health, migrations, backup before them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from core.ledger.schema import metadata
from core.model.errors import LedgerError

SCHEMA = "0002"  # the head of the migrations; a test holds it
MIGRATIONS = Path(__file__).parent / "migrations"
CHECK_ALWAYS_BYTES = 64 << 20  # up to here looking it all over takes no time that anybody notices


def open_database(path: Path, *, check: bool = True) -> Engine:
    """Open (or make) the ledger at `path` and bring it to the present schema.

    Raises
    ------
    LedgerError
        Damaged, from a newer version of the program, not a ledger, or its folder can't be written. The
        file is left as it is.
    """
    fresh = not path.exists() or path.stat().st_size == 0
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=16,
        max_overflow=32,
        connect_args={"check_same_thread": False, "timeout": 30.0},
    )
    event.listen(engine, "connect", _configure)
    try:
        if check and not fresh and _is_suspect(path):
            _check_health(engine, path)
        _migrate(engine, path, fresh=fresh)
    except LedgerError:
        engine.dispose()
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        engine.dispose()
        raise _unusable(path, error) from error
    return engine


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # an outcome must survive a power cut, not only a crash
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA cache_size=-500")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _is_suspect(path: Path) -> bool:
    """Whether to look it all over: always while it is small, later when it was not closed in good order."""
    log = path.with_name(path.name + "-wal")  # SQLite removes it when the last connection is closed
    return path.stat().st_size <= CHECK_ALWAYS_BYTES or (log.exists() and log.stat().st_size > 0)


def _check_health(engine: Engine, path: Path) -> None:
    with engine.connect() as connection:
        finding = connection.execute(text("PRAGMA quick_check(1)")).scalar()
    if finding != "ok":
        raise _damaged(path, str(finding))


def _damaged(path: Path, detail: str) -> LedgerError:
    return LedgerError(
        f"The ledger {path.name} is damaged and was not opened; nothing was sent or deleted.",
        f"Keep a copy of {path}, then put back your last backup, or move the file away to start a new ledger: "
        "what has arrived will be recognised at the destinations and not sent again.",
        detail=detail,
        code="ledger-damaged",
    )


def _unusable(path: Path, error: Exception) -> LedgerError:
    words = str(error)
    if isinstance(error, DatabaseError | sqlite3.DatabaseError) and any(
        w in words for w in ("malformed", "not a database", "corrupt", "disk image")
    ):
        return _damaged(path, words)
    if "locked" in words:
        return LedgerError(
            "The ledger is in use by another program.", "Close that program, then try again.",
            detail=words, code="ledger-locked",
        )  # fmt: skip
    return LedgerError(
        f"The ledger can't be opened in {path.parent}.",
        "Check that the folder exists, that you may write there and that the disk isn't full; "
        "or set DICOM_FERRY_HOME to another folder.",
        detail=words,
        code="ledger-unusable",
    )


def _revision(connection: Connection) -> str | None:
    """The schema that a ledger has, by Alembic's own table; None without one."""
    found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE type='table' AND name='alembic_version'"))
    if found.first() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(engine: Engine, path: Path, *, fresh: bool) -> None:
    with engine.connect() as connection:
        if _revision(connection) == SCHEMA:
            connection.execute(text("PRAGMA journal_mode=WAL"))
            return
    if not (fresh and _make(engine)):
        _upgrade(engine, path, fresh=fresh)


def _make(engine: Engine) -> bool:
    """Make a ledger as it stands at the head of the migrations; False where there is something already.

    Without Alembic, which is needed for upgrades alone: a test holds that both ways lead to the same tables.
    """
    with engine.connect() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
    with engine.begin() as connection:
        # Python's module would commit each CREATE TABLE by itself: killed halfway, nothing could be opened again.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if connection.execute(text("SELECT 1 FROM sqlite_master LIMIT 1")).first() is not None:
            return False  # another process was faster
        metadata.create_all(connection, checkfirst=False)
        connection.execute(
            text(
                "CREATE TABLE alembic_version ("
                "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
        )
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": SCHEMA})
    return True


def _upgrade(engine: Engine, path: Path, *, fresh: bool) -> None:
    # Imported only when there is something to migrate: Alembic takes a seventh of a second of every start.
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN")  # one view of both: another process may be making it right now
        present = MigrationContext.configure(connection).get_current_revision()
        tables = connection.execute(text("SELECT count(*) FROM sqlite_master WHERE type='table'")).scalar()
    known = {revision.revision for revision in script.walk_revisions()}
    if present is None and tables and not fresh:
        raise LedgerError(
            f"{path.name} is a database of another program; it was left as it is.",
            "Move it away, or set DICOM_FERRY_HOME to another folder.",
            code="ledger-foreign",
        )
    if present is not None and present not in known:
        raise LedgerError(
            "The ledger was written by a newer version of DICOM Ferry; it was left as it is.",
            "Install the newer version again, or set DICOM_FERRY_HOME to another folder.",
            detail=f"schema {present}",
            code="ledger-newer",
        )
    with engine.connect() as connection:  # not earlier: it writes to the file, which may be somebody else's
        connection.execute(text("PRAGMA journal_mode=WAL"))
    if present == SCHEMA:
        return
    if present is not None:
        _backup(engine, path)
    with engine.begin() as connection:
        # Python's module would commit each CREATE TABLE by itself: killed halfway, nothing could be opened again.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if MigrationContext.configure(connection).get_current_revision() != present:
            return  # another process was faster
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _backup(engine: Engine, path: Path) -> None:
    """Keep the ledger as it was before a migration, beside it."""
    target = path.with_name(f"{path.stem}-before-upgrade-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    with engine.connect() as connection:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        with sqlite3.connect(target) as copy:
            source.backup(copy)
        copy.close()
