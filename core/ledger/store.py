"""Opening the ledger's database: durable settings, a check of its health, migrations, backup before them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from core.model.errors import LedgerError

MIGRATIONS = Path(__file__).parent / "migrations"


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
        if check and not fresh:
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
    cursor.execute("PRAGMA cache_size=-8000")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


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


def _migrate(engine: Engine, path: Path, *, fresh: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
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
    if present == script.get_current_head():
        return
    if present is not None:
        _backup(engine, path)
    with engine.begin() as connection:
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
