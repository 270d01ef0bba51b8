"""A gateway between real programs: dcmsend, this computer or an Orthanc in front, an Orthanc behind."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.model.errors import ConfigurationError
from core.model.gateway import GatewayState
from core.model.job import JobState
from core.model.outcome import Method, SourceState
from core.secrets import variable_name
from core.step_book import SHARED
from core.steps.deidentify.pseudonyms import secret_name
from tests.support.gateways import Hurrying, dcmsend, moved_clock, send_quickly, this_computer, wait_listening
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.servers import free_port
from tests.support.studies import ct_study, make_study, small_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
A700 = 0xA700


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def gateway(running: RunningApp, source: list[str], destination: list[str], **fields: object) -> int:
    """A gateway that looks often and keeps nothing that is confirmed, unless told otherwise."""
    often: dict[str, Any] = {"poll_interval": 0.2, "keep_hours": 0, **fields}
    return running.start("gateway", source, destination, **often)


def spool_count(running: RunningApp, name: str = "Here") -> int:
    node = running.app.nodes.open(name)
    try:
        return node.intake().instances  # type: ignore[attr-defined, no-any-return]
    finally:
        node.close()


def beat(port: int) -> tuple[int, dict[str, Any]]:
    """What a monitoring system is answered."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_what_a_modality_sends_goes_on_and_leaves_the_spool_once_confirmed(
    running: RunningApp, orthanc_112: OrthancServer, tmp_path: Path
) -> None:
    port = this_computer(running)
    running.orthanc("PACS", orthanc_112)
    job = gateway(running, ["Here"], ["PACS"])
    assert running.record(job).follow, "a gateway follows without being asked to"
    study, other = ct_study(6), make_study(modality="MR", accession="M", instances=12)
    dcmsend(port, [*study, *other], tmp_path / "sent")
    running.wait(lambda: running.record(job).counts.verified == 18, "both studies to be confirmed")
    running.wait(lambda: spool_count(running) == 0, "the spool to be empty")
    assert set(orthanc_112.digests()) == {*study.sop_uids, *other.sop_uids}
    assert orthanc_112.received_count() == 18, "each was sent once"
    running.wait(lambda: {r.source_state for r in running.rows(job)} == {SourceState.DELETED}, "that to be noted")
    assert running.methods(job) == {Method.DIGEST}
    standing = running.app.jobs.gateway_standing(job)
    assert standing.healthy, standing.reasons
    assert standing.route.confirmed_images == 18
    assert standing.route.last_confirmed is not None
    assert standing.last_received is not None
    # A modality sends a study once more, long after it has left the spool: it is there already.
    dcmsend(port, study, tmp_path / "again")
    running.wait(lambda: spool_count(running) == 0, "the spool to be empty again")
    assert orthanc_112.received_count() == 18, "nothing was sent again"
    assert running.record(job).counts.total == 18


def test_confirmed_studies_stay_for_the_time_that_was_chosen(
    running: RunningApp, orthanc_112: OrthancServer, tmp_path: Path
) -> None:
    with moved_clock() as time:
        port = this_computer(running)
        running.orthanc("PACS", orthanc_112)
        job = gateway(running, ["Here"], ["PACS"], keep_hours=24)
        dcmsend(port, small_study(4), tmp_path / "sent")
        running.wait(lambda: running.record(job).counts.verified == 4, "the study to be confirmed")
        running.wait(lambda: running.app.jobs.gateway_standing(job).route.kept_studies == 1, "it to be kept")
        time.ahead += 23 * 3600
        dcmsend(port, make_study(accession="B", instances=2), tmp_path / "later")
        running.wait(lambda: running.record(job).counts.verified == 6, "a later study to be confirmed")
        assert spool_count(running) == 6
        time.ahead += 3600 + 60
        running.wait(lambda: spool_count(running) == 2, "the study to go that was kept for a day")
        running.wait(lambda: running.app.jobs.gateway_standing(job).route.kept_studies == 1, "the later one to stay")
        assert orthanc_112.count() == 6


def test_what_is_confirmed_makes_place_when_the_disk_runs_short_and_nothing_else_does(
    running: RunningApp, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for a week; then there is less room than is reserved: A700, and only what is confirmed goes."""
    monkeypatch.setattr("core.engine.gateway.LOOK_EVERY", 0.2)
    server = start_orthanc("1.12", name="PACS")
    with moved_clock() as time:
        port = this_computer(running)
        running.orthanc("PACS", server)
        job = gateway(running, ["Here"], ["PACS"], keep_hours=168)
        confirmed, unconfirmed = small_study(5), make_study(modality="MR", accession="U", instances=3)
        dcmsend(port, confirmed, tmp_path / "one")
        running.wait(lambda: running.record(job).counts.verified == 5, "the first study to be confirmed")
        time.ahead += 3600
        server.stop()
        dcmsend(port, unconfirmed, tmp_path / "two")
        running.wait(lambda: running.record(job).counts.planned == 3, "the second study to wait")
        assert spool_count(running) == 8, "all is kept"
        monkeypatch.setattr("core.spool.spool.Spool.free", lambda _self: 1 << 20)
        running.wait(lambda: "A700" in running.record(job).note, "the job to say it")
        assert set(send_quickly(port, [small_study(1, accession="late")])) == {A700}
        standing = running.app.jobs.gateway_standing(job)
        words = next(reason for reason in standing.reasons if "A700" in reason)
        assert "1 study is not confirmed yet and stays" in words
        assert "destination" in words
        assert spool_count(running) == 8, "it is down: nobody can say any more that it has what it had confirmed"
        server.start()
        with Hurrying(time, 5):
            running.wait(lambda: spool_count(running) == 0, "what is confirmed to make place")
        assert running.record(job).counts.verified == 8
        assert len(server.digests()) == 8


def test_auto_routing_off_receives_and_sends_nothing_even_after_a_restart(
    running: RunningApp, orthanc_112: OrthancServer, tmp_path: Path
) -> None:
    port = this_computer(running)
    running.orthanc("PACS", orthanc_112)
    job = gateway(running, ["Here"], ["PACS"])
    running.wait(
        lambda: running.record(job).state is JobState.RUNNING and not running.record(job).planning, "the start"
    )
    running.app.jobs.route(job, on=False)
    running.wait(lambda: "switched off" in running.record(job).note, "the switch")
    dcmsend(port, small_study(5), tmp_path / "one")
    running.wait(lambda: running.record(job).counts.planned == 5, "what arrives to be planned all the same")
    assert running.app.jobs.gateway_standing(job).state is GatewayState.OFF
    running.handle.stop()
    running.handle = running.app.engine(running.events.append)
    running.wait(lambda: "switched off" in running.record(job).note, "the switch to be remembered")
    wait_listening(running, port)
    dcmsend(port, make_study(accession="B", instances=2), tmp_path / "two")
    running.wait(lambda: running.record(job).counts.planned == 7, "both to wait")
    assert orthanc_112.received_count() == 0
    running.app.jobs.route(job, on=True)
    running.wait(lambda: running.record(job).counts.verified == 7, "what arrived meanwhile to go on")
    running.wait(lambda: spool_count(running) == 0, "the spool to be empty")
    assert not running.record(job).note


@pytest.mark.parametrize("how", ["off", "paused"])
def test_nothing_is_deleted_that_another_gateway_has_not_brought_on(
    running: RunningApp,
    orthanc_110: OrthancServer,
    orthanc_112: OrthancServer,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two gateways from one store: one is switched off, or paused and hasn't even seen what came."""
    monkeypatch.setattr("core.engine.settle.LOOK_AGAIN", 0.3)
    archive, research = orthanc_112, orthanc_110
    port = this_computer(running)
    running.orthanc("Archive", archive)
    running.orthanc("Research", research)
    first = gateway(running, ["Here"], ["Archive"], trigger="instance")
    second = gateway(running, ["Here"], ["Research"], routing=how != "off")
    running.wait(lambda: running.record(second).state is JobState.RUNNING, "the second")
    if how == "paused":
        running.app.jobs.pause(second)
        running.wait(lambda: running.record(second).state is JobState.PAUSED, "the pause")
    dcmsend(port, small_study(3), tmp_path / "one")
    running.wait(lambda: running.record(first).counts.verified == 3, "the first to be done")
    running.wait(lambda: "Gateway Here to Research" in running.record(first).note, "the first to say for whom it waits")
    assert spool_count(running) == 3
    if how == "off":
        running.app.jobs.route(second, on=True)
    else:
        running.app.jobs.resume(second)
    running.wait(lambda: running.record(second).counts.verified == 3, "the second to be done")
    running.wait(lambda: spool_count(running) == 0, "the spool to be empty")
    assert set(research.digests()) == set(archive.digests())
    running.wait(lambda: not running.record(first).note, "nothing more to be said")


def test_heart_beat_over_http_and_as_a_file(running: RunningApp, start_orthanc: Start, tmp_path: Path) -> None:
    server = start_orthanc("1.12", name="PACS")
    port, pulse, file = this_computer(running), free_port(), tmp_path / "watch" / "beat.json"
    file.parent.mkdir()
    running.orthanc("PACS", server)
    job = gateway(
        running,
        ["Here"],
        ["PACS"],
        heartbeat_port=pulse,
        heartbeat_file=str(file),
        heartbeat_every=1,
    )
    study = make_study(patient="Secret^Person", instances=4)
    dcmsend(port, study, tmp_path / "one")
    running.wait(lambda: running.record(job).counts.verified == 4, "the study to be confirmed")
    wait_for(lambda: beat(pulse)[1]["confirmed_images"] == 4, what="the heart-beat")
    status, told = beat(pulse)
    assert status == 200
    assert told["healthy"] is True
    assert told["state"] == "routing"
    assert told["waiting"] == {"studies": 0, "images": 0}
    assert told["last_received"]
    assert told["last_confirmed"]
    assert told["destinations"] == [{"name": "PACS", "reachable": True, "since": None, "reason": ""}]
    assert told["intakes"][0]["listening"] is True
    server.stop()
    dcmsend(port, make_study(patient="Secret^Person", accession="B", instances=3), tmp_path / "two")
    wait_for(lambda: beat(pulse)[0] == 503, what="trouble to be told")
    status, told = beat(pulse)
    assert any("PACS can't be reached" in reason for reason in told["reasons"]), told
    assert told["destinations"][0]["reachable"] is False
    wait_for(lambda: json.loads(file.read_bytes())["healthy"] is False, what="the file to say so")
    assert wait_for(lambda: beat(pulse)[1]["waiting"] == {"studies": 1, "images": 3}, what="what waits")
    for text in (json.dumps(beat(pulse)[1]), file.read_text()):
        assert "Secret" not in text
        assert study.study_uid not in text
    server.start()
    wait_for(lambda: beat(pulse)[0] == 200, timeout=60, what="all to be well again")
    running.app.jobs.pause(job)
    running.wait(lambda: running.record(job).state is JobState.PAUSED, "the pause")
    with pytest.raises(urllib.error.URLError):
        beat(pulse)
    assert json.loads(file.read_bytes())["state"] == "stopped"
    assert [p.name for p in file.parent.iterdir()] == ["beat.json"], "nothing half written is left"
    running.app.jobs.resume(job)
    wait_for(lambda: _answers(pulse), what="the heart-beat to go on")


def _answers(port: int) -> bool:
    try:
        return beat(port)[0] == 200
    except urllib.error.URLError:
        return False


def test_an_orthanc_in_front_keeps_what_it_has_and_is_caught_up_with(
    running: RunningApp, start_orthanc: Start, tmp_path: Path
) -> None:
    """dcmsend to Orthanc 1.10, which the gateway follows; while we are off, its change log is cleared."""
    front = start_orthanc("1.10", name="FRONT", config={"StableAge": 1, "DicomCheckCalledAet": False})
    behind = start_orthanc("1.12", name="BEHIND")
    running.orthanc("Front", front)
    running.orthanc("Behind", behind)
    job = gateway(running, ["Front"], ["Behind"])
    study = make_study(instances=4, series=1)
    dcmsend(front.dicom_port, study, tmp_path / "one", called="FRONT")
    running.wait(lambda: running.record(job).counts.verified == 4, "the first study")
    running.handle.stop()
    more = make_study(accession="B", instances=3)
    dcmsend(front.dicom_port, more, tmp_path / "two", called="FRONT")
    grown = make_study(instances=6, series=1)
    assert grown.study_uid == study.study_uid
    dcmsend(front.dicom_port, grown[4:], tmp_path / "three", called="FRONT")
    wait_for(lambda: all(front.get(f"/studies/{s}")["IsStable"] for s in front.get("/studies")), what="stable studies")
    front.delete("/changes")
    running.handle = running.app.engine(running.events.append)
    running.wait(lambda: running.record(job).counts.verified == 9, "what came meanwhile, and what had grown")
    assert behind.digests() == front.digests()
    assert behind.received_count() == 9
    assert front.count() == 9, "a server keeps what it has"


def test_from_an_orthanc_to_another_one_by_dicomweb(running: RunningApp, start_orthanc: Start, tmp_path: Path) -> None:
    """dcmsend → Orthanc 1.10 → gateway → the DICOMweb plugin of Orthanc 1.12."""
    front = start_orthanc("1.10", name="FRONT", config={"StableAge": 1, "DicomCheckCalledAet": False})
    behind = start_orthanc("1.12", name="BEHIND", dicomweb=True)
    running.orthanc("Front", front)
    running.app.nodes.add("dicomweb", "Behind", {"url": behind.dicomweb_url}, {})
    job = gateway(running, ["Front"], ["Behind"])
    study, other = ct_study(5), make_study(modality="MR", accession="M", series=2, instances=8)
    dcmsend(front.dicom_port, study, tmp_path / "one", called="FRONT")
    dcmsend(front.dicom_port, other, tmp_path / "two", called="FRONT")
    running.wait(lambda: running.record(job).counts.verified == 21, "both studies to be confirmed")
    assert set(behind.digests()) == set(front.digests())
    assert behind.received_count() == 21
    assert front.count() == 21


def test_a_gateway_that_deidentifies_sends_no_name_and_forgets_the_original_only_then(
    running: RunningApp, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = start_orthanc("1.12", name="BEHIND", dicomweb=True)
    port = this_computer(running)
    running.app.nodes.add("dicomweb", "Behind", {"url": behind.dicomweb_url}, {})
    monkeypatch.setenv(variable_name(SHARED, secret_name("standard")), "7f" * 32)
    study = make_study(patient="Ferry^Ada", patient_id="ADA-1", instances=4)
    with pytest.raises(ConfigurationError, match="only images that say whose they are"):
        gateway(running, ["Here"], ["Behind"], step=["deidentify"])
    job = gateway(running, ["Here"], ["Behind"], step=["deidentify"], originals_elsewhere=True)
    dcmsend(port, study, tmp_path / "one")
    running.wait(lambda: running.record(job).counts.verified == 4, "the study to be confirmed")
    running.wait(lambda: spool_count(running) == 0, "the spool to be empty")
    arrived = behind.digests()
    assert len(arrived) == 4
    assert not set(arrived) & set(study.sop_uids), "other UIDs"
    for uid in arrived:
        file = behind.file(uid)
        assert b"Ferry^Ada" not in file
        assert b"ADA-1" not in file


def test_an_orthanc_in_front_is_emptied_where_that_was_asked_for(running: RunningApp, start_orthanc: Start) -> None:
    front = start_orthanc("1.12", name="FRONT", config={"StableAge": 1})
    behind = start_orthanc("1.12", name="BEHIND")
    running.orthanc("Front", front)
    running.orthanc("Behind", behind)
    front.upload(small_study(5))
    job = gateway(running, ["Front"], ["Behind"], empty_servers=True)
    running.wait(lambda: front.count() == 0, "the front to be empty")
    assert running.record(job).counts.verified == 5
    assert behind.count() == 5


def test_a_clock_that_is_set_back_holds_up_nothing(running: RunningApp, start_orthanc: Start, tmp_path: Path) -> None:
    server = start_orthanc("1.12", name="PACS")
    with moved_clock() as time:
        port = this_computer(running)
        running.orthanc("PACS", server)
        job = gateway(running, ["Here"], ["PACS"], retry_delays=[300], trigger="instance")
        dcmsend(port, small_study(2), tmp_path / "one")
        running.wait(lambda: running.record(job).counts.verified == 2, "the first study")
        server.stop()
        dcmsend(port, make_study(accession="B", instances=3), tmp_path / "two")
        running.wait(lambda: bool(running.record(job).note), "the destination to be down")
        server.start()
        time.set_by -= 7 * 3600
        running.wait(lambda: any("set back" in line.text for line in running.app.ledger.log()), "the jump to be seen")
        time.ahead += 400
        running.wait(lambda: running.record(job).counts.verified == 5, "what waited to be sent")


def test_what_is_no_gateway_has_no_switch(running: RunningApp, orthanc_pair: Any) -> None:
    source, destination = orthanc_pair
    running.orthanc("A", source)
    running.orthanc("B", destination)
    source.upload(small_study(1))
    job = running.run("forward", ["A"], ["B"])
    with pytest.raises(Exception, match="no gateway"):
        running.app.jobs.route(job.id, on=False)
