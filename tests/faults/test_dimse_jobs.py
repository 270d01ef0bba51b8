"""Whole jobs to a DICOM node that misbehaves: what is recorded of each image, and what the source keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from core.model.errors import FerryError
from core.model.events import NodeChanged, NodeHealth
from core.model.job import JobState
from core.model.outcome import DeliveryState, FailureClass, Method
from core.model.views import DeliveryRow
from tests.faults.dimse_way import Way, only
from tests.support.dimse_acts import (
    Abort,
    Answer,
    Close,
    Deaf,
    Drip,
    HalfAnswer,
    OfAnother,
    Raw,
    Reject,
    Reset,
    Silence,
)
from tests.support.dimse_peer import Act
from tests.support.dimse_scp import Commit, Find, Lie, Store, StoredThen
from tests.support.dimse_scu import Image
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.studies import make_study

C = FailureClass
S = DeliveryState
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
COMMITMENT = "1.2.840.10008.1.20.1"


@pytest.fixture
def way(running_app: RunningApp, tmp_path: Path) -> Iterator[Way]:
    made = Way(running_app, tmp_path / "source", make_study(instances=3, size_bytes=60_000, patient_id=tmp_path.name))
    yield made
    made.pacs.close()


# --- answers to C-STORE


def test_what_will_never_work(way: Way) -> None:
    """Failed at the first answer and never sent again; what the others were answered stays with them."""
    rows = [
        (0xA900, "store-a9xx"),
        (0xA9FF, "store-a9xx"),
        (0xC000, "store-cxxx"),
        (0xCFFF, "store-cxxx"),
        (0x0122, "store-0122"),
        (0xFF00, "store-pending"),
        (0xFFFE, "store-fffx"),
        (0x1234, "store-other"),
    ]
    warnings = [0xB000, 0xB006, 0xB007]
    more = way.add_images(len(rows) + len(warnings))
    for uid, (status, _) in zip(more, rows, strict=False):
        way.pacs.on("store", Answer(status, comment="No use"), **only(uid))
    for uid, status in zip(more[len(rows) :], warnings, strict=True):
        way.pacs.on("store", Store(status), **only(uid))
    job = way.run(max_attempts=5)
    found = way.rows(job)
    for uid, (status, code) in zip(more, rows, strict=False):
        row = found[uid]
        assert row.failure is not None
        assert (row.state, row.failure.code, row.failure.cls, row.attempt) == (S.FAILED, code, C.PERMANENT, 1)
        assert f"{status:04X}H. No use" in row.failure.detail
    for uid, status in zip(more[len(rows) :], warnings, strict=True):
        assert found[uid].state is S.VERIFIED
        assert found[uid].answer.startswith(f"{status:04X}")
        assert "stored the image" in found[uid].answer
    assert way.pacs.count("store") == len(found)
    assert way.kept == set(more[: len(rows)])


def test_a_duplicate(way: Way) -> None:
    """It is asked for before it counts: where it isn't there after all, nothing is taken for done."""
    way.pacs.on("store", Answer(0x0111), **only(way.study.sop_uids[0]))
    way.pacs.on("store", Answer(0x0111, keeps=True), **only(way.study.sop_uids[1]))
    job = way.run()
    way.moved(job, but={0})
    row = way.row(job)
    assert row.failure is not None
    assert row.failure.code == "not-confirmed"


def test_three_retries_of_its_own(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 5, 20 and 60 s, however often the job tries other things."""
    statuses = [0x0110, 0x0210, 0x0211, 0x0213]
    more = way.add_images(len(statuses))
    for uid, status in zip(more, statuses, strict=True):
        way.pacs.on("store", Answer(status), **only(uid))
    job = way.start(max_attempts=1)

    first: dict[str, DeliveryRow] = {}  # as each waits for the first of its retries

    def all_wait() -> bool:
        for uid, row in way.rows(job).items():
            if row.failure and row.state is S.PLANNED:
                first.setdefault(uid, row)
        return len(first) == len(statuses)

    began = datetime.now().astimezone()
    way.running.wait(all_wait, "the first failures")
    ended = datetime.now().astimezone()
    for row in first.values():
        assert row.failure is not None
        assert row.next_attempt is not None
        assert row.failure.cls is C.RETRY
        assert row.failure.code == f"store-{statuses[more.index(row.sop_uid)]:04x}"
        assert began < row.next_attempt < ended + timedelta(seconds=6)
    way.running.app.jobs.cancel(job)
    way.running.wait(lambda: way.running.record(job).state is JobState.CANCELLED, "the end of the job")
    assert {way.rows(job)[uid].state for uid in more} == {S.CANCELLED}
    # And all of them, in a shorter time.
    waits: list[tuple[int, float]] = []

    def at_once(attempt: int, delays: tuple[float, ...]) -> float:
        waits.append((attempt, delays[attempt - 1]))
        return 0.0

    monkeypatch.setattr("core.engine.retry.delay_after", at_once)
    done = way.rows(way.run(max_attempts=1))
    assert {(done[uid].state, done[uid].attempt) for uid in more} == {(S.FAILED, 4)}
    assert sorted(waits) == sorted([(1, 5.0), (2, 20.0), (3, 60.0)] * len(statuses))
    assert way.kept == set(more)


def study_kept(way: Way) -> set[int]:
    return {way.study.sop_uids.index(uid) for uid in way.kept}


@pytest.mark.parametrize("lasting", [True, False])
def test_out_of_resources(way: Way, lasting: bool) -> None:
    """Tried again at the job's delays; given up with the last of its attempts."""
    way.pacs.on("store", Answer(0xA700), times=None if lasting else 3)
    job = way.run(max_attempts=3)
    if not lasting:
        way.moved(job)
        return
    for row in way.rows(job).values():
        assert row.failure is not None
        assert (row.state, row.failure.code, row.failure.cls) == (S.FAILED, "store-a7xx", C.BUSY)
        assert row.attempt == 3
    assert study_kept(way) == {0, 1, 2}


@pytest.mark.parametrize("status", [0x0112, 0x0117, 0x0124, 0x0212])
def test_what_a_person_must_mend(way: Way, status: int) -> None:
    way.pacs.on("store", Answer(status))
    job = way.run()
    rows = way.rows(job).values()
    codes = {(row.state, row.failure.code, row.failure.cls) for row in rows if row.failure}
    assert codes == {(S.FAILED, f"store-{status:04x}", C.PERSON)}
    assert all(row.failure and "administrator" in row.failure.next_step for row in rows)
    assert study_kept(way) == {0, 1, 2}


def test_a_warning_that_nobody_knows(way: Way) -> None:
    """What the destination lists decides: one was stored, one was not."""
    way.pacs.on("store", StoredThen(Answer(0xB123)), **only(way.study.sop_uids[0]))
    way.pacs.on("store", Answer(0xB123), **only(way.study.sop_uids[1]))
    job = way.run()
    way.moved(job, but={1})
    assert way.pacs.archive.times[way.study.sop_uids[0]] == 1


# --- the liar


@pytest.mark.parametrize("evidence", ["verified", "committed"])
def test_the_liar(way: Way, evidence: str) -> None:
    """0000 and nothing stored: never past sent, and nothing is deleted."""
    way.pacs.on("store", Lie())
    way.pacs.on("commit", Commit(all_kept=True))
    job = way.run(evidence=evidence)
    for row in way.rows(job).values():
        assert row.failure is not None
        assert (row.state, row.failure.code) == (S.FAILED, "not-confirmed")
        assert row.evidence is None
        assert row.answer.startswith("0000")
    assert study_kept(way) == {0, 1, 2}
    assert way.pacs.count("commit") == 0


def test_a_liar_now_and_then(way: Way) -> None:
    way.pacs.on("store", Lie(), **only(way.study.sop_uids[1]))
    way.moved(way.run(), but={1})


def test_a_liar_once(way: Way) -> None:
    """What is missing afterwards is sent again, and only that."""
    way.pacs.on("store", Lie(), times=1)
    way.moved(way.run())
    assert way.pacs.count("store") == 4


@pytest.mark.parametrize("path", ["relay", "push"])
def test_the_liar_and_an_orthanc(way: Way, orthanc_112: OrthancServer, path: str) -> None:
    """The same for a move from a server, whoever does the sending."""
    orthanc_112.upload(way.study)
    server = f"orthanc {way.name}"
    way.running.orthanc(server, orthanc_112)
    modality = {"AET": way.pacs.aet, "Host": way.pacs.host, "Port": way.pacs.port}
    orthanc_112.put(f"/modalities/liar{way.name}", modality)
    way.pacs.on("store", Lie())
    values = {"after": "move", "path": path, "max_attempts": 2, "retry_delays": [0.05]}
    job = way.running.run("forward", [server], [f"to {way.name}"], **values)
    rows = way.rows(job).values()
    assert {(row.state, row.failure and row.failure.code) for row in rows} == {(S.FAILED, "not-confirmed")}
    assert {row.path for row in rows} == {path}
    assert orthanc_112.digests() == way.study.digests()


def test_where_no_proof_was_asked(way: Way) -> None:
    """Sent is all that is claimed, and a move never accepts it."""
    way.pacs.on("store", Lie())
    job = way.run(after="keep", evidence="sent")
    assert {row.state for row in way.rows(job).values()} == {S.SENT}
    with pytest.raises(FerryError):
        way.start(evidence="sent")
    assert study_kept(way) == {0, 1, 2}


def test_a_node_that_cannot_be_asked(way: Way) -> None:
    """It refuses C-FIND: nothing is claimed, nothing is deleted, and the reason is told."""
    way.pacs.refuses = lambda abstract, syntax: abstract == FIND
    job = way.run()
    for row in way.rows(job).values():
        assert row.failure is not None
        assert (row.state, row.failure.code, row.failure.cls) == (S.FAILED, "association-no-service", C.PERSON)
    assert study_kept(way) == {0, 1, 2}


# --- no answer, and broken associations

BROKEN: dict[str, Act] = {
    "silence": Silence(),
    "A-ABORT": Abort(),
    "A-ABORT in mid-PDU": Abort(after=20_000),
    "RST": Reset(),
    "RST in mid data set": Reset(after=20_000),
    "closed": Close(),
    "half-open": Deaf(),
    "nonsense": Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "an answer to another message": OfAnother(),
}


@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
def test_no_answer(way: Way, act: Act) -> None:
    """Not stored, as the destination's list shows: sent again, over another association."""
    way.pacs.on("store", act, times=1)
    way.moved(way.run())
    assert way.pacs.count("store") == 4
    assert set(way.pacs.archive.times.values()) == {1}


#: What comes instead of the answer to an image that was stored.
LOST: dict[str, Act] = {
    "silence": StoredThen(Silence()),
    "RST": StoredThen(Reset()),
    "A-ABORT": StoredThen(Abort()),
    "nonsense": StoredThen(Raw(b"\x42" * 100)),
    "slow drip": Drip(0.1),
    "half an answer, then silence": HalfAnswer(),
    "half an answer, then the end": HalfAnswer(then_close=True),
}


@pytest.mark.parametrize("act", LOST.values(), ids=LOST)
def test_an_answer_that_got_lost(way: Way, act: Act) -> None:
    """Stored, as the destination's list shows: not sent again."""
    way.pacs.on("store", act, times=1)
    way.moved(way.run())
    assert way.pacs.count("store") == 3


@pytest.mark.parametrize(
    ("act", "code"),
    [(Silence(), "timeout"), (Reset(), "cut"), (Abort(), "association-aborted"), (OfAnother(), "association-protocol")],
)
def test_never_an_answer(way: Way, act: Act, code: str) -> None:
    way.pacs.on("store", act)
    job = way.run()
    codes = {(row.state, row.failure.code, row.failure.cls) for row in way.rows(job).values() if row.failure}
    assert codes == {(S.FAILED, code, C.ASK)}
    assert study_kept(way) == {0, 1, 2}


# --- associations


@pytest.mark.parametrize(
    ("act", "code", "cls"),
    [
        (Reject(1, 1, 3), "association-calling-aet", C.PERSON),
        (Reject(1, 1, 7), "association-called-aet", C.PERSON),
        (Reject(1, 1, 1), "association-rejected", C.PERSON),
        (Reject(1, 2, 2), "association-application-context", C.PERSON),
        (Reject(2, 1, 1), "association-rejected-transient", C.BUSY),
        (Reject(2, 3, 1), "association-congestion", C.BUSY),
        (Reject(2, 3, 2), "association-local-limit", C.BUSY),
        (Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "association-no-dicom", C.PERSON),
        (Silence(), "timeout", C.DOWN),
        (Reset(), "cut", C.RETRY),
    ],
)
def test_associations_refused(way: Way, act: Act, code: str, cls: FailureClass) -> None:
    """Nothing is sent while they are."""
    way.pacs.on("associate", act)
    job = way.run()
    codes = {(row.state, row.failure.code, row.failure.cls) for row in way.rows(job).values() if row.failure}
    assert codes == {(S.FAILED, code, cls)}
    assert len(way.rows(job)) == 3
    assert way.pacs.count("store") == 0
    assert study_kept(way) == {0, 1, 2}


def test_associations_that_come_about_in_the_end(way: Way) -> None:
    """Refused in every way, one after the other: then everything goes on by itself."""
    for act in (Reject(1, 1, 3), Reject(2, 1, 1), Reject(2, 3, 2), Silence(), Reset(), Reject(2, 3, 1)):
        way.pacs.on("associate", act, times=1)
    way.moved(way.run(max_attempts=30))
    assert set(way.pacs.archive.times.values()) == {1}


def test_no_accepted_presentation_context(way: Way) -> None:
    """The node takes no such images: they fail with what was refused, and others go through."""
    other = make_study(instances=2, modality="MR", patient_id="OTHER")
    refused = Image.of(other[0])
    other.write(way.folder / "other")
    way.pacs.refuses = lambda abstract, syntax: abstract == refused.sop_class
    rows = way.rows(way.run())
    for uid in other.sop_uids:
        failure = rows[uid].failure
        assert failure is not None
        assert (rows[uid].state, failure.code, failure.cls) == (S.FAILED, "association-no-context", C.PERMANENT)
        assert refused.sop_class in failure.detail
    assert all(rows[uid].state is S.VERIFIED for uid in way.study.sop_uids)
    assert way.kept == set(other.sop_uids)


# --- C-FIND, which is how the destination is asked


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (Find(fail_after=1, status=0xA700), "find-a7xx"),
        (Find(fail_after=1, status=0xC001), "find-cxxx"),
        (Find(fail_after=0, status=0xFE00), "find-fe00"),
        (Find(empty_at=0), "find-no-identifier"),
        (Find(limit=1, then=Reset()), "cut"),
        (Find(limit=1, no_end=True), "timeout"),
    ],
)
def test_a_list_that_breaks_off(way: Way, act: Find, code: str) -> None:
    """Sent, but what the destination holds is not known: nothing is verified, nothing deleted, until it tells."""
    way.pacs.wait_idle()
    begun = way.pacs.on("find", Find(), where=lambda request: not way.pacs.count("store"))
    broken = way.pacs.on("find", act)
    job = way.run()
    codes = {(row.state, row.failure.code) for row in way.rows(job).values() if row.failure}
    assert codes == {(S.FAILED, code)}
    assert study_kept(way) == {0, 1, 2}
    begun.off()
    broken.off()
    again = way.run()
    assert {row.state for row in way.rows(again).values()} == {S.SKIPPED}
    assert way.pacs.count("store") == 3
    assert not way.kept


@pytest.mark.parametrize("act", [Find(limit=1), Find(twice=True), Find(character_set="ISO_IR 999")])
def test_a_list_that_is_odd(way: Way, act: Find) -> None:
    """Cut off in silence, doubled, or in a character set that there is not: what is there is found all the same."""
    way.pacs.on("find", act)
    way.moved(way.run())
    assert way.pacs.count("store") == 3


# --- storage commitment


def commit_rows(way: Way, **fields: object) -> list[DeliveryRow]:
    return list(way.rows(way.run(evidence="committed", **fields)).values())


def test_committed(way: Way) -> None:
    rows = commit_rows(way)
    assert {(row.state, row.evidence and row.evidence.method) for row in rows} == {(S.COMMITTED, Method.COMMITMENT)}
    assert not way.kept


def test_some_that_are_not_committed(way: Way) -> None:
    """They have failed, each with its reason, and stay at the source; each request is a transaction of its own."""
    reasons = {
        0x0110: C.RETRY,
        0x0112: C.ASK,
        0x0119: C.PERMANENT,
        0x0122: C.PERMANENT,
        0x0131: C.RETRY,
        0x0213: C.BUSY,
    }
    more = dict(zip(way.add_images(len(reasons)), reasons, strict=True))
    way.pacs.on("commit", Commit(reasons=more))
    found = way.rows(way.run(evidence="committed"))
    for uid, reason in more.items():
        row = found[uid]
        assert row.failure is not None
        assert (row.state, row.failure.code) == (S.FAILED, f"commitment-{reason:04x}")
        assert row.failure.cls is reasons[reason]
    assert {row.state for uid, row in found.items() if uid not in more} == {S.COMMITTED}
    assert way.kept == set(more)
    assert len(set(way.pacs.transactions)) == len(way.pacs.transactions) >= 2


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (Commit(reports=0), "commitment-no-report"),
        (Commit(transaction="1.2.3.4"), "commitment-no-report"),
        (Commit(leaves_out=3), "commitment-not-named"),
        (Commit(status=0x0122), "action-refused"),
        (Commit(status=0x0110), "action-0110"),
    ],
)
def test_never_committed(way: Way, act: Commit, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the request is no evidence: without a report that names the images nothing is deleted."""
    monkeypatch.setattr("core.engine.retry.delay_after", lambda attempt, delays: 0.01)
    way.pacs.on("commit", act)
    rows = commit_rows(way)
    assert {(row.state, row.failure and row.failure.code) for row in rows} == {(S.FAILED, code)}
    assert study_kept(way) == {0, 1, 2}


def test_no_storage_commitment_there(way: Way) -> None:
    """Said after one more try, whatever the job's delays are; the node stays open for all other jobs meanwhile."""
    way.pacs.refuses = lambda abstract, syntax: abstract == COMMITMENT
    began = time.monotonic()
    job = way.run(evidence="committed", max_attempts=5, retry_delays=[300.0])
    assert time.monotonic() - began < 60
    assert {(row.state, row.failure and row.failure.code) for row in way.rows(job).values()} == {
        (S.FAILED, "action-not-offered")
    }
    assert study_kept(way) == {0, 1, 2}
    down = [e for e in way.running.events if isinstance(e, NodeChanged) and e.health is NodeHealth.DOWN]
    assert f"to {way.name}" not in {e.name for e in down}


def test_committed_in_the_end(way: Way) -> None:
    """Never, late for another transaction, then as it should be."""
    way.pacs.on("commit", Commit(reports=0), times=1)
    way.pacs.on("commit", Commit(transaction="1.2.3.4", reports=2), times=1)
    rows = commit_rows(way, max_attempts=4)
    assert {row.state for row in rows} == {S.COMMITTED}
    assert len(set(way.pacs.transactions)) == len(way.pacs.transactions) >= 3
    assert not way.kept


def test_a_report_that_comes_twice(way: Way) -> None:
    way.pacs.on("commit", Commit(reports=2))
    assert {row.state for row in commit_rows(way)} == {S.COMMITTED}
    assert not way.kept
