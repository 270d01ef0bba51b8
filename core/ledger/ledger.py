"""The ledger as one object: opened on a file, closed when done."""

from __future__ import annotations

from pathlib import Path

from core.ledger.book import Book
from core.ledger.changes import Changes
from core.ledger.commitments import Commitments
from core.ledger.deliveries import Deliveries
from core.ledger.planning import Planning
from core.ledger.source_side import SourceSide
from core.ledger.standing import Standing
from core.ledger.store import open_database
from core.ledger.views import Views
from core.ledger.writer import Writer


class Ledger(Book, Planning, Deliveries, Changes, Commitments, SourceSide, Standing, Views):
    """Everything that was planned, done and proved.

    Reading is safe from any thread and process. Writing from several processes is safe too, but deliveries
    are written by the one engine only.
    """

    path: Path

    @classmethod
    def open(cls, path: Path, *, check: bool = True) -> Ledger:
        """Open or make the ledger at `path`.

        Raises
        ------
        LedgerError
            See `core.ledger.store.open_database`.
        """
        database = open_database(path, check=check)
        ledger = cls(database, Writer(database))
        ledger.path = path
        return ledger

    def close(self) -> None:
        """Commit what is queued and let go of the file."""
        self.writer.close()
        self.database.dispose()
