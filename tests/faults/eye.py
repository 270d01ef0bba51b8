"""Looking at a home's ledger from outside, as another program would: read-only, while the program writes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Look:
    """What the ledger says at one moment.

    Attributes
    ----------
    states : Counter[str]
        Deliveries by state.
    at_source : Counter[str]
        Instances by what happened to them at their source.
    """

    states: Counter[str]
    at_source: Counter[str]

    @property
    def kept_but_verified(self) -> bool:
        """Something is proved and its deletion has not begun."""
        return self.states["verified"] > self.at_source["deleting"] + self.at_source["deleted"]


class Eye:
    """Reads a ledger that another process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> Look:
        """Counts of all passes of all jobs; all nought while there is no ledger yet."""
        with self._reading() as connection:
            if connection is None:
                return Look(Counter(), Counter())
            states = connection.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall()
            at_source = connection.execute("SELECT source_state, count(*) FROM instances GROUP BY source_state")
            return Look(Counter(dict(states)), Counter(dict(at_source.fetchall())))

    def uids(self, *states: str) -> set[str]:
        """SOP Instance UIDs of the deliveries that are in one of these states."""
        marks = ",".join("?" * len(states))
        with self._reading() as connection:
            assert connection is not None
            rows = connection.execute(
                "SELECT i.sop_uid FROM deliveries d JOIN instances i ON i.id = d.instance_id "
                f"WHERE d.state IN ({marks})",
                states,
            )
            return {uid for (uid,) in rows}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.exists():
            yield None
            return
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
            try:
                connection.execute("SELECT 1 FROM deliveries LIMIT 1")
            except sqlite3.OperationalError:  # being made just now
                yield None
                return
            yield connection
