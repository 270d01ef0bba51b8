"""Storage commitment as the proof wanted: what is committed, refused, late or never answered, and what follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ledger.book import Verb
from core.model.errors import TransportError, TransportFault
from core.model.events import StudyChanged
from core.model.job import JobState
from core.model.outcome import DeliveryState, Method, SourceState
from tests.support.archive_node import BlindNode, CommittingNode, MovingNode, UnsureNode
from tests.support.engine_bench import Bench
from tests.support.waiting import PATIENCE


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def committing(bench: Bench, name: str = "B") -> CommittingNode:
    bench.nodes[name] = CommittingNode(name)
    return bench.nodes[name]  # type: ignore[return-value]


def rows(bench: Bench, job: int) -> dict[str, tuple[DeliveryState, Method | None]]:
    found = bench.ledger.deliveries(job_id=job, limit=10_000)
    return {r.sop_uid: (r.state, r.evidence.method if r.evidence else None) for r in found}


def test_everything_is_committed_study_by_study(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(3, 250)
    job = bench.job(evidence="committed")
    bench.start()
    done = bench.finish(job)
    assert done.counts.committed == done.counts.total == 750
    assert set(rows(bench, job).values()) == {(DeliveryState.COMMITTED, Method.COMMITMENT)}
    assert sorted(uid for t in b.transactions for uid in t) == sorted(a.held), "each asked for exactly once"
    proof = bench.ledger.deliveries(job_id=job)[0]
    assert proof.evidence
    assert proof.evidence.digest == proof.source_digest, "the digest that was seen before stays"
    bench.wait(
        lambda: (
            {e.row.id for e in bench.events if isinstance(e, StudyChanged) and e.row.state == "committed"} == {1, 2, 3}
        ),
        "the studies to be told as committed",
    )
    assert bench.ledger.unconfirmed_studies() == 0


def test_a_refusal_is_tried_again_and_fails_with_its_reason(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 10)
    bad = "1.2.3.0.1.4"
    b.on_commit = lambda uids: {u: "commitment-0110 Processing failure" if u == bad else "" for u in uids}
    job = bench.job("forward", evidence="committed", after="move", max_attempts=3)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.committed, done.counts.failed) == (9, 1)
    assert len(b.transactions) == 3
    assert b.transactions[1:] == [[bad], [bad]], "only what was refused is asked for again"
    assert b.stores.count(bad) == 1, "never sent again for that"
    assert set(a.held) == {bad}, "only what was committed is deleted"
    (group,) = bench.ledger.failure_groups(job_id=job)
    assert group.failure.sentence == "Processing failure"
    assert group.failure.code == "commitment-0110"


def test_it_does_not_hold_what_it_is_asked_for(bench: Bench) -> None:
    """0112: it is looked for, and sent again where it is missing."""
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 5)
    lost = "1.2.3.0.1.2"

    def lose(uids: list[str]) -> dict[str, str]:
        if len(b.transactions) == 1:
            with b.lock:
                del b.held[lost]
            return {u: "commitment-0112 no such object instance" if u == lost else "" for u in uids}
        return dict.fromkeys(uids, "")

    b.on_commit = lose
    job = bench.job(evidence="committed")
    bench.start()
    assert bench.finish(job).counts.committed == 5
    assert b.stores.count(lost) == 2
    assert b.transactions[1] == [lost]


def test_a_report_that_never_comes_is_asked_for_anew(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 4)

    def late(uids: list[str]) -> dict[str, str]:
        if len(b.transactions) < 3:
            raise TransportError(TransportFault.TIMEOUT, "B has not reported in time.")
        return dict.fromkeys(uids, "")

    b.on_commit = late
    job = bench.job(evidence="committed")
    bench.start()
    assert bench.finish(job).counts.committed == 4
    assert len(b.transactions) == 3
    assert len(b.stores) == 4


def test_never_means_failed_and_nothing_is_deleted(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(2, 4)

    def never(_uids: list[str]) -> dict[str, str]:
        raise TransportError(TransportFault.TIMEOUT, "B has not reported in time.")

    b.on_commit = never
    job = bench.job("forward", evidence="committed", after="move", max_attempts=2)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.failed, done.counts.committed, done.counts.verified) == (8, 0, 0)
    assert a.deletes == []
    assert {r.source_state for r in bench.ledger.deliveries(job_id=job)} == {SourceState.KEPT}
    b.on_commit = lambda uids: dict.fromkeys(uids, "")
    bench.command(Verb.RETRY, job_id=job)
    bench.wait(lambda: bench.record(job).counts.committed == 8 and bench.settled(2), "the commitment after all")
    bench.wait(lambda: not a.held, "the deletion that stands on it")
    assert len(b.stores) == 8, "nothing was sent again"


def test_an_image_that_the_report_does_not_name_is_not_committed(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 3)
    b.on_commit = lambda uids: {u: "" for u in uids if u != "1.2.3.0.1.1"}
    job = bench.job(evidence="committed", max_attempts=2)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.committed, done.counts.failed) == (2, 1)
    assert rows(bench, job)["1.2.3.0.1.1"][0] is DeliveryState.FAILED


def test_what_was_there_before_is_committed_and_counts_as_skipped(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 6)
    for uid in list(a.held)[:4]:
        b.held[uid] = a.held[uid]
    job = bench.job("forward", evidence="committed", after="move")
    bench.start()
    done = bench.finish(job)
    assert (done.counts.skipped, done.counts.committed) == (4, 2)
    assert {method for _s, method in rows(bench, job).values()} == {Method.COMMITMENT}
    assert not a.held
    assert len(b.stores) == 2


def test_a_slow_commitment_holds_up_no_sending(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(4, 5)
    free = threading.Event()

    def slow(uids: list[str]) -> dict[str, str]:
        assert free.wait(PATIENCE)
        return dict.fromkeys(uids, "")

    b.on_commit = slow
    job = bench.job(evidence="committed", workers=1)
    bench.start()
    bench.wait(lambda: bench.record(job).counts.verified == 20, "all images while the first study awaits its report")
    bench.wait(lambda: len(b.transactions) == 2, "no more than two transactions at a time")
    assert bench.ledger.unconfirmed_studies() == 4
    free.set()
    assert bench.finish(job).counts.committed == 20


def test_a_study_of_many_images_is_asked_for_in_parts(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 1200, size=4)
    job = bench.job(evidence="committed")
    bench.start()
    assert bench.finish(job).counts.committed == 1200
    assert max(len(t) for t in b.transactions) <= 500


def test_a_node_that_can_not_list_is_proved_by_commitment_alone(bench: Bench) -> None:
    a, inner = bench.node("A"), CommittingNode("B")
    bench.nodes["B"] = BlindNode(inner)  # type: ignore[assignment]
    a.fill(2, 10)
    refused = "1.2.3.1.1.3"
    inner.on_commit = lambda uids: {u: "commitment-0122 not supported" if u == refused else "" for u in uids}
    job = bench.job("forward", evidence="committed", after="move", max_attempts=2)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.committed, done.counts.failed) == (19, 1)
    assert set(a.held) == {refused}
    assert len(inner.stores) == 20, "each sent once"


@pytest.mark.parametrize("pushed", [False, True])
def test_a_node_that_never_knows_what_it_holds(bench: Bench, pushed: bool) -> None:
    """As a PACS that lists no images: commitment is the proof, and "sent" is all that can be had without it."""
    a = bench.nodes["A"] = MovingNode("A")
    b, c = UnsureNode("B"), UnsureNode("C")
    bench.nodes |= {"B": b, "C": c}
    if pushed:
        a.targets |= {"B": b, "C": c}
    a.fill(2, 30)
    refused = "1.2.3.1.1.3"
    b.on_commit = lambda uids: {u: "commitment-0122 not supported" if u == refused else "" for u in uids}
    fields = {"path": "push", "check_interval": 0.05, "date_from": "20260101", "undated": "ignore"}
    committed = bench.job("migrate", evidence="committed", max_attempts=2, **fields)
    sent = bench.job("migrate", destination=["C"], evidence="sent", max_attempts=2, **fields)
    bench.start()
    done = bench.finish(committed)
    assert (done.counts.committed, done.counts.failed) == (59, 1)
    assert bench.finish(sent).counts.sent == 60
    assert len(b.stores) == len(c.stores) == 60, "each sent once"


def test_a_node_without_commitment_is_refused_before_the_start(bench: Bench) -> None:
    bench.node("A").fill(1, 1)
    bench.node("B")
    job = bench.job(evidence="committed")
    bench.start()
    bench.wait(lambda: bench.record(job).state is not JobState.RUNNING, "the refusal")
    assert "storage commitment" in bench.record(job).problem


def test_after_a_stop_only_the_commitment_is_left_to_do(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 8)
    free = threading.Event()

    def cut(uids: list[str]) -> dict[str, str]:
        if not free.is_set():
            raise TransportError(TransportFault.TIMEOUT, "B has not reported in time.")
        return dict.fromkeys(uids, "")

    b.on_commit = cut
    job = bench.job(evidence="committed", retry_delays=[3600])
    bench.start()
    bench.wait(lambda: bool(b.transactions) and bench.record(job).counts.verified == 8, "the first request")
    bench.stop()
    free.set()
    bench.start()
    bench.command(Verb.RETRY, job_id=job)
    assert bench.finish(job).counts.committed == 8
    assert len(b.stores) == 8


def test_a_study_cancelled_while_it_awaits_its_report(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(2, 5)
    free = threading.Event()

    def slow(uids: list[str]) -> dict[str, str]:
        assert free.wait(PATIENCE)
        return dict.fromkeys(uids, "")

    b.on_commit = slow
    job = bench.job(evidence="committed")
    bench.start()
    bench.wait(lambda: len(b.transactions) == 2, "both requests")
    transfer = bench.ledger.deliveries(job_id=job)[0].transfer_id
    bench.command(Verb.CANCEL_TRANSFER, transfer_id=transfer)
    bench.wait(lambda: not bench.ledger.open_commands(), "the command")
    free.set()
    done = bench.finish(job)
    assert done.counts.total == done.counts.committed + done.counts.cancelled == 10


def test_cancelling_the_job_leaves_no_delivery_without_an_outcome(bench: Bench) -> None:
    a, b = bench.node("A"), committing(bench)
    a.fill(1, 5)

    def never(_uids: list[str]) -> dict[str, str]:
        raise TransportError(TransportFault.TIMEOUT, "B has not reported in time.")

    b.on_commit = never
    job = bench.job(evidence="committed", retry_delays=[3600])
    bench.start()
    bench.wait(lambda: bool(b.transactions), "the first request")
    bench.command(Verb.CANCEL, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the end")
    assert bench.record(job).counts.cancelled == 5
    assert bench.same_totals(job)
