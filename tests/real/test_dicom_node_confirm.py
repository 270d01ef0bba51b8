"""Whether a DICOM node holds images: asked of real servers in few questions, and never believed without reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model.errors import FerryError
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Commit, Confirm, Dimse, Inventory, Push, Read, Write
from core.nodes.dicom.node import DicomNode
from tests.support.dicom_nodes import dicom_node, refs_of
from tests.support.dimse_acts import Abort, Answer
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Find
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.studies import Study, make_study

PRESENT, ABSENT, UNKNOWN = Presence.PRESENT, Presence.ABSENT, Presence.UNKNOWN


@pytest.fixture(scope="module", params=["1.10", "1.12", "dcmqrscp"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    if request.param == "dcmqrscp":
        with QueryRetrieveServer(tmp_path_factory.mktemp("qrscp") / "pacs") as dcmtk:
            yield dcmtk.aet, dcmtk.port
    else:
        with OrthancServer(request.param, name="PACS", config={"DicomAlwaysAllowFind": True}) as orthanc:
            yield orthanc.aet, orthanc.dicom_port


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


@contextmanager
def at(pacs: FaultyPeer, **fields: Any) -> Iterator[DicomNode]:
    with dicom_node(pacs.aet, pacs.port, **{"answer_timeout": 2, **fields}) as opened:
        yield opened


def held(node: DicomNode, study: Study, refs: list[InstanceRef] | None = None) -> list[Presence]:
    asked = refs_of(study) if refs is None else refs
    found = node.confirm(StudyInfo(study.study_uid), asked)
    assert [h.sop_uid for h in found] == [r.sop_uid for r in asked]
    assert all(h.digest is None for h in found)
    return [h.presence for h in found]


def send(node: DicomNode, study: Study, refs: list[InstanceRef]) -> None:
    images = dict(zip(study.sop_uids, study, strict=True))
    for ref in refs:
        assert node.store(StudyInfo(study.study_uid), ref, images[ref.sop_uid]).stored


def test_what_was_sent_is_there_and_the_rest_is_not(server: tuple[str, int]) -> None:
    study = make_study(patient_id="CONFIRM", series=3, instances=30, size_bytes=300)
    refs = refs_of(study)
    with dicom_node(*server) as node:
        assert held(node, study) == [ABSENT] * 90
        send(node, study, refs[:40])  # the first series, and a part of the second
        assert held(node, study) == [PRESENT] * 40 + [ABSENT] * 50
        assert held(node, study, [refs[0], refs[39], refs[40], refs[89]]) == [PRESENT, PRESENT, ABSENT, ABSENT]
        assert held(node, study, []) == []
        assert not node.gives_digests
        assert not node.digests_in_bulk


def test_an_image_in_another_series_is_not_this_one(server: tuple[str, int]) -> None:
    study = make_study(patient_id="OTHER", series=2, instances=2, size_bytes=300)
    first, second, third, fourth = refs_of(study)
    with dicom_node(*server) as node:
        send(node, study, [first, second])
        wrong = InstanceRef(first.sop_uid, third.series_uid, first.study_uid)
        assert held(node, study, [wrong, fourth, first]) == [ABSENT, ABSENT, PRESENT]


def test_a_thousand_images_of_a_series_cost_one_question(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=1000, size_bytes=200))
    with at(pacs) as node:
        assert held(node, study) == [PRESENT] * 1000
    assert pacs.count("find") == 1
    assert pacs.count("associate") == 1


@pytest.mark.parametrize(("lists", "questions"), [(True, 1), (False, 1)])
def test_few_of_many_cost_one_question_too(pacs: FaultyPeer, lists: bool, questions: int) -> None:
    pacs.holds(study := make_study(instances=300, size_bytes=200))
    with at(pacs, uid_lists=lists) as node:
        assert held(node, study, refs_of(study)[5:15]) == [PRESENT] * 10
    assert pacs.count("find") == questions


def test_a_long_series_that_is_sent_in_parts_is_not_listed_whole_each_time(pacs: FaultyPeer) -> None:
    """What is sent first is confirmed by a list of the series; once that brings much more, by lists of UIDs."""
    study = make_study(instances=800, size_bytes=200)
    refs, images = refs_of(study), list(study)
    whole = []

    def note(request: Any) -> bool:
        if is_image(request) and b"\\" not in bytes(request.data):
            whole.append(request)
        return False

    pacs.on("find", Find(), where=note)
    with at(pacs) as node:
        assert held(node, study, refs[:200]) == [ABSENT] * 200
        for part in range(4):
            mine = slice(part * 200, part * 200 + 200)
            if part:
                assert held(node, study, refs[mine]) == [ABSENT] * 200
            pacs.archive.add_files(images[mine])
            assert held(node, study, refs[mine]) == [PRESENT] * 200
    assert len(whole) == 3  # when it was new, when it was sent first, and once more until it was known to be long


def test_a_long_series_at_a_server_that_takes_no_lists_of_uids(pacs: FaultyPeer) -> None:
    study = make_study(instances=400, size_bytes=200)
    refs = refs_of(study)
    pacs.archive.add_files(list(study)[:399])
    pacs.on("find", Find(limit=0), where=lambda r: is_image(r) and b"\\" in bytes(r.data))
    with at(pacs) as node:
        for _again in range(2):
            assert held(node, study, refs[:100]) == [PRESENT] * 100
            assert held(node, study, refs[300:]) == [PRESENT] * 99 + [ABSENT]


def test_lists_of_uids_that_are_cut_off_do_not_make_images_absent(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=400, size_bytes=200))
    refs = refs_of(study)
    pacs.on("find", Find(limit=60), where=lambda r: is_image(r) and b"\\" in bytes(r.data))
    with at(pacs) as node:
        for at_image in (0, 100, 200, 300):
            assert held(node, study, refs[at_image : at_image + 100]) == [PRESENT] * 100


def test_a_new_study_costs_two_questions(pacs: FaultyPeer) -> None:
    study = make_study(series=20, instances=2, size_bytes=200)
    with at(pacs) as node:
        assert held(node, study) == [ABSENT] * 40
    assert pacs.count("find") == 2


def is_image(request: Any) -> bool:
    return b"IMAGE" in bytes(request.data)


def is_series(request: Any) -> bool:
    return b"SERIES" in bytes(request.data)


def test_a_liar_is_seen_through(pacs: FaultyPeer) -> None:
    """0000 for everything, and only half of it is listed."""
    study = make_study(instances=60, size_bytes=200)
    pacs.archive.add_files(list(study)[:30])
    with at(pacs) as node:
        assert held(node, study) == [PRESENT] * 30 + [ABSENT] * 30


def test_a_cut_list_does_not_make_images_absent(pacs: FaultyPeer) -> None:
    """The count of the series tells that the list is cut off; then each is asked for by itself."""
    pacs.holds(study := make_study(instances=60, size_bytes=200))
    missing = study.sop_uids[55]
    pacs.archive.lose([missing])
    pacs.on("find", Find(limit=40), where=is_image)
    with at(pacs) as node:
        assert held(node, study) == [ABSENT if uid == missing else PRESENT for uid in study.sop_uids]


@pytest.mark.parametrize("status", [0xFE00, 0xA700, 0xC001])
def test_a_list_that_is_broken_off_is_held_as_far_as_it_goes(pacs: FaultyPeer, status: int) -> None:
    """What was listed is there, and the rest is asked for in smaller lists and one by one."""
    pacs.holds(study := make_study(instances=150, size_bytes=200))
    missing = study.sop_uids[140]
    pacs.archive.lose([missing])
    pacs.on(
        "find", Find(fail_after=40, status=status), where=lambda r: is_image(r) and b"\\" not in bytes(r.data), times=1
    )
    with at(pacs) as node:
        assert held(node, study) == [ABSENT if uid == missing else PRESENT for uid in study.sop_uids]
    assert pacs.count("find") <= 8


def test_a_round_list_without_counts_does_not_make_images_absent(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=130, size_bytes=200))
    pacs.on("find", Find(limit=100, without=("NumberOfSeriesRelatedInstances",)))
    with at(pacs) as node:
        assert held(node, study) == [PRESENT] * 130


def test_a_server_that_takes_no_lists_of_uids(pacs: FaultyPeer) -> None:
    """It takes the list for one UID that there is not: the whole series is asked for before anything is absent."""
    pacs.holds(study := make_study(instances=10, size_bytes=200))
    pacs.on("find", Find(limit=0), where=lambda r: is_image(r) and b"\\" in bytes(r.data))
    with at(pacs) as node:
        assert held(node, study) == [PRESENT] * 10


def test_a_server_that_lists_series_and_no_images_can_not_tell(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=4))
    pacs.on("find", Find(limit=0), where=is_image)
    with at(pacs) as node:
        assert held(node, study) == [UNKNOWN] * 4
    with at(pacs, image_find=False) as node:
        assert held(node, study) == [UNKNOWN] * 4


def test_a_server_that_lists_the_study_alone_can_not_tell_it_is_absent_by_series(pacs: FaultyPeer) -> None:
    """Several series, none of them listed, but the study is: each is asked for its images."""
    pacs.holds(study := make_study(series=3, instances=2))
    pacs.on("find", Find(limit=0), where=is_series)
    with at(pacs) as node:
        assert held(node, study) == [PRESENT] * 6


@pytest.mark.parametrize("act", [Answer(0xA700), Answer(0xC001), Find(limit=2, then=Abort()), Find(empty_at=2)])
def test_an_answer_that_can_not_be_had_raises(pacs: FaultyPeer, act: Any) -> None:
    pacs.holds(study := make_study(instances=8))
    pacs.on("find", act)
    with at(pacs) as node, pytest.raises(FerryError):
        held(node, study)


def test_what_the_node_can_do(pacs: FaultyPeer) -> None:
    with at(pacs) as node:
        for capability in (Inventory, Read, Write, Confirm, Commit, Push, Dimse):
            assert isinstance(node, capability), capability


def test_where_nobody_listens(tmp_path: Path) -> None:
    with FaultyPeer() as gone:
        port = gone.port
    with dicom_node("GONE", port) as node:
        with pytest.raises(FerryError) as raised:
            held(node, make_study(instances=1))
        assert raised.value.code == "refused"
        assert node.failure(raised.value, "destination").cls == "down"
