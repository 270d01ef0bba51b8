"""Two programs on one home: the second watches the first, and takes over when it ends or is killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import OrthancPair
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import make_studies, merged_digests
from tests.support.waiting import wait_for

MOVE = ("run", "forward", "--source", "from", "--destination", "to", "--after", "move", "--json")


@pytest.mark.parametrize("how", ["killed", "interrupted"])
@pytest.mark.parametrize("orthanc_pair", ["1.10>1.12"], indirect=True)
def test_the_second_takes_over(
    orthanc_pair: OrthancPair, ferry: Ferry, fault_proxy: Callable[[OrthancServer], FaultProxy], how: str
) -> None:
    source, destination = orthanc_pair
    studies = make_studies(10, instances=20, size_bytes=1400)
    source.upload([instance for study in studies for instance in study])
    proxy = fault_proxy(destination)
    for name, url in (("from", source.url), ("to", proxy.url)):
        ferry.run("node", "add", "orthanc", name, "--url", url).expect()
    slow = proxy.delay(0.5, "^POST /instances$")  # all of them take far longer than the other program to start
    first = ferry.start(*MOVE, "--workers", "2")
    slow.wait_hit(10)
    second = ferry.start(*MOVE, "--workers", "2")
    wait_for(lambda: "DICOM Ferry is running already; the job runs there." in second.stderr(), what="the second")
    before = second.wait_event("study")
    assert before["job"] == 1, "the same command is the same job"
    if how == "killed":
        first.kill()
    else:
        first.interrupt()
        first.result().expect(130)
    slow.off()
    finished = second.result().expect(0).finished
    assert finished["planned"] == finished["verified"] == 200
    assert destination.digests() == merged_digests(studies)
    assert source.count() == 0
    received = destination.received()
    again = {uid: count for uid, count in received.items() if count > 1}
    assert len(again) <= (2 if how == "killed" else 0), "only what was in flight at the kill may come twice"


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.12"], indirect=True)
def test_commands_reach_the_one_that_runs(
    orthanc_pair: OrthancPair, ferry: Ferry, fault_proxy: Callable[[OrthancServer], FaultProxy]
) -> None:
    source, destination = orthanc_pair
    source.upload([instance for study in make_studies(10, instances=20, size_bytes=1400) for instance in study])
    proxy = fault_proxy(destination)
    for name, url in (("from", source.url), ("to", proxy.url)):
        ferry.run("node", "add", "orthanc", name, "--url", url).expect()
    slow = proxy.delay(0.5, "^POST /instances$")  # all of them take far longer than the other program to start
    first = ferry.start(*MOVE, "--workers", "2")
    slow.wait_hit(10)
    ferry.run("job", "pause", "1").expect(0)
    stopped_at = destination.received_count()
    assert stopped_at < 200
    first.wait_event(lambda event: event.get("event") == "job" and event.get("state") == "paused")
    assert destination.received_count() == stopped_at
    slow.off()
    ferry.run("job", "resume", "1").expect(0)
    assert first.result().expect(0).finished["verified"] == 200
    assert source.count() == 0
    assert set(destination.received().values()) == {1}
