"""Clone and forward between real Orthanc servers: every instance proved, every path, every ending."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.model.errors import FerryError
from core.model.events import LogLevel
from core.model.job import JobState
from core.model.outcome import Method, SourceState
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.studies import ct_study, make_study, small_study, write_large_instance

Start = Callable[..., OrthancServer]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture(params=["1.10", "1.12"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(version: str, start_orthanc: Start, running: RunningApp) -> tuple[OrthancServer, OrthancServer]:
    source, destination = start_orthanc(version, name="A", config={"StableAge": 1}), start_orthanc(version, name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    return source, destination


def test_clone_proves_every_instance_by_digest(pair: tuple[OrthancServer, OrthancServer], running: RunningApp) -> None:
    source, destination = pair
    source.upload(make_study(series=3, instances=40))
    source.upload(make_study(modality="MR", character_set="\\ISO 2022 IR 87", accession="J", instances=7))
    source.upload(ct_study(12, accession="C"))
    job = running.run("clone", ["A"], ["B"])
    assert not job.problem
    assert job.counts.verified == job.counts.total == 139
    assert destination.digests() == source.digests()
    assert running.methods(job.id) == {Method.DIGEST}
    assert destination.received_count() == 139
    rows = running.rows(job.id)
    assert all(r.evidence and r.evidence.digest == source.digests()[r.sop_uid] for r in rows[:5])
    again = running.run("clone", ["A"], ["B"])
    assert (again.counts.skipped, again.counts.total, again.pass_number) == (139, 139, 2)
    assert destination.received_count() == 139, "nothing was sent again"
    series = running.app.ledger.series(rows[0].transfer_id)
    assert series[0].total in (40, 7, 12)
    assert series[0].modality in ("CT", "MR")
    row = running.app.ledger.transfer(rows[0].transfer_id)
    assert row
    assert row.study.modalities == (series[0].modality,)


@pytest.mark.parametrize("versions", [("1.10", "1.12"), ("1.12", "1.10")])
def test_clone_between_versions(versions: tuple[str, str], start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc(versions[0]), start_orthanc(versions[1])
    running.orthanc("A", source)
    running.orthanc("B", destination)
    source.upload(make_study(series=2, instances=30))
    source.upload(ct_study(5, accession="X"))
    job = running.run("clone", ["A"], ["B"])
    assert job.counts.verified == 65
    assert running.methods(job.id) == {Method.DIGEST}
    assert destination.digests() == source.digests()


def test_move_empties_the_source_of_what_was_verified(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp
) -> None:
    source, destination = pair
    wanted, other = make_study(instances=30), make_study(modality="MR", accession="M", instances=10)
    source.upload(wanted)
    source.upload(other)
    before = source.digests()
    conflicting = make_study(instances=30, patient="Other^Name")[3]  # same UIDs, other content
    destination.upload([conflicting])
    job = running.run("forward", ["A"], ["B"], after="move", filter="Modality = CT")
    assert (job.counts.verified, job.counts.conflict, job.left_out) == (29, 1, 10)
    assert set(source.digests()) == {wanted.sop_uids[3], *other.sop_uids}
    assert destination.digests()[wanted.sop_uids[3]] != before[wanted.sop_uids[3]], "shown, not overwritten"
    states = {r.sop_uid: r.source_state for r in running.rows(job.id)}
    assert states.pop(wanted.sop_uids[3]) is SourceState.KEPT
    assert set(states.values()) == {SourceState.DELETED}
    replaced = running.run("forward", ["A"], ["B"], after="move", filter="Modality = CT", overwrite=True)
    assert replaced.counts.verified == 1
    assert destination.digests() == {k: v for k, v in before.items() if k in wanted.sop_uids}


def test_push_by_the_server_is_followed_to_its_end(version: str, start_orthanc: Start, running: RunningApp) -> None:
    destination = start_orthanc(version, name="B")
    source = start_orthanc(version, name="A", config={"OrthancPeers": {"bee": [destination.url]}})
    source.upload(ct_study(25))
    running.orthanc("A", source)
    running.orthanc("B", destination)
    job = running.run("forward", ["A"], ["B"])
    assert job.counts.verified == 25
    rows = running.rows(job.id)
    assert {r.path for r in rows} == {"push"}
    assert all("job" in r.answer for r in rows)
    assert running.methods(job.id) == {Method.DIGEST}
    row = running.app.ledger.transfer(rows[0].transfer_id)
    assert row
    assert "bee" in row.path_reason
    assert destination.digests() == source.digests()


def test_push_to_a_peer_that_is_wrong_is_named(version: str, start_orthanc: Start, running: RunningApp) -> None:
    destination = start_orthanc(version, name="B", users={"u": "secret"})
    source = start_orthanc(version, name="A", config={"OrthancPeers": {"bee": [destination.url, "u", "wrong"]}})
    source.upload(ct_study(3))
    running.orthanc("A", source)
    running.app.nodes.add("orthanc", "B", {"url": destination.url, "username": "u"}, {})
    running.app.secrets._session["B", "password"] = "secret"
    job = running.run("forward", ["A"], ["B"], path="push", max_attempts=2)
    assert job.counts.failed == 3
    group = running.app.ledger.failure_groups(job_id=job.id)[0]
    assert "A could not send to B by itself" in group.failure.sentence
    assert "peer" in group.failure.next_step


def test_follow_sends_new_instances_and_stable_studies(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp
) -> None:
    source, destination = pair
    source.upload(make_study(instances=5))
    clone = running.start("clone", ["A"], ["B"], follow=True, poll_interval=0.2)
    running.wait(lambda: destination.count() == 5, "the content")
    source.upload(make_study(accession="N", instances=7))
    running.wait(lambda: running.record(clone).counts.verified == 12, "what arrived")
    assert running.record(clone).state is JobState.RUNNING
    running.app.jobs.cancel(clone)
    running.wait(lambda: running.record(clone).state is JobState.CANCELLED, "the end")
    forward = running.start("forward", ["A"], ["B"], follow=True, poll_interval=0.2, after="move", trigger="study")
    running.wait(lambda: source.count() == 0, "the move of stable studies")
    source.upload(make_study(accession="S", instances=4))
    running.wait(lambda: destination.count() == 16 and source.count() == 0, "the next stable study")
    assert running.record(forward).counts.failed == 0


def test_a_server_that_cannot_send_there_is_told(version: str, start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc(version), start_orthanc(version)
    for number in range(3):
        source.upload(make_study(instances=2, accession=str(number)))
    running.orthanc("A", source)
    running.orthanc("B", destination)
    job = running.run("forward", ["A"], ["B"], path="push")
    assert job.counts.verified == 6
    told = [line.text for line in running.app.ledger.log(level=LogLevel.WARNING)]
    assert len(told) == 1, "not for each study"
    assert "A was to send to B by itself: all comes through this computer instead" in told[0]


def test_several_sources_and_destinations(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    first, second, third = start_orthanc("1.10"), start_orthanc("1.12"), start_orthanc("1.12")
    for name, server in (("A1", first), ("A2", second), ("B", third)):
        running.orthanc(name, server)
    running.folder("Disk", tmp_path / "disk")
    first.upload(make_study(instances=9))
    second.upload(make_study(instances=11, accession="2"))
    before = first.digests() | second.digests()
    job = running.run("forward", ["A1", "A2"], ["B", "Disk"], after="move")
    assert job.counts.verified == job.counts.total == 40
    assert third.digests() == before
    assert first.count() == second.count() == 0
    files = [p for p in (tmp_path / "disk").rglob("*") if p.suffix == ".dcm"]
    assert {hashlib.md5(p.read_bytes()).hexdigest() for p in files} == set(before.values())


def test_a_path_of_its_own_for_a_destination(version: str, start_orthanc: Start, running: RunningApp) -> None:
    east, west, north = (start_orthanc(version) for _ in range(3))
    peers = {"east": [east.url], "west": [west.url], "north": [north.url]}
    source = start_orthanc(version, config={"OrthancPeers": peers})
    source.upload(make_study(instances=6, size_bytes=1400))
    for name, server in (("A", source), ("East", east), ("West", west), ("North", north)):
        running.orthanc(name, server)
    job = running.run("forward", ["A"], ["East", "West", "North"], path="push", relay_to=["East"])
    assert job.counts.verified == 18
    paths = {(r.destination, r.path) for r in running.rows(job.id)}
    assert paths == {("East", "relay"), ("West", "push"), ("North", "push")}
    assert east.digests() == west.digests() == north.digests() == source.digests()
    west.wipe()
    job = running.run("forward", ["A"], ["East", "West"], path="relay", push_to=["West"])
    assert {(r.destination, r.path) for r in running.rows(job.id) if r.path} == {("West", "push")}
    assert west.digests() == source.digests()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"push_to": ["B"], "relay_to": ["B"]}, "B can't get its images through this computer and by the server"),
        ({"relay_to": ["C"]}, "A path to C was chosen, but nothing is sent there"),
        ({"push_to": ["B", "B"]}, "the same node is named twice"),
        ({"push_to": ["B"], "step": ['tags actions="set PatientName=A^B"']}, "sends the images as they are"),
    ],
)
def test_paths_that_make_no_sense(fields: dict[str, object], words: str, running: RunningApp, tmp_path: Path) -> None:
    for name in ("A", "B", "C"):
        running.folder(name, tmp_path / name)
    with pytest.raises(FerryError, match=words):
        running.app.jobs.create("forward", {"source": ["A"], "destination": ["B"], **fields})  # type: ignore[dict-item]


def test_folder_to_orthanc_and_back(orthanc: OrthancServer, running: RunningApp, tmp_path: Path) -> None:
    study = make_study(series=2, instances=6)
    study.write(tmp_path / "in")
    running.folder("In", tmp_path / "in")
    running.orthanc("A", orthanc)
    running.folder("Out", tmp_path / "out")
    there = running.run("forward", ["In"], ["A"])
    assert there.counts.verified == 12
    assert orthanc.digests() == study.digests()
    back = running.run("forward", ["A"], ["Out"])
    assert back.counts.verified == 12
    assert running.methods(back.id) == {Method.DIGEST}


def test_labels_tell_the_outcome(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    good, bad = make_study(instances=3), make_study(accession="B", instances=3)
    source.upload(good)
    source.upload(bad)
    destination.upload([make_study(accession="B", instances=3, patient="Other^Name")[0]])
    running.run("forward", ["A"], ["B"], label_success="arrived", label_failure="check")
    labels = {s["MainDicomTags"]["StudyInstanceUID"]: s["Labels"] for s in source.get("/studies?expand")}
    assert labels == {good.study_uid: ["arrived"], bad.study_uid: ["check"]}


def test_an_instance_of_600_mb_streams(version: str, start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    source, destination = start_orthanc(version), start_orthanc(version)
    running.orthanc("A", source)
    running.orthanc("B", destination)
    large = write_large_instance(tmp_path / "large.dcm", 600_000_000)
    source.upload([large.path])
    source.upload(small_study(5))
    job = running.run("clone", ["A"], ["B"])
    assert job.counts.verified == 6
    assert destination.digests()[large.sop_uid] == large.md5
