"""Migrations between real servers: by days and lists, through this computer and by third-party C-MOVE, with proof."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from core.engine import disk_watch
from core.model.errors import ConfigurationError
from core.model.events import EngineChanged
from core.model.outcome import Method
from core.nodes.base import DiskUse
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Find
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.running_app import RunningApp
from tests.support.servers import free_port
from tests.support.studies import Study, make_study, merged_digests
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]

OPEN = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}
DATES = ("20231231", "20240101", "20240229", "20240229", "20241231", "20250101", "")
QUICK = {"check_interval": 0.2, "arrival_wait": 5.0}


def dated(instances: int = 4) -> list[Study]:
    return [
        make_study(patient_id=f"P{n}", accession=f"{n:05}", study_date=day, instances=instances, size_bytes=600)
        for n, day in enumerate(DATES)
    ]


def images(studies: list[Study]) -> list[bytes]:
    return [i for s in studies for i in s]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def dicom(running: RunningApp, name: str, aet: str, port: int, **fields: object) -> str:
    given = {"aet": aet, "host": "127.0.0.1", "port": port, **fields}
    running.app.nodes.add("dicom", name, given, {})  # type: ignore[arg-type]
    return name


def listen(running: RunningApp, port: int) -> None:
    """Let this computer be called."""
    running.app.nodes.add("this-computer", "here", {"aet": "FERRY", "port": port, "callers": ["*@127.0.0.1"]}, {})
    running.wait(lambda: any(isinstance(e, EngineChanged) and e.listeners for e in running.events), "the listening")


# --- through this computer


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_range_of_days_in_either_order(version: str, order: str, start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc(version, name="A"), start_orthanc(version, name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    studies = dated()
    source.upload(images(studies))
    wanted = studies[1:5]
    fields = {"date_from": "20240101", "date_to": "20241231", "order": order, "workers": 1}
    job = running.run("migrate", ["A"], ["B"], **fields)
    assert not job.problem
    assert job.counts.verified == job.counts.total == 16
    assert destination.digests() == merged_digests(wanted)
    assert running.methods(job.id) == {Method.DIGEST}
    rows = sorted(running.rows(job.id), key=lambda r: r.id)
    first = studies[4 if order == "newest" else 1]
    assert rows[0].sop_uid in first.sop_uids
    assert any("without a date" in line.text and "1 study" in line.text for line in running.app.ledger.log())
    again = running.run("migrate", ["A"], ["B"], **fields)
    assert (again.counts.skipped, again.counts.total) == (16, 16)
    assert destination.received_count() == 16


def test_undated_studies_come_last_and_a_move_takes_only_what_was_wanted(
    start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = start_orthanc("1.12", name="A"), start_orthanc("1.12", name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    studies = dated()
    source.upload(images(studies))
    job = running.run("migrate", ["A"], ["B"], date_from="20240101", date_to="20241231", undated="carry", after="move")
    assert job.counts.verified == 20
    assert set(source.digests()) == set(merged_digests([studies[0], studies[5]]))
    assert destination.digests() == merged_digests([*studies[1:5], studies[6]])


def test_a_folder_by_days(tmp_path: Path, start_orthanc: Start, running: RunningApp) -> None:
    destination = start_orthanc("1.12", name="B")
    running.orthanc("B", destination)
    studies = dated()
    for n, study in enumerate(studies):
        study.write(tmp_path / "archive" / str(n))
    running.folder("A", tmp_path / "archive")
    job = running.run("migrate", ["A"], ["B"], date_from="20240229", date_to="20240229")
    assert job.counts.verified == 8
    assert destination.digests() == merged_digests(studies[2:4])


def test_an_excel_list_and_what_failed_as_the_next_list(
    tmp_path: Path, start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = start_orthanc("1.12", name="A"), start_orthanc("1.12", name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    studies = dated()
    source.upload(images(studies))
    conflicting = make_study(
        patient_id="P3", accession="00003", study_date="20240229", instances=4, description="Other"
    )
    destination.upload([conflicting[1]])
    path = excel(tmp_path / "studies.xlsx", "Accession", "00001", "00003", "00003", "999", "0*", None, "00004")

    listed = running.app.read_list(path, "accession")
    assert [e.value for e in listed.accepted] == ["00001", "00003", "999", "00004"]
    assert {r.row: r.refusal.value for r in listed.refused} == {
        1: "header", 4: "duplicate", 6: "wildcard", 7: "blank",
    }  # fmt: skip
    fields = {"source": ["A"], "destination": ["B"], "list": str(path), "list_column": "accession"}
    preview = running.app.jobs.preview("migrate", fields)
    assert (preview.studies, preview.instances, preview.different) == (3, 12, 1)
    assert not preview.complete
    assert preview.reason.startswith("1 of 4 accession numbers of studies.xlsx were not found at A: row 5.")
    assert "row 6. It has a wildcard" in preview.reason
    assert destination.count() == 1

    job = running.run("migrate", ["A"], ["B"], list=str(path), list_column="accession")
    assert (job.counts.verified, job.counts.conflict) == (11, 1)
    assert "row 5" in job.problem
    again = tmp_path / "again.txt"
    assert running.app.failed_list(job.id, again) == 1
    assert again.read_text().split() == [studies[3].study_uid]
    second = running.run("migrate", ["A"], ["B"], list=str(again), overwrite=True)
    assert not second.problem
    assert (second.counts.verified, second.counts.skipped) == (1, 3)
    assert destination.digests() == merged_digests([studies[1], studies[3], studies[4]])


def excel(path: Path, *column: str | None) -> Path:
    """A workbook whose second column is this."""
    book = Workbook()
    page = book.active
    assert isinstance(page, Worksheet)
    for n, value in enumerate(column, 1):
        page.cell(n, 1, "someone")
        page.cell(n, 2, value)
    book.save(path)
    return path


def test_on_the_command_line(tmp_path: Path, ferry: Ferry) -> None:
    studies = dated(instances=2)
    for n, study in enumerate(studies):
        study.write(tmp_path / "a" / str(n))
    (tmp_path / "b").mkdir()
    for name in ("a", "b"):
        ferry.run("node", "add", "folder", name, "--path", tmp_path / name).expect()
    run = ("run", "migrate", "--source", "a", "--destination", "b", "--json")
    days = ("--date-from", "2024-01-01", "--date-to", "20241231", "--order", "newest")
    (told,) = [e for e in ferry.run(*run, *days, "--dry-run").expect().events if e["event"] == "preview"]
    assert (told["studies"], told["instances"], told["complete"]) == (4, 8, True)
    path = excel(tmp_path / "studies.xlsx", "Accession", "00001", "999")
    done = ferry.run(*run, "--list", path, "--list-column", "accession").expect(1)
    assert (done.finished["verified"], done.finished["planned"]) == (2, 2)
    assert "row 3" in done.finished["problem"]
    ferry.run("report", str(done.finished["job"]), "--failed-list", tmp_path / "again.txt").expect()
    assert (tmp_path / "again.txt").read_text() == ""
    refused = ferry.run(*run, "--date-from", "20241231", "--date-to", "20240101").expect(2)
    assert "is after the last" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_impossible_is_refused_in_a_sentence(tmp_path: Path, running: RunningApp) -> None:
    for name in ("a", "b"):
        running.folder(name, tmp_path / name)
    impossible = {
        "there is no day 2024-02-31": {"date_from": "20240231"},
        "is after the last": {"date_from": "20241231", "date_to": "20240101"},
        "can't be read": {"list": str(tmp_path / "none.csv")},
        "Which studies are to be migrated is not said": {},
    }
    for words, fields in impossible.items():
        with pytest.raises(ConfigurationError, match=words):
            running.start("migrate", ["a"], ["b"], **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_server_that_is_too_full_is_waited_for(
    version: str, start_orthanc: Start, running: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_watch, "LOOK_EVERY", 0.1)
    source, destination = start_orthanc("1.12", name="A"), start_orthanc(version, name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    source.upload(images(dated()))
    (in_the_way,) = destination.upload([make_study(patient_id="OLD", instances=1, size_bytes=2_000_000)[0]])
    job = running.start("migrate", ["A"], ["B"], date_from="20240101", date_to="20241231", disk_limit="0.001 GB")
    running.wait(lambda: running.record(job).note == "Waiting: B's disk holds 0.0 GB.", "the note")
    assert destination.count() == 1
    destination.delete(f"/instances/{in_the_way}")
    assert running.wait_finished(job).counts.verified == 16


def test_how_full_a_disk_is(tmp_path: Path, start_orthanc: Start, running: RunningApp) -> None:
    limited = start_orthanc("1.12", name="A", config={"MaximumStorageSize": 5})
    limited.upload(images(dated()))
    running.orthanc("A", limited)
    running.folder("B", tmp_path / "folder")
    for name, total in (("A", 5 * 1024 * 1024), ("B", shutil.disk_usage(tmp_path).total)):
        node = running.app.nodes.open(name)
        try:
            assert isinstance(node, DiskUse)
            level = node.disk_use()
            assert level.capacity == total
            assert 0 < level.used < total
        finally:
            node.close()


# --- DICOM


@pytest.mark.parametrize("retrieve", ["c-get", "c-move"])
def test_store_and_forward_from_a_pacs(
    retrieve: str, tmp_path: Path, start_orthanc: Start, running: RunningApp
) -> None:
    """C-GET, or C-MOVE to this computer, and C-STORE on."""
    destination = start_orthanc("1.12", name="WEST", config=OPEN)
    here = free_port()
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE", hosts={"FERRY": here}) as archive:
        dicom(running, "archive", "ARCHIVE", archive.port, connections=1, retrieve=retrieve, calling_aet="FERRY")
        dicom(running, "west", "WEST", destination.dicom_port, calling_aet="FERRY")
        if retrieve == "c-move":
            listen(running, here)
        studies = dated()
        fill(running, tmp_path, studies)
        job = running.run("migrate", ["archive"], ["west"], date_from="20240101", date_to="20241231", path="relay")
        assert not job.problem
        assert job.counts.verified == job.counts.total == 16
        assert set(destination.digests()) == set(merged_digests(studies[1:5]))
        assert {r.path for r in running.rows(job.id)} == {"relay"}


def fill(running: RunningApp, tmp_path: Path, studies: list[Study]) -> None:
    """Put studies into the node "archive" by a job of its own."""
    for n, study in enumerate(studies):
        study.write(tmp_path / "filling" / str(n))
    running.folder("filling", tmp_path / "filling")
    filled = running.run("forward", ["filling"], ["archive"])
    assert filled.counts.verified == sum(map(len, studies))


@pytest.mark.parametrize("confirmed_by", ["rest", "find"])
@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_third_party_c_move_commanded_by_us(
    version: str, confirmed_by: str, tmp_path: Path, start_orthanc: Start, running: RunningApp
) -> None:
    destination = start_orthanc(version, name="WEST", config=OPEN)
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE", hosts={"WEST": destination.dicom_port}) as archive:
        dicom(running, "archive", "ARCHIVE", archive.port, connections=1, calling_aet="FERRY")
        if confirmed_by == "rest":
            running.orthanc("west", destination)
        else:
            dicom(running, "west", "WEST", destination.dicom_port, calling_aet="FERRY")
        studies = dated()
        fill(running, tmp_path, studies)
        destination.upload([studies[2][1]])
        days = {"date_from": "20240101", "date_to": "20241231"}
        job = running.run("migrate", ["archive"], ["west"], path="push", **days, **QUICK)
        assert not job.problem
        assert (job.counts.verified, job.counts.skipped) == (15, 1)
        assert set(destination.digests()) == set(merged_digests(studies[1:5]))
        pushed = [r for r in running.rows(job.id) if r.path == "push"]
        assert len(pushed) == 15
        assert destination.received_count() - 1 == 15, "what was there is not sent again"
        again = running.run("migrate", ["archive"], ["west"], path="push", **days, **QUICK)
        assert again.counts.skipped == 16


def test_third_party_c_move_commanded_by_an_orthanc(tmp_path: Path, start_orthanc: Start, running: RunningApp) -> None:
    """Confirmed by REST, while the images travel by C-STORE between the two."""
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE") as first:
        port = first.port
    west = start_orthanc(
        "1.12", name="WEST", config={**OPEN, "DicomModalities": {"archive": ["ARCHIVE", "127.0.0.1", port]}}
    )
    archive = QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE", hosts={"WEST": west.dicom_port})
    archive.port = port
    with archive:
        running.orthanc("west", west)
        dicom(running, "direct", "ARCHIVE", port, connections=1, calling_aet="FERRY")
        studies = dated()
        for n, study in enumerate(studies):
            study.write(tmp_path / "filling" / str(n))
        running.folder("filling", tmp_path / "filling")
        assert running.run("forward", ["filling"], ["direct"]).counts.verified == 28
        dicom(running, "archive", "ARCHIVE", port, connections=1, through="west")
        days = {"date_from": "20240101", "date_to": "20241231"}
        job = running.run("migrate", ["archive"], ["west"], path="push", **days, **QUICK)
        assert not job.problem
        assert job.counts.verified == job.counts.total == 16
        assert set(west.digests()) == set(merged_digests(studies[1:5]))
        assert {r.path for r in running.rows(job.id)} == {"push"}


def test_killed_in_the_middle_of_a_c_move(tmp_path: Path, start_orthanc: Start, ferry: Ferry) -> None:
    destination = start_orthanc("1.12", name="WEST", config=OPEN)
    studies = [make_study(patient_id=f"P{n}", instances=30, size_bytes=600) for n in range(2)]
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE", hosts={"WEST": destination.dicom_port}) as archive:
        for n, study in enumerate(studies):
            study.write(tmp_path / "filling" / str(n))
        add = ("node", "add")
        ferry.run(*add, "folder", "filling", "--path", tmp_path / "filling").expect()
        ferry.run(
            *add, "dicom", "archive", "--aet", "ARCHIVE", "--host", "127.0.0.1", "--port", str(archive.port),
            "--connections", "1",
        ).expect()  # fmt: skip
        ferry.run(*add, "orthanc", "west", "--url", destination.url).expect()
        ferry.run("run", "forward", "--source", "filling", "--destination", "archive", "--json").expect()
        days = ("--date-from", "20240101", "--undated", "ignore", "--path", "push", "--check-interval", "0.2")
        run = ("run", "migrate", "--source", "archive", "--destination", "west", *days, "--json")
        running = ferry.start(*run)
        wait_for(lambda: destination.count() >= 5, what="the first images")
        running.kill()
        done = ferry.run(*run).expect()
    assert done.finished["verified"] + done.finished["skipped"] == done.finished["planned"] == 60
    assert set(destination.digests()) == set(merged_digests(studies))


def test_a_pacs_that_does_not_know_the_destination(tmp_path: Path, start_orthanc: Start, running: RunningApp) -> None:
    destination = start_orthanc("1.12", name="WEST", config=OPEN)
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE") as archive:
        dicom(running, "archive", "ARCHIVE", archive.port, connections=1, calling_aet="FERRY")
        running.orthanc("west", destination)
        fill(running, tmp_path, dated(instances=1)[:2])
        job = running.run(
            "migrate",
            ["archive"],
            ["west"],
            path="push",
            date_from="20230101",
            max_attempts=2,
            undated="ignore",
            **QUICK,
        )
        assert job.counts.failed == 2
        (group,) = running.app.ledger.failure_groups(job_id=job.id)
        assert group.failure.code == "move-a801"
        assert "AE title" in group.failure.next_step


def test_a_pacs_that_gives_few_answers_to_a_question(start_orthanc: Start, running: RunningApp) -> None:
    destination = start_orthanc("1.12", name="WEST", config=OPEN)
    running.orthanc("west", destination)
    studies = [
        make_study(
            patient_id=f"P{n}", accession=f"A{n}", instances=1, size_bytes=200,
            study_date=f"2024{1 + n // 8:02}{1 + n % 8:02}",
        )
        for n in range(60)
    ]  # fmt: skip
    with FaultyPeer() as pacs:
        for study in studies:
            pacs.holds(study)
        pacs.on("find", Find(limit=7))
        dicom(running, "pacs", pacs.aet, pacs.port, find_limit=7, calling_aet="FERRY")
        job = running.run(
            "migrate", ["pacs"], ["west"], date_from="20240101", date_to="20241231", undated="ignore", path="relay"
        )
        assert not job.problem
        assert job.counts.verified == 60
        assert set(destination.digests()) == set(merged_digests(studies))


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_move_stands_on_storage_commitment(
    version: str, tmp_path: Path, start_orthanc: Start, running: RunningApp
) -> None:
    here = free_port()
    pacs = start_orthanc(
        version, name="PACS", config={**OPEN, "DicomModalities": {"ferry": ["FERRY", "127.0.0.1", here]}}
    )
    listen(running, here)
    dicom(running, "pacs", "PACS", pacs.dicom_port, calling_aet="FERRY", commitment_timeout=20)
    studies = dated()[1:4]
    for n, study in enumerate(studies):
        study.write(tmp_path / "archive" / str(n))
    pacs.upload(list(studies[0])[:2])
    running.folder("A", tmp_path / "archive")
    job = running.run(
        "migrate", ["A"], ["pacs"], date_from="20240101", date_to="20241231", evidence="committed", after="move"
    )
    assert not job.problem
    assert (job.counts.committed, job.counts.skipped) == (10, 2)
    assert running.methods(job.id) == {Method.COMMITMENT}
    assert set(pacs.digests()) == set(merged_digests(studies))
    assert not list((tmp_path / "archive").rglob("*.dcm"))
