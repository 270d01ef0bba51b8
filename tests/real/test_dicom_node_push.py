"""DICOM nodes that send by themselves: C-MOVE to a third party, commanded by us, followed, cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model.study import StudyInfo
from core.nodes.base import Push, PushState, PushStatus
from core.nodes.dicom import push as pushing
from core.nodes.dicom.node import DicomNode
from core.nodes.dicom.push import plan
from core.wire.dimse import move as moving
from tests.support import dimse_acts as acts
from tests.support.dicom_nodes import dicom_node, refs_of
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Retrieve
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import orthanc_node
from tests.support.qrscp import QueryRetrieveServer
from tests.support.studies import make_study
from tests.support.waiting import wait_for

TAKES = {"DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}


def ended(node: DicomNode, job: str) -> PushStatus:
    return wait_for(
        lambda: s if (s := node.push_status(job)).state is not PushState.RUNNING else None, what=f"the end of {job}"
    )


@pytest.fixture
def destination(start_orthanc: Callable[..., OrthancServer]) -> OrthancServer:
    return start_orthanc("1.12", name="DEST", config=TAKES)


@pytest.fixture
def pair() -> Iterator[tuple[FaultyPeer, FaultyPeer]]:
    """A source and a destination that it knows."""
    with FaultyPeer("SOURCE") as source, FaultyPeer("DEST") as there:
        source.places["DEST"] = (there.host, there.port)
        yield source, there


@contextmanager
def at(source: FaultyPeer, **fields: Any) -> Iterator[DicomNode]:
    with dicom_node(source.aet, source.port, **{"answer_timeout": 2, **fields}) as node:
        yield node


# --- real servers


@pytest.mark.parametrize("whole", [True, False])
def test_dcmqrscp_sends_to_an_orthanc(tmp_path: Path, destination: OrthancServer, whole: bool) -> None:
    study = make_study(series=2, instances=3)
    with (
        QueryRetrieveServer(tmp_path / "pacs", hosts={"DEST": destination.dicom_port}) as pacs,
        dicom_node(pacs.aet, pacs.port) as node,
        dicom_node("DEST", destination.dicom_port, name="There") as there,
    ):
        assert isinstance(node, Push)
        assert node.pushes_studies
        for one, image in zip(refs_of(study), study, strict=True):
            node.store(StudyInfo(study.study_uid), one, image)
        asked = refs_of(study) if whole else [refs_of(study)[0], *refs_of(study)[4:]]
        target = node.push_target(there)
        assert target == "DEST"
        status = ended(node, node.push(asked, target, whole=whole))
        assert status.state is PushState.DONE
        assert status.progress == 1.0
        assert "0 failed" in status.detail
    assert set(destination.received()) == {one.sop_uid for one in asked}


def test_an_orthanc_sends_to_another(start_orthanc: Callable[..., OrthancServer], destination: OrthancServer) -> None:
    study = make_study(instances=5)
    known = {"there": ["DEST", "127.0.0.1", destination.dicom_port]}
    source = start_orthanc("1.10", name="SRC", config=TAKES | {"DicomModalities": known})
    source.upload(study)
    with dicom_node("SRC", source.dicom_port) as node:
        status = ended(node, node.push(refs_of(study), "DEST", whole=True))
    assert status.state is PushState.DONE
    assert set(destination.received()) == set(study.sop_uids)


def test_the_target_is_the_ae_title_of_what_takes_images(destination: OrthancServer) -> None:
    with (
        dicom_node("SRC", 104) as node,
        dicom_node("DEST", 105, name="There") as there,
        dicom_node("SRC", 106, name="Twin") as twin,
        orthanc_node(destination, name="Rest") as rest,
    ):
        assert node.push_target(there) == "DEST"
        assert node.push_target(twin) == "", "the node would send to itself"
        assert node.push_target(rest) == "DEST"


def test_the_node_does_not_know_the_destination(tmp_path: Path) -> None:
    study = make_study(instances=2)
    with QueryRetrieveServer(tmp_path / "pacs") as pacs, dicom_node(pacs.aet, pacs.port) as node:
        for one, image in zip(refs_of(study), study, strict=True):
            node.store(StudyInfo(study.study_uid), one, image)
        status = ended(node, node.push(refs_of(study), "NOBODY", whole=True))
    assert status.state is PushState.FAILED
    assert "does not know the AE title" in status.detail
    assert "A801" in status.detail


# --- what is asked for


def test_the_plan_of_a_whole_study() -> None:
    refs = refs_of(make_study(series=3, instances=4))
    ((wanted, count),) = plan(refs, whole=True)
    assert (wanted.level, count) == ("STUDY", 12)
    assert wanted.keys() == {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": refs[0].study_uid}


def test_the_plan_of_some_images() -> None:
    refs = refs_of(make_study(series=2, instances=5))
    found = plan(refs[3:], whole=False, most=4)
    assert [(w.level, w.series_uids[0], len(w.sop_uids), n) for w, n in found] == [
        ("IMAGE", refs[0].series_uid, 2, 2),
        ("IMAGE", refs[5].series_uid, 4, 4),
        ("IMAGE", refs[5].series_uid, 1, 1),
    ]


def test_without_lists_each_image_is_a_request(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(instances=4)
    source.holds(study)
    with at(source, uid_lists=False) as node:
        assert ended(node, node.push(refs_of(study)[:3], "DEST")).state is PushState.DONE
    assert source.count("move") == 3
    assert source.count("associate") == 1
    assert there.archive.sop_uids == set(study.sop_uids[:3])


def test_a_node_that_moves_no_single_images_sends_the_series(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(series=2, instances=4)
    source.holds(study)
    source.on("move", acts.Answer(0xA900), where=lambda r: b"IMAGE" in bytes(r.data))
    with at(source, uid_lists=False) as node:
        status = ended(node, node.push(refs_of(study)[:3], "DEST"))
    assert status.state is PushState.DONE, status
    assert there.archive.sop_uids == set(study.sop_uids[:4])
    assert source.count("move") == 2


# --- bad days: what the node says is told, and never believed beyond that


@pytest.mark.parametrize(
    ("act", "state", "words"),
    [
        (Retrieve(failed=2), PushState.FAILED, "could not send some"),
        (Retrieve(send=2, failed=2, status=0xB000), PushState.FAILED, "could not send some"),
        (Retrieve(status=0xB000), PushState.DONE, "4 completed"),
        (Retrieve(send=0), PushState.FAILED, "sent nothing"),
        (Retrieve(send=3), PushState.FAILED, "have not arrived"),
        (acts.Answer(0x0000), PushState.DONE, "no counters"),
        (Retrieve(send=1, counters=False), PushState.DONE, "no counters"),
        (acts.Answer(0xA701), PushState.FAILED, "could not count"),
        (acts.Answer(0xA702), PushState.FAILED, "could not send"),
        (acts.Answer(0xA801), PushState.FAILED, "does not know the AE title"),
        (acts.Answer(0xA900), PushState.FAILED, "does not accept the request"),
        (acts.Answer(0xC123), PushState.FAILED, "could not process"),
        (acts.Answer(0xFE00), PushState.FAILED, "cancelled"),
        (acts.Answer(0x7777), PushState.FAILED, "does not know"),
        (Retrieve(send=2, status=0xA702), PushState.FAILED, "could not send"),
        (Retrieve(no_end=True), PushState.FAILED, "never said that it has finished"),
        (acts.Abort(), PushState.FAILED, "aborted"),
        (acts.Close(), PushState.FAILED, "closed the connection"),
        (acts.OfAnother(), PushState.FAILED, "not valid DICOM"),
    ],
)
def test_the_end_of_a_move(pair: tuple[FaultyPeer, FaultyPeer], act: Any, state: PushState, words: str) -> None:
    source, _ = pair
    study = make_study(instances=4)
    source.holds(study)
    source.on("move", act)
    with at(source, answer_timeout=1) as node:
        status = ended(node, node.push(refs_of(study), "DEST", whole=True))
    assert status.state is state, status
    assert words in status.detail
    source.wait_idle()


def test_rejected_and_unreachable(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, _ = pair
    source.on("associate", acts.Reject(1, 1, 3))
    study = make_study(instances=1)
    with at(source) as node:
        status = ended(node, node.push(refs_of(study), "DEST", whole=True))
    assert status.state is PushState.FAILED
    assert "AE title" in status.detail
    with dicom_node("GONE", 1) as node:
        status = ended(node, node.push(refs_of(study), "DEST", whole=True))
    assert status.state is PushState.FAILED
    assert "refused" in status.detail


def test_a_job_of_another_process_is_gone() -> None:
    with dicom_node("SRC", 104) as node:
        assert node.push_status("4711-abcdef01-1").state is PushState.GONE
        assert node.push_cancel("4711-abcdef01-1")


def test_jobs_have_names_of_their_own(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(instances=1)
    source.holds(study)
    with at(source) as node, at(there) as other:
        jobs = {node.push(refs_of(study), "DEST", whole=True) for _ in range(5)}
        jobs.add(other.push(refs_of(study), "SOURCE", whole=True))
        assert len(jobs) == 6
        for job in jobs:
            wait_for(
                lambda job=job: PushState.RUNNING not in (node.push_status(job).state, other.push_status(job).state)
            )


def test_at_most_as_many_at_once_as_the_node_allows(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    studies = [make_study(instances=2, accession=f"A{n}") for n in range(5)]
    for study in studies:
        source.holds(study)
    with at(source, connections=2) as node:
        jobs = [node.push(refs_of(study), "DEST", whole=True) for study in studies]
        assert all(ended(node, job).state is PushState.DONE for job in jobs)
    assert source.most_associations <= 3, "two, and perhaps one whose end the peer has not noticed yet"
    assert len(there.archive) == 10


def test_progress_is_told(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, _ = pair
    study = make_study(instances=4)
    source.holds(study)
    source.on("move", Retrieve(awaits_cancel=True), times=1)
    with at(source, answer_timeout=20) as node:
        job = node.push(refs_of(study), "DEST", whole=True)
        status = wait_for(lambda: s if (s := node.push_status(job)).progress > 0 else None, what="progress")
        assert status.state is PushState.RUNNING
        assert status.progress == pytest.approx(0.25)
        assert "1 completed" in status.detail
        assert node.push_cancel(job)


# --- cancelling


def test_cancelled(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(instances=4)
    source.holds(study)
    source.on("move", Retrieve(awaits_cancel=True))
    with at(source, answer_timeout=20) as node:
        job = node.push(refs_of(study), "DEST", whole=True)
        there.wait_count("store", 1)
        assert node.push_cancel(job)
        status = node.push_status(job)
        assert status.state is PushState.FAILED
        assert "ancelled" in status.detail
        assert source.count("cancel") == 1
    assert len(there.archive) == 1


def test_cancelled_while_it_waits_for_its_turn(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(instances=4)
    source.holds(study)
    source.on("move", Retrieve(awaits_cancel=True))
    with at(source, answer_timeout=20, connections=1) as node:
        first = node.push(refs_of(study), "DEST", whole=True)
        there.wait_count("store", 1)
        second = node.push(refs_of(study), "DEST", whole=True)
        assert node.push_cancel(second)
        assert node.push_status(second).state is PushState.FAILED
        assert node.push_status(first).state is PushState.RUNNING
        assert node.push_cancel(first)
    assert source.count("move") == 1


def test_a_cancel_that_is_not_heeded(pair: tuple[FaultyPeer, FaultyPeer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "CANCEL_WAIT", 0.3)
    monkeypatch.setattr(pushing, "CANCEL_WAIT", 0.3)
    source, _ = pair
    study = make_study(instances=2)
    source.holds(study)
    source.on("move", Retrieve(no_end=True))
    with at(source, answer_timeout=20) as node:
        job = node.push(refs_of(study), "DEST", whole=True)
        source.wait_count("move", 1)
        assert not node.push_cancel(job)
        status = node.push_status(job)
        assert status.state is PushState.FAILED
        assert "goes on" in status.detail
    source.wait_idle()


def test_finished_all_the_same(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    """A node that finishes although it was told to stop is not running any more either."""
    source, there = pair
    study = make_study(instances=3)
    source.holds(study)
    source.on("move", Retrieve(awaits_cancel=True, heeds_cancel=False))
    with at(source, answer_timeout=20) as node:
        job = node.push(refs_of(study), "DEST", whole=True)
        there.wait_count("store", 1)
        assert node.push_cancel(job)
        assert node.push_status(job).state is PushState.DONE
    assert len(there.archive) == 3


def test_closing_leaves_no_thread(pair: tuple[FaultyPeer, FaultyPeer]) -> None:
    source, there = pair
    study = make_study(instances=3)
    source.holds(study)
    held_up = source.on("move", acts.Silence())
    with at(source, answer_timeout=60) as node:
        job = node.push(refs_of(study), "DEST", whole=True)
        held_up.wait_hit()
    assert node.push_status(job).state is PushState.FAILED
    assert not [t for t in threading.enumerate() if t.name.startswith("C-MOVE")]
    source.wait_idle()
    assert len(there.archive) == 0
