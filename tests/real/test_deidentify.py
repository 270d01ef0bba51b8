"""De-identification between real servers: what arrives tells nobody who it is, is proved, and is always the same."""

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
from core.secrets import variable_name
from core.step_book import SHARED
from core.steps.deidentify.pseudonyms import Pseudonyms, secret_name
from tests.support.deidentifying import BIRTH, KEY, PATIENT_ID, UID_ROOT, as_bytes, ct_image, traces
from tests.support.keyrings import no_keyring
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study

Start = Callable[..., OrthancServer]
NAME, NUMBER, ACCESSION = "QUAGGA^Zebedee", "PID-4711-0815", "ACC998877"
STEP = "deidentify dates=shift keep_descriptors=yes"


@pytest.fixture(autouse=True)
def _key_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in no_keyring(tmp_path / "keyring").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(variable_name(SHARED, secret_name("standard")), KEY)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def a_study(**more: object) -> Study:
    return make_study(
        patient=NAME, patient_id=NUMBER, accession=ACCESSION, description=f"Thorax {NUMBER}",
        PatientBirthDate="19520229", ReferringPhysicianName="KUDU^Karin", InstitutionName="Zoo", **more,
    )  # fmt: skip


def files(server: OrthancServer, uids: list[str]) -> dict[str, bytes]:
    return {uid: server.file(uid) for uid in uids}


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_what_arrives_tells_nobody_and_is_proved(version: str, start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc(version, name="A"), start_orthanc(version, name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    study = a_study(instances=6)
    source.upload(study)
    before = source.digests()
    job = running.run("forward", ["A"], ["B"], step=[STEP])
    assert not job.problem
    assert job.counts.verified == job.counts.total == 6
    assert running.methods(job.id) == {Method.DIGEST}
    keys = Pseudonyms(bytes.fromhex(KEY))
    arrived = files(destination, [keys.uid(uid) for uid in study.sop_uids])
    for uid, data in arrived.items():
        assert not traces(data, "QUAGGA", "Zebedee", NUMBER, ACCESSION, "19520229", "KUDU", "Zoo", study.study_uid)
        ds = pydicom.dcmread(io.BytesIO(data))
        assert ds.SOPInstanceUID == uid
        assert (ds.StudyInstanceUID, ds.PatientIdentityRemoved) == (keys.uid(study.study_uid), "YES")
        assert ds.StudyDescription == "Thorax"
    assert source.digests() == before
    shown = "\n".join(str(entry) for entry in running.app.ledger.log())
    assert not traces(shown.encode(), "QUAGGA", NUMBER, ACCESSION)

    again = running.run("forward", ["A"], ["B"], step=[STEP])
    assert (again.counts.skipped, again.counts.total) == (6, 6), "the destination was asked by the new UIDs"
    assert destination.received_count() == 6


def test_another_job_of_another_home_makes_the_same_patient_of_it(
    start_orthanc: Start, running: RunningApp, tmp_path: Path
) -> None:
    source, one, two = (start_orthanc("1.12", name=name) for name in "ABC")
    first, follow_up = a_study(instances=2), a_study(instances=2, modality="MR")
    source.upload(first)
    source.upload(follow_up)
    other = RunningApp(tmp_path / "other home")
    try:
        for home, server in ((running, one), (other, two)):
            home.orthanc("A", source)
            home.orthanc("B", server)
            assert home.run("forward", ["A"], ["B"], step=[STEP]).counts.verified == 4
    finally:
        other.close()
    keys = Pseudonyms(bytes.fromhex(KEY))
    uids = [keys.uid(uid) for study in (first, follow_up) for uid in study.sop_uids]
    assert files(one, uids).keys() == files(two, uids).keys()
    patients = {pydicom.dcmread(io.BytesIO(data)).PatientID for data in files(two, uids).values()}
    assert patients == {keys.patient(f"id\0{NUMBER}")}


def test_an_image_that_can_not_be_cleaned_is_not_sent_and_the_others_are(
    start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = start_orthanc("1.12", name="A"), start_orthanc("1.12", name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    safe, burned = a_study(instances=3), a_study(instances=2, modality="US")
    source.upload(safe)
    source.upload(burned)
    job = running.run("forward", ["A"], ["B"], step=["deidentify"])
    assert (job.counts.verified, job.counts.failed) == (3, 2)
    assert destination.count() == 3
    failures = [row.failure for row in running.rows(job.id) if row.failure]
    assert len(failures) == 2
    for failure in failures:
        assert "may tell whose it is" in failure.sentence
        assert not traces(str(failure).encode(), "QUAGGA", NUMBER, ACCESSION)


def test_the_command_line_de_identifies_and_neither_says_nor_logs_who_it_is(tmp_path: Path) -> None:
    """With values that pydicom warns about, quoting them."""
    folder, out, home = tmp_path / "in", tmp_path / "out", tmp_path / "home"
    out.mkdir()
    folder.mkdir()
    for number in range(3):
        ds = ct_image(SOPInstanceUID=f"{UID_ROOT}3.{number}", KVP="120", ContentDate="20240317")
        data = as_bytes(ds).replace(b"DS\x04\x00120 ", b"DS\x10\x00PID-4711-0815   ")
        assert b"PID-4711-0815   " in data
        (folder / f"{number}.dcm").write_bytes(data.replace(b"DA\x08\x0020240317", b"DA\x08\x00ZEBRA Q."))

    def ferry(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "DICOM_FERRY_HOME": str(home)}
        command = [sys.executable, "-m", "core", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    assert ferry("node", "add", "folder", "in", "--path", str(folder)).returncode == 0
    assert ferry("node", "add", "folder", "out", "--path", str(out)).returncode == 0
    done = ferry("run", "forward", "--source", "in", "--destination", "out", "--step", STEP, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    finished = json.loads(done.stdout.splitlines()[-1])
    assert (finished["planned"], finished["verified"]) == (3, 3)
    sent = [path for path in out.rglob("*") if path.is_file()]
    assert len(sent) == 3
    who = ("ZEBRA", "QUAGGA", PATIENT_ID, BIRTH)
    for path in sent:
        assert not traces(path.read_bytes(), *who, UID_ROOT)
        assert not traces(str(path).encode(), *who, UID_ROOT), "nor does the name of the file"
    logs = [path for path in (home / "logs").rglob("*") if path.is_file()]
    assert logs
    for path in logs:
        assert not traces(path.read_bytes(), *who), path.name
    assert not traces(done.stderr.encode(), *who)
