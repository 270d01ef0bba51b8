"""Watching an engine of another process: its events, made from what it writes to the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from core.ledger.ledger import Ledger
from core.model.errors import LedgerError
from core.model.events import EngineChanged, Event, JobChanged, StudyChanged

LOOK_EVERY = 0.5  # seconds
SPARING = 10  # looking takes at most this part of the time: a gateway that has stood for years has much to add up


class Follower:
    """Polls the ledger twice a second and tells what changed.

    Parameters
    ----------
    is_running : Callable[[], bool]
        Whether the other engine still holds its lock.
    """

    def __init__(self, ledger: Ledger, on_event: Callable[[Event], None], is_running: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._on_event = on_event
        self._is_running = is_running
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-follower", daemon=True)
        self._jobs: dict[int, JobChanged] = {}
        self._engine: EngineChanged | None = None
        self.lost_engine = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        revision = self._ledger.last_revision()
        wait = LOOK_EVERY
        while not self._stop.wait(wait):
            began = time.monotonic()
            try:
                revision = self._look(revision)
            except LedgerError:
                continue  # it will be readable again, or the engine itself tells
            finally:
                wait = max(LOOK_EVERY, SPARING * (time.monotonic() - began))
            if not self._is_running():
                self.lost_engine.set()

    def _look(self, revision: int) -> int:
        while True:
            rows, newest = self._ledger.changed_transfers(revision)
            for row in rows:
                self._on_event(StudyChanged(row))
            if len(rows) < 500:
                break
            revision = newest
        for job in self._ledger.jobs():
            event = JobChanged(
                job.id, job.name, job.kind, job.state, job.counts, job.studies, job.planning, job.left_out,
                job.problem or job.note,
            )  # fmt: skip
            if self._jobs.get(job.id) != event:
                self._jobs[job.id] = event
                self._on_event(event)
        engine = EngineChanged(self._is_running(), 0.0, self._ledger.unconfirmed_studies(), 0)
        if engine != self._engine:
            self._engine = engine
            self._on_event(engine)
        return newest
