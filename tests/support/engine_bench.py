"""An engine on its own ledger with nodes in memory, for tests of what happens between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from core.engine.engine import Engine, local_now
from core.ledger import schema as t
from core.ledger.book import Verb
from core.ledger.ledger import Ledger
from core.model.events import Event
from core.model.job import JobRecord, JobState
from tests.support.memory_node import MemoryNode
from tests.support.waiting import PATIENCE


class Bench:
    """An engine on its own ledger with nodes in memory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.sqlite"
        self.ledger = Ledger.open(self.path)
        self.nodes: dict[str, MemoryNode] = {}
        self.events: list[Event] = []
        self.engine: Engine | None = None
        self.clock: Callable[[], datetime] = local_now
        self._thread: threading.Thread | None = None

    def node(self, name: str, **options: bool) -> MemoryNode:
        self.nodes[name] = MemoryNode(name, **options)
        return self.nodes[name]

    def job(self, kind: str = "clone", *, follow: bool = False, **fields: object) -> int:
        values = {"source": ["A"], "destination": ["B"], "retry_delays": [0.05], **fields}
        return self.ledger.add_job(kind, "test", values, follow=follow, state=JobState.RUNNING)  # type: ignore[arg-type]

    def start(self) -> None:
        self.engine = Engine(self.ledger, lambda name: self.nodes[name], self.events.append, clock=self.clock)
        self._thread = threading.Thread(target=self.engine.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self.engine:
            self.engine.stop()
            assert self._thread
            self._thread.join(60)
            assert not self._thread.is_alive()
            self.engine = None

    def command(self, verb: Verb, **keys: int) -> None:
        self.ledger.command(verb, **keys)
        assert self.engine
        self.engine.nudge()

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        until = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            if time.monotonic() > until:
                pytest.fail(
                    f"waited {seconds} s in vain for {what}; jobs: {self.ledger.jobs()}; log: {self.ledger.log()}"
                )
            pause.wait(0.02)

    def workers_end(self) -> None:
        """Wait for workers that were cut off: what they still do is done before the ledger is closed."""
        self.wait(lambda: not any(th.name.startswith("A-B-") for th in threading.enumerate()), "the workers' end")

    def settled(self, study: int = 1) -> bool:
        """Whether the ledger has a study down as wholly dealt with."""
        with self.ledger.reading() as connection:
            return bool(
                connection.execute(
                    select(t.studies.c.id).where(t.studies.c.id == study, t.studies.c.settled > 0)
                ).first()
            )

    def same_totals(self, job_id: int) -> bool:
        """Whether the kept totals are what the deliveries themselves say."""
        self.ledger.writer.flush()
        return self.record(job_id).counts == self.ledger.job_counts(job_id)

    def record(self, job_id: int) -> JobRecord:
        found = self.ledger.job(job_id)
        assert found
        return found

    def finish(self, job_id: int) -> JobRecord:
        self.wait(lambda: self.record(job_id).state is JobState.FINISHED, "the job's end")
        job = self.record(job_id)
        assert job.counts == self.ledger.job_counts(job_id), "kept totals and deliveries differ"
        return job
