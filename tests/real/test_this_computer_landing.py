"""This computer as a landing place: what a C-MOVE brings on its way through, and reports of storage commitment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.app import App
from core.model.errors import TransportError
from core.model.events import EngineChanged, NodeChanged, NodeHealth
from core.nodes.base import DicomAddress, KnownNode, Landing
from core.nodes.this_computer.addresses import own_address
from core.nodes.this_computer.known_callers import KnownCallers
from core.nodes.this_computer.node import ThisComputerNode
from core.wire.abort import Abort
from core.wire.dimse.association import Association, AssociationRejected, Proposed
from core.wire.dimse.identifier import EXPLICIT
from core.wire.dimse.limit import AssociationLimit
from core.wire.dimse.peer import Peer
from core.wire.dimse.store import Originator, StoreAssociations
from tests.support.dicom_nodes import data_set_of
from tests.support.ferry import Ferry
from tests.support.own_node import AET, Others, fill, held, own_node, records
from tests.support.processes import Child
from tests.support.qrscp import QueryRetrieveServer
from tests.support.running_app import RunningApp
from tests.support.servers import free_port, required_program
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

VERIFICATION = "1.2.840.10008.1.1"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
OURS = Originator("FERRY_SCU", 1)
STUDY = make_study(instances=3)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ThisComputerNode]:
    with own_node(tmp_path) as made:
        yield made


def send(
    node: ThisComputerNode, study: Study, *, calling: str = "PACS", originator: Originator | None = None
) -> list[int]:
    """C-STORE of a whole study; the statuses."""
    peer = Peer("here", "127.0.0.1", node.fields.port, AET, calling)
    associations = StoreAssociations(peer, AssociationLimit(1))
    try:
        return [
            associations.store(CT_STORAGE, uid, EXPLICIT, data_set_of(file), originator=originator).status
            for uid, file in zip(study.sop_uids, study, strict=True)
        ]
    finally:
        associations.close()


def landed(node: ThisComputerNode) -> int:
    folder = node.landing.folder
    return len(list(folder.glob("*"))) if folder.exists() else 0


# instances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["move originator", "AE title"])
def test_what_is_expected_is_here_for_a_while_and_no_holding(node: ThisComputerNode, by: str) -> None:
    with node.expect(STUDY.sop_uids, sender="PACS", originator=OURS.aet) as arrivals:
        assert arrivals.wait(1, 0.0) == 0
        if by == "AE title":
            assert send(node, STUDY) == [0, 0, 0]
        else:
            assert send(node, STUDY, calling="PACS_SENDER", originator=OURS) == [0, 0, 0]
        assert arrivals.wait(3, 10.0) == 3
        for uid, file in zip(STUDY.sop_uids, STUDY, strict=True):
            path = arrivals.path(uid)
            assert path is not None
            assert data_set_of(path.read_bytes()) == data_set_of(file)
        assert arrivals.path("1.2.3") is None
        assert held(node) == set()
        assert landed(node) == 3
    assert landed(node) == 0


@pytest.mark.parametrize("originator", [None, Originator("WORKSTATION", 7)])
def test_the_same_image_from_somebody_else_is_kept_and_told(
    node: ThisComputerNode, originator: Originator | None
) -> None:
    with node.expect(STUDY.sop_uids, sender="PACS", originator=OURS.aet) as arrivals:
        assert send(node, STUDY, calling="MODALITY", originator=originator) == [0, 0, 0]
        assert arrivals.wait(3, 10.0) == 3
        assert all(arrivals.path(uid) is not None for uid in STUDY.sop_uids)
    assert held(node) == set(STUDY.sop_uids)
    assert landed(node) == 0


def test_what_is_held_already_stays_untouched(node: ThisComputerNode) -> None:
    fill(node, STUDY)
    before = records(node)
    with node.expect(STUDY.sop_uids, sender="PACS") as arrivals:
        assert send(node, STUDY) == [0, 0, 0]
        path = arrivals.path(STUDY.sop_uids[0])
        assert path is not None
        assert path.parent == node.landing.folder
    assert records(node) == before
    assert all(node.spool.path(record).exists() for record in before.values())


def test_what_nobody_expects_is_an_ordinary_reception(node: ThisComputerNode) -> None:
    with node.expect(["1.2.3"], sender="PACS"):
        assert send(node, STUDY) == [0, 0, 0]
    assert held(node) == set(STUDY.sop_uids)


def test_two_jobs_that_wait_for_one_image_share_it(node: ThisComputerNode) -> None:
    with ExitStack() as first:
        one = first.enter_context(node.expect(STUDY.sop_uids, sender="PACS"))
        with node.expect(STUDY.sop_uids[:1], sender="PACS") as two:
            assert send(node, STUDY) == [0, 0, 0]
            assert two.wait(1, 10.0) == 1
            assert two.path(STUDY.sop_uids[0]) == one.path(STUDY.sop_uids[0])
        path = one.path(STUDY.sop_uids[0])
        assert path is not None
        assert path.exists()
    assert landed(node) == 0


def test_an_image_that_comes_twice_stays_what_it_was(node: ThisComputerNode) -> None:
    with node.expect(STUDY.sop_uids, sender="PACS") as arrivals:
        send(node, STUDY)
        before = arrivals.path(STUDY.sop_uids[0])
        send(node, STUDY)
        assert arrivals.path(STUDY.sop_uids[0]) == before
        assert arrivals.wait(4, 0.05) == 3
    assert landed(node) == 0


def test_what_an_earlier_run_left_behind_goes_when_listening_starts(tmp_path: Path) -> None:
    with own_node(tmp_path, listen=False) as node:
        node.landing.folder.mkdir(parents=True)
        for name in ("0123456789abcdef01234567.dcm", "0123456789abcdef01234567.part", "somebody's.dcm"):
            (node.landing.folder / name).write_bytes(b"x")
        node.listen()
        assert [path.name for path in node.landing.folder.iterdir()] == ["somebody's.dcm"]


def test_images_of_a_move_travel_through_to_a_folder(tmp_path: Path) -> None:
    """dcmqrscp without C-GET's help: our C-MOVE, its C-STOREs to this computer, our files in the folder."""
    ferry = RunningApp(tmp_path / "home")
    port = free_port()
    studies = [make_study(patient_id=f"P{n}", accession=f"A{n}", instances=4) for n in range(3)]
    server = QueryRetrieveServer(tmp_path / "pacs", hosts={"FERRY": port})
    try:
        with server:
            peer = Peer("pacs", "127.0.0.1", server.port, "QRSCP", "TEST")
            associations = StoreAssociations(peer, AssociationLimit(1))
            for study in studies:
                for uid, file in zip(study.sop_uids, study, strict=True):
                    assert associations.store(CT_STORAGE, uid, EXPLICIT, data_set_of(file)).status == 0
            associations.close()
            ferry.app.nodes.add(
                "this-computer", "here", {"aet": "FERRY", "port": port, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
            )
            ferry.wait(lambda: ferry.handle.landing() is not None, "listening")
            fields = {"aet": "QRSCP", "host": "127.0.0.1", "port": server.port, "retrieve": "c-move"}
            ferry.app.nodes.add("dicom", "pacs", fields, {})  # type: ignore[arg-type]
            ferry.folder("archive", tmp_path / "archive")
            job = ferry.run("clone", ["pacs"], ["archive"])
            assert (job.counts.verified, job.counts.failed) == (12, 0), job
            assert len(list((tmp_path / "archive").rglob("*.dcm"))) == 12
            here = ferry.app.nodes.open("here")
            assert isinstance(here, ThisComputerNode)
            assert held(here) == set()
            assert landed(here) == 0
            here.close()
    finally:
        ferry.close()


def test_the_engine_listens_and_says_so(tmp_path: Path) -> None:
    ferry = RunningApp(tmp_path / "home")
    try:
        port = free_port()
        ferry.app.nodes.add(
            "this-computer", "here", {"aet": "FERRY", "port": port, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
        )
        ferry.wait(lambda: isinstance(ferry.handle.landing(), Landing), "listening")
        Association.open(Peer("h", "127.0.0.1", port, "FERRY", "X"), [Proposed(VERIFICATION, (EXPLICIT,))]).release()
        context = ferry.app.nodes.surroundings.context("pacs", lambda _: None, None)
        landing = context.landing()
        assert landing is not None
        assert landing.aet == "FERRY"
        (peer,) = context.peers()
        assert (peer.name, peer.address.aet, peer.address.port) == ("here", "FERRY", port)
        # A second node wants the same port.
        ferry.app.nodes.add(
            "this-computer", "twin", {"aet": "TWIN", "port": port, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
        )
        ferry.wait(lambda: any(isinstance(e, NodeChanged) and e.name == "twin" for e in ferry.events), "the event")
        told = [e for e in ferry.events if isinstance(e, NodeChanged) and e.name == "twin"]
        assert told[0].health is NodeHealth.DOWN
        assert f"port {port} is in use" in told[0].reason
        ferry.app.nodes.remove("twin")
        ferry.app.nodes.remove("here")
        ferry.wait(lambda: ferry.handle.landing() is None, "the end of listening")
        last = [e for e in ferry.events if isinstance(e, EngineChanged)][-1]
        ferry.wait(
            lambda: [e for e in ferry.events if isinstance(e, EngineChanged)][-1].listeners == 0, f"none left ({last})"
        )
    finally:
        ferry.close()
    with pytest.raises(TransportError):
        Association.open(Peer("h", "127.0.0.1", port, "FERRY", "X"), [Proposed(VERIFICATION, (EXPLICIT,))])


def test_an_unattended_engine_receives_while_others_look(ferry: Ferry, tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    app = App.open(ferry.home)
    try:
        app.nodes.add(
            "this-computer", "here", {"aet": AET, "port": port, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
        )
        engine = ferry.start("engine", "--json")
        engine.wait_event(lambda event: event.get("event") == "node" and event.get("health") == "works")
        STUDY.write(tmp_path / "files")
        program = required_program("dcmsend")
        sent = Child([program, "-aec", AET, "+sd", "127.0.0.1", str(port), tmp_path / "files"], tmp_path / "sent")
        assert sent.wait() == 0, sent.describe()
        found = ferry.run("find", "here", "--level", "instance", "--json").expect(0)
        assert {e["sop_uid"] for e in found.events if e["event"] == "instance"} == set(STUDY.sop_uids)
        (calls,) = [step for step in app.nodes.diagnose("here") if step.name == "Takes calls"]
        assert "answers to C-ECHO" in calls.finding
        # A node that is added while the engine runs is called at once, and one that is removed no longer.
        app.nodes.add(
            "this-computer", "there", {"aet": "THERE", "port": other, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
        )
        engine.wait_event(lambda event: event.get("event") == "node" and event.get("name") == "there")
        app.nodes.remove("there")
        wait_for(lambda: not answers(other), what="the end of the removed node")
        engine.interrupt()
        assert engine.result().returncode == 0
        assert not answers(port)
    finally:
        app.close()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# reports --------------------------------------------------------------------------------------------------


def report(node: ThisComputerNode, transaction: str, *, event_type: int = 1, data: bytes | None = None) -> Dataset:
    """N-EVENT-REPORT on an association that the peer opens for it, in the role of the SCP; our response."""
    peer = Peer("here", "127.0.0.1", node.fields.port, AET, "PACS")
    with Association.open(peer, [Proposed(COMMITMENT, (EXPLICIT,), scp=True)]) as association:
        (context,) = association.contexts
        assert context.scp
        command = Dataset()
        command.AffectedSOPClassUID = COMMITMENT
        command.CommandField = 0x0100
        command.MessageID = 5
        command.AffectedSOPInstanceUID = COMMITMENT_INSTANCE
        command.EventTypeID = event_type
        association.send(context, command, encoded(transaction) if data is None else data)
        answer = association.receive().command
        assert answer.CommandField == 0x8100
        assert answer.MessageIDBeingRespondedTo == 5
        return answer


def encoded(transaction: str) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    item = Dataset()
    item.ReferencedSOPClassUID = CT_STORAGE
    item.ReferencedSOPInstanceUID = STUDY.sop_uids[0]
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = Sequence([item])
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, information)
    return buffer.getvalue()


def test_a_report_reaches_who_waits_for_it(node: ThisComputerNode) -> None:
    with node.expect_report("1.2.3.4") as reports, node.expect_report("1.2.3.5") as others:
        assert reports.wait(0.0) is None
        answers: list[Dataset] = []
        sender = threading.Thread(target=lambda: answers.append(report(node, "1.2.3.4", event_type=2)))
        sender.start()
        found = reports.wait(PATIENCE)
        sender.join(PATIENCE)
        assert found is not None
        event_type, information = found
        assert event_type == 2
        assert information.TransactionUID == "1.2.3.4"
        assert information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == STUDY.sop_uids[0]
        assert answers[0].Status == 0
        assert answers[0].EventTypeID == 2
        assert answers[0].AffectedSOPInstanceUID == COMMITMENT_INSTANCE
        assert others.wait(0.0) is None


def test_a_report_that_nobody_waits_for_is_received_and_forgotten(node: ThisComputerNode) -> None:
    assert report(node, "1.2.3.4").Status == 0
    with node.expect_report("1.2.3.4") as reports:
        assert reports.wait(0.0) is None
    assert report(node, "1.2.3.4").Status == 0


@pytest.mark.parametrize("data", [b"", b"\xff" * 30, b"\x08\x00"])
def test_a_report_that_cannot_be_read_is_refused(node: ThisComputerNode, data: bytes) -> None:
    assert report(node, "", data=data).Status == 0x0110


def test_waiting_for_a_report_ends_with_the_job(node: ThisComputerNode) -> None:
    abort = Abort()
    with node.expect_report("1.2.3.4") as reports:
        abort.abort()
        with pytest.raises(TransportError):
            reports.wait(20.0, abort=abort)


# who may call ---------------------------------------------------------------------------------------------


def call(node: ThisComputerNode, calling: str) -> bool:
    """Whether a call from this computer's address in the network is taken."""
    peer = Peer("here", own_address(), node.fields.port, AET, calling)
    try:
        Association.open(peer, [Proposed(VERIFICATION, (EXPLICIT,))]).release()
    except AssociationRejected as rejected:
        if (rejected.result, rejected.source, rejected.reason) != (1, 1, 3):
            raise
        return False
    return True


def test_a_registered_node_may_call_from_its_address_by_its_title(tmp_path: Path) -> None:
    assert own_address() != "127.0.0.1", "this test needs a network card with an address"
    here, elsewhere = DicomAddress("PACS", own_address(), 104), DicomAddress("FAR", "198.51.100.1", 104)
    others = Others({}, {"pacs": here, "far": elsewhere})
    with own_node(tmp_path, others=others) as node:
        assert call(node, "PACS")
        assert not call(node, "FAR")
        assert not call(node, "OTHER")
    with own_node(tmp_path, others=others, known_nodes=False) as node:
        assert not call(node, "PACS")
    with own_node(tmp_path) as node:
        assert not call(node, "PACS")


def test_known_callers_by_name_and_by_address() -> None:
    peers = [
        KnownNode("name", DicomAddress("PACS", "localhost", 104)),
        KnownNode("nowhere", DicomAddress("GONE", "no-such-host.invalid", 104)),
        KnownNode("v4", DicomAddress("V4", "198.51.100.7", 104)),
    ]
    known = KnownCallers(lambda: peers)
    found = known.at("PACS", "127.0.0.1")
    assert found is not None
    assert found.name == "name"
    assert known.at("PACS", "198.51.100.7") is None
    assert known.at("GONE", "198.51.100.7") is None
    assert known.at("V4 ", "::ffff:198.51.100.7") is not None
    assert known.at("v4", "198.51.100.7") is None
    assert [peer.name for peer in known.called(" GONE")] == ["nowhere"]
