"""The source server sends by itself, and that goes wrong: not its word but the destination's list decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.crossing import Crossing, says
from tests.support.orthanc import OrthancServer
from tests.support.studies import Study, make_study
from tests.support.waiting import wait_for

BOTH_WAYS = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
PUSH = ("--path", "push")
STORE = "^POST /instances$"  # what a peer sends, too


def _peer(crossing: Crossing, **more: str) -> None:
    """Let the source know the destination, by the way through the proxy."""
    crossing.source.put("/peers/there", {"Url": crossing.before_destination.url, **more})


def _study(crossing: Crossing) -> Study:
    study = make_study(instances=40, accession="PUSHED", size_bytes=20_000)
    crossing.source.upload(study)
    return study


def _all_moved(crossing: Crossing, study: Study) -> None:
    assert crossing.destination.digests() == {**crossing.study.digests(), **study.digests()}
    assert crossing.source.count() == 0


@BOTH_WAYS
def test_pushed_and_proved(crossing: Crossing) -> None:
    study = _study(crossing)
    _peer(crossing)
    run = crossing.run(*PUSH).expect(0)
    assert run.finished["verified"] == 50
    _all_moved(crossing, study)
    assert set(crossing.destination.received().values()) == {1}
    assert {event["path"] for event in run.events if event["event"] == "study" and event["path"]} == {"push"}


@BOTH_WAYS
def test_a_filter_that_the_peer_job_does_not_tell_of(
    crossing: Crossing, start_orthanc: Callable[..., OrthancServer]
) -> None:
    """The source's job ends well although the destination left an image out: that one is not deleted."""
    refused = crossing.study.sop_uids[3]
    lua = f'function ReceivedInstanceFilter(dicom) return dicom.SOPInstanceUID ~= "{refused}" end'
    strict = start_orthanc(crossing.destination.version, lua=[lua], count_received=False)
    crossing.add("strict", strict.url)
    crossing.source.put("/peers/strict", {"Url": strict.url})
    run = crossing.run(*PUSH, "--max-attempts", "2", to="strict").expect(1)
    assert (run.finished["verified"], run.finished["failed"]) == (9, 1)
    assert list(crossing.source.digests()) == [refused]
    says(run, "strict")


@BOTH_WAYS
def test_the_peer_refuses(crossing: Crossing) -> None:
    _peer(crossing)
    crossing.before_destination.answer(403, STORE)
    run = crossing.run(*PUSH, "--max-attempts", "2").expect(1)
    says(run, "from could not send to to by itself.", "Check the peer's address and password in the settings of from")
    crossing.nothing_deleted()


@pytest.mark.parametrize("side", ["source", "destination"])
@BOTH_WAYS
def test_restarted_while_it_pushes(crossing: Crossing, side: str) -> None:
    """The source's job is lost, or breaks off: what has not arrived is sent again, and nothing is lost."""
    study = _study(crossing)
    _peer(crossing)
    slow = crossing.before_destination.delay(0.05, STORE)
    running = crossing.start(*PUSH, "--max-attempts", "60")
    slow.wait_hit(5)
    server: OrthancServer = getattr(crossing, side)
    server.kill()
    server.start()
    slow.off()
    if side == "source":
        _peer(crossing)  # known until the restart only
    run = running.result(90).expect(0)
    assert run.finished["verified"] == 50
    _all_moved(crossing, study)


@BOTH_WAYS
def test_cancelled_while_it_pushes(crossing: Crossing) -> None:
    """The source's own job is cancelled with it."""
    study = _study(crossing)
    _peer(crossing)
    slow = crossing.before_destination.delay(0.2, STORE)
    running = crossing.start(*PUSH)
    slow.wait_hit(2)
    with crossing.app() as app:
        app.jobs.cancel(1)
    run = running.result(60).expect(1)
    assert run.finished["cancelled"] > 0

    def states() -> set[str]:
        return {crossing.source.get(f"/jobs/{job}")["State"] for job in crossing.source.get("/jobs")}

    wait_for(lambda: states() <= {"Failure", "Success"}, what="the end of the source's jobs")
    held, left = crossing.destination.digests(), crossing.source.digests()
    assert {**held, **left} == {**crossing.study.digests(), **study.digests()}
