"""C-FIND, C-GET, C-MOVE and storage commitment going wrong in every way, on the wire: what is told, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from core.model.errors import AnswerError, FerryError, TransportError
from core.model.outcome import Failure, FailureClass
from core.wire.dimse import find as find_module
from core.wire.dimse.association import Association, Incoming, Proposed
from core.wire.dimse.commitment import COMMITMENT_CONTEXTS, CommitmentReport, CommitmentRequest
from core.wire.dimse.find import FIND_CONTEXTS, find
from core.wire.dimse.get import get, get_contexts
from core.wire.dimse.move import move, move_contexts
from core.wire.dimse.peer import Peer
from core.wire.dimse.retrieval import Retrieval, Wanted
from core.wire.dimse.status import Service, dimse_error, dimse_failure, status_row
from core.wire.found import Found
from tests.support.dimse_acts import Abort, Answer, Close, OfAnother, Raw, Reset
from tests.support.dimse_peer import Act, FaultyPeer
from tests.support.dimse_scp import Commit, Find, Retrieve, unknown_transaction
from tests.support.dimse_scu import Image
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

C = FailureClass


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(instances=6, size_bytes=5_000, patient_id="QUERY", patient="Müller^Jörg")


@pytest.fixture
def pacs(study: Study) -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer.holds(study)


@contextmanager
def associated(pacs: FaultyPeer, contexts: tuple[Proposed, ...] | list[Proposed]) -> Iterator[Association]:
    peer = Peer(
        "PACS",
        pacs.host,
        pacs.port,
        "FAULTY",
        "FERRY",
        connect_timeout=5,
        association_timeout=2.0,
        answer_timeout=2.0,
        idle_timeout=2.0,
    )
    with Association.open(peer, contexts) as association:
        yield association


def failure(error: FerryError, side: str = "source") -> Failure:
    return dimse_failure(error, side=side, node="PACS")


# --- C-FIND


def images(pacs: FaultyPeer, study: Study, **options: object) -> Found:
    keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study.study_uid, "SOPInstanceUID": "", "PatientName": ""}
    with associated(pacs, FIND_CONTEXTS) as association:
        return find(association, keys, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "code", "cls"),
    [
        (0xA700, "find-a7xx", C.BUSY),
        (0xA900, "find-a9xx", C.PERMANENT),
        (0xC001, "find-cxxx", C.RETRY),
        (0xFE00, "find-fe00", C.RETRY),
        (0x0110, "find-0110", C.RETRY),
        (0x0122, "find-0122", C.PERSON),
        (0x0124, "find-0124", C.PERSON),
        (0xB000, "find-other", C.RETRY),
        (0x4321, "find-other", C.RETRY),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
def test_queries_that_fail(
    pacs: FaultyPeer, study: Study, status: int, code: str, cls: FailureClass, after: int
) -> None:
    """At once they are an error; in mid-stream what came is kept, and nobody takes it for the whole list."""
    pacs.on("find", Find(fail_after=after, status=status))
    if not after:
        with pytest.raises(AnswerError) as raised:
            images(pacs, study)
        found = failure(raised.value)
    else:
        answer = images(pacs, study)
        assert len(answer.answers) == after
        assert not answer.ended_well
        assert answer.failure is not None
        found = failure(answer.failure)
    assert (found.code, found.cls) == (code, cls)
    assert f"{status:04X}H" in found.detail


#: What happens after three answers, and what it is called.
BROKEN_OFF: dict[str, tuple[Find, str]] = {
    "silence": (Find(limit=3, no_end=True), "timeout"),
    "A-ABORT": (Find(limit=3, then=Abort()), "association-aborted"),
    "RST": (Find(limit=3, then=Reset()), "cut"),
    "closed": (Find(limit=3, then=Close()), "cut"),
    "nonsense": (Find(limit=3, then=Raw(b"HTTP/1.1 500 Oops\r\n\r\n")), "association-protocol"),
    "another's answer": (Find(limit=3, then=OfAnother()), "association-protocol"),
    "no status": (Find(limit=3, then=OfAnother(message_id=1, status=None)), "association-protocol"),
}


@pytest.mark.parametrize(("act", "code"), BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_queries_that_break_off(pacs: FaultyPeer, study: Study, act: Find, code: str) -> None:
    pacs.on("find", act)
    answer = images(pacs, study)
    assert len(answer.answers) == 3
    assert not answer.ended_well
    assert answer.failure is not None
    assert (failure(answer.failure).code, failure(answer.failure).cls) == (code, C.RETRY)


@pytest.mark.parametrize(
    ("act", "code", "cls"),
    [
        (Find(empty_at=2), "find-no-identifier", C.RETRY),
        (Find(broken_at=2), "find-unreadable", C.PERMANENT),
    ],
)
def test_answers_without_content(pacs: FaultyPeer, study: Study, act: Find, code: str, cls: FailureClass) -> None:
    """An answer that can't be read may have been of any image: the list is an error."""
    pacs.on("find", act)
    with pytest.raises(AnswerError) as raised:
        images(pacs, study)
    assert (failure(raised.value).code, failure(raised.value).cls) == (code, cls)
    assert len(images(pacs, make_study(instances=1)).answers) == 0


def test_answers_twice_and_lists_cut_off_in_silence(pacs: FaultyPeer, study: Study) -> None:
    """On the wire neither can be told from a true list; whoever asks has to reckon with both."""
    pacs.on("find", Find(twice=True), times=1)
    assert images(pacs, study).count == 12
    pacs.on("find", Find(limit=4), times=1)
    cut = images(pacs, study)
    assert (cut.count, cut.ended_well) == (4, True)


def test_counts_that_are_not_told(pacs: FaultyPeer, study: Study) -> None:
    pacs.on("find", Find(without=("NumberOfStudyRelatedInstances",)))
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
    with associated(pacs, FIND_CONTEXTS) as association:
        (answer,) = find(association, keys).answers
    assert answer["StudyInstanceUID"] == study.study_uid
    assert "NumberOfStudyRelatedInstances" not in answer


@pytest.mark.parametrize("named", ["ISO_IR 100", "", "ISO_IR 6", "ISO_IR 999", "KLINGON"])
def test_wrong_character_sets(pacs: FaultyPeer, named: str) -> None:
    """The names are in Unicode, whatever the answers say: they are read as they are meant."""
    unicode = make_study(instances=1, patient="Müller^Jörg=山田^太郎", character_set="ISO_IR 192")
    pacs.archive.add_files(unicode)
    pacs.on("find", Find(character_set=named))
    (answer,) = images(pacs, unicode).answers
    assert answer["PatientName"] == "Müller^Jörg=山田^太郎"


def test_more_answers_than_wanted(pacs: FaultyPeer, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C-CANCEL ends the list; one that is ignored does not hold anybody up for ever."""
    answer = images(pacs, study, most=2)
    assert (len(answer.answers), answer.broken_off, answer.ended_well) == (3, True, False)
    wait_for(lambda: pacs.count("cancel") == 1, what="the C-CANCEL")
    monkeypatch.setattr(find_module, "_CANCEL_HEEDED", 0.2)
    pacs.on("find", Find(heeds_cancel=False, no_end=True))
    answer = images(pacs, study, most=2)
    assert (len(answer.answers), answer.ended_well) == (3, False)
    pacs.wait_idle()


# --- C-GET and C-MOVE


class Retrieving:
    """One retrieval of a study, and what arrived of it."""

    def __init__(self, pacs: FaultyPeer, how: str) -> None:
        self.pacs = pacs
        self.how = how
        self.arrived: set[str] = set()
        self.other = FaultyPeer("LANDING").start()
        pacs.places["LANDING"] = (self.other.host, self.other.port)

    def close(self) -> None:
        self.other.close()

    def all_of(self, study: Study, *, cancel: threading.Event | None = None) -> Retrieval:
        wanted = Wanted(study.study_uid)
        if self.how == "get":
            (contexts,) = get_contexts([Image.of(study[0]).sop_class])
            with associated(self.pacs, contexts) as association:
                return get(association, wanted, self._take, cancel=cancel)
        with associated(self.pacs, move_contexts()) as association:
            ended = move(association, wanted, "LANDING", cancel=cancel)
        self.arrived = self.other.archive.sop_uids
        return ended

    def _take(self, sop_class: str, sop_uid: str, transfer_syntax: str, data: Incoming) -> int:
        data.skip()
        self.arrived.add(sop_uid)
        return 0


@pytest.fixture(params=["get", "move"])
def retrieving(request: pytest.FixtureRequest, pacs: FaultyPeer) -> Iterator[Retrieving]:
    made = Retrieving(pacs, request.param)
    yield made
    made.close()


def test_a_retrieval_as_it_should_be(retrieving: Retrieving, study: Study) -> None:
    ended = retrieving.all_of(study)
    assert (ended.status, ended.counts.completed, ended.counts.failed, ended.counted) == (0, 6, 0, True)
    assert retrieving.arrived == set(study.sop_uids)


@pytest.mark.parametrize(
    ("act", "status", "completed", "failed", "came"),
    [
        (Retrieve(send=4, failed=2), 0x0000, 4, 2, 4),
        (Retrieve(send=0), 0x0000, 0, 0, 0),
        (Retrieve(send=0, failed=6, status=0xA702), 0xA702, 0, 6, 0),
        (Retrieve(send=4), 0x0000, 4, 0, 4),
        (Retrieve(send=5, failed=1, status=0xB000), 0xB000, 5, 1, 5),
        (Retrieve(send=0, pending=False), 0x0000, 0, 0, 0),
        (Retrieve(counters=False), 0x0000, None, None, 6),
        (Retrieve(send=0, counters=False), 0x0000, None, None, 0),
    ],
)
def test_ends_that_claim_something(
    retrieving: Retrieving, study: Study, act: Act, status: int, completed: int | None, failed: int | None, came: int
) -> None:
    """What was said is reported as it was said, beside what arrived: neither is made up from the other."""
    retrieving.pacs.on(retrieving.how, act)
    ended = retrieving.all_of(study)
    assert (ended.status, ended.counts.completed, ended.counts.failed) == (status, completed, failed)
    assert ended.counted == (completed is not None)
    assert len(retrieving.arrived) == came


@pytest.mark.parametrize(
    ("status", "row", "cls"),
    [
        (0xA701, "a701", C.BUSY),
        (0xA702, "a702", C.BUSY),
        (0xA801, "a801", C.PERSON),
        (0xA900, "a9xx", C.PERMANENT),
        (0xFE00, "fe00", C.RETRY),
        (0xC002, "cxxx", C.RETRY),
        (0x0122, "0122", C.PERSON),
        (0x0124, "0124", C.PERSON),
        (0x4321, "other", C.RETRY),
    ],
)
def test_retrievals_that_fail(retrieving: Retrieving, study: Study, status: int, row: str, cls: FailureClass) -> None:
    retrieving.pacs.on(retrieving.how, Answer(status, comment="No way"))
    ended = retrieving.all_of(study)
    assert (ended.status, ended.comment) == (status, "No way")
    found = failure(dimse_error(Service(retrieving.how), ended.status, node="PACS"))
    assert (found.code, found.cls) == (f"{retrieving.how}-{row}", cls)
    assert not retrieving.arrived


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (Retrieve(send=3, no_end=True), "timeout"),
        (Retrieve(send=3, then=Reset()), "cut"),
        (Retrieve(send=3, then=Close()), "cut"),
        (Retrieve(send=3, then=Abort()), "association-aborted"),
        (Retrieve(send=3, then=OfAnother()), "association-protocol"),
    ],
)
def test_retrievals_without_an_end(retrieving: Retrieving, study: Study, act: Act, code: str) -> None:
    """What has arrived has arrived; how it ended is unknown, and reading again does no harm."""
    retrieving.pacs.on(retrieving.how, act)
    with pytest.raises(TransportError) as raised:
        retrieving.all_of(study)
    assert (failure(raised.value).code, failure(raised.value).cls) == (code, C.RETRY)
    arrived = retrieving.arrived or retrieving.other.archive.sop_uids
    assert len(arrived) == 3


def test_images_after_the_final_response(retrieving: Retrieving, study: Study) -> None:
    """A C-GET is over with its response; what a C-MOVE brings later is for whoever listens to take."""
    late = threading.Event()
    retrieving.pacs.on(retrieving.how, Retrieve(late=late))
    assert retrieving.all_of(study).status == 0
    assert not retrieving.arrived
    late.set()
    if retrieving.how == "move":
        wait_for(lambda: len(retrieving.other.archive) == 6, what="what was announced as sent")
    retrieving.pacs.wait_idle()


@pytest.mark.parametrize("heeds", [True, False])
def test_cancelled(retrieving: Retrieving, study: Study, heeds: bool) -> None:
    """An ignored C-CANCEL: the images come all the same, and the end is what the peer says."""
    cancel = threading.Event()
    retrieving.pacs.on(retrieving.how, Retrieve(heeds_cancel=heeds, awaits_cancel=True))
    cancel.set()
    ended = retrieving.all_of(study, cancel=cancel)
    if heeds:
        assert status_row(Service(retrieving.how), ended.status).code == f"{retrieving.how}-fe00"
        assert len(retrieving.arrived) < 6
    else:
        assert ended.status == 0
        assert len(retrieving.arrived) == 6
    assert retrieving.pacs.count("cancel") == 1


def test_an_unknown_destination(pacs: FaultyPeer, study: Study) -> None:
    with associated(pacs, move_contexts()) as association:
        ended = move(association, Wanted(study.study_uid), "NOBODY")
    found = failure(dimse_error("move", ended.status, node="PACS"), "source")
    assert (found.code, found.cls) == ("move-a801", C.PERSON)
    assert "AE title" in found.sentence


# --- storage commitment


def commit(pacs: FaultyPeer, study: Study, act: Commit, seconds: float = PATIENCE) -> CommitmentReport | None:
    """What is reported in this time."""
    pacs.on("commit", act)
    with associated(pacs, COMMITMENT_CONTEXTS) as association:
        request = CommitmentRequest(association, "1.2.3")
        request.ask((Image.of(file).sop_class, Image.of(file).sop_uid) for file in study)
        request.wait(seconds)
        return request.report


def test_all_committed(pacs: FaultyPeer, study: Study) -> None:
    report = commit(pacs, study, Commit())
    assert report is not None
    assert report.committed == set(study.sop_uids)
    assert not report.failed


@pytest.mark.parametrize(
    ("reason", "cls"),
    [
        (0x0110, C.RETRY),
        (0x0112, C.ASK),
        (0x0119, C.PERMANENT),
        (0x0122, C.PERMANENT),
        (0x0131, C.RETRY),
        (0x0213, C.BUSY),
        (0x7777, C.RETRY),
    ],
)
def test_reasons_against_commitment(pacs: FaultyPeer, study: Study, reason: int, cls: FailureClass) -> None:
    """Each image has its own reason; the others of the same report are committed."""
    report = commit(pacs, study, Commit(reasons={study.sop_uids[2]: reason}))
    assert report is not None
    assert report.failed == {study.sop_uids[2]: reason}
    assert report.committed == set(study.sop_uids) - {study.sop_uids[2]}
    found = failure(dimse_error("commitment", reason, node="PACS"), "destination")
    assert found.cls is cls
    assert found.code == ("commitment-other" if reason == 0x7777 else f"commitment-{reason:04x}")


def test_the_answer_to_the_request_is_no_evidence(pacs: FaultyPeer, study: Study) -> None:
    assert commit(pacs, study, Commit(reports=0), 0.3) is None
    assert pacs.count("commit") == 1


@pytest.mark.parametrize(
    ("status", "code", "cls"),
    [
        (0x0110, "action-0110", C.RETRY),
        (0x0112, "action-refused", C.RETRY),
        (0x0122, "action-refused", C.RETRY),
        (0x0123, "action-refused", C.RETRY),
        (0x0124, "action-0124", C.PERSON),
        (0x0213, "action-0213", C.RETRY),
        (0x4321, "action-other", C.RETRY),
    ],
)
def test_refused_requests(pacs: FaultyPeer, study: Study, status: int, code: str, cls: FailureClass) -> None:
    with pytest.raises(AnswerError) as raised:
        commit(pacs, study, Commit(status=status))
    assert (failure(raised.value, "destination").code, failure(raised.value, "destination").cls) == (code, cls)


def test_a_report_on_an_unknown_transaction(pacs: FaultyPeer, study: Study) -> None:
    """It proves nothing, and the peer is told that it was not expected."""
    assert commit(pacs, study, Commit(transaction=unknown_transaction())) is None
    wait_for(lambda: pacs.answers, what="the answer to the report")
    assert pacs.answers[0].command.Status == 0x0115


def test_a_report_that_leaves_images_out(pacs: FaultyPeer, study: Study) -> None:
    report = commit(pacs, study, Commit(leaves_out=2))
    assert report is not None
    assert report.committed == set(study.sop_uids[:4])
    assert not report.failed


def test_a_report_that_comes_late_and_twice(pacs: FaultyPeer, study: Study) -> None:
    late = threading.Event()
    pacs.on("commit", Commit(when=late, reports=2))
    with associated(pacs, COMMITMENT_CONTEXTS) as association:
        request = CommitmentRequest(association, "1.2.3")
        request.ask([(Image.of(study[0]).sop_class, study.sop_uids[0])])
        assert not request.wait(0.05)
        late.set()
        assert request.wait(PATIENCE)
        assert request.report is not None
        assert request.report.committed == {study.sop_uids[0]}
    pacs.wait_idle()
