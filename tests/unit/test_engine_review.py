"""The engine where steps cross: cancel while preparing, diverted while deleted, stopped in between, broken inside."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from core.engine import job_run
from core.engine.engine import Engine
from core.engine.lane import Lane
from core.engine.transfer import Pipeline
from core.jobs import discovery
from core.ledger import schema as t
from core.ledger.book import Verb
from core.ledger.ledger import Ledger
from core.ledger.rows import Delivery
from core.model.errors import AnswerError, LocalError, TransportError, TransportFault
from core.model.job import JobState
from core.model.outcome import DeliveryState, SourceState
from core.model.study import Holding, InstanceRef, StudyInfo
from core.wire.abort import Abort
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryListing, MemoryNode, md5
from tests.support.waiting import PATIENCE


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def refuse(*_args: object, **_keys: object) -> None:
    raise TransportError(TransportFault.REFUSED, "Nobody answers.")


def transfer_of(bench: Bench, job: int) -> int:
    return bench.ledger.deliveries(job_id=job)[0].transfer_id


# planning -----------------------------------------------------------------------------------------------


def test_what_was_planned_before_the_listing_broke_off_is_carried(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(6, 3)
    whole = a.studies
    broken = []

    class BreaksOff(MemoryListing):
        def __iter__(self) -> Iterator[StudyInfo]:
            for n, study in enumerate(super().__iter__()):
                if n == 4 and not broken:
                    broken.append(1)
                    raise AnswerError(500, "It broke off.")
                yield study

    a.studies = lambda query, *, abort=None: BreaksOff(list(whole(query)))  # type: ignore[method-assign]
    job = bench.job()
    # The ledger is busy, so that pages are still on their way to it when the listing breaks off.
    plan = bench.ledger.plan_page
    slow = threading.Event()
    bench.ledger.plan_page = lambda *args, **keys: (  # type: ignore[method-assign]
        bench.ledger.writer.call(lambda _c: slow.wait(0.05) and None) and plan(*args, **keys)
    )
    bench.start()
    done = bench.finish(job)
    assert broken
    assert done.counts.planned == 0
    assert done.counts.verified == done.counts.total == 18
    assert len(b.held) == 18


def test_a_study_is_sent_while_the_source_hangs_over_the_next(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 3)
    release = threading.Event()
    pages = a.instances

    def hang(study: StudyInfo, **keys: object) -> Iterator[Sequence[InstanceRef]]:
        if study.study_uid == "1.2.3.1":
            release.wait(PATIENCE)
        return pages(study)

    a.instances = hang  # type: ignore[method-assign, assignment]
    job = bench.job()
    bench.start()
    bench.wait(lambda: len(b.held) == 3, "the first study")
    release.set()
    assert bench.finish(job).counts.verified == 6


def test_a_study_that_vanished_before_its_images_were_listed_leaves_no_row(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(2, 2)
    pages = a.instances
    a.instances = lambda study, **_k: iter(()) if study.study_uid == "1.2.3.0" else pages(study)  # type: ignore[method-assign, assignment, misc]
    job = bench.job()
    bench.start()
    done = bench.finish(job)
    assert (done.studies, done.counts.verified) == (1, 2)


def test_now_and_then_an_error_does_not_end_a_long_listing(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(9, 2)
    pages = a.instances
    failed: set[str] = set()

    def shaky(study: StudyInfo, **_keys: object) -> Iterator[Sequence[InstanceRef]]:
        if study.study_uid not in failed:
            failed.add(study.study_uid)
            raise AnswerError(500, "It did not work.")
        return pages(study)

    a.instances = shaky  # type: ignore[method-assign, assignment]
    job = bench.job(max_attempts=3)
    bench.start()
    done = bench.finish(job)
    assert (done.problem, done.counts.verified) == ("", 18)


def test_a_listing_that_always_breaks_at_the_same_place_is_given_up(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(3, 2)
    pages = a.instances

    def broken(study: StudyInfo, **_keys: object) -> Iterator[Sequence[InstanceRef]]:
        if study.study_uid == "1.2.3.2":
            raise AnswerError(500, "It did not work.")
        return pages(study)

    a.instances = broken  # type: ignore[method-assign, assignment]
    job = bench.job("forward", max_attempts=3, filter="Modality = CT")
    bench.start()
    done = bench.finish(job)
    assert done.problem == "It did not work."
    assert (done.counts.verified, done.counts.total) == (4, 4)


def test_what_a_filter_leaves_out_is_counted_once_however_often_it_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "INVENTORY_EVERY", 0.1)
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 3)
    looked: list[object] = []
    listed = a.studies
    a.studies = lambda query, **keys: looked.append(query) or listed(query)  # type: ignore[method-assign, func-returns-value]
    job = bench.job("forward", follow=True, poll_interval=0.2, filter="Modality = MR")
    bench.start()
    bench.wait(lambda: len(looked) >= 4, "further inventories")
    assert bench.record(job).left_out == 6
    assert b.stores == []


# cancelling one study -----------------------------------------------------------------------------------


def test_cancelling_a_study_while_it_is_prepared_holds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 700)
    claimed, go = threading.Event(), threading.Event()
    claim = bench.ledger.claim

    def slow_claim(transfer_id: int, after: int, *rest: object, **keys: object) -> list[Delivery]:
        found = claim(transfer_id, after, *rest, **keys)  # type: ignore[arg-type]
        if not claimed.is_set():
            claimed.set()
            go.wait(PATIENCE)
        return found

    monkeypatch.setattr(bench.ledger, "claim", slow_claim)
    job = bench.job()
    bench.start()
    assert claimed.wait(PATIENCE)
    bench.command(Verb.CANCEL_TRANSFER, transfer_id=transfer_of(bench, job))
    bench.wait(lambda: not bench.ledger.open_commands(), "the command")
    go.set()
    done = bench.finish(job)
    assert bench.same_totals(job)
    assert done.counts.cancelled == 700
    assert b.stores == []


def test_images_listed_while_their_study_is_being_cancelled_are_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = bench.node("A")
    bench.node("B")
    a.fill(1, 700)
    reached, closed = threading.Event(), threading.Event()
    instances, close_open = a.instances, bench.ledger.close_open

    def slow_instances(*args: object, **keys: object) -> Iterator[Sequence[InstanceRef]]:
        for number, page in enumerate(instances(*args, **keys)):  # type: ignore[arg-type]
            if number == 4:
                reached.set()
                closed.wait(PATIENCE)
            yield page

    def slow_close(*args: object, **keys: object) -> object:
        ticket = close_open(*args, **keys)  # type: ignore[arg-type]
        ticket.wait()
        if not closed.is_set():
            closed.set()
            bench.wait(lambda: bench.record(job).counts.total == 700, "the rest of the list")
            bench.wait(lambda: not bench.record(job).planning, "the end of the list")
        return ticket

    def unhurried(_ref: InstanceRef) -> None:
        reached.wait(PATIENCE)

    a.on_read = unhurried
    monkeypatch.setattr(a, "instances", slow_instances)
    monkeypatch.setattr(bench.ledger, "close_open", slow_close)
    job = bench.job()
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.CANCEL_TRANSFER, transfer_id=transfer_of(bench, job))
    done = bench.finish(job)
    assert bench.same_totals(job)
    assert done.counts.cancelled + done.counts.verified == 700
    assert done.counts.cancelled >= 300


def test_cancelling_a_study_under_way_ends_it_soon(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3000, size=20)
    reached = threading.Event()

    def slow(_ref: object) -> None:
        if len(b.stores) >= 250:
            reached.set()
        threading.Event().wait(0.003)

    b.on_store = slow
    job = bench.job(workers=4)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.CANCEL_TRANSFER, transfer_id=transfer_of(bench, job))
    done = bench.finish(job)
    assert bench.same_totals(job)
    assert done.counts.cancelled > 1500
    assert done.counts.cancelled + done.counts.verified == 3000
    assert len(b.stores) == done.counts.verified


def test_a_transfer_command_waits_until_its_job_has_come_to_rest(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 50)
    release, reached = threading.Event(), threading.Event()

    def hang(_ref: object) -> None:
        reached.set()
        release.wait(PATIENCE)

    b.on_store = hang
    job = bench.job(workers=2)
    bench.start()
    assert reached.wait(PATIENCE)
    rows = {r.transfer_id for r in bench.ledger.deliveries(job_id=job)}
    bench.command(Verb.PAUSE, job_id=job)
    bench.wait(lambda: bench.engine is not None and bench.engine.is_moving(job), "the pause to begin")
    for row in rows:
        bench.command(Verb.CANCEL_TRANSFER, transfer_id=row)
    threading.Event().wait(0.6)  # the command must not be taken as done meanwhile
    release.set()
    bench.wait(lambda: not bench.ledger.open_commands(), "the commands")
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause")
    counts = bench.record(job).counts
    assert counts.planned == counts.sending == counts.sent == 0
    assert counts.cancelled > 90
    assert bench.same_totals(job)


# fallback -----------------------------------------------------------------------------------------------


def test_a_fallback_leaves_what_was_already_deleted_at_the_source_with_its_proof(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(1, 5)
    job = bench.job(
        "forward", follow=True, after="move", fallback="C", fallback_after=0.1, trigger="instance", poll_interval=0.2
    )
    bench.start()
    bench.wait(lambda: len(a.deletes) == 5, "the move")
    bench.wait(bench.settled, "the study's end")
    b.on_confirm = b.on_probe = refuse
    b.on_store = refuse
    a.add("1.2.3.0", "1.2.3.0.1", "9.9.9", b"late")
    bench.wait(lambda: "9.9.9" in c.held, "the fallback")
    bench.wait(lambda: "9.9.9" in a.deletes, "the late image's deletion")
    rows = {r.sop_uid: r for r in bench.ledger.deliveries(job_id=job)}
    assert len(rows) == 6
    assert {r.state for r in rows.values()} == {DeliveryState.VERIFIED}
    first = rows["1.2.3.0.1.0"]
    assert first.evidence
    assert first.evidence.digest == first.source_digest
    assert "B" in first.evidence.note
    assert bench.same_totals(job)


def test_a_fallback_takes_a_study_over_once(bench: Bench) -> None:
    a, b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(1, 3)
    b.on_confirm = b.on_store = b.on_probe = refuse
    job = bench.job(
        "forward",
        follow=True,
        fallback="C",
        fallback_after=1.0,
        trigger="instance",
        poll_interval=0.2,
        retry_delays=[3],
    )
    bench.start()
    bench.wait(lambda: any(r.next_attempt for r in bench.ledger.deliveries(job_id=job)), "the first failure")
    a.add("1.2.3.0", "1.2.3.0.1", "9.9.9", b"late")  # offered while it waits for its next attempt
    bench.wait(lambda: len(c.held) == 4, "the fallback")
    bench.wait(lambda: bench.record(job).counts.verified == 4, "the proof")
    row = bench.ledger.transfer(transfer_of(bench, job))
    assert row
    assert (row.destination, row.instead_of) == ("C", "B")
    assert bench.same_totals(job)
    bench.ledger.divert(row.id, "C").wait()
    again = bench.ledger.transfer(row.id)
    assert again
    assert (again.destination, again.instead_of, again.counts) == ("C", "B", row.counts)


# deleting -----------------------------------------------------------------------------------------------


def test_a_following_move_deletes_after_a_restart_what_was_proved_before_it(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 5)
    a.on_delete = refuse
    job = bench.job("forward", follow=True, after="move", poll_interval=0.2, retry_delays=[60])
    bench.start()
    bench.wait(lambda: bench.record(job).counts.verified == 5, "the proof")
    bench.stop()
    a.on_delete = lambda _ref: None
    bench.start()
    bench.wait(lambda: len(a.deletes) == 5, "the deletion")
    assert len(b.held) == 5


def test_what_is_proved_while_its_study_is_being_settled_is_deleted_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _b, c = bench.node("A"), bench.node("B"), bench.node("C")
    a.fill(1, 5)
    broken = True

    def fail(_ref: object) -> None:
        if broken:
            raise AnswerError(400, "Never.")

    c.on_store = fail
    looked, go = threading.Event(), threading.Event()
    settle = bench.ledger.settle_study

    def slow(study_id: int, **keys: bool) -> None:
        if not looked.is_set():
            looked.set()
            go.wait(PATIENCE)
        settle(study_id, **keys)

    monkeypatch.setattr(bench.ledger, "settle_study", slow)
    job = bench.job("forward", destination=["B", "C"], after="move")
    bench.start()
    assert looked.wait(PATIENCE)
    broken = False
    bench.command(Verb.RETRY, job_id=job)
    bench.wait(lambda: bench.record(job).counts.verified == 10, "the retry")
    go.set()
    bench.finish(job)
    assert a.held == {}


def test_destinations_that_hold_different_content_keep_the_source(bench: Bench) -> None:
    a, b, c = bench.node("A", bulk_digests=False), bench.node("B"), bench.node("C")
    a.fill(1, 1)
    changed = b"another image under the same UID"
    uid = "1.2.3.0.1.0"

    def late(_ref: object) -> None:
        bench.wait(lambda: uid in b.held, "the other destination")
        a.held[uid] = (a.held[uid][0], changed)

    reads: list[str] = []

    def on_read(_ref: object) -> None:
        reads.append("read")

    a.on_read = on_read
    c.on_confirm = lambda: late(None) if uid not in c.held else None
    job = bench.job("forward", destination=["B", "C"], after="move")
    bench.start()
    done = bench.finish(job)
    assert done.counts.verified == 2
    assert md5(b.held[uid][1]) != md5(c.held[uid][1])
    assert uid in a.held
    assert done.problem


def test_pause_stops_between_two_deletions(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(1, 40)
    reached = threading.Event()

    def slow(_ref: object) -> None:
        if len(a.deletes) >= 3:
            reached.set()
        threading.Event().wait(0.25)

    a.on_delete = slow
    job = bench.job("forward", after="move")
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.PAUSE, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause", 3.0)
    assert len(a.deletes) < 20
    a.on_delete = lambda _ref: None
    bench.command(Verb.RESUME, job_id=job)
    bench.finish(job)
    assert a.held == {}
    assert {r.source_state for r in bench.ledger.deliveries(job_id=job)} == {SourceState.DELETED}


# changed at the source ----------------------------------------------------------------------------------


def test_an_image_that_changed_after_planning_is_verified_as_it_was_sent(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    uid = "1.2.3.0.1.1"

    def change(ref: InstanceRef) -> None:
        if ref.sop_uid == uid:
            a.held[uid] = (a.held[uid][0], b"changed since it was listed")

    a.on_read = change
    job = bench.job("forward", after="move")
    bench.start()
    done = bench.finish(job)
    assert (done.counts.verified, done.counts.conflict) == (3, 0)
    assert b.held[uid][1] == b"changed since it was listed"
    assert a.held == {}


def test_an_image_replaced_at_the_source_is_planned_with_its_new_size(bench: Bench) -> None:
    a, b = bench.node("A", bulk_digests=False), bench.node("B")
    a.fill(1, 2, size=500)
    job = bench.job("forward", follow=True, trigger="instance", poll_interval=0.2, overwrite=True)
    bench.start()
    bench.wait(lambda: len(b.held) == 2, "the content")
    bench.wait(bench.settled, "the study's end")
    a.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.0", b"x" * 300)
    bench.wait(lambda: len(b.held["1.2.3.0.1.0"][1]) == 300 if "1.2.3.0.1.0" in b.held else False, "the new version")
    bench.wait(lambda: bench.record(job).counts.verified == 2, "its proof")
    assert bench.same_totals(job)
    assert bench.record(job).counts.bytes_total == 800


# evidence "sent" ----------------------------------------------------------------------------------------


def test_cancel_leaves_what_was_sent_as_sent_where_no_more_was_asked(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 300)
    reached = threading.Event()

    def slow(_ref: object) -> None:
        if len(b.stores) >= 30:
            reached.set()
        threading.Event().wait(0.01)

    b.on_store = slow
    job = bench.job(evidence="sent", workers=2)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.CANCEL, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancelling", 10)
    counts = bench.record(job).counts
    assert counts.sent == len(b.stores)
    assert counts.sent + counts.cancelled == 300
    assert bench.same_totals(job)


def test_giving_up_leaves_what_was_sent_as_sent_where_no_more_was_asked(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 300)

    def dies(_ref: object) -> None:
        if len(b.stores) >= 30:
            refuse()

    b.on_store = dies
    b.on_probe = refuse
    job = bench.job(evidence="sent", max_attempts=3)
    bench.start()
    counts = bench.finish(job).counts
    assert counts.sent == len(b.stores)
    assert counts.failed == 300 - counts.sent


# stops and hangs ----------------------------------------------------------------------------------------


def test_outside_its_hours_not_a_single_image_leaves(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 50)
    job = bench.job("forward")
    bench.start()
    bench.finish(job)
    bench.stop()
    b.held.clear()
    b.stores.clear()
    for row in {r.transfer_id for r in bench.ledger.deliveries(job_id=job)}:
        bench.ledger.reopen(row, [DeliveryState.VERIFIED]).wait()
    values = {"source": ["A"], "destination": ["B"], "schedule": "mon 03:00-04:00"}
    bench.ledger.update_job(job, fields=values, state=JobState.RUNNING.value)
    bench.clock = lambda: datetime(2026, 11, 21, 12, 0).astimezone()
    bench.start()
    bench.wait(lambda: "hours" in bench.record(job).note, "the note")
    threading.Event().wait(0.3)  # a time in which nothing may happen
    assert b.stores == []


def test_a_pause_asked_for_while_no_engine_ran_holds_from_the_first_moment(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 50)
    job = bench.job()
    bench.ledger.command(Verb.PAUSE, job_id=job)
    bench.start()
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause")
    assert b.stores == []
    bench.command(Verb.RESUME, job_id=job)
    assert bench.finish(job).counts.verified == 50


def test_rows_of_a_paused_job_wait(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 600)
    reached = threading.Event()

    def slow(_ref: object) -> None:
        if len(b.stores) >= 220:
            reached.set()
        threading.Event().wait(0.005)

    b.on_store = slow
    job = bench.job(workers=4)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.PAUSE, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause", 5)
    row = bench.ledger.transfer(transfer_of(bench, job))
    assert row
    assert row.counts.planned > 0
    assert row.state == "waiting"


def test_an_error_inside_while_preparing_stops_the_job_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 5)

    def bug(*_args: object) -> None:
        raise KeyError("a mistake of ours")

    b.on_confirm = bug
    job = bench.job()
    bench.start()
    bench.wait(lambda: bench.record(job).state is JobState.STOPPED, "the stop")
    assert "inside DICOM Ferry" in bench.record(job).problem
    b.on_confirm = lambda: None
    bench.command(Verb.START, job_id=job)
    assert bench.finish(job).counts.verified == 5


def test_an_answer_that_comes_after_the_cancel_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_run, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(job_run, "CUT_SECONDS", 0.2)
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 10)
    release, reached, over = threading.Event(), threading.Event(), threading.Event()
    store = b.store

    def deaf(*args: object, **keys: object) -> object:  # a share that died: it can't even be interrupted
        reached.set()
        release.wait(PATIENCE)
        try:
            return store(*args, **keys)  # type: ignore[arg-type]
        finally:
            over.set()

    b.store = deaf  # type: ignore[method-assign, assignment]
    job = bench.job(workers=1)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.CANCEL, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancelling", 10)
    release.set()
    assert over.wait(PATIENCE)
    bench.workers_end()
    assert bench.same_totals(job)
    assert bench.record(job).counts.cancelled == 10


def test_what_was_acknowledged_before_an_abort_stays_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_run, "PAUSE_SECONDS", 0.2)
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 10)
    asked = b.confirm
    reached = threading.Event()

    def slow(study: StudyInfo, refs: Sequence[InstanceRef], *, abort: Abort, **keys: object) -> list[Holding]:
        if b.stores:
            reached.set()
            while not abort.aborted:
                threading.Event().wait(0.02)
            raise TransportError(TransportFault.ABORTED, "Stopped.")
        return asked(study, refs)

    b.confirm = slow  # type: ignore[method-assign, assignment]
    job = bench.job()
    bench.start()
    assert reached.wait(PATIENCE)
    bench.command(Verb.PAUSE, job_id=job)
    bench.wait(lambda: bench.record(job).state is JobState.PAUSED, "the pause", 10)
    assert bench.record(job).counts.sent == 10
    b.confirm = asked  # type: ignore[method-assign]
    bench.command(Verb.RESUME, job_id=job)
    done = bench.finish(job)
    assert done.counts.verified == 10
    assert len(b.stores) == 10


def test_a_probe_that_breaks_inside_is_tried_again(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    probes: list[str] = []
    down = True

    def probe() -> None:
        nonlocal down
        probes.append("probe")
        if len(probes) == 1:
            raise ValueError("a mistake of ours")
        down = False

    b.on_store = lambda _ref: refuse() if down else None
    b.on_probe = probe
    job = bench.job(max_attempts=100)
    bench.start()
    assert bench.finish(job).counts.verified == 3


# a person's wishes --------------------------------------------------------------------------------------


def test_overwriting_is_obeyed_while_the_study_still_waits(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 5)
    b.add("1.2.3.0", "1.2.3.0.1", "1.2.3.0.1.2", b"something else")

    def fail(ref: InstanceRef) -> None:
        if ref.sop_uid == "1.2.3.0.1.4":
            raise AnswerError(500, "It did not work.")

    b.on_store = fail
    job = bench.job(follow=True, poll_interval=0.2, retry_delays=[600])
    bench.start()
    bench.wait(lambda: bench.record(job).counts.conflict == 1, "the conflict")
    bench.wait(lambda: bench.record(job).counts.verified == 3, "the others")
    bench.command(Verb.OVERWRITE_TRANSFER, transfer_id=transfer_of(bench, job))
    bench.wait(lambda: bench.record(job).counts.verified == 4, "the replacement")
    assert b.held["1.2.3.0.1.2"][1] == a.held["1.2.3.0.1.2"][1]
    assert bench.same_totals(job)


def test_a_person_who_retries_need_not_wait_for_the_next_attempt(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    broken = True

    def fail(_ref: object) -> None:
        if broken:
            raise AnswerError(500, "It did not work.")

    b.on_store = fail
    job = bench.job(retry_delays=[3600])
    bench.start()
    bench.wait(lambda: all(r.next_attempt for r in bench.ledger.deliveries(job_id=job)) and b.held == {}, "failures")
    bench.wait(lambda: bench.record(job).counts.planned == 3, "the first attempts")
    broken = False
    bench.command(Verb.RETRY, job_id=job)
    assert bench.finish(job).counts.verified == 3


def test_a_retry_tries_refused_deletions_again(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 3)

    def refused(_ref: object) -> None:
        raise AnswerError(403, "Deleting is forbidden.", "Allow it.")

    a.on_delete = refused
    job = bench.job("forward", after="move", max_attempts=1)
    bench.start()
    done = bench.finish(job)
    assert done.problem
    assert len(a.held) == 6
    a.on_delete = lambda _ref: None
    bench.command(Verb.RETRY, job_id=job)
    bench.wait(lambda: a.held == {}, "the deletions")
    assert bench.finish(job).problem == ""
    assert len(b.stores) == 6


def test_retrying_and_cancelling_many_studies_is_quick(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(400, 1, size=20)
    b.on_store = lambda _ref: (_ for _ in ()).throw(AnswerError(400, "Never."))  # type: ignore[assignment]
    job = bench.job()
    bench.start()
    assert bench.finish(job).counts.failed == 400
    before = bench.ledger.writer.commits
    states = [DeliveryState.FAILED]
    rows = bench.ledger.transfers_with(job, 1, states)
    bench.ledger.reopen(rows, states).wait()
    bench.ledger.close_open(rows, DeliveryState.CANCELLED).wait()
    assert bench.ledger.writer.commits - before <= 20
    assert bench.same_totals(job)
    assert bench.record(job).counts.cancelled == 400


def test_a_job_that_can_not_go_on_is_not_called_finished(bench: Bench) -> None:
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 400)
    reached = threading.Event()

    def slow(_ref: object) -> None:
        if len(b.stores) >= 20:
            reached.set()
        threading.Event().wait(0.01)

    b.on_store = slow
    job = bench.job(workers=2)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.stop()

    def locked(name: str) -> MemoryNode:
        raise LocalError("The keyring is locked.", "Unlock it.")

    engine = Engine(bench.ledger, locked, bench.events.append)
    thread = threading.Thread(target=engine.run)
    thread.start()
    bench.wait(lambda: "keyring" in bench.record(job).problem, "the refusal")
    engine.stop()
    thread.join(PATIENCE)
    assert bench.record(job).state is JobState.STOPPED
    bench.start()
    assert bench.finish(job).counts.verified == 400


# one engine after another -------------------------------------------------------------------------------


def test_revisions_go_on_when_another_process_takes_over(bench: Bench) -> None:
    a, _b = bench.node("A"), bench.node("B")
    a.fill(3, 10)
    later = Ledger.open(bench.path)  # opened, attached, and waiting
    job = bench.job()
    bench.start()
    bench.finish(job)
    bench.stop()
    seen = bench.ledger.last_revision()
    assert seen > 0
    bench.ledger.next_pass(job)
    engine = Engine(later, lambda name: bench.nodes[name], bench.events.append)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        bench.finish(job)
        changed, _revision = bench.ledger.changed_transfers(seen)
        assert len(changed) == 3
    finally:
        engine.stop()
        thread.join(PATIENCE)
        later.close()


def test_nothing_of_a_lane_is_left_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = bench.node("A"), bench.node("B")
    lanes: list[Lane] = []
    made = Lane.__init__

    def remember(self: Lane, name: str, owner: job_run.JobRun, pipeline: Pipeline, width: int) -> None:
        lanes.append(self)
        made(self, name, owner, pipeline, width)

    monkeypatch.setattr(Lane, "__init__", remember)
    tries: dict[str, int] = {}

    def fail(ref: InstanceRef) -> None:
        tries[ref.sop_uid] = tries.get(ref.sop_uid, 0) + 1
        if tries[ref.sop_uid] == 1 and ref.sop_uid.endswith("3"):
            raise AnswerError(500, "It did not work.")

    b.on_store = fail
    a.fill(40, 5)
    job = bench.job(follow=True, poll_interval=0.2)
    bench.start()
    bench.wait(lambda: bench.record(job).counts.verified == 200, "the content")
    (lane,) = lanes
    bench.wait(lambda: lane.idle, "rest")
    bench.wait(lambda: bench.same_totals(job), "the last commit")
    for name in (
        "_queued",
        "_again",
        "_cursors",
        "_stale",
        "_timed",
        "_turns",
        "_in_flight",
        "_in_hand",
        "_tasks",
        "_then",
    ):
        assert len(getattr(lane, name)) == 0, name
    assert bench.engine
    bench.wait(lambda: not bench.engine._speeds.keys() - {-job}, "forgotten speeds")  # type: ignore[union-attr]


def test_proved_deliveries_have_their_digest_in_the_ledger(bench: Bench) -> None:
    """What a move deletes must be known by digest even where neither the inventory nor the destination tells one."""
    a, b = bench.node("A", bulk_digests=False), bench.node("B")
    b.gives_digests = False
    a.fill(1, 2)

    def change(_ref: object) -> None:
        uid = "1.2.3.0.1.1"
        a.held[uid] = (a.held[uid][0], b"overwritten by the modality")

    a.on_delete = change
    job = bench.job("forward", after="move")
    bench.start()
    done = bench.finish(job)
    assert done.problem
    assert set(a.held) == {"1.2.3.0.1.1"}
    with bench.ledger.reading() as connection:
        assert all(connection.scalars(select(t.instances.c.digest)))


def test_a_worker_that_was_cut_off_finds_the_ledger_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends quietly: there is nobody left to be told, and no thread dies of it."""
    monkeypatch.setattr(job_run, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(job_run, "CUT_SECONDS", 0.2)
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 3)
    release, reached = threading.Event(), threading.Event()
    store = b.store

    def deaf(*args: object, **keys: object) -> object:
        reached.set()
        release.wait(PATIENCE)
        return store(*args, **keys)  # type: ignore[arg-type]

    b.store = deaf  # type: ignore[method-assign, assignment]
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    bench.job(workers=1)
    bench.start()
    assert reached.wait(PATIENCE)
    bench.stop()
    bench.ledger.close()
    release.set()
    bench.workers_end()
    assert died == []
