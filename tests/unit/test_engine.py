"""The engine on nodes in memory: outcomes, evidence, retries, pause, cancel, deletion, in every unkind case."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ledger.book import Verb
from core.model.errors import AnswerError, TransportError, TransportFault
from core.model.events import StudyChanged
from core.model.job import JobState
from core.model.outcome import DeliveryState, Method, SourceState
from tests.support.engine_bench import Bench
from tests.support.waiting import PATIENCE


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def test_everything_arrives_and_is_verified_by_digest(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(7, 450)
    job = bench.job()
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == done.counts.total == 7 * 450
    assert sorted(b.stores) == sorted(a.held), "each sent exactly once"
    rows = bench.ledger.deliveries(job_id=job, limit=10_000)
    assert {r.evidence.method for r in rows if r.evidence} == {Method.DIGEST}
    assert all(r.evidence and r.evidence.digest == r.source_digest and r.attempt == 1 for r in rows)
    assert any(isinstance(e, StudyChanged) and e.row.state == "confirmed" for e in bench.events)


def test_second_pass_skips_what_is_there(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(3, 20)
    job = bench.job()
    bench.start()
    bench.finish(job)
    b.stores.clear()
    bench.ledger.next_pass(job)
    bench.command(Verb.START, job_id=job)
    done = bench.finish(job)
    assert done.pass_number == 2
    assert done.counts.skipped == done.counts.total == 60
    assert b.stores == []


def test_other_content_is_a_conflict_and_stays(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 5)
    b.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.2", b"something else")
    job = bench.job()
    bench.start()
    done = bench.finish(job)
    assert (done.counts.conflict, done.counts.verified) == (1, 4)
    assert b.held["1.2.3.0.1.2"][1] == b"something else"
    transfer = bench.ledger.deliveries(job_id=job)[0].transfer_id
    bench.command(Verb.OVERWRITE_TRANSFER, transfer_id=transfer)
    bench.wait(lambda: bench.record(job).counts.verified == 5, "the replacement")
    assert b.held["1.2.3.0.1.2"][1] == a.held["1.2.3.0.1.2"][1]


def test_a_liar_never_gets_past_sent_and_nothing_is_deleted(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    b.lies = True
    a.fill(1, 10)
    job = bench.job("forward", after="move", max_attempts=2)
    bench.start()
    done = bench.finish(job)
    assert done.counts.failed == 10
    assert a.deletes == []
    failures = bench.ledger.failure_groups(job_id=job)
    assert failures[0].failure.code == "not-confirmed"
    assert failures[0].count == 10


def test_altered_on_arrival_is_different_and_never_deleted(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 4)
    b.alter = lambda data: data + b"!"
    job = bench.job("forward", after="move")
    bench.start()
    assert bench.finish(job).counts.conflict == 4
    assert a.deletes == []


def test_move_deletes_exactly_what_was_verified(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 30)
    b.add("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.7", b"other content")
    arrived = threading.Event()

    def arrive(_ref: object) -> None:
        if not arrived.is_set():
            arrived.set()
            a.add("1.2.3.0", "1.2.3.0.1", "9.9.9", b"came meanwhile")

    b.on_store = arrive
    job = bench.job("forward", after="move", workers=1)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.conflict) == (59, 1)
    assert set(a.held) == {"9.9.9", "1.2.3.1.1.7"}
    rows = bench.ledger.deliveries(job_id=job, limit=100)
    assert sum(r.source_state is SourceState.DELETED for r in rows) == 59


def test_changed_at_the_source_after_confirmation_stays(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)

    def change(ref: object) -> None:
        if len(a.deletes) == 0:
            entry = a.held["1.2.3.0.1.1"]
            a.held["1.2.3.0.1.1"] = (entry[0], b"overwritten by the modality")

    a.on_delete = change
    job = bench.job("forward", after="move")
    bench.start()
    done = bench.finish(job)
    assert set(a.held) == {"1.2.3.0.1.1"}
    assert done.problem
    assert b.held.keys() >= {"1.2.3.0.1.0"}


def test_only_what_failed_is_sent_again(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 100)
    bad = {f"1.2.3.0.1.{n}" for n in (3, 50, 99)}
    tries: dict[str, int] = {}

    def fail(ref: object) -> None:
        uid = ref.sop_uid  # type: ignore[attr-defined]
        tries[uid] = tries.get(uid, 0) + 1
        if uid in bad and tries[uid] == 1:
            raise AnswerError(500, "It did not work.")

    b.on_store = fail
    job = bench.job()
    bench.start()
    assert bench.finish(job).counts.verified == 100
    assert {k for k, v in tries.items() if v > 1} == bad
    assert sorted(b.stores) == sorted(a.held)


def test_attempts_run_out_then_a_person_retries(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    broken = True

    def fail(ref: object) -> None:
        if broken:
            raise AnswerError(500, "It did not work.")

    b.on_store = fail
    job = bench.job(max_attempts=3)
    bench.start()
    done = bench.finish(job)
    assert done.counts.failed == 3
    assert all(r.attempt == 3 for r in bench.ledger.deliveries(job_id=job))
    broken = False
    bench.command(Verb.RETRY, job_id=job)
    bench.wait(lambda: bench.record(job).counts.verified == 3, "the retry")


def test_gone_at_the_source_is_named(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(1, 20)

    def vanish(ref: object) -> None:
        a.held.pop("1.2.3.0.1.19", None)

    a.on_read = vanish
    job = bench.job(workers=1)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.failed) == (19, 1)
    assert bench.ledger.failure_groups(job_id=job)[0].failure.code == "gone"


def test_down_is_probed_and_not_hammered(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 50)
    down = True
    knocks: list[str] = []

    def refuse(*_args: object) -> None:
        if down:
            knocks.append("store")
            raise TransportError(TransportFault.REFUSED, "Nobody answers.")

    def probe() -> None:
        nonlocal down
        knocks.append("probe")
        if knocks.count("probe") >= 3:
            down = False
        if down:
            raise TransportError(TransportFault.REFUSED, "Nobody answers.")

    b.on_store = refuse
    b.on_confirm = refuse
    b.on_probe = probe
    job = bench.job(max_attempts=100)
    bench.start()
    assert bench.finish(job).counts.verified == 50
    assert knocks.count("store") <= 8 + 1
    assert knocks.count("probe") == 3


def test_down_for_too_long_fails_with_the_reason(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 50)

    def refuse() -> None:
        raise TransportError(TransportFault.REFUSED, "Nobody answers.", "Switch it on.")

    b.on_confirm = b.on_probe = refuse
    job = bench.job(max_attempts=3)
    bench.start()
    done = bench.finish(job)
    assert done.counts.failed == 100
    row = bench.ledger.transfer(bench.ledger.deliveries(job_id=job)[0].transfer_id)
    assert row
    assert (row.reason, row.next_step) == ("Nobody answers.", "Switch it on.")


def test_a_fallback_takes_over_whole_studies(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(2, 30)
    count = 0

    def dies(ref: object) -> None:
        nonlocal count
        count += 1
        if count > 40:
            refuse()

    def refuse() -> None:
        raise TransportError(TransportFault.REFUSED, "Nobody answers.")

    b.on_store = dies
    b.on_probe = refuse
    job = bench.job("forward", fallback="C", fallback_after=0.2, after="move", max_attempts=50)
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == done.counts.total == 60
    assert a.held == {}
    assert all(uid in b.held or uid in c.held for uid in [f"1.2.3.{s}.1.{i}" for s in range(2) for i in range(30)])
    diverted = [r for r in bench.ledger.deliveries(job_id=job, limit=100) if r.destination == "C"]
    assert len(diverted) in (30, 60)


def test_pause_holds_within_two_seconds_and_resume_goes_on(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 400)
    reached = threading.Event()

    def slow(ref: object) -> None:
        if len(b.stores) >= 20:
            reached.set()
        threading.Event().wait(0.01)

    b.on_store = slow
    job = bench.job(workers=4)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.PAUSE, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause", 2.0)
    held = len(b.stores)
    threading.Event().wait(0.3)  # a time in which nothing may happen
    assert len(b.stores) == held < 400
    counts = bench.record(job).counts
    assert counts == bench.ledger.job_counts(job)
    assert counts.sending == 0
    bench.command(Verb.RESUME, job_id=job)
    assert bench.finish(job).counts.verified == 400
    assert len(b.stores) == 400


def test_cancel_gives_everything_an_outcome(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 300)
    reached = threading.Event()

    def slow(ref: object) -> None:
        if len(b.stores) >= 20:
            reached.set()
        threading.Event().wait(0.01)

    b.on_store = slow
    job = bench.job(workers=4)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.CANCEL, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancelling", 5.0)
    counts = bench.record(job).counts
    assert counts == bench.ledger.job_counts(job)
    assert counts.cancelled > 0
    assert counts.planned == counts.sending == counts.sent == 0


def test_stopped_engine_goes_on_without_sending_again(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(3, 200)
    reached = threading.Event()

    def watch(ref: object) -> None:
        if len(b.stores) >= 250:
            reached.set()
        threading.Event().wait(0.002)

    b.on_store = watch
    job = bench.job()
    bench.start()
    assert reached.wait(PATIENCE)
    bench.stop()
    assert bench.record(job).state is JobState.STOPPED
    bench.start()
    assert bench.finish(job).counts.verified == 600
    assert sorted(b.stores) == sorted(a.held), "nothing was sent twice"


def test_a_hung_destination_does_not_hold_the_other(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(2, 100)
    release = threading.Event()
    c.on_store = lambda _ref: release.wait(PATIENCE) and None
    job = bench.job("forward", destination=["B", "C"])
    bench.start()
    bench.wait(lambda: len(b.stores) == 200, "the healthy lane")
    assert len(c.stores) == 0
    release.set()
    assert bench.finish(job).counts.verified == 400


def test_multiple_destinations_all_before_a_delete(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(1, 20)
    c.lies = True
    job = bench.job("forward", destination=["B", "C"], after="move", max_attempts=1)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.failed) == (20, 20)
    assert a.deletes == []
    assert len(b.held) == 20


def test_follow_sends_what_arrives_and_survives_a_cleared_log(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 5)
    job = bench.job(follow=True, poll_interval=0.2)
    bench.start()
    bench.wait(lambda: len(b.held) == 5, "the content")
    a.add("5.5", "5.5.1", "5.5.1.1", b"new")
    bench.wait(lambda: len(b.held) == 6, "what arrived")
    with a.lock:
        a.log.clear()
    a.held["7.7.7"] = (a.held["5.5.1.1"][0].__class__("7.7.7", "7.7", "7", "7.7.7", 3), b"abc")
    bench.wait(lambda: len(b.held) == 7, "what only an inventory finds")
    assert bench.record(job).state is JobState.RUNNING


def test_without_digests_the_evidence_says_uid(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    b.gives_digests = False
    a.fill(1, 3)
    job = bench.job()
    bench.start()
    assert bench.finish(job).counts.verified == 3
    evidence = bench.ledger.deliveries(job_id=job)[0].evidence
    assert evidence
    assert evidence.method is Method.UID
    assert "can't tell digests" in evidence.note


def test_sent_is_final_only_when_no_more_is_asked(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    job = bench.job(evidence="sent")
    bench.start()
    done = bench.finish(job)
    assert done.counts.sent == 3
    row = bench.ledger.transfer(bench.ledger.deliveries(job_id=job)[0].transfer_id)
    assert row
    assert row.state == "sent"
    assert len(b.stores) == 3
    assert DeliveryState.SENT


def test_move_with_sent_only_is_refused(bench: Bench) -> None:
    bench.node("A").fill(1, 1)
    bench.node("B")
    job = bench.job("forward", after="move", evidence="sent")
    bench.start()
    done = bench.finish(job)
    assert "needs proof" in done.problem
    assert done.counts.total == 0


def test_source_down_while_listing_ends_with_a_sentence(bench: Bench) -> None:
    a = bench.node("A")
    bench.node("B")

    def refuse(*_a: object, **_k: object) -> None:
        raise TransportError(TransportFault.REFUSED, "Nobody answers at A.", "Switch A on.")

    a.studies = refuse  # type: ignore[method-assign, assignment]
    a.on_probe = refuse
    job = bench.job(max_attempts=2)
    bench.start()
    assert bench.finish(job).problem == "Nobody answers at A. Switch A on."
