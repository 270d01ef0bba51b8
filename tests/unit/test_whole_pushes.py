"""Whole studies sent by the source itself (C-MOVE): what the destination lists decides, whatever the source says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.engine import disk_watch, pushing
from core.ledger.book import Verb
from core.model.disk import DiskLimit, parse_disk_limit
from core.model.errors import ConfigurationError
from core.model.job import JobState
from core.model.outcome import DeliveryState, Method
from core.model.study import InstanceRef
from core.nodes.base import DiskLevel, PushState, PushStatus
from tests.support.archive_node import FillingNode, MovingNode, ResumingNode
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode
from tests.support.waiting import PATIENCE

QUICK = {"path": "push", "check_interval": 0.05, "arrival_wait": 0.3, "date_from": "20260101", "undated": "ignore"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def archives(bench: Bench, kind: type[MovingNode] = MovingNode) -> tuple[MovingNode, MemoryNode]:
    a, b = kind("A"), bench.node("B")
    bench.nodes["A"] = a
    a.targets["B"] = b
    return a, b


def migrate(bench: Bench, **fields: object) -> int:
    return bench.job("migrate", **{**QUICK, **fields})


def codes(bench: Bench, job: int) -> dict[str, int]:
    return {g.failure.code: g.count for g in bench.ledger.failure_groups(job_id=job)}


def test_a_study_is_one_move_and_every_image_is_proved(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(3, 450)
    job = migrate(bench)
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == done.counts.total == 3 * 450
    assert a.moves == [(450, True)] * 3
    assert a.most_at_once <= 2, "unconfirmed C-MOVEs"
    rows = bench.ledger.deliveries(job_id=job, limit=2000)
    assert {(r.path, r.evidence.method, r.attempt) for r in rows if r.evidence} == {("push", Method.DIGEST, 1)}
    assert "sent by A" in rows[0].answer
    assert sorted(b.held) == sorted(a.held)


def test_what_is_there_is_not_sent_and_then_only_the_others_are_named(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(1, 10)
    for uid in list(a.held)[:3]:
        b.held[uid] = a.held[uid]
    job = migrate(bench)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.skipped, done.counts.verified) == (3, 7)
    assert a.moves == [(7, False)]


def test_what_is_lost_on_the_way_is_sent_again_and_nothing_else(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(1, 20)
    lost = {"1.2.3.0.1.4", "1.2.3.0.1.9"}
    a.on_move = lambda i: i.sop_uid not in lost or len(a.moves) > 1
    job = migrate(bench)
    bench.start()
    assert bench.finish(job).counts.verified == 20
    assert a.moves == [(20, True), (2, False)]
    assert len(b.stores) == 20


def test_never_received_has_its_own_outcome(bench: Bench) -> None:
    a, _b = archives(bench)
    a.fill(1, 5)
    a.on_move = lambda i: i.sop_uid != "1.2.3.0.1.2"
    job = migrate(bench, max_attempts=2, after="move")
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.failed) == (4, 1)
    assert codes(bench, job) == {"not-received-in-time": 1}
    assert set(a.held) == {"1.2.3.0.1.2"}


def test_gone_at_the_source_has_its_own_outcome(bench: Bench) -> None:
    a, _b = archives(bench)
    a.fill(1, 5)

    def vanish(i: InstanceRef) -> bool:
        a.held.pop("1.2.3.0.1.4", None)
        return True

    a.on_move = vanish
    job = migrate(bench)
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.failed) == (4, 1)
    assert codes(bench, job) == {"not-found-at-source": 1}
    assert len(a.moves) == 1, "what is gone is not asked for again"


@pytest.mark.parametrize("state", [PushState.FAILED, PushState.GONE])
def test_a_move_that_says_it_failed_and_brought_everything(bench: Bench, state: PushState) -> None:
    a, _b = archives(bench)
    a.fill(1, 30)
    a.ends = PushStatus(state, detail="A702: 30 failed")
    job = migrate(bench)
    bench.start()
    assert bench.finish(job).counts.verified == 30
    assert len(a.moves) == 1


def test_a_move_that_says_it_worked_and_brought_nothing(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(1, 3)
    a.on_move = lambda _i: False
    job = migrate(bench, max_attempts=2)
    bench.start()
    assert bench.finish(job).counts.failed == 3
    assert codes(bench, job) == {"not-received-in-time": 3}
    assert not b.held


def test_the_servers_own_words_are_kept_when_it_could_not(bench: Bench) -> None:
    a, _b = archives(bench)
    a.fill(1, 3)
    a.on_move = lambda _i: False
    a.ends = PushStatus(PushState.FAILED, detail="A801: destination unknown")
    job = migrate(bench, max_attempts=1)
    bench.start()
    assert bench.finish(job).counts.failed == 3
    (group,) = bench.ledger.failure_groups(job_id=job)
    assert (group.failure.code, group.failure.detail) == ("push-failed", "A801: destination unknown")


def test_a_destination_that_the_source_no_longer_knows(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(1, 3)

    def forget() -> None:  # asked what it holds, after the path was chosen
        a.targets.pop("B", None)

    b.on_confirm = forget
    job = migrate(bench, max_attempts=2)
    bench.start()
    assert bench.finish(job).counts.failed == 3
    assert codes(bench, job) == {"push-target": 3}
    assert not a.moves


def test_images_after_the_end_count_as_long_as_they_come(bench: Bench) -> None:
    a, b = archives(bench)
    a.fill(1, 6)
    ready = threading.Event()

    def late(uid: str) -> None:
        with b.lock:
            b.held[uid] = a.held[uid]

    a.on_move = lambda _i: False
    looks: list[int] = []

    def on_confirm() -> None:
        if a.moves and a.at_once == 0:  # the move has ended: now they come, one with each look
            looks.append(1)
            missing = [uid for uid in a.held if uid not in b.held]
            if missing:
                late(missing[0])
            ready.set()

    b.on_confirm = on_confirm
    job = migrate(bench, arrival_wait=5)
    bench.start()
    assert bench.finish(job).counts.verified == 6
    assert ready.is_set()
    assert len(looks) >= 6
    assert len(a.moves) == 1


def test_at_most_so_many_moves_at_a_time_for_all_jobs(bench: Bench) -> None:
    a, b = archives(bench)
    c = bench.node("C")
    a.targets["C"] = c
    a.fill(6, 3)
    free = threading.Event()
    a.on_move = lambda _i: free.wait(PATIENCE)
    first = migrate(bench, unconfirmed_pushes=2)
    second = migrate(bench, unconfirmed_pushes=2, destination=["C"])
    bench.start()
    bench.wait(lambda: a.at_once == 2, "two moves")
    free.set()
    assert bench.finish(first).counts.verified == 18
    assert bench.finish(second).counts.verified == 18
    assert a.most_at_once == 2
    assert len(b.held) == len(c.held) == 18


def test_cancel_cancels_the_move(bench: Bench) -> None:
    a, _b = archives(bench)
    a.fill(1, 10)
    begun, free = threading.Event(), threading.Event()

    def hold(_i: InstanceRef) -> bool:
        begun.set()
        return free.wait(PATIENCE)

    a.on_move = hold
    job = migrate(bench)
    bench.start()
    assert begun.wait(PATIENCE)
    bench.command(Verb.CANCEL, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the end")
    assert a.cancelled == ["move-1"]
    free.set()
    assert bench.record(job).counts.cancelled + bench.record(job).counts.verified == 10


def test_one_study_is_cancelled_and_the_other_goes_on(bench: Bench) -> None:
    a, _b = archives(bench)
    a.fill(2, 5)
    free = threading.Event()
    a.on_move = lambda i: i.study_uid != "1.2.3.0" or free.wait(PATIENCE)
    job = migrate(bench)
    bench.start()
    bench.wait(lambda: bench.record(job).counts.verified == 5, "the other study")
    transfer = next(r.transfer_id for r in bench.ledger.deliveries(job_id=job) if r.sop_uid.startswith("1.2.3.0."))
    bench.command(Verb.CANCEL_TRANSFER, transfer_id=transfer)
    bench.wait(lambda: bool(a.cancelled), "the cancellation at the server")
    free.set()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.cancelled) == (5, 5)


def test_a_move_of_an_earlier_run_is_waited_for(bench: Bench) -> None:
    a, b = archives(bench, ResumingNode)
    assert isinstance(a, ResumingNode)
    a.fill(1, 8)
    begun, free = threading.Event(), threading.Event()

    def hold(_i: InstanceRef) -> bool:
        begun.set()
        return free.wait(PATIENCE)

    a.on_move = hold
    job = migrate(bench)
    bench.start()
    assert begun.wait(PATIENCE)
    assert bench.engine
    for run in bench.engine._runs.values():
        run.abort.abort()
    bench.stop()
    assert a.cancelled, "the move was cancelled at the stop"
    free.set()
    bench.wait(lambda: a.at_once == 0, "the end of the first move")
    moves, a.on_move = len(a.moves), lambda _i: True
    for uid in list(b.held):
        del b.held[uid]
    go = threading.Event()
    a.begin_other(list(a.held)[:6], "B", go)
    bench.start()
    bench.wait(lambda: bench.record(job).state is JobState.RUNNING, "the second run")
    go.set()
    assert bench.finish(job).counts.verified == 8
    assert a.moves[moves:] == [(2, False)], "only what the earlier job did not bring"
    assert "other" not in a.cancelled


def test_a_study_beyond_the_bound_is_moved_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.engine.pushing.MOST", 400)
    a, _b = archives(bench)
    a.fill(1, 900, size=4)
    job = migrate(bench)
    bench.start()
    assert bench.finish(job).counts.verified == 900
    assert [whole for _n, whole in a.moves] == [False] * 3


def test_a_full_disk_pauses_and_room_resumes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "LOOK_EVERY", 0.05)
    a = bench.node("A")
    bench.nodes["B"] = b = FillingNode("B")
    a.fill(2, 5)
    b.level = DiskLevel(910, 1000)
    job = migrate(bench, path="relay", disk_limit="90 %")
    bench.start()
    bench.wait(lambda: bench.record(job).note == "Waiting: B's disk is 91 % full.", "the note")
    bench.wait(lambda: bench.record(job).counts.planned == 10, "the planning")
    assert b.stores == []
    b.level = DiskLevel(300, 1000)
    assert bench.finish(job).counts.verified == 10


def test_percent_of_an_unknown_size_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "LOOK_EVERY", 0.05)
    a = bench.node("A")
    bench.nodes["B"] = b = FillingNode("B")
    a.fill(1, 2)
    b.level = DiskLevel(910)
    job = migrate(bench, path="relay", disk_limit="90%")
    bench.start()
    bench.wait(lambda: "how large its disk is" in bench.record(job).note, "the note")
    assert b.stores == []


def test_disk_limits() -> None:
    assert parse_disk_limit("") is None
    assert parse_disk_limit("90 %") == DiskLimit(percent=90)
    assert parse_disk_limit("1,5 TB") == DiskLimit(bytes=1_500_000_000_000)
    assert DiskLimit(bytes=10).reached(10, None)
    assert not DiskLimit(percent=50).reached(49, 100)
    for wrong in ("90", "lots", "0 GB", "101 %", "-5 GB"):
        with pytest.raises(ConfigurationError):
            parse_disk_limit(wrong)


@pytest.mark.parametrize("path", ["push", "relay"])
def test_stops_at_the_first_error_and_goes_on_after_it(bench: Bench, path: str) -> None:
    a, b = archives(bench)
    a.fill(4, 3)
    bad = "1.2.3.3.1.1"
    a.on_move = lambda i: i.sop_uid != bad

    def refuse(i: InstanceRef) -> None:
        if i.sop_uid == bad:
            from core.model.errors import AnswerError

            raise AnswerError(400, "B refuses this image.", code="bad-image")

    b.on_store = refuse
    job = migrate(bench, path=path, on_error="stop", max_attempts=1, workers=1)
    bench.start()
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the stop")
    record = bench.record(job)
    assert record.problem.startswith("Stopped at the first error")
    assert record.counts.failed == 1
    bench.command(Verb.RESUME, job_id=job)
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.failed) == (11, 1)
    states = {r.sop_uid: r.state for r in bench.ledger.deliveries(job_id=job)}
    assert states[bad] is DeliveryState.FAILED


def test_a_move_in_which_nothing_moves_any_more_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says again and again that it is at work."""
    monkeypatch.setattr(pushing, "STALLED", 0.2)
    a, b = archives(bench)
    a.fill(1, 5)
    go_on = threading.Event()

    def hangs(i: InstanceRef) -> bool:
        if i.sop_uid == "1.2.3.0.1.3" and len(a.moves) == 1:
            go_on.wait(PATIENCE)
        return True

    a.on_move = hangs
    a.push_cancel = lambda job: bool(a.cancelled.append(job) or go_on.set() or True)  # type: ignore[method-assign]
    job = migrate(bench)
    bench.start()
    assert bench.finish(job).counts.verified == 5
    assert a.cancelled == ["move-1"]
    assert len(b.stores) >= 5
