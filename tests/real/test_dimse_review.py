"""Where proofs over DIMSE are thin, and where peers go on after we have stopped listening to them."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.model.errors import AnswerError
from core.model.outcome import DeliveryState
from core.model.study import StudyInfo
from core.nodes.dicom import asking
from core.nodes.this_computer import landing as landing_module
from core.nodes.this_computer.node import ThisComputerNode
from core.nodes.this_computer.storage_scp import WAITING_ROOM
from core.wire.dimse.association import Association
from core.wire.dimse.echo import ECHO_CONTEXTS
from core.wire.dimse.negotiation import request
from core.wire.dimse.peer import Peer
from core.wire.dimse.store import Originator
from tests.real.test_this_computer_landing import OURS, STUDY, send
from tests.real.test_this_computer_store import _certificates
from tests.support.dicom_nodes import dicom_node
from tests.support.dimse_acts import Answer
from tests.support.dimse_peer import Act, FaultyPeer, Talk
from tests.support.dimse_scp import Find
from tests.support.dimse_scu import Caller
from tests.support.dimse_wire import Message
from tests.support.orthanc import OrthancServer
from tests.support.own_node import AET, held, own_node
from tests.support.running_app import RunningApp
from tests.support.studies import make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
OPEN = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
MINE = make_study(instances=5, size_bytes=600)
OTHER = make_study(instances=5, size_bytes=600, InstitutionName="Elsewhere")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ThisComputerNode]:
    with own_node(tmp_path) as made:
        yield made


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


# --- what a move deletes


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_what_a_pacs_held_before_is_fetched_and_compared(
    version: str, tmp_path: Path, start_orthanc: Start, running: RunningApp
) -> None:
    """It lists UIDs only: the same content may go at the source, other content may not."""
    pacs = start_orthanc(version, name="PACS", config=OPEN)
    assert MINE.sop_uids == OTHER.sop_uids
    pacs.upload([MINE[0], MINE[1], OTHER[2]])
    MINE.write(tmp_path / "archive")
    running.folder("A", tmp_path / "archive")
    fields = {"aet": "PACS", "host": "127.0.0.1", "port": pacs.dicom_port}
    running.app.nodes.add("dicom", "pacs", fields, {})
    job = running.run("forward", ["A"], ["pacs"], after="move")
    assert "held it before" in job.problem
    assert (job.counts.verified, job.counts.skipped) == (2, 3)
    assert [p.read_bytes() for p in (tmp_path / "archive").rglob("*.dcm")] == [MINE[2]]
    methods = {row.sop_uid: row.evidence.method.value for row in running.rows(job.id) if row.evidence}
    assert [methods[uid] for uid in MINE.sop_uids] == ["header", "header", "uid", "uid", "uid"]


def test_a_pacs_that_answers_duplicate_proves_nothing_of_its_content(tmp_path: Path, running: RunningApp) -> None:
    """It doesn't list the image at first, then says that it had it all along."""
    with FaultyPeer() as pacs:
        pacs.holds(OTHER)
        hidden = pacs.on("find", Find(limit=0), where=lambda request: not pacs.count("store"))
        pacs.on("store", Answer(0x0111))
        MINE.write(tmp_path / "archive")
        running.folder("A", tmp_path / "archive")
        running.app.nodes.add("dicom", "pacs", {"aet": pacs.aet, "host": "127.0.0.1", "port": pacs.port}, {})
        job = running.run("forward", ["A"], ["pacs"], after="move")
        hidden.off()
        assert {row.state for row in running.rows(job.id)} == {DeliveryState.SKIPPED}
        assert len(list((tmp_path / "archive").rglob("*.dcm"))) == 5


# --- what comes late


def test_an_image_that_nobody_waits_for_any_more_is_no_reception(node: ThisComputerNode) -> None:
    with node.expect(STUDY.sop_uids, sender="PACS", originator=OURS.aet):
        pass
    assert set(send(node, STUDY, originator=OURS)) == {0x0110}
    assert held(node) == set()
    assert send(node, STUDY, originator=Originator("WORKSTATION", 7)) == [0, 0, 0]
    assert held(node) == set(STUDY.sop_uids)


def test_what_was_once_asked_for_is_taken_in_again_later(
    node: ThisComputerNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_module, "_STRAYS", 0.0)
    with node.expect(STUDY.sop_uids, sender="PACS", originator=OURS.aet):
        pass
    assert send(node, STUDY, originator=OURS) == [0, 0, 0]
    with node.expect(STUDY.sop_uids, sender="PACS", originator=OURS.aet) as arrivals:
        assert send(node, STUDY, originator=OURS) == [0, 0, 0]
        assert arrivals.wait(3, 5.0) == 3


# --- callers


def test_an_ae_title_can_write_no_lines_into_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with own_node(tmp_path) as made, caplog.at_level(logging.DEBUG):
        caller = Caller("127.0.0.1", made.fields.port, called=AET, calling="A\nWARNING all")
        assert caller.send(STUDY[0]) == 0
        senders = {record.sender for record in made.spool.catalogue.find(list(STUDY.sop_uids)).values()}
        assert all(sender.isprintable() for sender in senders)
        assert not any("\nWARNING" in line.getMessage() for line in caplog.records)


def test_a_caller_that_says_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with own_node(tmp_path) as made, socket.create_connection(("127.0.0.1", made.fields.port)):
        scp = made._scp
        assert scp is not None
        wait_for(lambda: bool(scp._open_calls()), what="the call")
        began = time.monotonic()
        made.stop_listening()
        assert time.monotonic() - began < 20.0
        assert not scp._open_calls()


# --- lists without end


def test_a_list_of_images_without_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_LISTED", 3)
    study = make_study(instances=8)
    with FaultyPeer() as pacs, dicom_node(pacs.aet, pacs.port) as pacs_node:
        pacs.holds(study)
        pacs.on("find", Find(without=("NumberOfSeriesRelatedInstances", "NumberOfStudyRelatedInstances")))
        with pytest.raises(AnswerError) as caught:
            list(pacs_node.instances(StudyInfo(study.plan.study_uid, study.plan.study_uid)))
    assert caught.value.code == "find-maybe-cut"


# --- floods


@dataclass
class Floods(Act):
    """In place of the answer to a release: data without end, as quickly as it goes."""

    def strike(self, talk: Talk, request: Message) -> None:
        piece = b"\x04\x00\x00\x00\x10\x06\x00\x00\x10\x02\x01\x00" + bytes(0x1000)
        with contextlib.suppress(OSError):
            while True:
                talk.line.send(piece * 16)


def test_a_release_ends_whatever_comes_instead(caplog: pytest.LogCaptureFixture) -> None:
    with FaultyPeer() as pacs:
        pacs.on("release", Floods())
        peer = Peer("PACS", pacs.host, pacs.port, pacs.aet, "FERRY", association_timeout=0.5)
        association = Association.open(peer, ECHO_CONTEXTS)
        began = time.monotonic()
        association.release()
        assert time.monotonic() - began < 20.0


def test_one_address_shuts_out_no_other(tmp_path: Path) -> None:
    with own_node(tmp_path, connections=1, callers=("*@127.0.0.0/8",)) as made, ExitStack() as lines:
        for _ in range(WAITING_ROOM + 20):
            lines.enter_context(socket.create_connection(("127.0.0.1", made.fields.port)))
        peer = Peer("here", "127.0.0.1", made.fields.port, AET, "MODALITY")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", made.fields.port), 5, source_address=("127.0.0.2", 0)) as other:
            other.sendall(request(peer, ECHO_CONTEXTS))
            assert other.recv(1) == b"\x02"
        assert time.monotonic() - began < 20.0


def test_a_caller_that_dawdles_over_tls_does_not_hold_up_the_end(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path / "certificates")
    fields = {
        "tls": True,
        "certificate": str(certificates / "server.pem"),
        "certificate_key": str(certificates / "server.key"),
    }
    with own_node(tmp_path, **fields) as made, socket.create_connection(("127.0.0.1", made.fields.port)):
        scp = made._scp
        assert scp is not None
        wait_for(lambda: bool(scp._open_calls()), what="the call")
        began = time.monotonic()
        made.stop_listening()
        assert time.monotonic() - began < 20.0
