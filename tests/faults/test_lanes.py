"""A hung source and a hung destination: the other lanes end while they hang, and they go on when they answer again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue

from core.app import App
from core.model.job import JobState
from core.model.outcome import DeliveryState
from core.model.views import TransferFilter
from tests.conftest import OrthancPair
from tests.faults.crossing import Crossing
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import make_studies, merged_digests, small_study
from tests.support.waiting import wait_for


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
def test_the_others_end_while_two_hang(
    orthanc_pair: OrthancPair,
    start_orthanc: Callable[..., OrthancServer],
    fault_proxy: Callable[[OrthancServer], FaultProxy],
    tmp_path: Path,
) -> None:
    source, destination = orthanc_pair
    stopped = start_orthanc(destination.version)
    other = start_orthanc(source.version)
    studies = make_studies(4, instances=100, size_bytes=1_400)
    source.upload([instance for study in studies for instance in study])
    late = small_study(10, patient_id="LATE")
    other.upload(late)
    silent = fault_proxy(other)
    silence = silent.hang()
    stopped.pause()

    app = App.open(tmp_path / "home")
    try:
        addresses = {"from": source.url, "to": destination.url, "stopped": stopped.url, "silent": silent.url}
        for name, url in addresses.items():
            app.nodes.add("orthanc", name, {"url": url}, {})
        app.engine(lambda _event: None)
        fields: dict[str, JsonValue] = {"source": ["from", "silent"], "destination": ["to", "stopped"], "after": "move"}
        job = app.jobs.create("forward", fields)

        def verified(at: str) -> int:
            rows = app.ledger.transfers(TransferFilter(job_id=job.id))
            return sum(row.counts.of(DeliveryState.VERIFIED) for row in rows if row.destination == at)

        wait_for(lambda: verified("to") == 400, timeout=60, what="the healthy lane")
        assert verified("stopped") == 0
        assert destination.digests() == merged_digests(studies)
        assert source.count() == 400, "a move waits for all destinations"
        assert app.jobs.get(job.id).state is JobState.RUNNING

        stopped.resume()
        silence.off()
        wait_for(lambda: app.jobs.get(job.id).state is JobState.FINISHED, timeout=120, what="the end")
        counts = app.ledger.job_counts(job.id)
        assert counts.verified == counts.total == 2 * 410
        assert stopped.digests() == destination.digests() == {**merged_digests(studies), **late.digests()}
        assert source.count() == other.count() == 0
    finally:
        app.close()


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_a_command_starts_beside_a_hung_node(
    crossing: Crossing, start_orthanc: Callable[..., OrthancServer], fault_proxy: Callable[[OrthancServer], FaultProxy]
) -> None:
    """Nodes are asked before the start; the one that never answers is waited for no longer than a moment."""
    other = start_orthanc("1.12")
    silent = fault_proxy(other)
    silence = silent.hang()
    crossing.add("silent", silent.url, idle_timeout=60)
    running = crossing.start("--destination", "silent")
    wait_for(lambda: crossing.destination.count() == 10, timeout=30, what="the healthy lane")
    assert not running.done()
    assert crossing.source.count() == 10
    silence.off()
    assert running.result(60).expect(0).finished["verified"] == 20
    assert other.digests() == crossing.destination.digests() == crossing.study.digests()
    assert crossing.source.count() == 0
