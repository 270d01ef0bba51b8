"""Every answer and every broken association of C-STORE, on the wire: what it is taken for, and what follows from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.outcome import Failure, FailureClass
from core.wire.abort import Abort as AbortSwitch
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import Meaning, dimse_error, dimse_failure, store_status
from core.wire.dimse.store import AssociationLimit, NoContext, StoreAnswer, StoreAssociations
from tests.support import dimse_wire as wire
from tests.support.dimse_acts import (
    Abort,
    AboveLimit,
    Answer,
    Close,
    Deaf,
    Drip,
    HalfAnswer,
    OfAnother,
    Raw,
    Reject,
    Release,
    Reset,
    Silence,
    Twice,
)
from tests.support.dimse_peer import Act, FaultyPeer
from tests.support.dimse_scp import Lie
from tests.support.dimse_scu import Image
from tests.support.studies import Study, make_study

C = FailureClass
HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(instances=6, size_bytes=60_000, patient_id="ROWS")


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


class Sender:
    """C-STORE to a peer with little patience, and what an answer means for a delivery."""

    def __init__(self, pacs: FaultyPeer, associations: int = 1, *, called: str = "FAULTY") -> None:
        self.peer = Peer(
            "PACS",
            pacs.host,
            pacs.port,
            called,
            "FERRY",
            connect_timeout=5,
            association_timeout=2.0,
            answer_timeout=2.0,
            idle_timeout=2.0,
        )
        self.associations = StoreAssociations(self.peer, AssociationLimit(associations))

    def store(self, file: bytes, *, abort: AbortSwitch | None = None) -> StoreAnswer:
        image = Image.of(file)
        return self.associations.store(image.sop_class, image.sop_uid, image.syntax, image.data, abort=abort)

    def failure(self, file: bytes) -> Failure:
        """Store what is bound to fail."""
        try:
            answer = self.store(file)
        except FerryError as error:
            return dimse_failure(error, side="destination", node="PACS")
        row = store_status(answer.status)
        assert row.meaning is Meaning.FAILURE, f"{answer.status:04X} is no failure"
        refused = dimse_error("store", answer.status, node="PACS", comment=answer.comment)
        return dimse_failure(refused, side="destination", node="PACS")


@pytest.fixture
def sender(pacs: FaultyPeer) -> Iterator[Sender]:
    made = Sender(pacs)
    yield made
    made.associations.close()


# --- answers

ROWS = [
    (0xA700, "store-a7xx", C.BUSY),
    (0xA7FF, "store-a7xx", C.BUSY),
    (0xA900, "store-a9xx", C.PERMANENT),
    (0xA9FF, "store-a9xx", C.PERMANENT),
    (0xC000, "store-cxxx", C.PERMANENT),
    (0xCFFF, "store-cxxx", C.PERMANENT),
    (0x0122, "store-0122", C.PERMANENT),
    (0x0110, "store-0110", C.RETRY),
    (0x0210, "store-0210", C.RETRY),
    (0x0211, "store-0211", C.RETRY),
    (0x0213, "store-0213", C.RETRY),
    (0x0112, "store-0112", C.PERSON),
    (0x0117, "store-0117", C.PERSON),
    (0x0124, "store-0124", C.PERSON),
    (0x0212, "store-0212", C.PERSON),
    (0xFF00, "store-pending", C.PERMANENT),
    (0xFF01, "store-pending", C.PERMANENT),
    (0xFFFE, "store-fffx", C.PERMANENT),
    (0xFE00, "store-fe00", C.PERMANENT),
    (0xB001, "store-bxxx", C.ASK),
    (0x1234, "store-other", C.PERMANENT),
]


@pytest.mark.parametrize(("status", "code", "cls"), ROWS, ids=[f"{row[0]:04X}" for row in ROWS])
def test_answers_that_are_failures(
    pacs: FaultyPeer, sender: Sender, study: Study, status: int, code: str, cls: FailureClass
) -> None:
    """Each has its class and its words; the image is not taken for stored, and the next one goes on."""
    pacs.on("store", Answer(status, comment="Disk on fire"), times=1)
    failure = sender.failure(study[0])
    assert (failure.code, failure.cls) == (code, cls)
    assert failure.delays == ((5, 20, 60) if status in (0x0110, 0x0210, 0x0211, 0x0213) else ())
    assert f"{status:04X}H" in failure.detail
    assert "Disk on fire" in failure.detail
    assert sender.store(study[1]).status == 0
    # After an answer that breaks the rules nobody knows what follows: that association is not used again.
    assert pacs.count("associate") == (2 if code == "store-pending" else 1)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0x0111])
def test_answers_that_are_none(pacs: FaultyPeer, sender: Sender, study: Study, status: int) -> None:
    pacs.on("store", Answer(status, comment="As you like", keeps=True), times=1)
    answer = sender.store(study[0])
    assert answer == StoreAnswer(status, "As you like")
    assert store_status(status).meaning is not Meaning.FAILURE
    assert sender.store(study[1]).status == 0
    assert pacs.count("associate") == 1


def test_out_of_resources_lets_fewer_associations_be(pacs: FaultyPeer, study: Study) -> None:
    sender = Sender(pacs, 4)
    pacs.on("store", Answer(0xA700), times=4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sender.store, study[:4]))
    assert sender.associations.limit.allowed < 4
    assert {answer.status for answer in map(sender.store, study)} == {0}
    sender.associations.close()


# --- no answer, and broken associations

#: What happens in place of an answer → the failure's code. Whether the image was stored is unknown in all of them.
BROKEN = {
    "silence": (Silence(), "timeout"),
    "slow drip": (Drip(0.05), "timeout"),
    "half an answer, then silence": (HalfAnswer(), "timeout"),
    "half an answer, then the end": (HalfAnswer(then_close=True), "cut"),
    "A-ABORT": (Abort(), "association-aborted"),
    "A-ABORT of the provider": (Abort(source=2, reason=1), "association-aborted"),
    "A-ABORT in mid-PDU": (Abort(after=20_000), "association-aborted"),
    "RST": (Reset(), "cut"),
    "RST in mid data set": (Reset(after=20_000), "cut"),
    "closed": (Close(), "cut"),
    "closed in mid data set": (Close(after=20_000), "cut"),
    "released": (Release(), "cut"),
    "another protocol": (Raw(HTTP), "association-protocol"),
    "a PDU of no known type": (Raw(wire.pdu(0x42, b"what?")), "association-protocol"),
    "a PDU longer than agreed": (Raw(wire.pdu(wire.P_DATA, b"", length=0x7FFFFFFF)), "association-protocol"),
    "a fragment longer than its PDU": (
        Raw(wire.pdu(wire.P_DATA, b"\0\0\xff\xff\x01\x03" + bytes(8))),
        "association-protocol",
    ),
    "an association request": (Raw(wire.Handshake().encode(wire.RQ)), "association-protocol"),
    "an answer to another message": (OfAnother(), "association-protocol"),
    "an answer in another context": (OfAnother(message_id=1, context=98), "association-protocol"),
    "an answer without status": (OfAnother(message_id=1, status=None), "association-protocol"),
}


@pytest.mark.parametrize(("act", "code"), BROKEN.values(), ids=BROKEN)
def test_no_answer(pacs: FaultyPeer, sender: Sender, study: Study, act: Act, code: str) -> None:
    """The association is dropped and never used again; the destination is to be asked before it is sent again."""
    pacs.on("store", act, times=1)
    failure = sender.failure(study[0])
    assert (failure.code, failure.cls) == (code, C.ASK)
    assert sender.store(study[1]).status == 0
    assert pacs.count("associate") == 2
    assert pacs.archive.sop_uids - {study.sop_uids[0]} == {study.sop_uids[1]}


def test_a_peer_that_stops_reading(pacs: FaultyPeer, sender: Sender) -> None:
    """Half-open: it takes no more bytes, and nothing tells so but time."""
    deaf = pacs.on("store", Deaf(after=100_000), times=1)
    large = make_study(instances=1, size_bytes=24_000_000)[0]
    failure = sender.failure(large)
    assert (failure.code, failure.cls) == ("timeout", C.ASK)
    deaf.off()
    assert sender.store(large).status == 0


def test_two_answers_to_one_image(pacs: FaultyPeer, sender: Sender, study: Study) -> None:
    """The second one is never taken for the answer to the next image."""
    pacs.on("store", Twice(), times=1)
    pacs.on("store", Answer(0xC000), times=1)
    assert sender.store(study[0]).status == 0
    assert sender.failure(study[1]).code == "store-cxxx"
    assert sender.store(study[2]).status == 0


def test_an_idle_association_that_the_peer_ends(pacs: FaultyPeer, sender: Sender, study: Study) -> None:
    """Nothing was sent over it: another one is opened, and nobody notices."""
    assert sender.store(study[0]).status == 0
    pacs.cut()
    pacs.wait_idle()
    assert sender.store(study[1]).status == 0
    assert pacs.count("associate") == 2


def test_stopped_in_mid_image(pacs: FaultyPeer, sender: Sender, study: Study) -> None:
    """Cancelling ends the wait at once, and drops the association."""
    silent = pacs.on("store", Silence(after=20_000), times=1)
    switch = AbortSwitch()
    threading.Thread(target=lambda: (silent.wait_hit(), switch.abort())).start()
    with pytest.raises(TransportError) as stopped:
        sender.store(study[0], abort=switch)
    assert stopped.value.fault is TransportFault.ABORTED
    assert sender.store(study[1]).status == 0
    assert pacs.count("associate") == 2


@pytest.mark.parametrize("max_pdu", [4096, 0, 1 << 20])
def test_lengths_of_pdus(study: Study, max_pdu: int) -> None:
    """What the peer says it takes is kept to; 0 is any length."""
    with FaultyPeer(max_pdu=max_pdu) as pacs:
        sender = Sender(pacs)
        for uid, file in zip(study.sop_uids, study, strict=True):
            assert sender.store(file).status == 0
            assert pacs.archive.data(uid) == Image.of(file).data
        sender.associations.close()
        pacs.wait_idle()
        assert not max_pdu or pacs.longest_pdu <= max_pdu


def test_the_liar(pacs: FaultyPeer, sender: Sender, study: Study) -> None:
    """On the wire a lie is an answer like any other: no more than an acknowledgement may be made of 0000."""
    pacs.on("store", Lie())
    assert sender.store(study[0]).status == 0
    assert study.sop_uids[0] not in pacs.archive


# --- associations

REJECTIONS = [
    ((1, 1, 3), "association-calling-aet", C.PERSON),
    ((1, 1, 7), "association-called-aet", C.PERSON),
    ((1, 1, 1), "association-rejected", C.PERSON),
    ((1, 1, 2), "association-application-context", C.PERSON),
    ((1, 2, 1), "association-rejected", C.PERSON),
    ((1, 2, 2), "association-application-context", C.PERSON),
    ((1, 3, 0), "association-rejected", C.PERSON),
    ((2, 1, 1), "association-rejected-transient", C.BUSY),
    ((2, 3, 1), "association-congestion", C.BUSY),
    ((2, 3, 2), "association-local-limit", C.BUSY),
    ((1, 3, 1), "association-congestion", C.BUSY),
    ((9, 9, 9), "association-rejected", C.PERSON),
]


@pytest.mark.parametrize(("reason", "code", "cls"), REJECTIONS, ids=[str(row[0]) for row in REJECTIONS])
def test_rejected_associations(
    pacs: FaultyPeer, sender: Sender, study: Study, reason: tuple[int, int, int], code: str, cls: FailureClass
) -> None:
    pacs.on("associate", Reject(*reason), times=1)
    failure = sender.failure(study[0])
    assert (failure.code, failure.cls) == (code, cls)
    assert "PACS" in failure.sentence
    assert "administrator" in failure.next_step
    assert pacs.count("store") == 0
    assert sender.store(study[0]).status == 0


#: What comes in place of an answer to the association request; nothing of the image was sent.
UNOPENED = {
    "silence": (Silence(), "timeout", C.DOWN),
    "slow drip": (Drip(0.05), "timeout", C.DOWN),
    "half an answer": (HalfAnswer(), "timeout", C.DOWN),
    "half an answer, then the end": (HalfAnswer(then_close=True), "cut", C.RETRY),
    "RST": (Reset(), "cut", C.RETRY),
    "closed": (Close(), "cut", C.RETRY),
    "A-ABORT": (Abort(), "association-aborted", C.RETRY),
    "another protocol": (Raw(HTTP), "association-no-dicom", C.PERSON),
    "a rejection that is too short": (Raw(wire.pdu(wire.RJ, b"\0")), "association-no-dicom", C.PERSON),
    "an answer of two gigabytes": (Raw(wire.pdu(wire.AC, b"", length=0x7FFFFFFF)), "association-no-dicom", C.PERSON),
    "an answer with a broken item": (
        Raw(wire.pdu(wire.AC, bytes(68) + b"\x21\0\xff\xff")),
        "association-no-dicom",
        C.PERSON,
    ),
}


@pytest.mark.parametrize(("act", "code", "cls"), UNOPENED.values(), ids=UNOPENED)
def test_associations_that_never_come_about(
    pacs: FaultyPeer, sender: Sender, study: Study, act: Act, code: str, cls: FailureClass
) -> None:
    pacs.on("associate", act, times=1)
    failure = sender.failure(study[0])
    assert (failure.code, failure.cls) == (code, cls)
    assert sender.store(study[0]).status == 0
    assert pacs.archive.times[study.sop_uids[0]] == 1


def test_nobody_listens(study: Study) -> None:
    with FaultyPeer() as pacs:
        sender = Sender(pacs)
    failure = sender.failure(study[0])
    assert (failure.code, failure.cls) == ("refused", C.DOWN)


def test_no_accepted_presentation_context(pacs: FaultyPeer, sender: Sender, study: Study) -> None:
    """Such an image fails with what was not accepted; others go on over the same association."""
    other = make_study(instances=1, modality="MR")
    pacs.refuses = lambda abstract, syntax: abstract == Image.of(other[0]).sop_class
    image = Image.of(study[0])
    refused = Image.of(other[0])
    sender.associations.expect([(image.sop_class, image.syntax), (refused.sop_class, refused.syntax)])
    failure = sender.failure(other[0])
    assert (failure.code, failure.cls) == ("association-no-context", C.PERMANENT)
    assert refused.sop_class in failure.detail
    assert refused.syntax in failure.detail
    assert sender.store(study[0]).status == 0
    assert pacs.count("associate") == 1
    with pytest.raises(NoContext):
        sender.store(other[0])
    assert pacs.count("store") == 1


@pytest.mark.parametrize("limit", [1, 2])
def test_a_peer_with_a_limit_of_associations(pacs: FaultyPeer, study: Study, limit: int) -> None:
    """Rejected for too many, fewer are used: everything arrives, and nobody is bothered."""
    pacs.on("associate", AboveLimit(limit))
    sender = Sender(pacs, 4)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(sender.store, [*study, *study]))
    assert {answer.status for answer in answers} == {0}
    assert pacs.archive.sop_uids == set(study.sop_uids)
    assert pacs.most_associations <= limit
    sender.associations.close()
