"""Rules tried on real nodes of every kind: the count is the same whoever is asked, and is what a job then takes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydantic import JsonValue

from core.app import App
from core.model.rules import parse_rule
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Write
from core.rule_trial import TrialLimits, try_rule
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]

RULES = {
    # rule: (wholly, partly, left) of the studies below
    "": (4, 0, 0),
    "Modality = CT": (1, 1, 2),
    "ModalitiesInStudy = CT": (2, 0, 2),
    "Modality in CT, SR": (2, 0, 2),
    "Modality != SR": (3, 1, 0),
    "StudyDate between 202001 and 20201231": (2, 0, 2),
    'PatientName ~ "山田*"': (1, 0, 3),
    "PatientName ~ *müller* or StudyDate < 2020": (2, 0, 2),
    "Modality = MR and StudyDate >= 2021": (1, 0, 3),
}
BY_IMAGES = {"BodyPartExamined = HEAD": (1, 0, 3), "Modality = CT and BodyPartExamined is empty": (0, 1, 3)}


def images() -> list[bytes]:
    """Four studies: CT of a head; CT with a report; two of MR."""
    report = make_study("Müller^Jörg", patient_id="P2", modality="SR", instances=1, study_date="20200301", seed=9)
    with_report = make_study("Müller^Jörg", patient_id="P2", modality="CT", instances=2, study_date="20200301")
    ds = pydicom.dcmread(io.BytesIO(report[0]))
    ds.StudyInstanceUID = with_report.study_uid
    out = io.BytesIO()
    ds.save_as(out)
    return [
        *make_study("Okonkwo^Ada", patient_id="P1", modality="CT", instances=3, study_date="20200315",
                    BodyPartExamined="HEAD"),
        *with_report, out.getvalue(),
        *make_study("Yamada^Tarou=山田^太郎", patient_id="P3", modality="MR", instances=2, study_date="20220101"),
        *make_study("Smith^J", patient_id="P4", modality="MR", instances=2, study_date="20190101",
                    BodyPartExamined="KNEE"),
    ]  # fmt: skip


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    opened = App.open(tmp_path / "home")
    yield opened
    opened.close()


def counts(app: App, rule: str) -> tuple[int, int, int]:
    found = try_rule(app.nodes, ["node"], parse_rule(rule), limits=TrialLimits(every_image=True))
    assert found.certain, found
    assert found.studies == 4
    return found.wholly, found.partly, found.left


def check(app: App, rules: dict[str, tuple[int, int, int]]) -> None:
    assert {rule: counts(app, rule) for rule in rules} == rules


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_on_orthanc(app: App, version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TRIAL")
    server.upload(images())
    app.nodes.add("orthanc", "node", {"url": server.url}, {})
    check(app, RULES | BY_IMAGES)


def test_on_a_folder(app: App, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for n, image in enumerate(images()):
        (folder / f"{n}.dcm").write_bytes(image)
    app.nodes.add("folder", "node", {"path": str(folder)}, {})
    check(app, RULES | BY_IMAGES)
    # What is counted is what a job takes.
    (tmp_path / "there").mkdir()
    app.nodes.add("folder", "there", {"path": str(tmp_path / "there")}, {})
    fields = {"source": ["node"], "destination": ["there"], "filter": "Modality = CT"}
    preview = app.jobs.preview("forward", fields)  # type: ignore[arg-type]
    assert (preview.studies, preview.instances, preview.left_out) == (2, 5, 5)


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_on_a_dicom_node(app: App, version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TRIAL", config={"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8"})
    server.upload(images())
    fields: dict[str, JsonValue] = {"aet": server.aet, "host": "127.0.0.1", "port": server.dicom_port}
    app.nodes.add("dicom", "node", {"calling_aet": "FERRY", **fields}, {})
    check(app, RULES)
    found = try_rule(app.nodes, ["node"], parse_rule("(0009,1010) = 1"))
    assert found.undecided == 4
    assert "does not tell what the filter looks at" in found.troubles[0].sentence


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_on_a_dicomweb_service(app: App, version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TRIAL", dicomweb=True, config={"DefaultEncoding": "Utf8"})
    server.upload(images())
    app.nodes.add("dicomweb", "node", {"url": server.dicomweb_url}, {})
    check(app, RULES | BY_IMAGES)


def test_on_this_computer(app: App) -> None:
    app.nodes.add("this-computer", "node", {"aet": "FERRY", "port": free_port(), "reserve": 0.1}, {})
    node = app.nodes.open("node")
    assert isinstance(node, Write)
    for image in images():
        ds = pydicom.dcmread(io.BytesIO(image), stop_before_pixels=True)
        ref = InstanceRef(str(ds.SOPInstanceUID), "", str(ds.StudyInstanceUID))
        node.store(StudyInfo(ref.study_uid), ref, image)
    node.close()
    check(app, RULES | BY_IMAGES)


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_transfer_syntaxes(app: App, version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TRIAL", dicomweb=True)
    server.upload(images())
    rule = parse_rule("TransferSyntaxUID = 1.2.840.10008.1.2.1")
    app.nodes.add("orthanc", "rest", {"url": server.url}, {})
    assert try_rule(app.nodes, ["rest"], rule).wholly == 4
    app.nodes.add("dicomweb", "web", {"url": server.dicomweb_url}, {})
    found = try_rule(app.nodes, ["web"], rule)
    assert found.wholly == 4 or "does not tell in which transfer syntax" in found.troubles[0].sentence
