"""What a rule takes of real servers when a job carries it: the same as its trial said, image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.model.rules import parse_rule
from core.rule_trial import TrialLimits, try_rule
from tests.real.test_rule_trial import images
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp

Start = Callable[..., OrthancServer]
OPEN = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DefaultEncoding": "Utf8"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def predicted(running: RunningApp, source: str, rule: str) -> int:
    found = try_rule(running.app.nodes, [source], parse_rule(rule), limits=TrialLimits(every_image=True))
    assert found.certain
    return found.matched


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@pytest.mark.parametrize(
    ("rule", "studies", "taken"),
    [
        ("Modality = CT", 2, 5),  # of the study with CT and SR the CT images
        ("ModalitiesInStudy = CT", 2, 6),  # all of it
        ("Modality = CT and StudyDate between 20200310 and 202012", 1, 3),
        ("PatientName ~ *müller* or BodyPartExamined in KNEE, HEAD", 3, 8),
        ("PatientName = 山田^太郎", 1, 2),
        ("StudyDate older than 1 month and InstanceNumber = 1", 4, 5),
        ("StudyDate in last 1 month", 0, 0),
        ("TransferSyntaxUID = 1.2.840.10008.1.2.1", 4, 10),
    ],
)
def test_a_forward_takes_what_the_trial_said(
    version: str, rule: str, studies: int, taken: int, start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = start_orthanc(version, name="A"), start_orthanc(version, name="B")
    source.upload(images())
    running.orthanc("A", source)
    running.orthanc("B", destination)
    assert predicted(running, "A", rule) == studies
    job = running.run("forward", ["A"], ["B"], filter=rule)
    assert not job.problem
    assert (job.studies, job.counts.verified, job.left_out) == (studies, taken, 10 - taken)
    assert len(destination.digests()) == taken


def test_a_migration_of_days_takes_what_fits_and_of_a_dicom_node_too(start_orthanc: Start, running: RunningApp) -> None:
    source, destination = start_orthanc("1.12", name="A", config=OPEN), start_orthanc("1.12", name="B")
    source.upload(images())
    running.orthanc("B", destination)
    running.app.nodes.add("dicom", "A", {"aet": source.aet, "host": "127.0.0.1", "port": source.dicom_port}, {})
    days = {"date_from": "20200101", "date_to": "20261231", "evidence": "verified", "path": "relay"}
    job = running.run("migrate", ["A"], ["B"], filter="Modality in CT, MR and PatientName !~ *okonkwo*", **days)
    assert not job.problem
    # The report of the second study, and the first study, are left out; the fourth lies in no day that was asked for.
    assert (job.studies, job.counts.verified, job.left_out) == (2, 4, 4)
    assert len(destination.digests()) == 4
    listed = running.run("migrate", ["A"], ["B"], entries=["P1", "P2", "P4"], identifier="patient-id",
                         filter="StudyDate < 2020", path="relay")  # fmt: skip
    assert (listed.studies, listed.counts.verified, listed.left_out) == (1, 2, 6)


def test_a_node_that_does_not_tell_ends_the_job_with_its_reason_and_nothing_is_guessed(
    start_orthanc: Start, running: RunningApp
) -> None:
    source, destination = start_orthanc("1.12", name="A", config=OPEN), start_orthanc("1.12", name="B")
    source.upload(images())
    running.orthanc("B", destination)
    running.app.nodes.add("dicom", "A", {"aet": source.aet, "host": "127.0.0.1", "port": source.dicom_port}, {})
    job = running.run("forward", ["A"], ["B"], filter="(0009,1010) is empty", max_attempts=1)
    assert "does not tell what the filter looks at" in job.problem
    assert job.counts.total == 0
    assert not destination.digests()
