"""What a move deletes on: never on the word of a destination that held something under the same UID before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.model.errors import AnswerError, TransportError, TransportFault
from core.model.outcome import DeliveryState
from core.nodes.base import DicomAddress
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def states(bench: Bench, job: int) -> list[DeliveryState]:
    return [row.state for row in bench.ledger.deliveries(job_id=job)]


def test_what_lay_under_the_same_uid_before_is_no_proof_for_a_deletion(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    b.gives_digests = False
    a.fill(1, 3)
    b.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.1", b"something else")
    job = bench.job("forward", after="move")
    bench.start()
    done = bench.finish(job)
    assert set(a.held) == {"1.2.3.0.1.1"}
    assert (done.counts.verified, done.counts.skipped) == (2, 1)
    assert "held it before" in done.problem


def test_an_attempt_that_only_asked_has_sent_nothing(bench: Bench) -> None:
    """The destination can't be asked at first, and then lists what it held all along."""
    a, b = bench.node("A"), bench.node("B")
    b.gives_digests = False
    a.fill(1, 2)
    b.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.1", b"something else")
    asked = []

    def busy() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise AnswerError(503, "It is busy.")

    b.on_confirm = busy
    job = bench.job("forward", after="move")
    bench.start()
    bench.finish(job)
    assert set(a.held) == {"1.2.3.0.1.1"}
    assert sorted(states(bench, job)) == [DeliveryState.SKIPPED, DeliveryState.VERIFIED]


def test_what_was_sent_without_an_answer_is_ours_when_it_is_found(bench: Bench) -> None:
    """It wasn't there when it was looked for, so it is what was sent."""
    a, b = bench.node("A"), bench.node("B")
    b.gives_digests = False
    a.fill(1, 2)
    store = b.store
    lost = []

    def no_answer(*args: object, **keys: object) -> object:
        answer = store(*args, **keys)  # type: ignore[arg-type]
        if not lost:
            lost.append(1)
            raise AnswerError(503, "The answer was lost.")
        return answer

    b.store = no_answer  # type: ignore[method-assign, assignment]
    job = bench.job("forward", after="move")
    bench.start()
    assert bench.finish(job).counts.verified == 2
    assert not a.held
    assert len(b.stores) == 2


def test_what_a_fallback_held_before_was_never_sent_there(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    c.gives_digests = False
    a.fill(1, 2)
    c.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.1", b"something else")

    def down(*_a: object) -> None:
        raise TransportError(TransportFault.REFUSED, "Nobody answers.")

    b.on_store = down
    b.on_probe = down
    job = bench.job("forward", after="move", fallback="C", fallback_after=0)
    bench.start()
    bench.finish(job)
    assert set(a.held) == {"1.2.3.0.1.1"}


class Archive(MemoryNode):
    """A server as its web interface shows it, that takes images by DICOM, too."""

    host, port = "localhost", 4242

    def dicom_address(self) -> DicomAddress:
        return DicomAddress("ARCHIVE", self.host, self.port)


class Port(Archive):
    """An application entity, known by its address only."""


@pytest.mark.parametrize(
    ("host", "port", "deleted"), [("localhost", 4242, False), ("127.0.0.1", 4242, False), ("127.0.0.1", 4243, True)]
)
def test_a_server_and_its_own_dicom_port_are_one(bench: Bench, host: str, port: int, deleted: bool) -> None:
    a, b = Archive("A"), Port("B")
    b.host, b.port = host, port
    bench.nodes.update(A=a, B=b)
    a.fill(1, 2)
    job = bench.job("forward", after="move", max_attempts=1)
    bench.start()
    bench.wait(lambda: bench.record(job).counts.verified == 2, "the proof")
    if deleted:
        bench.wait(lambda: not a.held, "the deletion")
        return
    bench.wait(lambda: bool([e for e in bench.ledger.log() if "same server" in e.text]), "the refusal")
    assert len(a.held) == 2
