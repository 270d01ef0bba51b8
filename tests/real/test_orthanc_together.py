"""Several small images in one go, with real Orthancs: every doubt is left to be carried alone."""

from __future__ import annotations

from dataclasses import replace

from core.model.errors import TransportError
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, ReadTogether, WriteMany
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, orthanc_node, the_study
from tests.support.studies import Study, small_study


def room() -> memoryview:
    return memoryview(bytearray(1 << 20))


def described(study: Study) -> tuple[StudyInfo, list[tuple[InstanceRef, memoryview]]]:
    """A study of the test as it is handed over."""
    info = StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)
    refs = [
        InstanceRef(uid, study.plan.series_uid(series), study.study_uid, patient_id=study.plan.patient_id)
        for series, _, uid in study.plan.positions()
    ]
    return info, [(one, memoryview(content)) for one, content in zip(refs, study, strict=True)]


def test_they_come_byte_for_byte_with_their_digests(orthanc: OrthancServer) -> None:
    study = small_study(12)
    orthanc.upload(study)
    wanted = {uid: content for (_series, _n, uid), content in zip(study.plan.positions(), study, strict=True)}
    digests = orthanc.digests()
    with orthanc_node(orthanc) as node:
        assert isinstance(node, ReadTogether)
        refs = [replace(one, digest=None) for one in all_instances(node, the_study(node, study.study_uid))]
        for one, file in zip(refs, node.open_together(refs, room()), strict=True):
            assert file is not None
            assert bytes(file.body) == wanted[one.sop_uid]
            assert file.digest == digests[one.sop_uid]


def test_one_that_is_gone_is_left_out_and_the_others_come(orthanc: OrthancServer) -> None:
    study = small_study(5)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        refs = all_instances(node, the_study(node, study.study_uid))
        orthanc.delete(f"/instances/{refs[2].ref}")
        assert [file is None for file in node.open_together(refs, room())] == [False, False, True, False, False]


def test_each_is_acknowledged_by_its_own_identifier(orthanc: OrthancServer) -> None:
    info, images = described(small_study(6))
    with orthanc_node(orthanc) as node:
        assert isinstance(node, WriteMany)
        first = node.store_many(info, images)
        assert [isinstance(answer, Acknowledgement) and answer.stored for answer in first] == [True] * 6
        again = node.store_many(info, images)
        assert [isinstance(answer, Acknowledgement) and not answer.stored for answer in again] == [True] * 6
    assert orthanc.count() == 6


def test_what_is_no_dicom_gets_no_acknowledgement_and_the_others_do(orthanc: OrthancServer) -> None:
    info, images = described(small_study(4))
    images[1] = images[1][0], memoryview(b"no DICOM at all" * 100)
    images[2] = images[2][0], images[3][1]  # another image than was announced
    with orthanc_node(orthanc) as node:
        found = node.store_many(info, images)
        assert [answer is not None for answer in found] == [True, False, False, True]


def test_a_server_that_takes_no_rows_is_asked_singly(orthanc_112: OrthancServer) -> None:
    _info, images = described(small_study(3))
    with orthanc_node(orthanc_112) as node:
        assert node.batch_limits.count > 1
        node.rest.pool.takes_rows = False
        assert node.batch_limits.count == 1
        assert node.open_together([one for one, _body in images], room()) == [None] * 3


def test_a_server_that_is_down_says_so_for_each(orthanc_112: OrthancServer) -> None:
    info, images = described(small_study(3))
    with orthanc_node(orthanc_112) as node:
        orthanc_112.stop()
        found = node.store_many(info, images)
        assert [isinstance(answer, TransportError) for answer in found] == [True] * 3
