"""Asking this computer what it holds, and having it sent: C-FIND, C-MOVE and C-GET from other programs."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from core.model.diagnosis import StepResult
from core.nodes.base import DicomAddress, Node, OpenContext
from core.nodes.dicom.fields import DicomFields
from core.nodes.this_computer.answers import encode_answer
from core.nodes.this_computer.matching import UnusableKeyError, matcher
from core.nodes.this_computer.node import ThisComputerNode
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT, decode, encode
from core.wire.dimse.peer import Peer
from tests.support.dicom_nodes import KIND, data_set_of, dicom_node
from tests.support.orthanc import OrthancServer
from tests.support.own_node import AET, Others, Said, ask, fill, own_node
from tests.support.processes import Child
from tests.support.running_app import RunningApp
from tests.support.servers import free_port, required_program
from tests.support.studies import NAMES, Study, make_study
from tests.support.waiting import PATIENCE, wait_for

STUDY_FIND, PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
JAPANESE = "\\ISO 2022 IR 87"

CT = make_study("Ferry^Ada", patient_id="P1", series=2, instances=3, accession="A1", study_date="20240110", seed=1)
CT_LATER = make_study("Ferry^Ada", patient_id="P1", instances=2, accession="A2", study_date="20240220", seed=2)
MR = make_study(
    NAMES[JAPANESE], patient_id="P2", modality="MR", instances=2, accession="A3", study_date="20240315", seed=3,
    character_set=JAPANESE,
)  # fmt: skip
US = make_study(
    "Müller^Jörg", patient_id="P3", modality="US", instances=1, accession="A4", study_date="20250101", seed=4,
    character_set="ISO_IR 100",
)  # fmt: skip
ALL = (CT, CT_LATER, MR, US)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThisComputerNode]:
    with own_node(tmp_path_factory.mktemp("node")) as made:
        fill(made, *ALL)
        yield made


@pytest.fixture
def find(node: ThisComputerNode, tmp_path: Path) -> Callable[..., Said]:
    numbers = itertools.count()

    def run(level: str, *keys: str, options: tuple[str, ...] = ("-S",)) -> Said:
        said = ask(
            "findscu", node, tmp_path / str(next(numbers)), *options, keys=(f"QueryRetrieveLevel={level}", *keys)
        )
        assert said.status == 0, said.text[-3000:]
        return said

    return run


def uids(said: Said, keyword: str = "StudyInstanceUID") -> set[str]:
    return {str(answer.get(keyword)) for answer in said.answers}


# C-FIND ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ((), ALL),
        (("PatientID=P1",), (CT, CT_LATER)),
        (("PatientID=p1",), ()),
        (("PatientID=P?",), ALL),
        (("PatientName=ferry^*",), (CT, CT_LATER)),
        (("PatientName=*",), ALL),
        (("StudyDate=20240101-20240301",), (CT, CT_LATER)),
        (("StudyDate=-20240220",), (CT, CT_LATER)),
        (("StudyDate=20240315-",), (MR, US)),
        (("StudyDate=20240315",), (MR,)),
        (("StudyDate=20240301-20240101",), ()),
        (("StudyTime=1000-1100",), ALL),
        (("StudyTime=1100-",), ()),
        (("ModalitiesInStudy=MR\\US",), (MR, US)),
        (("AccessionNumber=A1",), (CT,)),
        ((f"StudyInstanceUID={CT.study_uid}\\{MR.study_uid}\\1.2.3",), (CT, MR)),
        (("StudyDescription=*studie*",), ()),
        (("StudyDescription=Synth*stud?",), ALL),
        (("NumberOfStudyRelatedInstances=6",), (CT,)),
        (("PatientID=P1", "StudyDate=20240220"), (CT_LATER,)),
    ],
)
def test_studies_that_match(find: Callable[..., Said], keys: tuple[str, ...], found: tuple[Study, ...]) -> None:
    said = find("STUDY", "StudyInstanceUID", *keys)
    assert uids(said) == {study.study_uid for study in found}
    assert len(said.answers) == len(found)
    assert said.final() == "0x0000"


def test_an_answer_has_what_was_asked_for(find: Callable[..., Said]) -> None:
    keys = [
        "PatientName", "PatientID", "StudyInstanceUID=" + CT.study_uid, "StudyDate", "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "SOPClassesInStudy",
        "ReferringPhysicianName", "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances",
    ]  # fmt: skip
    (answer,) = find("STUDY", *keys).answers
    assert answer.QueryRetrieveLevel == "STUDY"
    assert answer.PatientName == CT.plan.patient
    assert answer.ModalitiesInStudy == "CT"
    assert (answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances) == (2, 6)
    assert (answer.NumberOfPatientRelatedStudies, answer.NumberOfPatientRelatedInstances) == (2, 8)
    assert answer.SOPClassesInStudy == "1.2.840.10008.5.1.4.1.1.2"
    assert answer.ReferringPhysicianName == ""
    assert answer.RetrieveAETitle == AET
    assert "StudyTime" not in answer


def test_patients_series_and_images(find: Callable[..., Said]) -> None:
    patients = find("PATIENT", "PatientID", "NumberOfPatientRelatedStudies", options=("-P",))
    assert {a.PatientID: a.NumberOfPatientRelatedStudies for a in patients.answers} == {"P1": 2, "P2": 1, "P3": 1}
    series = find(
        "SERIES", f"StudyInstanceUID={CT.study_uid}", "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"
    )
    assert uids(series, "SeriesInstanceUID") == set(CT.series_uids)
    assert {int(a.NumberOfSeriesRelatedInstances) for a in series.answers} == {3}
    image = f"SeriesInstanceUID={CT.series_uids[1]}"
    images = find("IMAGE", f"StudyInstanceUID={CT.study_uid}", image, "SOPInstanceUID", "SOPClassUID", "Rows")
    assert uids(images, "SOPInstanceUID") == set(CT.sop_uids[3:])
    assert all(a.Rows for a in images.answers)
    one = find("IMAGE", "SOPInstanceUID=" + CT.sop_uids[0] + "\\" + MR.sop_uids[0], "InstanceNumber", "PatientID")
    assert {a.PatientID for a in one.answers} == {"P1", "P2"}
    assert find("IMAGE", image, "InstanceNumber=2", "SOPInstanceUID").answers[0].SOPInstanceUID == CT.sop_uids[4]
    assert (
        find("SERIES", "Modality=US", "SeriesInstanceUID", options=("-P",)).answers[0].SeriesInstanceUID
        == (US.series_uids[0])
    )


@pytest.mark.parametrize(
    ("asked", "character_set", "study"),
    [
        ("山田*", JAPANESE, MR),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", JAPANESE, MR),
        ("yamada*", "", MR),
        ("山田^太郎", "ISO_IR 192", MR),
        ("MÜLLER^jörg", "ISO_IR 100", US),
        ("müller*", "ISO_IR 192", US),
    ],
)
def test_names_in_other_scripts(node: ThisComputerNode, asked: str, character_set: str, study: Study) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "PatientName": asked, "StudyInstanceUID": ""}
    for syntax in (EXPLICIT, IMPLICIT):
        (answer,) = find_by_wire(node, keys, syntax, character_set)[0]
        assert answer["StudyInstanceUID"] == study.study_uid
        assert answer["PatientName"] == study.plan.patient


def test_the_answer_comes_in_the_asker_s_character_set_where_that_can_hold_it(node: ThisComputerNode) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "PatientName": "", "PatientID": "P?", "StudyInstanceUID": ""}
    latin = {"SpecificCharacterSet": "ISO_IR 100"} | keys
    by_study = {a["StudyInstanceUID"]: a for a in find_by_wire(node, latin, EXPLICIT)[0]}
    assert by_study[US.study_uid]["SpecificCharacterSet"] == "ISO_IR 100"
    assert by_study[MR.study_uid]["SpecificCharacterSet"] == "ISO_IR 192"
    assert "SpecificCharacterSet" not in by_study[CT.study_uid]
    plain = {a["StudyInstanceUID"]: a for a in find_by_wire(node, keys, EXPLICIT)[0]}
    assert plain[US.study_uid]["SpecificCharacterSet"] == "ISO_IR 192"
    assert plain[US.study_uid]["PatientName"] == "Müller^Jörg"


def test_keys_that_are_not_kept_match_all_and_are_said_so(node: ThisComputerNode) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientSpeciesDescription": "cat"}
    answers, statuses = find_by_wire(node, keys, EXPLICIT)
    assert len(answers) == len(ALL)
    assert statuses == [0xFF01] * len(ALL) + [0]
    assert all("PatientSpeciesDescription" not in answer for answer in answers)


@pytest.mark.parametrize(
    ("keys", "model"),
    [
        ({"PatientName": ""}, STUDY_FIND),
        ({"QueryRetrieveLevel": "PATIENT", "PatientID": ""}, STUDY_FIND),
        ({"QueryRetrieveLevel": "EVERYTHING"}, PATIENT_FIND),
        ({"QueryRetrieveLevel": "STUDY", "StudyDate": "yesterday"}, STUDY_FIND),
        ({"QueryRetrieveLevel": "STUDY", "StudyDate": "20241399"}, STUDY_FIND),
    ],
)
def test_questions_that_make_no_sense_are_refused(node: ThisComputerNode, keys: dict[str, str], model: str) -> None:
    encoded = encode_answer(keys, EXPLICIT)
    assert find_by_wire(node, encoded, EXPLICIT, model=model) == ([], [0xA900])


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 20, b"\x08\x00\x52\x00CS\xff\xff12"])
def test_garbage_is_refused_and_the_association_goes_on(node: ThisComputerNode, garbage: bytes) -> None:
    with associated(node, STUDY_FIND, EXPLICIT) as association:
        answers, statuses = asked_on(association, garbage, EXPLICIT)
        assert answers == []
        assert statuses[-1] in (0xA900, 0xC000)
        keys = encode_answer({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}, EXPLICIT)
        assert len(asked_on(association, keys, EXPLICIT)[0]) == len(ALL)


def test_a_long_identifier_is_refused_without_being_kept(node: ThisComputerNode) -> None:
    uid_list = "\\".join([CT.study_uid] * 100_000)
    keys = encode_answer({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": uid_list}, IMPLICIT)
    keys = keys + b"\x10\x00\x00\x40" + (5 << 20).to_bytes(4, "little") + b" " * (5 << 20)
    assert find_by_wire(node, keys, IMPLICIT)[1] == [0xA700]


def test_another_service_on_the_context_is_not_answered_with_success(node: ThisComputerNode) -> None:
    with associated(node, STUDY_FIND, EXPLICIT) as association:
        command = Dataset()
        command.AffectedSOPClassUID = STUDY_FIND
        command.CommandField = 0x0021
        command.MessageID = 1
        association.send(association.contexts[0], command, b"")
        assert association.receive().command.Status == 0x0211


def test_many_answers_and_breaking_them_off(tmp_path: Path) -> None:
    with own_node(tmp_path) as node:
        fill(node, *(make_study(patient_id=f"M{n}", instances=1, accession=f"M{n}") for n in range(120)))
        said = ask("findscu", node, tmp_path / "all", "-S", "-Xlo", "1", keys=("QueryRetrieveLevel=STUDY", "PatientID"))
        assert said.text.count("Received Find Response") == 120, said.text[-2000:]
        # A request is cancelled by its Message ID, here while all its answers are still to come.
        with associated(node, STUDY_FIND, EXPLICIT) as association:
            keys = encode_answer({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}, EXPLICIT)
            send_find(association, keys)
            cancel = Dataset()
            cancel.CommandField = 0x0FFF
            cancel.MessageIDBeingRespondedTo = 7
            association.send(association.contexts[0], cancel)
            statuses = all_statuses(association)
            assert statuses[-1] == 0xFE00, len(statuses)
            assert len(statuses) < 120


def test_an_orthanc_asks(node: ThisComputerNode, tmp_path: Path) -> None:
    for version in ("1.10", "1.12"):
        modality = {"here": [AET, "127.0.0.1", node.fields.port]}
        with OrthancServer(version, config={"DicomModalities": modality, "DefaultEncoding": "Utf8"}) as orthanc:
            query = {"Level": "Study", "Query": {"PatientName": "*山田*", "StudyDate": "20240101-20241231"}}
            number = orthanc.post("/modalities/here/query", query)["ID"]
            (answer,) = orthanc.get(f"/queries/{number}/answers?expand&simplify")
            assert answer["StudyInstanceUID"] == MR.study_uid
            assert answer["PatientName"] == NAMES[JAPANESE]


def test_our_own_dicom_node_finds_nothing_amiss_with_this_computer(node: ThisComputerNode) -> None:
    """All services, all lists, C-GET, and every kind of image in every encoding, more than 64 kB of proposals."""
    with dicom_node(AET, node.fields.port) as other:
        steps = {step.name: step for step in other.diagnose()}
    failed = {name: step for name, step in steps.items() if step.result is StepResult.FAILED}
    assert not failed
    for name in ("Lists studies", "Lists images", "Takes lists of UIDs", "Gives images by C-GET", "Images it takes"):
        assert steps[name].result is StepResult.OK, steps[name]
    assert steps["Storage commitment"].finding.startswith("not offered")


# C-GET ----------------------------------------------------------------------------------------------------


def received(folder: Path) -> dict[str, bytes]:
    files = [path.read_bytes() for path in folder.iterdir() if path.is_file()]
    return {str(pydicom.dcmread(pydicom.filebase.DicomBytesIO(f)).SOPInstanceUID): f for f in files}


def content(files: dict[str, bytes]) -> dict[str, str]:
    return {uid: hashlib.md5(data_set_of(file)).hexdigest() for uid, file in files.items()}


def sent(*studies: Study) -> dict[str, str]:
    return {
        uid: hashlib.md5(data_set_of(file)).hexdigest()
        for study in studies
        for uid, file in zip(study.sop_uids, study, strict=True)
    }


@pytest.mark.parametrize(
    ("options", "keys", "expected"),
    [
        (("-S",), ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={CT.study_uid}"), sent(CT)),
        (("-P",), ("QueryRetrieveLevel=PATIENT", "PatientID=P1"), sent(CT, CT_LATER)),
        (
            ("-S",),
            ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={CT.study_uid}", f"SeriesInstanceUID={CT.series_uids[0]}"),
            {uid: sent(CT)[uid] for uid in CT.sop_uids[:3]},
        ),
        (
            ("-S",),
            ("QueryRetrieveLevel=IMAGE", f"SOPInstanceUID={CT.sop_uids[0]}\\{CT.sop_uids[5]}"),
            {uid: sent(CT)[uid] for uid in (CT.sop_uids[0], CT.sop_uids[5])},
        ),
        (("-S",), ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3"), {}),
    ],
)
def test_getscu_gets_what_is_held_bit_by_bit(
    node: ThisComputerNode, tmp_path: Path, options: tuple[str, ...], keys: tuple[str, ...], expected: dict[str, str]
) -> None:
    said = ask("getscu", node, tmp_path / "got", "+B", *options, keys=keys)
    assert said.status == 0, said.text[-3000:]
    assert content(received(tmp_path / "got")) == expected
    assert said.final() == "0x0000"


def test_compressed_images_are_sent_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    study = make_study(modality="MR", instances=2, transfer_syntax=JPEG2000Lossless)
    with own_node(tmp_path) as node:
        fill(node, study)
        keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study.study_uid}")
        said = ask("getscu", node, tmp_path / "plain", "-S", "+B", keys=keys)
        assert received(tmp_path / "plain") == {}
        assert (said.final(), said.counter("Failed")) == ("0xa702", 2)
        said = ask("getscu", node, tmp_path / "compressed", "-S", "+B", "+xv", keys=keys)
        assert content(received(tmp_path / "compressed")) == sent(study)


def test_what_was_deleted_just_now_is_a_failure_of_that_image_alone(tmp_path: Path) -> None:
    study = make_study(instances=3)
    with own_node(tmp_path) as node:
        fill(node, study)
        lost = node.spool.catalogue.find([study.sop_uids[1]])[study.sop_uids[1]]
        node.spool.path(lost).unlink()
        keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study.study_uid}")
        said = ask("getscu", node, tmp_path / "got", "-S", "+B", keys=keys)
        assert said.final() == "0xb000"
        assert (said.counter("Completed"), said.counter("Failed")) == (2, 1)
        assert set(received(tmp_path / "got")) == {study.sop_uids[0], study.sop_uids[2]}


@pytest.mark.parametrize(
    "keys",
    [
        ("QueryRetrieveLevel=STUDY",),
        ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=*"),
        ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={CT.study_uid}"),
    ],
)
def test_nobody_retrieves_everything_by_mistake(node: ThisComputerNode, tmp_path: Path, keys: tuple[str, ...]) -> None:
    said = ask("getscu", node, tmp_path / "got", "-S", keys=keys)
    assert said.final() == "0xa900"


# C-MOVE ---------------------------------------------------------------------------------------------------


class Storescp:
    """DCMTK's storescp as a destination."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(parents=True)
        program = required_program("storescp")
        command = [program, "-v", "+B", *options, "-aet", "DEST", "-od", str(folder), str(self.port)]
        self.child = Child(command, folder.parent / "storescp")

    def __enter__(self) -> Storescp:
        wait_for(self._listens, what="storescp")
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close()

    def _listens(self) -> bool:
        assert self.child.running, self.child.describe()
        try:
            peer = Peer("dest", "127.0.0.1", self.port, "DEST", "TEST")
            Association.open(peer, [Proposed("1.2.840.10008.1.1", (IMPLICIT,))]).release()
        except Exception:  # noqa: BLE001 - not yet
            return False
        return True

    @property
    def others(self) -> Others:
        return registered("DEST", self.port)


def registered(aet: str, port: int) -> Others:
    """One DICOM node on loopback."""

    def opened() -> Node:
        fields = DicomFields(aet=aet, host="127.0.0.1", port=port, calling_aet=AET)
        return KIND.open(fields, OpenContext("dest", lambda _field: None))

    return Others({"dest": opened}, {"dest": DicomAddress(aet, "127.0.0.1", port)})


def move(node: ThisComputerNode, folder: Path, study: Study, destination: str, *options: str) -> Said:
    keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study.study_uid}")
    return ask("movescu", node, folder, "-S", "-aem", destination, *options, keys=keys)


def test_movescu_has_images_sent_to_a_registered_node(tmp_path: Path) -> None:
    with Storescp(tmp_path / "dest") as dest, own_node(tmp_path, others=dest.others) as node:
        fill(node, CT, MR)
        said = move(node, tmp_path / "moved", CT, "DEST")
        assert said.status == 0, said.text[-3000:]
        assert said.final() == "0x0000"
        assert (said.counter("Completed"), said.counter("Failed")) == (6, 0)
        assert content(received(tmp_path / "dest")) == sent(CT)


def test_an_unknown_destination_is_refused_and_nothing_sent(tmp_path: Path) -> None:
    with Storescp(tmp_path / "dest") as dest, own_node(tmp_path, others=dest.others) as node:
        fill(node, CT)
        assert move(node, tmp_path / "moved", CT, "dest").final() == "0xa801"
        assert move(node, tmp_path / "moved", CT, "NOBODY").final() == "0xa801"
        assert received(tmp_path / "dest") == {}


def test_two_destinations_of_one_ae_title_are_not_guessed_between(tmp_path: Path) -> None:
    twice = {"west": DicomAddress("DEST", "198.51.100.1", 104), "east": DicomAddress("DEST", "198.51.100.2", 104)}
    with own_node(tmp_path, others=Others({}, twice)) as node:
        fill(node, CT)
        assert move(node, tmp_path / "moved", CT, "DEST").final() == "0xa801"


def test_of_two_destinations_the_caller_itself_is_meant(tmp_path: Path) -> None:
    with Storescp(tmp_path / "dest") as dest:
        others = dest.others
        others.addresses["far"] = DicomAddress("DEST", "198.51.100.2", 104)
        with own_node(tmp_path, others=others) as node:
            fill(node, CT)
            assert move(node, tmp_path / "moved", CT, "DEST").final() == "0x0000"
            assert content(received(tmp_path / "dest")) == sent(CT)


def test_a_destination_that_is_down_fails_all(tmp_path: Path) -> None:
    others = registered("DEST", 9)
    with own_node(tmp_path, others=others) as node:
        fill(node, CT)
        said = move(node, tmp_path / "moved", CT, "DEST")
        assert said.final() == "0xa702"
        assert (said.counter("Completed"), said.counter("Failed")) == (0, 6)
        named = failed_list(node, CT, "DEST")
        assert set(named) == set(CT.sop_uids)


def test_what_the_destination_does_not_take_is_named(tmp_path: Path) -> None:
    compressed = make_study(modality="MR", instances=1, patient_id="C", accession="C", transfer_syntax=JPEGLosslessSV1)
    with Storescp(tmp_path / "dest") as dest, own_node(tmp_path, others=dest.others) as node:
        fill(node, compressed, make_study(patient_id="C", accession="C2"))
        keys = ("QueryRetrieveLevel=PATIENT", "PatientID=C")
        said = ask("movescu", node, tmp_path / "moved", "-P", "-aem", "DEST", keys=keys)
        assert said.final() == "0xb000"
        assert (said.counter("Completed"), said.counter("Failed")) == (10, 1)
        assert len(received(tmp_path / "dest")) == 10


def test_a_move_that_is_cancelled_ends_with_what_was_left(tmp_path: Path) -> None:
    study = make_study(instances=100)
    with Storescp(tmp_path / "dest") as dest, own_node(tmp_path, others=dest.others) as node:
        fill(node, study)
        said = move(node, tmp_path / "moved", study, "DEST", "--cancel", "3")
        assert said.final() == "0xfe00"
        done, left = said.counter("Completed"), said.counter("Remaining")
        assert done + left == 100
        assert 3 <= done < 100
        assert len(received(tmp_path / "dest")) == done


def test_a_move_to_this_computer_itself_has_nothing_to_send(tmp_path: Path) -> None:
    with own_node(tmp_path) as node:
        fill(node, CT)
        said = move(node, tmp_path / "moved", CT, AET)
        assert (said.final(), said.counter("Completed")) == ("0x0000", 6)


def test_an_orthanc_retrieves(tmp_path: Path) -> None:
    """C-MOVE to the Orthanc itself, which is registered as the DICOM node it is."""
    with own_node(tmp_path, listen=False) as waiting:
        port = waiting.fields.port
    modality = {"here": [AET, "127.0.0.1", port]}
    with OrthancServer("1.12", config={"DicomModalities": modality}) as orthanc:
        others = registered("ORTHANC", orthanc.dicom_port)
        with own_node(tmp_path, others=others, port=port) as node:
            fill(node, CT, MR)
            number = orthanc.post("/modalities/here/query", {"Level": "Study", "Query": {"PatientID": "P?"}})["ID"]
            orthanc.post(f"/queries/{number}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
            assert orthanc.count() == len(CT) + len(MR)


def test_images_are_sent_to_an_orthanc_that_is_registered_by_its_web_address(tmp_path: Path) -> None:
    with OrthancServer("1.12", aet="ORTHANC") as orthanc:
        ferry = RunningApp(tmp_path / "home")
        try:
            port = free_port()
            ferry.orthanc("orthanc", orthanc)
            ferry.folder("archive", tmp_path / "archive")
            CT.write(tmp_path / "archive")
            ferry.app.nodes.add(
                "this-computer", "here", {"aet": AET, "port": port, "reserve": 0.1, "callers": ["*@127.0.0.1"]}, {}
            )
            assert ferry.run("clone", ["archive"], ["here"]).counts.verified == len(CT)
            ferry.wait(lambda: ferry.handle.landing() is not None, "listening")
            here = ferry.app.nodes.open("here")
            assert isinstance(here, ThisComputerNode)
            said = move(here, tmp_path / "moved", CT, "ORTHANC")
            here.close()
            assert (said.final(), said.counter("Completed")) == ("0x0000", len(CT))
            assert set(orthanc.digests()) == set(CT.sop_uids)
        finally:
            ferry.close()


# wire -----------------------------------------------------------------------------------------------------


def associated(node: ThisComputerNode, sop_class: str, syntax: str) -> Association:
    peer = Peer("here", "127.0.0.1", node.fields.port, AET, "TEST")
    return Association.open(peer, [Proposed(sop_class, (syntax,))])


def send_find(association: Association, keys: bytes) -> None:
    command = Dataset()
    command.AffectedSOPClassUID = association.contexts[0].abstract_syntax
    command.CommandField = 0x0020
    command.MessageID = 7
    command.Priority = 0
    association.send(association.contexts[0], command, keys)


def asked_on(association: Association, keys: bytes, syntax: str) -> tuple[list[dict[str, str]], list[int]]:
    send_find(association, keys)
    answers, statuses = [], []
    while True:
        message = association.receive()
        statuses.append(int(message.command.Status))
        if message.data is not None:
            answers.append(decode(message.data.read_all(1 << 20), syntax))
        if statuses[-1] not in (0xFF00, 0xFF01):
            return answers, statuses


def all_statuses(association: Association) -> list[int]:
    statuses = []
    while not statuses or statuses[-1] in (0xFF00, 0xFF01):
        message = association.receive()
        statuses.append(int(message.command.Status))
    return statuses


def find_by_wire(
    node: ThisComputerNode, keys: dict[str, str] | bytes, syntax: str, character_set: str = "", model: str = STUDY_FIND
) -> tuple[list[dict[str, str]], list[int]]:
    encoded = keys if isinstance(keys, bytes) else encode(keys, syntax, character_set)
    with associated(node, model, syntax) as association:
        return asked_on(association, encoded, syntax)


def failed_list(node: ThisComputerNode, study: Study, destination: str) -> list[str]:
    """Failed SOP Instance UID List (0008,0058) of a C-MOVE of a study."""
    with associated(node, STUDY_MOVE, EXPLICIT) as association:
        command = Dataset()
        command.AffectedSOPClassUID = STUDY_MOVE
        command.CommandField = 0x0021
        command.MessageID = 3
        command.Priority = 0
        command.MoveDestination = destination
        keys = encode_answer({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study.study_uid}, EXPLICIT)
        association.send(association.contexts[0], command, keys)
        while True:
            message = association.receive()
            if message.command.Status != 0xFF00:
                assert message.data is not None
                return decode(message.data.read_all(1 << 20), EXPLICIT)["FailedSOPInstanceUIDList"].split("\\")


# matching -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "key", "value", "matches"),
    [
        ("PatientName", "Müller", "Müller^Jörg", False),
        ("PatientName", "=王*", "Wang^XiaoDong=王^小東", True),
        ("PatientName", "王*", "Wang^XiaoDong=王^小東", True),
        ("PatientName", "?*", "", False),
        ("PatientName", "Ferry^Ada^^^", "FERRY^ADA", True),
        ("PatientID", "A[*", "A[x", True),
        ("PatientID", "*a*b*c*", "xxaxxbxxcxx", True),
        ("PatientID", "*a*b*c", "xxaxxbxxcxx", False),
        ("PatientID", "a*a", "a", False),
        ("StudyDate", "20260131", "2026.01.31", True),
        ("StudyDate", "20260101-", "", False),
        ("StudyTime", "10-11", "115959.5", True),
        ("StudyTime", "10-11", "120000", False),
        ("StudyTime", "101500", "10:15", True),
        ("AcquisitionDateTime", "20260101-20260102", "20260102235959.9", True),
        ("AcquisitionDateTime", "2026", "20260301", True),
        ("AcquisitionDateTime", "20260101+0100-20260102", "20260103", False),
        ("InstanceNumber", "1", "001", True),
        ("ModalitiesInStudy", "CT\\MR", "MR\\SR", True),
        ("StudyInstanceUID", "1.2", "1.22", False),
        ("PatientComments", "a\\b", "a\\b", True),
    ],
)
def test_matching(keyword: str, key: str, value: str, matches: bool) -> None:
    found = matcher(keyword, key)
    assert found is not None
    assert found(value) is matches


@pytest.mark.parametrize("key", ["", "*", "**", " "])
def test_matching_everything(key: str) -> None:
    assert matcher("PatientName", key) is None


@pytest.mark.parametrize(
    ("keyword", "key"),
    [("StudyDate", "-"), ("StudyDate", "2026"), ("StudyTime", "2561"), ("InstanceNumber", "x"), ("StudyDate", "x-")],
)
def test_values_that_a_key_cannot_have(keyword: str, key: str) -> None:
    with pytest.raises(UnusableKeyError, match=keyword):
        matcher(keyword, key)


def test_a_hostile_pattern_takes_no_time() -> None:
    found = matcher("PatientID", "*a" * 32 + "b")
    assert found is not None
    done = threading.Event()
    threading.Thread(target=lambda: (found("a" * 60_000), done.set()), daemon=True).start()
    assert done.wait(PATIENCE)
