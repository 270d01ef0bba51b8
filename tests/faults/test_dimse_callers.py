"""Callers that misbehave towards this computer: nothing half is kept, nobody else notices, each line ends in time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.nodes.this_computer.node import ThisComputerNode
from tests.support.dimse_scu import ABORTED, CLOSED, OPEN, Caller, Image
from tests.support.dimse_wire import Ended, Line, Offer
from tests.support.own_node import AET, held, own_node
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

LIMIT = 6


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThisComputerNode]:
    hasty = {"association_timeout": 1, "answer_timeout": 4, "idle_timeout": 1, "connections": LIMIT}
    with own_node(tmp_path_factory.mktemp("own"), callers=("CALLER@*",), **hasty) as made:
        yield made


@pytest.fixture
def caller(node: ThisComputerNode) -> Iterator[Caller]:
    with Caller("127.0.0.1", node.fields.port, called=AET) as made:
        yield made


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(instances=2, size_bytes=300_000, patient_id=tmp_path.name)


def scratch(node: ThisComputerNode) -> list[Path]:
    """Files in the spool that are no received image: halves."""
    assert node.folder is not None
    return list(node.folder.rglob("*.part*"))


def as_if_nothing_had_been(node: ThisComputerNode, study: Study) -> None:
    """Nothing of the first image is held, no half lies about, and the next caller is served."""
    with Caller("127.0.0.1", node.fields.port, called=AET) as other:
        assert other.send(study[1]) == 0
    assert study.sop_uids[1] in held(node)
    assert study.sop_uids[0] not in held(node)
    wait_for(lambda: not scratch(node), what="the halves to be gone")


#: What a caller does after which this computer has to end the line by itself, and how it may.
Rude = Callable[[Caller, Study], Line]
RUDE: dict[str, Rude] = {
    "half a PDU, then silence": lambda caller, study: caller.half_a_pdu(study[0]),
    "half an image, then silence": lambda caller, study: caller.half_an_image(study[0], 100_000),
    "half an association request": lambda caller, study: caller.half_a_request(),
    "not a word": lambda caller, study: caller.connect(),
    "A-ABORT in mid-image": lambda caller, study: caller.abort_in_data_set(study[0], 100_000),
    "a release in mid-image": lambda caller, study: caller.release_in_data_set(study[0], 100_000),
    "a PDU shorter than it says": lambda caller, study: caller.wrong_pdu_length(study[0], 60_000),
    "a PDU longer than it says": lambda caller, study: caller.wrong_pdu_length(study[0], 20),
    "a PDU of two gigabytes": lambda caller, study: caller.too_large_pdu(),
    "an empty PDU": lambda caller, study: caller.wrong_pdu_length(study[0], 0),
    "a fragment longer than its PDU": lambda caller, study: caller.wrong_pdv_length(study[0], 0xFFFF),
    "a fragment of no length": lambda caller, study: caller.wrong_pdv_length(study[0], 0),
    "an item beyond the request": lambda caller, study: caller.wrong_item_length(),
    "an unknown context": lambda caller, study: caller.unknown_context(study[0]),
    "a PDU of no known type": lambda caller, study: caller.unknown_pdu(),
    "another protocol": lambda caller, study: caller.no_dicom(),
    "TLS": lambda caller, study: caller.no_dicom(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506)),
}


@pytest.mark.parametrize("rude", RUDE.values(), ids=RUDE)
def test_a_line_that_has_to_end(node: ThisComputerNode, caller: Caller, study: Study, rude: Rude) -> None:
    """It is aborted or closed within the times that are set, and the next caller is served meanwhile and after."""
    line = rude(caller, study)
    as_if_nothing_had_been(node, study)
    assert caller.end_of(line) in (ABORTED, CLOSED)
    assert study.sop_uids[0] not in held(node)


@pytest.mark.parametrize("after", [0, 1, 16_000, 299_000])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_gone_in_mid_image(node: ThisComputerNode, caller: Caller, study: Study, how: str, after: int) -> None:
    {"reset": caller.reset_in_data_set, "close": caller.close_in_data_set}[how](study[0], after)
    as_if_nothing_had_been(node, study)


def test_gone_before_the_answer(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    """The image came whole: kept or not, it is whole, and sending it again is answered as it should be."""
    caller.gone_before_answer(study[0])
    assert caller.send(study[0]) == 0
    assert study.sop_uids[0] in held(node)
    wait_for(lambda: not scratch(node), what="the halves to be gone")


def test_an_answer_that_was_not_asked_for(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    line = caller.unasked_answer()
    assert caller.end_of(line, 6) in (ABORTED, CLOSED)
    as_if_nothing_had_been(node, study)


def test_a_data_set_that_ends_too_early(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    """It came in good order, so it is the sender's word that it is all; one without its header is none."""
    status = caller.truncated_data_set(study[0], 20)
    assert status >> 12 in (0xA, 0xC)
    as_if_nothing_had_been(node, study)


def test_another_uid_than_announced(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    status = caller.another_uid(study[0], "1.2.3.4.5")
    assert status >> 12 in (0xA, 0xC)
    assert "1.2.3.4.5" not in held(node)
    as_if_nothing_had_been(node, study)


def test_a_hundred_at_once(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    """As many as are allowed; the others are told to come later, at once; afterwards there is room again."""
    offer = Image.of(study[0]).offer
    accepted, rejected = caller.crowd(100, offer)
    assert len(accepted) == LIMIT
    assert len(rejected) == 100 - LIMIT
    assert {error.reason for error in rejected} == {(2, 3, 2)}
    statuses = [caller.store(line, study[1]) for line in accepted]
    assert set(statuses) == {0}
    for line in accepted:
        line.release()
    as_if_nothing_had_been(node, study)


def test_a_crowd_that_says_nothing(node: ThisComputerNode, caller: Caller, study: Study) -> None:
    """A hundred connections without a request keep nobody out for longer than a request may take."""
    lines = [caller.connect() for _ in range(100)]

    def is_served() -> bool:
        with Caller("127.0.0.1", node.fields.port, called=AET) as other:
            try:
                return other.send(study[1]) == 0
            except Ended:
                return False

    wait_for(is_served, what="a caller to be served")
    assert all(caller.end_of(line, 3) != OPEN for line in lines)


def test_many_at_once_who_are_rude(node: ThisComputerNode, study: Study) -> None:
    """They don't hold up one who is not."""
    stop = threading.Event()

    def pester() -> None:
        with Caller("127.0.0.1", node.fields.port, called=AET) as rude:
            while not stop.is_set():
                with contextlib.suppress(Ended):
                    rude.reset_in_data_set(study[0], 50_000)

    threads = [threading.Thread(target=pester) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with Caller("127.0.0.1", node.fields.port, called=AET) as caller:
            line = caller.open(Image.of(study[1]).offer)
            assert {caller.store(line, study[1], number) for number in range(1, 20)} == {0}
            line.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    as_if_nothing_had_been(node, study)


def test_as_many_contexts_as_there_can_be(node: ThisComputerNode, caller: Caller) -> None:
    line = caller.open(*(Offer(f"1.2.3.{number}") for number in range(128)))
    assert len(line.contexts) == 128  # private kinds of images
    line.release()
