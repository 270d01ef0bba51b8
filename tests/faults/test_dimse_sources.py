"""Whole jobs from a DICOM node that misbehaves: C-FIND, C-GET and third-party C-MOVE; the list of what came decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from core.model.errors import FerryError
from core.model.job import JobRecord
from core.model.outcome import DeliveryState, FailureClass, Method
from core.model.study import StudyQuery
from core.model.views import DeliveryRow
from tests.faults.dimse_way import add_peer
from tests.support.dicom_nodes import dicom_node
from tests.support.dimse_acts import Abort, Answer, Close, OfAnother, Raw, Reject, Reset
from tests.support.dimse_peer import Act, FaultyPeer
from tests.support.dimse_scp import Find, Lie, Retrieve
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study

C = FailureClass
S = DeliveryState


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer("SOURCE") as peer:
        yield peer


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(instances=6, size_bytes=20_000, patient_id=tmp_path.name)


class Source:
    """A DICOM node with a study, from which jobs take it to a folder or let it be sent to another DICOM node."""

    def __init__(self, running: RunningApp, pacs: FaultyPeer, study: Study, folder: Path) -> None:
        self.running = running
        self.pacs = pacs.holds(study)
        self.study = study
        self.folder = folder
        self.name = f"source {pacs.port}"
        self.other = FaultyPeer("OTHER").start()
        pacs.places["OTHER"] = (self.other.host, self.other.port)
        add_peer(running, self.name, pacs)
        add_peer(running, f"other {pacs.port}", self.other)
        running.folder(f"folder {pacs.port}", folder)

    def close(self) -> None:
        self.other.close()

    def fetch(self, **fields: object) -> JobRecord:
        """To a folder, through this computer."""
        return self._run("forward", f"folder {self.pacs.port}", **fields)

    def push(self, **fields: object) -> JobRecord:
        """To the other DICOM node, by C-MOVE."""
        quick = {"check_interval": 0.05, "arrival_wait": 0.3}
        wanted = {"entries": [self.study.study_uid], "path": "push"}
        return self._run("migrate", f"other {self.pacs.port}", **quick, **wanted, **fields)

    def _run(self, kind: str, destination: str, **fields: object) -> JobRecord:
        values = {"max_attempts": 2, "retry_delays": [0.05, 0.2], **fields}
        return self.running.run(kind, [self.name], [destination], **values)

    def rows(self, job: JobRecord) -> list[DeliveryRow]:
        rows = self.running.rows(job.id)
        assert {row.sop_uid for row in rows} == set(self.study.sop_uids)
        return rows

    def outcomes(self, job: JobRecord) -> set[tuple[DeliveryState, str]]:
        return {(row.state, row.failure.code if row.failure else "") for row in self.rows(job)}

    @property
    def came(self) -> set[str]:
        return {path.stem for path in self.folder.rglob("*.dcm")}


@pytest.fixture
def source(running_app: RunningApp, pacs: FaultyPeer, study: Study, tmp_path: Path) -> Iterator[Source]:
    made = Source(running_app, pacs, study, tmp_path / "destination")
    yield made
    made.close()


# --- C-GET


@pytest.mark.parametrize(
    ("act", "times"),
    [
        (Retrieve(), None),
        (Retrieve(counters=False, pending=False), None),
        (Retrieve(send=2), None),
        (Retrieve(send=4, failed=2), 1),
        (Retrieve(send=5, failed=1, status=0xB000), 1),
        (Retrieve(send=0), 1),
        (Retrieve(send=3, status=0xA702), 1),
        (Retrieve(send=3, status=0xFE00), 1),
        (Retrieve(send=3, no_end=True), 1),
        (Retrieve(send=3, then=Reset()), 1),
        (Retrieve(send=3, then=Abort()), 1),
        (Retrieve(send=3, then=OfAnother()), 1),
        (Answer(0xA701), 1),
        (Answer(0xA702), 1),
        (Answer(0xC001), 1),
    ],
)
def test_what_is_missing_is_asked_for_again(source: Source, act: Act, times: int | None) -> None:
    """Whatever the node says of it, all images arrive in the end, each once."""
    source.pacs.on("get", act, times=times)
    assert source.outcomes(source.fetch(max_attempts=4)) == {(S.VERIFIED, "")}
    assert len(source.came) == 6
    assert len(source.pacs.answers) == 6


@pytest.mark.parametrize(
    ("act", "code", "cls"),
    [
        (Retrieve(send=0), "get-sent-none", C.RETRY),
        (Retrieve(send=0, failed=6), "get-failed-some", C.RETRY),
        (Retrieve(send=0, failed=6, status=0xB000), "get-failed-some", C.RETRY),
        (Answer(0xA701), "get-a701", C.BUSY),
        (Answer(0xA702), "get-a702", C.BUSY),
        (Answer(0xA900), "get-a9xx", C.PERMANENT),
        (Answer(0xFE00), "get-fe00", C.RETRY),
        (Answer(0xC001), "get-cxxx", C.RETRY),
        (Answer(0x0124), "get-0124", C.PERSON),
        (Answer(0x4321), "get-other", C.RETRY),
        (Reset(), "cut", C.RETRY),
        (Abort(), "association-aborted", C.RETRY),
    ],
)
def test_what_never_comes(source: Source, act: Act, code: str, cls: FailureClass) -> None:
    source.pacs.on("get", act)
    job = source.fetch()
    assert source.outcomes(job) == {(S.FAILED, code)}
    assert {row.failure.cls for row in source.rows(job) if row.failure} == {cls}
    assert {row.failure.side for row in source.rows(job) if row.failure} == {"source"}
    assert not source.came


def test_images_behind_the_end_are_not_taken_for_others(source: Source) -> None:
    """They come when nobody waits for them any more; they are asked for again."""
    late = threading.Event()
    late.set()
    source.pacs.on("get", Retrieve(late=late), times=1)
    assert source.outcomes(source.fetch(max_attempts=3)) == {(S.VERIFIED, "")}
    assert len(source.came) == 6


def test_gone_meanwhile(source: Source) -> None:
    """What the node no longer lists is gone, not failed to come."""
    lost = source.study.sop_uids[1]
    source.pacs.on("get", Retrieve(), where=lambda request: source.pacs.archive.lose([lost]) is None)
    job = source.fetch()
    assert source.outcomes(job) == {(S.VERIFIED, ""), (S.FAILED, "gone")}
    assert source.came == set(source.study.sop_uids) - {lost}


def test_nothing_is_ever_deleted_at_a_dicom_node(source: Source) -> None:
    with pytest.raises(FerryError):
        source.fetch(after="move")
    assert len(source.pacs.archive) == 6


# --- C-FIND


@pytest.mark.parametrize("limit", [100, 200, 500])
def test_a_silent_limit(pacs: FaultyPeer, limit: int) -> None:
    """All is found although each answer is cut off, and what can't be known is told."""
    count = limit + limit // 4
    for number in range(count):
        header = Dataset()
        header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        header.StudyInstanceUID = f"1.2.3.{number}"
        header.SeriesInstanceUID = f"1.2.3.{number}.1"
        header.SOPInstanceUID = f"1.2.3.{number}.1.1"
        header.PatientID = f"P{number}"
        header.Modality = "OT"
        header.StudyDate = f"20{number % 25:02}{number % 12 + 1:02}{number % 28 + 1:02}"
        header.StudyTime = f"{number % 24:02}0000"
        pacs.archive.add_header(header)
    pacs.on("find", Find(limit=limit))
    with dicom_node(pacs.aet, pacs.port) as node:
        listing = node.studies(StudyQuery())
        uids = [study.study_uid for study in listing]
    assert len(uids) == len(set(uids)) == count
    # Few servers can be asked for studies without a date, and those would be in no part: that is told.
    assert not listing.outcome.complete
    assert "studies without a date may be missing" in listing.outcome.reason
    assert str(limit) in listing.outcome.reason


@pytest.mark.parametrize(
    "act",
    [
        Find(fail_after=0, status=0xA700),
        Find(fail_after=1, status=0xC001),
        Find(empty_at=0),
        Find(limit=0, then=Reset()),
    ],
)
def test_a_source_that_cannot_be_listed(source: Source, act: Find) -> None:
    """The job says so: nothing was planned, and that is no success."""
    source.pacs.on("find", act)
    job = source.fetch()
    assert job.counts.total == 0
    assert job.problem
    assert not source.came


@pytest.mark.parametrize("act", [Find(twice=True), Find(character_set="ISO_IR 999"), Reject(2, 3, 1)])
def test_odd_lists_of_a_source(source: Source, act: Act) -> None:
    source.pacs.on(
        "associate" if isinstance(act, Reject) else "find", act, times=1 if isinstance(act, Reject) else None
    )
    assert source.outcomes(source.fetch(max_attempts=3)) == {(S.VERIFIED, "")}
    assert len(source.came) == 6


# --- C-MOVE to another node


@pytest.mark.parametrize(
    ("act", "times"),
    [
        (Retrieve(), None),
        (Retrieve(counters=False, pending=False), None),
        (Retrieve(failed=2), None),
        (Retrieve(status=0xA702, failed=2), None),
        (Retrieve(no_end=True), None),
        (Retrieve(then=Reset()), None),
        (Retrieve(then=Close()), None),
        (Retrieve(then=Abort()), None),
        (Retrieve(then=Raw(b"nonsense that is no PDU at all")), None),
        (Retrieve(status=0xFE00), None),
        (Retrieve(send=4, failed=2), 1),
        (Retrieve(send=4), 1),
        (Retrieve(send=0), 1),
        (Retrieve(send=0, counters=False), 1),
        (Answer(0xA701), 1),
        (Answer(0xA702), 1),
        (Answer(0xC001), 1),
        (Answer(0x4321), 1),
    ],
)
def test_the_list_of_the_destination_decides(source: Source, act: Act, times: int | None) -> None:
    """Whatever the source says of its sending: verified is what the destination lists, and the rest is asked for."""
    source.pacs.on("move", act, times=times)
    job = source.push(max_attempts=4)
    assert source.outcomes(job) == {(S.VERIFIED, "")}
    assert {row.evidence.method for row in source.rows(job) if row.evidence} == {Method.UID}
    assert source.other.archive.sop_uids == set(source.study.sop_uids)
    assert source.pacs.count("get") == 0


@pytest.mark.parametrize(
    ("act", "code", "said"),
    [
        (Retrieve(send=0), "move-sent-none", "sent nothing of what was asked for"),
        (Retrieve(send=0, counters=False), "not-received-in-time", "status 0000, no counters"),
        (Retrieve(send=0, failed=6, status=0xB000), "move-failed-some", "status B000, 0 completed, 6 failed"),
        (Answer(0xA701), "move-a701", "status A701"),
        (Answer(0xA702), "move-a702", "status A702"),
        (Answer(0xA801), "move-a801", "move destination unknown"),
        (Answer(0xA900), "move-a9xx", "status A900"),
        (Answer(0xFE00), "move-fe00", "status FE00"),
        (Answer(0xC001), "move-cxxx", "status C001"),
        (Reset(), "cut", "closed the connection"),
    ],
)
def test_what_is_never_moved(source: Source, act: Act, code: str, said: str) -> None:
    source.pacs.on("move", act)
    job = source.push()
    assert source.outcomes(job) == {(S.FAILED, code)}
    assert all(row.failure and said in row.failure.detail for row in source.rows(job))
    assert not any(row.evidence for row in source.rows(job))
    assert len(source.other.archive) == 0


def test_images_behind_the_end_of_a_move(source: Source) -> None:
    """They count as soon as the destination lists them."""
    late = threading.Event()
    source.pacs.on("move", Retrieve(late=late), times=1)
    hidden = source.other.on("find", Find(), where=lambda request: late.set() is not None)
    job = source.push(max_attempts=5)
    hidden.off()
    assert source.outcomes(job) == {(S.VERIFIED, "")}
    assert source.other.archive.sop_uids == set(source.study.sop_uids)


def test_a_destination_that_lies_to_the_source(source: Source) -> None:
    source.other.on("store", Lie())
    job = source.push()
    assert {row.state for row in source.rows(job)} == {S.FAILED}
    assert not any(row.evidence for row in source.rows(job))
