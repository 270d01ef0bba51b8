"""Steps on the ways that images come and go: from a modality through this computer, large ones, the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from core.model.outcome import Method
from tests.support.ferry import Ferry
from tests.support.gateways import dcmsend, this_computer
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.servers import free_port
from tests.support.studies import make_study, write_large_instance

Start = Callable[..., OrthancServer]
STEPS = ['tags actions="set InstitutionName=Elsewhere; prefix PatientID=W-"']


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_from_a_modality_through_this_computer_to_an_orthanc(
    version: str, start_orthanc: Start, running: RunningApp, tmp_path: Path
) -> None:
    destination = start_orthanc(version, name="B")
    running.orthanc("B", destination)
    port = this_computer(running)
    job_id = running.start("forward", ["Here"], ["B"], follow=True, after="move", poll_interval=0.2, step=STEPS)
    study = make_study(instances=9)
    dcmsend(port, study, tmp_path / "modality")
    running.wait(lambda: running.record(job_id).counts.verified == 9, "the images")
    running.wait(lambda: not list((running.app.home.folder / "nodes").rglob("*.dcm")), "this computer to be empty")
    assert running.methods(job_id) == {Method.DIGEST}
    assert destination.digests().keys() == set(study.sop_uids)
    there = pydicom.dcmread(io.BytesIO(destination.file(study.sop_uids[0])))
    assert (there.InstitutionName, there.PatientID) == ("Elsewhere", "W-FERRY-1")
    running.app.jobs.cancel(job_id)


def test_to_a_dicom_node_and_a_second_pass(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    """C-STORE, confirmed by C-FIND: what can't be compared is not taken for the same where the UIDs are."""
    server = start_orthanc("1.12", name="PACS", config={"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True})
    study = make_study(instances=4)
    study.write(tmp_path / "in")
    running.folder("In", tmp_path / "in")
    running.app.nodes.add("dicom", "PACS", {"aet": "PACS", "host": "127.0.0.1", "port": server.dicom_port}, {})
    job = running.run("forward", ["In"], ["PACS"], step=STEPS)
    assert job.counts.verified == 4, running.rows(job.id)
    assert running.methods(job.id) == {Method.UID}
    there = pydicom.dcmread(io.BytesIO(server.file(study.sop_uids[0])))
    assert there.InstitutionName == "Elsewhere"
    again = running.run("forward", ["In"], ["PACS"], step=STEPS)
    assert again.counts.skipped == 4, [r.evidence for r in running.rows(job.id)]
    other = running.run("forward", ["In"], ["PACS"], step=['tags actions="set InstitutionName=Other"'])
    assert other.counts.conflict == 4


def test_committed_under_the_new_uids(ferry: Ferry, start_orthanc: Start, tmp_path: Path) -> None:
    port = free_port()
    config = {"DicomAlwaysAllowFind": True, "DicomModalities": {"ferry": ["DICOMFERRY", "127.0.0.1", port]}}
    server = start_orthanc("1.12", name="WEST", config=config)
    study = make_study(instances=4)
    study.write(tmp_path / "source")
    ferry.env["DICOM_FERRY_SECRET_STEPS_DEIDENTIFICATION_KEY_STANDARD"] = "0123456789abcdef" * 4
    ferry.run("node", "add", "folder", "disk", "--path", str(tmp_path / "source")).expect()
    ferry.run(
        "node", "add", "dicom", "west", "--aet", server.aet, "--host", "127.0.0.1", "--port", str(server.dicom_port)
    ).expect()
    ferry.run(
        "node", "add", "this-computer", "here", "--aet", "DICOMFERRY", "--port", str(port), "--callers", "*@127.0.0.1"
    ).expect()
    words = (
        "run", "forward", "--source", "disk", "--destination", "west", "--evidence", "committed",
        "--after", "move", "--step", "deidentify", "--json",
    )  # fmt: skip
    refused = ferry.run(*words).expect(2)
    assert "--originals-elsewhere" in refused.stderr
    run = ferry.run(*words, "--originals-elsewhere").expect()
    assert run.finished["committed"] == 4, run.describe()
    assert len(server.digests()) == 4
    assert not server.digests().keys() & set(study.sop_uids)
    assert not list((tmp_path / "source").rglob("*.dcm"))


LARGE = """
import sys, json
from pathlib import Path
from tests.support.running_app import RunningApp
home, source, destination = sys.argv[1:]
running = RunningApp(Path(home))
running.orthanc("A", source)
running.orthanc("B", destination)
job = running.run("forward", ["A"], ["B"], step=['tags actions="set InstitutionName=Elsewhere"'])
running.close()
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"verified": job.counts.verified, "peak_mb": peak}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_600_mb_in_200_mb_of_memory(start_orthanc: Start, tmp_path: Path) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    large = write_large_instance(tmp_path / "large.dcm", 600_000_000)
    source.upload([large.path])
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "home"), source.url, destination.url],
        capture_output=True, text=True, timeout=170, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verified"] == 1
    assert found["peak_mb"] < 200
    assert destination.digests().keys() == {large.sop_uid}
    assert destination.digests()[large.sop_uid] != large.md5


def test_on_the_command_line(ferry: Ferry, start_orthanc: Start, tmp_path: Path) -> None:
    source = start_orthanc("1.12")
    study = make_study(instances=3)
    source.upload(study)
    ferry.run("node", "add", "orthanc", "A", "--url", source.url).expect()
    ferry.run("node", "add", "folder", "Out", "--path", str(tmp_path / "out")).expect()
    kinds = [e for e in ferry.run("steps", "kinds", "--json").expect().events if e["event"] == "step-kind"]
    assert {"tags", "lookup", "external", "deidentify"} <= {k["kind"] for k in kinds}
    table = tmp_path / "ids.csv"
    table.write_text("old,new\nFERRY-1,NEW-1\n")
    steps = ("--step", f'lookup table="{table}"', "--step", 'tags actions="remove StudyDescription"')

    looked = ferry.run("steps", "preview", "A", "--study", study.study_uid, *steps, "--json").expect()
    rows = {e["path"]: e for e in looked.events if e["event"] == "tag"}
    assert (rows["(0010,0020)"]["before"], rows["(0010,0020)"]["after"]) == ("FERRY-1", "NEW-1")
    assert rows["(0008,1030)"]["state"] == "removed"
    assert looked.events[-1]["done"]
    assert "(0010,0020)" in ferry.run("steps", "preview", "A", *steps).expect().stdout
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.dcm"))

    run = ferry.run("run", "forward", "--source", "A", "--destination", "Out", *steps, "--json").expect()
    assert run.finished["verified"] == 3
    files = list((tmp_path / "out").rglob("*.dcm"))
    assert {pydicom.dcmread(f).PatientID for f in files} == {"NEW-1"}
    job = next(e for e in run.events if e["event"] == "finished")["job"]
    plain = json.loads(ferry.run("report", str(job), "--format", "json").expect().stdout)
    assert "NEW-1" not in json.dumps(plain)
    assert "Patient ID by the table." in plain["studies"][0]["images"][0]["steps"]
    assert plain["studies"][0]["images"][0]["digest_both"] == ""
    told = json.loads(ferry.run("report", str(job), "--format", "json", "--mapping").expect().stdout)
    assert told["studies"][0]["images"][0]["sent_patient_id"] == "NEW-1"
    # The same as text and in another order of words is the same job.
    table.write_text("old,new\nX,NEW-1\n")
    failing = ferry.run("steps", "preview", "A", *steps).expect(1)
    assert "would not be sent" in failing.stderr
    wrong = ferry.run("run", "forward", "--source", "A", "--destination", "Out", "--step", "tags actions=fix").expect(2)
    assert "Change tags" in wrong.stderr
    clone = ferry.run("run", "clone", "--source", "A", "--destination", "Out", *steps).expect(2)
    assert "--step" in clone.stderr
