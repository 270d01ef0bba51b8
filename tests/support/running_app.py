"""A home with its engine, for tests that drive the core without a window or command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.app import App
from core.model.events import Event
from core.model.job import JobRecord, JobState
from core.model.outcome import Method
from core.model.views import DeliveryRow
from tests.support.orthanc import OrthancServer
from tests.support.waiting import PATIENCE, wait_for


class RunningApp:
    """An `App` on its own folder with Orthanc nodes; `run` runs a job to its end."""

    def __init__(self, folder: Path) -> None:
        self.app = App.open(folder)
        self.events: list[Event] = []
        self.handle = self.app.engine(self.events.append)

    def close(self) -> None:
        self.app.close()

    def orthanc(self, name: str, server: OrthancServer | str, **fields: object) -> str:
        url = server if isinstance(server, str) else server.url
        self.app.nodes.add("orthanc", name, {"url": url, **fields}, {})  # type: ignore[dict-item]
        return name

    def folder(self, name: str, path: Path, **fields: object) -> str:
        path.mkdir(parents=True, exist_ok=True)
        self.app.nodes.add("folder", name, {"path": str(path), **fields}, {})  # type: ignore[dict-item]
        return name

    def start(
        self, kind: str, source: list[str], destination: list[str], *, follow: bool = False, **fields: object
    ) -> int:
        values = {"source": source, "destination": destination, "retry_delays": [0.2, 0.5], **fields}
        return self.app.jobs.create(kind, values, follow=follow).id  # type: ignore[arg-type]

    def run(self, kind: str, source: list[str], destination: list[str], **fields: object) -> JobRecord:
        return self.wait_finished(self.start(kind, source, destination, **fields))  # type: ignore[arg-type]

    def wait_finished(self, job_id: int, timeout: float = PATIENCE) -> JobRecord:
        self.wait(lambda: self.record(job_id).state is JobState.FINISHED, "the job's end", timeout)
        job = self.record(job_id)
        assert job.counts == self.app.ledger.job_counts(job_id), "kept totals and deliveries differ"
        return job

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        try:
            wait_for(condition, timeout=timeout, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; jobs {self.app.ledger.jobs()}; log {self.app.ledger.log()}") from error

    def record(self, job_id: int) -> JobRecord:
        return self.app.jobs.get(job_id)

    def rows(self, job_id: int) -> list[DeliveryRow]:
        return self.app.ledger.deliveries(job_id=job_id, limit=100_000)

    def methods(self, job_id: int) -> set[Method]:
        return {r.evidence.method for r in self.rows(job_id) if r.evidence}
