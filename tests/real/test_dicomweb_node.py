"""The DICOMweb node on Orthanc's DICOMweb plugin: lists, reading, sending, confirming, testing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from core.model.diagnosis import StepResult
from core.model.errors import AnswerError
from core.model.study import InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import Acknowledgement
from core.nodes.dicomweb.node import DicomwebNode
from tests.support.dicomweb_nodes import dicomweb_node
from tests.support.orthanc import OrthancServer
from tests.support.studies import Study, ct_study, make_study, small_study

Start = Callable[..., OrthancServer]


@pytest.fixture(params=["1.10", "1.12"])
def server(request: pytest.FixtureRequest, start_orthanc: Start) -> OrthancServer:
    return start_orthanc(request.param, dicomweb=True, users={"ferry": "röntgen"})


@pytest.fixture
def node(server: OrthancServer) -> Iterator[DicomwebNode]:
    with dicomweb_node(server) as found:
        yield found


def refs(study: Study) -> list[InstanceRef]:
    plan = study.plan
    return [InstanceRef(sop_uid, plan.series_uid(series), study.study_uid) for series, _, sop_uid in plan.positions()]


def info(study: Study) -> StudyInfo:
    return StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)


def whole(node: DicomwebNode, one: InstanceRef) -> bytes:
    found = bytearray()
    piece = memoryview(bytearray(100_000))
    with node.open(one) as stream:
        while count := stream.readinto(piece):
            found += piece[:count]
        assert stream.length == len(found)
    return bytes(found)


def test_studies_are_found_by_what_people_search_for(server: OrthancServer, node: DicomwebNode) -> None:
    studies = [
        make_study("Müller^Jürgen", patient_id="P1", accession="11", study_date="20240101", instances=2),
        make_study("Smith^Ann", patient_id="P2", accession="12", study_date="20240229", modality="MR", instances=1),
        make_study("Smythe^Bob", patient_id="P3", accession="22", study_date="20250101", series=3, instances=1),
    ]
    server.upload([image for study in studies for image in study])
    uids = [study.study_uid for study in studies]

    def found(**query: object) -> list[int]:
        listing = node.studies(StudyQuery(**query))  # type: ignore[arg-type]
        listed = sorted(uids.index(one.study_uid) for one in listing)
        assert listing.outcome.complete, listing.outcome.reason
        return listed

    assert found() == [0, 1, 2]
    assert found(patient_id="P2") == [1]
    assert found(patient_name="SM*") == [1, 2]
    assert found(patient_name="müller*") == [0]
    assert found(patient_name="Müller*") == [0]
    assert found(patient_name="SMITH^A*") == [1]
    assert found(description="synthetic study") == [0, 1, 2]
    assert found(accession="1?") == [0, 1]
    assert found(date_from="20240102", date_to="20250101") == [1, 2]
    assert found(date_to="20240101") == [0]
    assert found(modalities=("MR",)) == [1]
    assert found(study_uids=(uids[2], "1.2.3")) == [2]
    one = node.study(uids[0])
    assert one is not None
    assert (one.patient_name, one.study_date, one.instance_count) == ("Müller^Jürgen", "20240101", 2)
    assert one.description == "Synthetic study"
    assert node.study("1.2.3.4") is None


def test_all_images_of_a_study_are_listed(server: OrthancServer, node: DicomwebNode) -> None:
    study = make_study(series=3, instances=70)
    server.upload(study)
    found = node.study(study.study_uid)
    assert found is not None
    listed = [one for page in node.instances(found) for one in page]
    assert sorted(one.sop_uid for one in listed) == sorted(one.sop_uid for one in refs(study))
    assert {one.sop_class for one in listed} == {"1.2.840.10008.5.1.4.1.1.2"}
    assert {one.series.modality for one in listed if one.series} == {"CT"}
    first = study.plan.series_uid(0)
    assert sum(len(page) for page in node.instances(found, series_ref=first)) == 70
    with pytest.raises(AnswerError) as raised:
        list(node.instances(StudyInfo("1.2.3.4")))
    assert raised.value.code == "gone"


def test_lists_longer_than_a_page_are_whole(server: OrthancServer, node: DicomwebNode) -> None:
    study = small_study(250)
    server.upload(study)
    node.page = 100
    listed = [one.sop_uid for page in node.instances(info(study)) for one in page]
    assert sorted(listed) == sorted(one.sop_uid for one in refs(study))
    held = node.confirm(info(study), [*refs(study), InstanceRef("1.2.3", study.plan.series_uid(0), study.study_uid)])
    assert [one.presence for one in held] == [Presence.PRESENT] * 250 + [Presence.ABSENT]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless])
def test_files_travel_byte_for_byte_in_any_encoding(server: OrthancServer, node: DicomwebNode, syntax: str) -> None:
    study = make_study(instances=2, transfer_syntax=syntax)
    outcomes = [node.store(info(study), one, body) for one, body in zip(refs(study), study, strict=True)]
    assert all(one.stored for one in outcomes)
    assert server.digests() == study.digests()
    assert [whole(node, one) for one in refs(study)] == list(study)


def test_small_images_come_with_their_series_and_large_ones_by_themselves(
    server: OrthancServer, node: DicomwebNode
) -> None:
    small, large = small_study(60), ct_study(3, patient_id="L")
    server.upload([*small, *large])
    node.read_ahead([*refs(large), *refs(small)])
    assert [whole(node, one) for one in refs(large)] == list(large)
    for _ in range(20):
        whole(node, refs(small)[0])  # so that it is known that images are small here
    assert [whole(node, one) for one in refs(small)[1:]] == list(small)[1:]
    assert node._ahead is not None
    assert len(node._ahead._done) == 1


def test_series_of_ordinary_images_come_with_one_request(server: OrthancServer, node: DicomwebNode) -> None:
    study = ct_study(60)
    server.upload(study)
    node.read_ahead(refs(study))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: whole(node, one), refs(study))) == list(study)
    assert node._ahead is not None
    assert len(node._ahead._done) == 1


def test_images_sent_together_have_each_an_outcome_of_their_own(server: OrthancServer, node: DicomwebNode) -> None:
    study = small_study(30)
    bodies = list(study)
    bodies[7] = b"no DICOM file at all"
    outcomes = node.store_many(info(study), list(zip(refs(study), bodies, strict=True)))
    stored = [isinstance(one, Acknowledgement) for one in outcomes]
    assert stored == [n != 7 for n in range(30)]
    assert outcomes[7].code == "bad-dicom"  # type: ignore[union-attr]
    assert server.count() == 29
    assert max(server.received().values()) <= 2, "those beside it are sent once more at most"
    presence = [one.presence for one in node.confirm(info(study), refs(study))]
    assert presence == [Presence.ABSENT if n == 7 else Presence.PRESENT for n in range(30)]


def test_what_is_asked_about_others_is_absent(server: OrthancServer, node: DicomwebNode) -> None:
    study = make_study(series=2, instances=3)
    server.upload(list(study)[:4])
    held = [one.presence for one in node.confirm(info(study), refs(study))]
    assert held == [Presence.PRESENT] * 4 + [Presence.ABSENT] * 2
    other = make_study(patient_id="X", instances=4)
    assert {one.presence for one in node.confirm(info(other), refs(other))} == {Presence.ABSENT}


def test_an_image_is_the_same_or_not(node: DicomwebNode) -> None:
    study, other = make_study(instances=1), make_study(instances=1, size_bytes=3000)
    node.store(info(study), refs(study)[0], study[0])
    assert node.holds_same(info(study), refs(study)[0], study[0])
    assert not node.holds_same(info(study), refs(study)[0], other[0])
    assert not node.holds_same(info(study), InstanceRef("1.2.3", "1.2", "1"), study[0])


def test_implicit_images_are_sent_as_explicit_ones_where_that_is_asked_for(server: OrthancServer) -> None:
    study = make_study(instances=1, transfer_syntax=ImplicitVRLittleEndian)
    with dicomweb_node(server, transcoding="explicit") as node:
        answer = node.store(info(study), refs(study)[0], study[0])
        assert answer.stored
        assert "re-encoded without loss" in answer.warning
        assert node.holds_same(info(study), refs(study)[0], server.file(refs(study)[0].sop_uid))
    assert b"1.2.840.10008.1.2.1\0" in server.file(refs(study)[0].sop_uid)[:400]


def test_values_of_any_tags_are_told(server: OrthancServer, node: DicomwebNode) -> None:
    study = make_study("Ärztin^Zoë", instances=12, BodyPartExamined="CHEST")
    server.upload(study)
    wanted = frozenset({"BodyPartExamined", "InstanceNumber", "PatientName", "SliceThickness"})
    for some in (refs(study)[:3], refs(study)):
        found = node.tags(some, wanted)
        assert [one["InstanceNumber"] for one in found] == [str(n + 1) for n in range(len(some))]
        assert {one["BodyPartExamined"] for one in found} == {"CHEST"}
        assert {one["PatientName"] for one in found} == {"Ärztin^Zoë"}
        assert "SliceThickness" not in found[0]


def test_the_test_of_a_service_that_works(server: OrthancServer, node: DicomwebNode) -> None:
    server.upload(small_study(2))
    steps = {step.name: step for step in node.diagnose()}
    assert [name for name, step in steps.items() if step.result is not StepResult.OK] == []
    assert "not offered" in steps["Deletes images"].finding
    assert steps["Lists studies"].finding == "1 study"
    assert "Explicit VR Little Endian" in steps["Gives images"].finding
    facts = dict(node.facts())
    assert (facts["may_store"], facts["may_delete"], facts["studies"]) == ("yes", "no", "1")
    assert server.count() == 2, "the test stores nothing"


def test_the_test_names_the_address_where_the_services_are(server: OrthancServer) -> None:
    with dicomweb_node(server.url, username="ferry", secrets={"password": "röntgen"}) as node:
        steps = {step.name: step for step in node.diagnose()}
    assert steps["Is DICOMweb"].result is StepResult.FAILED
    assert server.dicomweb_url in steps["Is DICOMweb"].finding
    assert steps["Is DICOMweb"].fills == (("url", server.dicomweb_url),)
    assert steps["Lists studies"].result is StepResult.SKIPPED


@pytest.mark.parametrize("username", ["", "somebody"])
def test_the_test_tells_that_the_login_is_wrong(server: OrthancServer, username: str) -> None:
    with dicomweb_node(server, username=username, secrets={"password": "wrong"}) as node:
        steps = {step.name: step for step in node.diagnose()}
        assert steps["HTTP answers"].result is StepResult.OK
        assert steps["Login accepted"].result is StepResult.FAILED
        assert "wrong" not in str(steps)
        with pytest.raises(AnswerError) as raised:
            list(node.studies(StudyQuery()))
        assert raised.value.code == "login"


def test_a_server_without_the_plugin_is_no_dicomweb_service(start_orthanc: Start) -> None:
    server = start_orthanc("1.12")
    with dicomweb_node(server) as node:
        steps = {step.name: step for step in node.diagnose()}
        assert steps["Is DICOMweb"].result is StepResult.FAILED
        assert "/dicom-web" in steps["Is DICOMweb"].next_step
