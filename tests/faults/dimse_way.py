"""Ways to and from DICOM nodes that misbehave, and jobs on them, for the tests of bad days."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from core.model.job import JobRecord
from core.model.outcome import DeliveryState, Method
from core.model.views import DeliveryRow
from tests.support.dimse_peer import FaultyPeer
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study

S = DeliveryState
#: Little patience, so that tests are short; a peer that works answers in time on a busy machine, too.
HASTY = {
    "connect_timeout": 5,
    "association_timeout": 2,
    "answer_timeout": 2,
    "idle_timeout": 2,
    "commitment_timeout": 1,
}

_numbers = itertools.count(1)


def add_peer(running: RunningApp, name: str, pacs: FaultyPeer, **fields: object) -> str:
    """Register a peer as a DICOM node."""
    values = {"host": pacs.host, "port": pacs.port, "aet": pacs.aet, "calling_aet": "FERRY", **HASTY, **fields}
    running.app.nodes.add("dicom", name, values, {})  # type: ignore[arg-type]
    return name


def only(sop_uid: str) -> dict[str, Any]:
    """Lets a fault of C-STORE strike but one image."""
    return {"where": lambda request: request.command.AffectedSOPInstanceUID == sop_uid}


class Way:
    """A folder with a study, a DICOM node to send it to, and jobs between the two."""

    def __init__(self, running: RunningApp, folder: Path, study: Study) -> None:
        self.running = running
        self.study = study
        self.folder = folder
        self.name = str(next(_numbers))
        self.pacs = FaultyPeer().start()
        study.write(folder)
        running.folder(f"from {self.name}", folder)
        add_peer(running, f"to {self.name}", self.pacs)

    def start(self, **fields: object) -> int:
        values: dict[str, object] = {"after": "move", "max_attempts": 2, "retry_delays": [0.05, 0.2], **fields}
        return self.running.start("forward", [f"from {self.name}"], [f"to {self.name}"], **values)  # type: ignore[arg-type]

    def run(self, **fields: object) -> JobRecord:
        return self.running.wait_finished(self.start(**fields))

    def rows(self, job: JobRecord | int) -> dict[str, DeliveryRow]:
        job_id = job if isinstance(job, int) else job.id
        return {row.sop_uid: row for row in self.running.rows(job_id)}

    def row(self, job: JobRecord | int, number: int = 0) -> DeliveryRow:
        return self.rows(job)[self.study.sop_uids[number]]

    @property
    def kept(self) -> set[str]:
        """What the source still holds."""
        return {path.stem for path in self.folder.rglob("*.dcm")}

    def add_images(self, count: int) -> list[str]:
        """Further images at the source, of another study; their SOP Instance UIDs."""
        more = make_study(instances=count, size_bytes=3_000, patient_id=f"MORE-{self.name}")
        more.write(self.folder / "more")
        return more.sop_uids

    def moved(self, job: JobRecord, *, but: set[int] | None = None) -> None:
        """All images are verified by the destination's list and gone at the source, but for some: these are kept.

        What the destination says that it had already, is fetched and compared besides.
        """
        left = {self.study.sop_uids[number] for number in but or ()}
        for uid, row in self.rows(job).items():
            if uid in left:
                assert row.state is S.FAILED
                continue
            assert row.state is S.VERIFIED
            assert row.evidence is not None
            assert row.evidence.method is (Method.HEADER if row.answer.startswith("0111") else Method.UID)
            assert uid in self.pacs.archive
        assert self.kept == left
