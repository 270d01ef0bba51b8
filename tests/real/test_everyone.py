"""“All modalities” and “all peers” of an Orthanc as destinations: who they are, kept current, never back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.model.errors import ConfigurationError, FerryError
from core.model.job import JobState
from core.model.outcome import DeliveryState, Method
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.running_app import RunningApp
from tests.support.servers import required_program
from tests.support.studies import Study, make_study

Start = Callable[..., OrthancServer]
ALL, PEERS = "MRI: all modalities", "MRI: all peers"
ONE = 1  # image at a time: dcmqrscp gives files that come at once the same name, and loses or refuses one of them


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture(params=["1.10", "1.12"])
def mri(request: pytest.FixtureRequest, start_orthanc: Start) -> OrthancServer:
    server = start_orthanc(request.param, name="MRI", config={"StableAge": 1})
    knows(server, "itself", server.aet, server.dicom_port)  # many have such an entry for tests
    return server


@pytest.fixture
def archive(start_orthanc: Start) -> OrthancServer:
    return start_orthanc("1.12", name="ARCHIVE")


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[QueryRetrieveServer]:
    with QueryRetrieveServer(tmp_path / "qrscp", aet="WEST") as server:
        yield server


def knows(server: OrthancServer, name: str, aet: str, port: int) -> None:
    server.put(f"/modalities/{name}", {"AET": aet, "Host": "127.0.0.1", "Port": port})


def by_modality(server: OrthancServer, aet: str, study: Study, folder: Path) -> None:
    """Send a study by C-STORE, calling itself `aet`."""
    files = study.write(folder)
    command = [required_program("dcmsend"), "-aet", aet, "-aec", server.aet, "127.0.0.1", str(server.dicom_port)]
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True, timeout=60)


def test_all_modalities_of_a_server(
    running: RunningApp, mri: OrthancServer, archive: OrthancServer, pacs: QueryRetrieveServer
) -> None:
    """One is a node here already, one becomes one, and the server is not sent to itself."""
    running.orthanc("MRI", mri)
    running.orthanc("Archive", archive)
    knows(mri, "west", "WEST", pacs.port)
    knows(mri, "archive", archive.aet, archive.dicom_port)
    mri.upload(make_study(instances=6))
    job = running.run("forward", ["MRI"], [ALL], workers=ONE)
    assert (job.problem, job.counts.verified, job.counts.total) == ("", 12, 12)
    assert archive.count() == 6
    assert pacs.stored()  # how many is for its list to tell: parallel ones overwrite files of each other
    assert {(r.destination, r.state) for r in running.rows(job.id)} == {
        ("Archive", DeliveryState.VERIFIED),
        ("west (MRI)", DeliveryState.VERIFIED),
    }
    made = running.app.nodes.get("west (MRI)")
    assert (made.kind, made.fields["through"], made.fields["known_as"]) == ("dicom", "MRI", "west")
    assert job.destinations == (ALL,)
    again = running.run("forward", ["MRI"], [ALL], workers=ONE)
    assert (again.counts.skipped, again.counts.total) == (12, 12)
    assert len(running.app.nodes.all()) == 3
    running.start("forward", ["MRI"], [ALL], follow=True)
    with pytest.raises(ConfigurationError, match="MRI is used by"):
        running.app.nodes.remove("MRI")


def test_never_back_to_the_sender(
    running: RunningApp, mri: OrthancServer, archive: OrthancServer, pacs: QueryRetrieveServer, tmp_path: Path
) -> None:
    """A modality that can't be asked what it holds (a scanner) must not get its own images."""
    running.orthanc("MRI", mri)
    knows(mri, "west", "WEST", pacs.port)
    scanned = make_study(instances=4, accession="SCANNED")
    by_modality(mri, "WEST", scanned, tmp_path / "scan")
    alone = running.run("forward", ["MRI"], [ALL], after="move", workers=ONE)
    assert (alone.counts.total, alone.left_out, pacs.stored()) == (0, 4, 0)
    assert mri.count() == 4, "nothing was confirmed anywhere, so nothing is deleted"
    running.orthanc("Archive", archive)
    knows(mri, "archive", archive.aet, archive.dicom_port)
    uploaded = make_study(instances=3, accession="UPLOADED")
    mri.upload(uploaded)
    job = running.run("forward", ["MRI"], [ALL], after="move", workers=ONE)
    assert (job.counts.verified, job.counts.total) == (4 + 2 * 3, 10)
    assert (archive.count(), mri.count()) == (7, 0)
    assert {r.sop_uid for r in running.rows(job.id) if r.destination == "west (MRI)"} == set(uploaded.sop_uids)
    by_name = running.run("forward", ["Archive"], ["west (MRI)"], workers=ONE)
    assert by_name.counts.verified + by_name.counts.skipped == 7, "a destination that is named gets everything"


def test_kept_current_while_following(
    running: RunningApp,
    mri: OrthancServer,
    archive: OrthancServer,
    pacs: QueryRetrieveServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.engine.everyone.LOOK_EVERY", 0.2)
    running.orthanc("MRI", mri)
    running.orthanc("Archive", archive)
    knows(mri, "archive", archive.aet, archive.dicom_port)
    mri.upload(make_study(instances=2))
    job = running.start("forward", ["MRI"], [ALL], follow=True, poll_interval=0.2, trigger="instance", workers=ONE)
    running.wait(lambda: archive.count() == 2, "the one that is known")
    knows(mri, "west", "WEST", pacs.port)
    running.wait(lambda: len(running.app.nodes.all()) == 3, "the new one")
    seen_anew(running, job, 1)
    mri.upload(make_study(instances=3, accession="B"))
    running.wait(lambda: running.record(job).counts.verified == 2 + 6, "both")
    mri.delete("/modalities/archive")
    seen_anew(running, job, 2)
    last = make_study(instances=4, accession="C")
    mri.upload(last)
    running.wait(lambda: running.record(job).counts.verified == 2 + 6 + 4, "the one that is left")
    assert {r.destination for r in running.rows(job) if r.sop_uid in last.sop_uids} == {"west (MRI)"}
    assert archive.count() == 5
    assert pacs.stored()
    assert (running.record(job).state, running.record(job).counts.failed) == (JobState.RUNNING, 0)


def seen_anew(running: RunningApp, job: int, times: int) -> None:
    """The job goes on with the destinations of now."""

    def said() -> bool:
        return len([entry for entry in running.app.ledger.log() if "known by now" in entry.text]) == times

    running.wait(lambda: said() and not running.handle.is_moving(job), "the change is seen")


def test_a_node_that_is_down_is_made_no_second_time(
    running: RunningApp, mri: OrthancServer, archive: OrthancServer, tmp_path: Path
) -> None:
    """It is known from before, or else the job says why it can't begin; images for it wait."""
    running.orthanc("MRI", mri)
    running.orthanc("Archive", archive)
    knows(mri, "archive", archive.aet, archive.dicom_port)
    book = running.app.everyone
    archive.stop()
    with pytest.raises(FerryError, match="whether the modality “archive” of MRI is Archive"):
        book.expanded([ALL], ["MRI"], register=True)
    archive.start()
    assert book.expanded([ALL], ["MRI"], register=True).names == ("Archive",)
    archive.stop()
    assert book.expanded([ALL], ["MRI"], register=True).names == ("Archive",)
    assert [n.name for n in running.app.nodes.all()] == ["Archive", "MRI"]


def test_all_peers_of_a_server(running: RunningApp, mri: OrthancServer, archive: OrthancServer) -> None:
    running.orthanc("MRI", mri)
    running.orthanc("Archive", archive)
    mri.put("/peers/archive", {"Url": archive.url})
    mri.put("/peers/itself", {"Url": mri.url})
    mri.upload(make_study(instances=5))
    job = running.run("forward", ["MRI"], [PEERS])
    assert (job.problem, job.counts.verified) == ("", 5)
    assert running.methods(job.id) == {Method.DIGEST}
    mri.put("/peers/stranger", {"Url": "http://stranger.lan:8042", "Username": "a", "Password": "b"})
    told = running.run("forward", ["MRI"], [PEERS])
    assert told.counts.skipped == 5
    assert "“stranger” of MRI is no node here, so nothing is sent there" in told.problem
    mri.delete("/peers/archive")
    with pytest.raises(ConfigurationError, match="none that anything could be sent to"):
        running.start("forward", ["MRI"], [PEERS])


def test_a_ring_ends_by_itself(running: RunningApp, mri: OrthancServer, archive: OrthancServer) -> None:
    """Each sends to all peers of its own: what the other has is not sent back."""
    running.orthanc("MRI", mri)
    running.orthanc("Archive", archive)
    mri.put("/peers/archive", {"Url": archive.url})
    archive.put("/peers/mri", {"Url": mri.url})
    there = running.start("forward", ["MRI"], [PEERS], follow=True, poll_interval=0.2, trigger="instance")
    back = running.start(
        "forward", ["Archive"], ["Archive: all peers"], follow=True, poll_interval=0.2, trigger="instance"
    )
    mri.upload(make_study(instances=5))
    running.wait(lambda: running.record(there).counts.verified == 5, "there")
    running.wait(lambda: running.record(back).counts.skipped == 5, "not back")
    assert (mri.received_count(), archive.received_count()) == (5, 5)


def test_on_the_command_line(ferry: Ferry, mri: OrthancServer, pacs: QueryRetrieveServer) -> None:
    ferry.run("node", "add", "orthanc", "MRI", "--url", mri.url).expect()
    args = ("run", "forward", "--source", "MRI", "--destination")
    nobody = ferry.run(*args, ALL).expect(2)
    assert "there is none that anything could be sent to" in nobody.stderr
    assert "There is no node “Nobody”" in ferry.run(*args, "Nobody: all modalities").expect(2).stderr
    assert "There is no node “MRI: all nonsense”" in ferry.run(*args, "MRI: all nonsense").expect(2).stderr
    knows(mri, "west", "WEST", pacs.port)
    mri.upload(make_study(instances=3))
    dry = ferry.run(*args, ALL, "--dry-run").expect()
    assert "Not looked at: west (MRI)." in dry.stdout + dry.stderr
    assert "west" not in ferry.run("node", "list").expect().stdout, "a dry run makes nothing"
    done = ferry.run(*args, ALL, "--json").expect()
    assert done.finished["verified"] == 3
    assert pacs.stored()
    assert "west (MRI)" in ferry.run("node", "list").expect().stdout
