"""Storage commitment with a DICOM node: reports on the same and on new associations, partial, late, twice and never."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from core.model.errors import AnswerError, FerryError, TransportError
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, StudyInfo
from core.nodes.dicom.node import DicomNode
from core.wire.abort import Abort
from tests.support.dicom_nodes import dicom_node, refs_of
from tests.support.dimse_acts import Abort as AbortAct
from tests.support.dimse_acts import Answer, Close
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Commit, unknown_transaction
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

COMMITMENT = "1.2.840.10008.1.20.1"


class Listener:
    """This computer as the place where reports arrive: pynetdicom's SCP behind the shape of `Landing`."""

    def __init__(self, aet: str = "FERRY") -> None:
        self.aet = aet
        self.port = free_port()
        self.waited: list[str] = []
        self._queues: dict[str, queue.Queue[tuple[int, Dataset]]] = {}
        self._ae = AE(aet)
        self._ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        self._ae.add_supported_context("1.2.840.10008.1.1")
        self.server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )

    def _take(self, event: Any) -> tuple[int, None]:
        information = event.event_information
        waiting = self._queues.get(str(information.TransactionUID))
        if waiting is not None:
            waiting.put((event.request.EventTypeID, information))
        return 0x0000, None

    def expect(self, sop_uids: Any, **_who: str) -> Any:
        raise AssertionError("no images are awaited here")

    @contextmanager
    def expect_report(self, transaction_uid: str) -> Iterator[_Reports]:
        self.waited.append(transaction_uid)
        self._queues[transaction_uid] = queue.Queue()
        try:
            yield _Reports(self._queues[transaction_uid])
        finally:
            del self._queues[transaction_uid]

    def close(self) -> None:
        assert self.server is not None
        self.server.shutdown()


class _Reports:
    def __init__(self, waiting: queue.Queue[tuple[int, Dataset]]) -> None:
        self._waiting = waiting

    def wait(self, timeout: float, *, abort: Abort | None = None) -> tuple[int, Dataset] | None:
        until = time.monotonic() + timeout
        while True:
            if abort is not None:
                abort.check()
            try:
                return self._waiting.get(timeout=max(0.0, min(0.1, until - time.monotonic())))
            except queue.Empty:
                if time.monotonic() >= until:
                    return None


@pytest.fixture(scope="module")
def landing() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def study() -> Study:
    return make_study(instances=5, size_bytes=300)


@pytest.fixture
def pacs(study: Study) -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer.holds(study)


@contextmanager
def at(pacs: FaultyPeer, landing: Listener | None = None, **fields: Any) -> Iterator[DicomNode]:
    if landing is not None:
        pacs.places[landing.aet] = ("127.0.0.1", landing.port)
    given = {"answer_timeout": 2, "commitment_timeout": 5, **fields}
    with dicom_node(pacs.aet, pacs.port, landing=lambda: landing, **given) as opened:
        yield opened


def commit(node: DicomNode, study: Study, refs: list[InstanceRef] | None = None, **more: Any) -> dict[str, str]:
    return node.commit(StudyInfo(study.study_uid), refs_of(study) if refs is None else refs, **more)


def all_committed(study: Study) -> dict[str, str]:
    return dict.fromkeys(study.sop_uids, "")


# --- real servers


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_an_orthanc_reports_on_a_new_association(version: str, landing: Listener) -> None:
    """It commits itself to what it holds, and says which images it doesn't."""
    study = make_study(instances=4, size_bytes=300)
    config = {"DicomModalities": {"ferry": ["FERRY", "127.0.0.1", landing.port]}, "DicomAlwaysAllowFind": True}
    with (
        OrthancServer(version, name="PACS", config=config) as server,
        dicom_node("PACS", server.dicom_port, landing=lambda: landing, commitment_timeout=20) as node,
    ):
        server.upload(list(study)[:3])
        reasons = commit(node, study)
        assert [reasons[uid] for uid in study.sop_uids[:3]] == ["", "", ""]
        assert reasons[study.sop_uids[3]].startswith("commitment-0112 “PACS” does not hold")
        assert "0112H" in reasons[study.sop_uids[3]]
        server.upload([study[3]])
        assert commit(node, study) == all_committed(study)
        assert len(set(landing.waited[-2:])) == 2, "a new transaction each time"


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_kinds_that_the_source_did_not_tell_are_asked_for(version: str, landing: Listener) -> None:
    study = make_study(instances=2, size_bytes=300)
    config = {"DicomModalities": {"ferry": ["FERRY", "127.0.0.1", landing.port]}, "DicomAlwaysAllowFind": True}
    with (
        OrthancServer(version, name="PACS", config=config) as server,
        dicom_node("PACS", server.dicom_port, landing=lambda: landing, commitment_timeout=20) as node,
    ):
        server.upload([study[0]])
        reasons = commit(node, study, refs_of(study, sop_class=""))
        assert reasons[study.sop_uids[0]] == ""
        assert reasons[study.sop_uids[1]].startswith("commitment-0112 ")


# --- peers that are made to


def test_on_the_same_association(pacs: FaultyPeer, study: Study) -> None:
    with at(pacs) as node:
        assert commit(node, study) == all_committed(study)
    assert pacs.count("associate") == 1
    pacs.wait_idle()


def test_on_a_new_one(pacs: FaultyPeer, study: Study, landing: Listener) -> None:
    pacs.on("commit", Commit(same=False))
    with at(pacs, landing) as node:
        assert commit(node, study) == all_committed(study)


def test_on_a_new_one_long_after_ours_has_ended(pacs: FaultyPeer, study: Study, landing: Listener) -> None:
    go = threading.Event()
    pacs.on("commit", Commit(same=False, when=go))
    with at(pacs, landing, commitment_timeout=20) as node:

        def when_ours_is_over() -> None:
            pacs.wait_count("associate", 1)
            pacs.wait_idle(20)
            go.set()

        threading.Thread(target=when_ours_is_over, daemon=True).start()
        assert commit(node, study) == all_committed(study)
    assert go.is_set()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (0x0110, "commitment-0110"),
        (0x0112, "commitment-0112"),
        (0x0119, "commitment-0119"),
        (0x0122, "commitment-0122"),
        (0x0131, "commitment-0131"),
        (0x0213, "commitment-0213"),
        (0x4321, "commitment-other"),
    ],
)
@pytest.mark.parametrize("same", [True, False])
def test_failures(pacs: FaultyPeer, study: Study, landing: Listener, reason: int, code: str, same: bool) -> None:
    bad = study.sop_uids[2]
    pacs.on("commit", Commit(reasons={bad: reason}, same=same))
    with at(pacs, landing) as node:
        reasons = commit(node, study)
        assert reasons.pop(bad).split(" ")[0] == code
        assert set(reasons.values()) == {""}


def test_what_is_not_named_is_not_committed(pacs: FaultyPeer, study: Study) -> None:
    pacs.on("commit", Commit(leaves_out=2))
    with at(pacs) as node:
        reasons = commit(node, study)
    assert [r.split(" ")[0] for r in reasons.values()] == ["", "", "", "commitment-not-named", "commitment-not-named"]


@pytest.mark.parametrize(
    "act",
    [
        Commit(reports=0),
        Commit(transaction=unknown_transaction()),
        Commit(transaction=unknown_transaction(), same=False),
        Commit(same=False, reports=0),
    ],
    ids=["never", "of another transaction", "of another transaction, on a new one", "never, on a new one"],
)
@pytest.mark.parametrize("listening", [True, False])
def test_no_report(pacs: FaultyPeer, study: Study, landing: Listener, act: Commit, listening: bool) -> None:
    """The N-ACTION was answered with success: that is no evidence."""
    pacs.places["FERRY"] = ("127.0.0.1", landing.port)
    pacs.on("commit", act)
    with at(pacs, landing if listening else None, commitment_timeout=1) as node:
        began = time.monotonic()
        with pytest.raises(AnswerError) as raised:
            commit(node, study)
        assert time.monotonic() - began < 30
        failure = node.failure(raised.value, "destination")
    assert failure.code == "commitment-no-report"
    assert failure.cls is FailureClass.RETRY
    assert ("does not listen" in failure.detail) != listening


def test_a_retry_is_a_new_transaction(pacs: FaultyPeer, study: Study) -> None:
    """The first report comes late, with the second request already made: it is not taken for the second's."""
    pacs.on("commit", Commit(reports=0), times=1)
    with at(pacs, commitment_timeout=1) as node:
        with pytest.raises(AnswerError):
            commit(node, study)
        pacs.archive.lose([study.sop_uids[0]])
        reasons = commit(node, study)
    assert reasons[study.sop_uids[0]].startswith("commitment-0112")
    assert len(pacs.transactions) == len(set(pacs.transactions)) == 2


@pytest.mark.parametrize("same", [True, False])
def test_a_report_that_comes_twice(pacs: FaultyPeer, study: Study, landing: Listener, same: bool) -> None:
    pacs.on("commit", Commit(reports=2, same=same))
    with at(pacs, landing) as node:
        assert commit(node, study) == all_committed(study)
        assert commit(node, study) == all_committed(study)


@pytest.mark.parametrize(("status", "cls"), [(0x0118, FailureClass.RETRY), (0x0213, None), (0x0110, None)])
def test_the_request_is_refused(pacs: FaultyPeer, study: Study, status: int, cls: FailureClass | None) -> None:
    pacs.on("commit", Commit(status=status))
    with at(pacs) as node:
        with pytest.raises(AnswerError) as raised:
            commit(node, study)
        assert raised.value.code.startswith("action-")
        assert raised.value.status == status
        if cls is not None:
            assert node.failure(raised.value, "destination").cls is cls


def test_no_such_service(pacs: FaultyPeer, study: Study) -> None:
    pacs.refuses = lambda abstract, syntax: abstract == COMMITMENT
    with at(pacs) as node, pytest.raises(AnswerError) as raised:
        commit(node, study)
    assert raised.value.code == "action-not-offered"


@pytest.mark.parametrize("act", [AbortAct(), Close(), Answer(0xFF00)], ids=["A-ABORT", "closed", "pending"])
def test_the_association_breaks(pacs: FaultyPeer, study: Study, act: Any) -> None:
    pacs.on("commit", act)
    with at(pacs) as node, pytest.raises(FerryError):
        commit(node, study)


def test_it_can_be_stopped_while_it_waits(pacs: FaultyPeer, study: Study, landing: Listener) -> None:
    pacs.on("commit", Commit(reports=0))
    for listening in (landing, None):
        abort = Abort()
        pacs.transactions.clear()

        def stop(abort: Abort = abort) -> None:
            wait_for(lambda: pacs.transactions, what="the request")
            abort.abort()

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        with at(pacs, listening, commitment_timeout=60) as node:
            with pytest.raises(TransportError) as raised:
                commit(node, study, abort=abort)
            assert raised.value.code == "aborted"
        thread.join(PATIENCE)


def test_nothing_to_commit(pacs: FaultyPeer, study: Study) -> None:
    with at(pacs) as node:
        assert commit(node, study, []) == {}
    assert pacs.count("associate") == 0
