"""The DICOM peers of the tests: right where nothing else was asked, and each fault as it is described."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from tests.support.dimse_acts import Abort, Answer, Drip, Reject, Reset
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Commit, Find, Lie, Retrieve
from tests.support.dimse_scu import ABORTED, CLOSED, Caller, Image
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(instances=4, size_bytes=40_000, patient_id="PEER")


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


def associate(pacs: FaultyPeer, **events: object) -> Association:
    ae = AE("USER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    for abstract in (CTImageStorage, StorageCommitmentPushModel, FIND, GET, MOVE, Verification):
        ae.add_requested_context(abstract, "1.2.840.10008.1.2.1")
    roles = [build_role(CTImageStorage, scu_role=True, scp_role=True)]
    handlers = [(getattr(evt, name), handler) for name, handler in events.items()]
    return ae.associate(pacs.host, pacs.port, ext_neg=roles, evt_handlers=handlers)


def query(level: str, **keys: str) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def test_it_is_right_by_itself(pacs: FaultyPeer, study: Study) -> None:
    from io import BytesIO

    import pydicom

    user = associate(pacs)
    assert user.is_established
    assert user.send_c_echo().Status == 0
    for file in study:
        assert user.send_c_store(pydicom.dcmread(BytesIO(file))).Status == 0
    assert pacs.archive.sop_uids == set(study.sop_uids)
    assert pacs.archive.data(study.sop_uids[0]) == Image.of(study[0]).data
    found = [
        answer
        for status, answer in user.send_c_find(
            query("STUDY", StudyInstanceUID="", PatientID="PEE*", NumberOfStudyRelatedInstances=""), FIND
        )
        if answer
    ]
    assert [(a.StudyInstanceUID, a.NumberOfStudyRelatedInstances) for a in found] == [(study.study_uid, 4)]
    images = query("IMAGE", StudyInstanceUID=study.study_uid, SOPInstanceUID="\\".join(study.sop_uids[:2]))
    listed = [answer.SOPInstanceUID for _, answer in user.send_c_find(images, FIND) if answer]
    assert sorted(listed) == sorted(study.sop_uids[:2])
    user.release()
    assert pacs.most_associations == 1
    pacs.wait_idle()


def test_it_sends(pacs: FaultyPeer, study: Study) -> None:
    pacs.holds(study)
    got: list[str] = []

    def take(event: evt.Event) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0

    user = associate(pacs, EVT_C_STORE=take)
    wanted = query("STUDY", StudyInstanceUID=study.study_uid)
    answers = [status for status, _ in user.send_c_get(wanted, GET)]
    assert sorted(got) == sorted(study.sop_uids)
    assert answers[-1].Status == 0
    assert answers[-1].NumberOfCompletedSuboperations == 4
    with FaultyPeer("OTHER") as other:
        pacs.places["OTHER"] = (other.host, other.port)
        moved = [status for status, _ in user.send_c_move(wanted, "OTHER", MOVE)]
        assert (moved[-1].Status, moved[-1].NumberOfCompletedSuboperations) == (0, 4)
        assert other.archive.sop_uids == set(study.sop_uids)
        assert [s.Status for s, _ in user.send_c_move(wanted, "NOBODY", MOVE)] == [0xA801]
        pacs.on("move", Retrieve(send=1, failed=3, counters=True), times=1)
        (*_, last) = [status for status, _ in user.send_c_move(wanted, "OTHER", MOVE)]
        assert (last.Status, last.NumberOfFailedSuboperations) == (0, 3)
        pacs.on("move", Retrieve(send=0, counters=False), times=1)
        (last,) = [status for status, _ in user.send_c_move(wanted, "OTHER", MOVE)]
        assert last.Status == 0
        assert "NumberOfCompletedSuboperations" not in last
    user.release()


@pytest.mark.parametrize("same", [True, False])
def test_it_commits(pacs: FaultyPeer, study: Study, same: bool) -> None:
    pacs.holds(study)
    pacs.archive.lose(study.sop_uids[3:])
    reports: list[tuple[int, Dataset]] = []
    came = threading.Event()

    def report(event: evt.Event) -> tuple[int, None]:
        reports.append((event.event_type, event.event_information))
        came.set()
        return 0, None

    listener = AE("USER")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = listener.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])
    pacs.places["USER"] = ("127.0.0.1", server.server_address[1])
    pacs.on("commit", Commit(same=same, reasons={study.sop_uids[0]: 0x0110}))
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = []
    for uid in study.sop_uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        asked.ReferencedSOPSequence.append(item)
    user = associate(pacs, EVT_N_EVENT_REPORT=report)
    status, _ = user.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert status.Status == 0
    assert came.wait(PATIENCE)
    ((kind, told),) = reports
    assert kind == 2
    assert told.TransactionUID == asked.TransactionUID
    reasons = {item.ReferencedSOPInstanceUID: item.FailureReason for item in told.FailedSOPSequence}
    assert reasons == {study.sop_uids[0]: 0x0110, study.sop_uids[3]: 0x0112}
    assert len(told.ReferencedSOPSequence) == 2
    wait_for(lambda: [int(a.command.Status) for a in pacs.answers] == [0] or not same, what="the report's answer")
    user.release()
    server.shutdown()


def test_faults_strike_whom_they_should(pacs: FaultyPeer, study: Study) -> None:
    pacs.on("store", Answer(0xA700), times=1)
    pacs.on("store", Lie(), times=1)
    odd = pacs.on("store", Answer(0xC123), where=lambda r: r.command.AffectedSOPInstanceUID == study.sop_uids[3])
    with Caller(pacs.host, pacs.port, called="FAULTY") as caller:
        line = caller.open(Image.of(study[0]).offer)
        assert [caller.store(line, file) for file in study] == [0xA700, 0, 0, 0xC123]
        assert pacs.archive.sop_uids == {study.sop_uids[2]}
        odd.off()
        assert caller.store(line, study[3]) == 0
        pacs.on("store", Drip(0.001), times=1)
        assert caller.store(line, study[3]) == 0
        pacs.on("store", Abort(after=20_000), times=1)
        assert caller.end_of(caller.half_an_image(study[1], 30_000)) == ABORTED
        pacs.on("store", Reset(after=20_000), times=1)
        assert caller.end_of(caller.half_an_image(study[1], 30_000)) == CLOSED
        line.release()
        pacs.on("associate", Reject(1, 1, 3), times=1)
        _, (rejected,) = caller.crowd(1)
        assert rejected.reason == (1, 1, 3)
        assert pacs.count("store") == 8
        accepted, _ = caller.crowd(5)
        assert len(accepted) == 5
        wait_for(lambda: pacs.open_associations == 5, what="five at once")


@pytest.mark.parametrize("act", [Find(limit=2), Find(fail_after=2, status=0xA700), Find(twice=True)])
def test_queries_go_wrong(pacs: FaultyPeer, study: Study, act: Find) -> None:
    pacs.holds(study)
    pacs.on("find", act)
    user = associate(pacs)
    keys = query("IMAGE", StudyInstanceUID=study.study_uid, SOPInstanceUID="")
    answers = list(user.send_c_find(keys, FIND))
    assert answers[-1][0].Status == act.status
    assert len(answers) - 1 == {2: 2, None: 8}[act.limit or act.fail_after]
    user.release()
