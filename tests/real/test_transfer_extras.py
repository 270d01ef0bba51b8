"""Labels, metadata and attachments that go along with the images, between real Orthanc servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.model.errors import NotSupportedError
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study

Start = Callable[..., OrthancServer]
NAMES: dict[str, object] = {"UserMetadata": {"reader": 1030}, "UserContentType": {"report": 1040}}
REPORT = bytes(range(256)) * 4000


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def adorned(server: OrthancServer) -> tuple[Study, str, str, str]:
    """A study with something of each kind at each level; identifiers of study, a series and an instance."""
    study = make_study(series=2, instances=3)
    server.upload(study)
    ref = server.get("/studies")[0]
    series, instance = server.get("/series")[0], server.get("/instances")[0]
    server.raw("PUT", f"/studies/{ref}/metadata/1025", "second opinion — später".encode())
    server.raw("PUT", f"/studies/{ref}/metadata/reader", b"")
    server.raw("PUT", f"/series/{series}/metadata/reader", b"Bob")
    server.raw("PUT", f"/instances/{instance}/metadata/1099", b"key image")
    server.raw("PUT", f"/studies/{ref}/attachments/report", REPORT)
    server.raw("PUT", f"/instances/{instance}/attachments/1041", b"x")
    return study, ref, series, instance


def extras(server: OrthancServer, level: str, ref: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """What users keep on a resource: metadata and attachments."""
    metadata = {k: v for k, v in server.get(f"/{level}/{ref}/metadata?expand").items() if k.isdigit() or k == "reader"}
    names = [n for n in server.get(f"/{level}/{ref}/attachments") if not n.startswith("dicom")]
    return metadata, {n: server.raw("GET", f"/{level}/{ref}/attachments/{n}/data") for n in names}


@pytest.mark.parametrize("versions", [("1.10", "1.12"), ("1.12", "1.10")])
def test_metadata_and_attachments_go_along(
    versions: tuple[str, str], start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = (start_orthanc(version, config=NAMES) for version in versions)
    running.orthanc("A", source)
    running.orthanc("B", destination)
    study, ref, series, instance = adorned(source)
    job = running.run("clone", ["A"], ["B"], copy_metadata=True, copy_attachments=True)
    assert not job.problem
    assert job.counts.verified == 6
    assert destination.digests() == study.digests()
    for level, one in (("studies", ref), ("series", series), ("instances", instance)):
        assert extras(destination, level, one) == extras(source, level, one)
    assert extras(destination, "studies", ref)[1]["report"] == REPORT


def test_nothing_but_images_goes_where_nothing_else_was_asked_for(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.10", config=NAMES), start_orthanc("1.10", config=NAMES)
    running.orthanc("A", source)
    running.orthanc("B", destination)
    _study, ref, _series, instance = adorned(source)
    assert running.run("clone", ["A"], ["B"]).counts.verified == 6
    assert extras(destination, "studies", ref) == ({}, {})
    assert extras(destination, "instances", instance) == ({}, {})
    running.run("clone", ["A"], ["B"], copy_metadata=True)
    assert extras(destination, "studies", ref) == (extras(source, "studies", ref)[0], {}), "also where all is there"


def test_labels_join_those_of_the_destination(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    study = make_study(instances=2)
    source.upload(study)
    destination.upload(study[:1])
    ref, series = source.get("/studies")[0], source.get("/series")[0]
    source.raw("PUT", f"/studies/{ref}/labels/teaching", b"")
    source.raw("PUT", f"/series/{series}/labels/best", b"")
    destination.raw("PUT", f"/studies/{ref}/labels/archive", b"")
    job = running.run("forward", ["A"], ["B"], copy_labels=True)
    assert not job.problem
    assert set(destination.get(f"/studies/{ref}/labels")) == {"teaching", "archive"}
    assert destination.get(f"/series/{series}/labels") == ["best"]


def test_labels_that_have_no_place_are_said_and_keep_a_move_back(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.10")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    source.upload(make_study(instances=2))
    source.raw("PUT", f"/studies/{source.get('/studies')[0]}/labels/teaching", b"")
    job = running.run("forward", ["A"], ["B"], copy_labels=True, after="move")
    assert "has no labels" in job.problem
    assert job.counts.verified == 2
    assert source.count() == 2, "what could not go along would have been lost"


def test_another_value_there_is_told_and_left(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.12", config=NAMES), start_orthanc("1.12", config=NAMES)
    running.orthanc("A", source)
    running.orthanc("B", destination)
    study, ref, series, _instance = adorned(source)
    destination.upload(study)
    destination.raw("PUT", f"/series/{series}/metadata/reader", b"Alice")
    destination.raw("PUT", f"/studies/{ref}/attachments/report", b"theirs")
    job = running.run("forward", ["A"], ["B"], copy_metadata=True, copy_attachments=True, after="move")
    assert "The images stay at A" in job.problem
    assert source.count() == 6
    assert extras(destination, "series", series)[0]["reader"] == "Alice"
    assert extras(destination, "studies", ref)[1]["report"] == b"theirs"
    job = running.run("forward", ["A"], ["B"], copy_metadata=True, copy_attachments=True, after="move", overwrite=True)
    assert not job.problem
    assert source.count() == 0
    assert extras(destination, "series", series)[0]["reader"] == "Bob"
    assert extras(destination, "studies", ref)[1]["report"] == REPORT


def test_a_name_that_the_destination_does_not_know(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.10", config=NAMES), start_orthanc("1.10")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    adorned(source)
    job = running.run("clone", ["A"], ["B"], copy_metadata=True)
    assert "B does not know “reader”" in job.problem
    assert "UserMetadata" in job.problem


def test_a_folder_takes_images_only(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    running.orthanc("A", start_orthanc("1.12"))
    (tmp_path / "out").mkdir()
    running.folder("F", tmp_path / "out")
    with pytest.raises(NotSupportedError, match="F can't hand on labels, metadata and attachments"):
        running.app.jobs.create("clone", {"source": ["A"], "destination": ["F"], "copy_labels": True})
