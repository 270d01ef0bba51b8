"""What rules ask for below the study: private tags and those within sequences, told alike by every kind of node."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.model.rules import parse_rule
from core.model.study import InstanceRef, StudyInfo, StudyQuery
from core.nodes.base import Inventory
from core.nodes.local.header import BrokenDicomError, NotDicomError, read_tags
from tests.support.dicomweb_nodes import dicomweb_node
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import orthanc_node
from tests.support.own_node import own_node
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]

KEYS = frozenset(
    (
        "Modality",
        "ImageType",
        "(0009,0010)",
        "(0009,1001)",
        "(0009,1002)",
        "(0009,1003)",
        "RequestAttributesSequence",
        "RequestAttributesSequence.ScheduledProcedureStepID",
        "RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue",
        "ReferencedStudySequence",
        "BodyPartExamined",
        "TransferSyntaxUID",
    )
)


def code(value: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, "99T", "made up"
    return made


def request(step: str, *codes: str) -> Dataset:
    made = Dataset()
    made.ScheduledProcedureStepID = step
    made.ScheduledProtocolCodeSequence = Sequence([code(c) for c in codes])
    return made


@pytest.fixture(scope="module")
def image() -> bytes:
    """An image with a block of private tags, and sequences within sequences."""
    ds = pydicom.dcmread(io.BytesIO(make_study(instances=1, ImageType="ORIGINAL\\PRIMARY")[0]))
    ds.RequestAttributesSequence = Sequence([request("S1", "A", "B"), request("S2", "C")])
    ds.ReferencedStudySequence = Sequence([])
    block = ds.private_block(0x0009, "FERRY TESTS", create=True)
    block.add_new(0x01, "LO", "inner")
    block.add_new(0x02, "IS", "42")
    block.add_new(0x03, "UN", b"plain text ")
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


def looked_at(found: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in found.items() if text}


EXPECTED = {
    "Modality": "CT",
    "ImageType": "ORIGINAL\\PRIMARY",
    "(0009,0010)": "FERRY TESTS",
    "(0009,1001)": "inner",
    "(0009,1002)": "42",
    "RequestAttributesSequence.ScheduledProcedureStepID": "S1\\S2",
    "RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue": "A\\B\\C",
}


def check(found: dict[str, str]) -> None:
    found = looked_at(found)
    assert found.pop("RequestAttributesSequence")
    found.pop("TransferSyntaxUID", None)
    unknown = found.pop("(0009,1003)", "")
    assert unknown in ("", "plain text")
    assert found == EXPECTED
    for rule in ("(0009,1002) > 41", "RequestAttributesSequence.ScheduledProcedureStepID in S2, S3",
                 "RequestAttributesSequence is present and BodyPartExamined is empty",
                 "ReferencedStudySequence is empty"):  # fmt: skip
        assert parse_rule(rule).matches(found | {"RequestAttributesSequence": "1"}), rule


def test_of_files(image: bytes) -> None:
    found = read_tags(io.BytesIO(image), KEYS)
    check(found)
    assert found["TransferSyntaxUID"] == "1.2.840.10008.1.2.1"
    assert found["(0009,1003)"] == "plain text"


@settings(max_examples=200, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bytes_end_in_an_answer_or_a_clear_no(image: bytes, data: st.DataObject) -> None:
    file = bytearray(image)
    end = file.index(b"\xe0\x7f\x10\x00")  # pixels are not looked at
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(132, end - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotDicomError, BrokenDicomError):
        found = read_tags(io.BytesIO(bytes(file)), KEYS)
        assert all(isinstance(text, str) for text in found.values())


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_of_orthanc(version: str, image: bytes, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TAGS")
    server.upload([image])
    with orthanc_node(server) as node:
        check(first_tags(node))


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_of_a_dicomweb_service(version: str, image: bytes, start_orthanc: Start) -> None:
    server = start_orthanc(version, name="TAGS", dicomweb=True)
    server.upload([image])
    with dicomweb_node(server) as node:
        check(first_tags(node))


def test_of_this_computer(image: bytes, tmp_path: Path) -> None:
    with own_node(tmp_path, listen=False) as node:
        ds = pydicom.dcmread(io.BytesIO(image), stop_before_pixels=True)
        ref = InstanceRef(str(ds.SOPInstanceUID), "", str(ds.StudyInstanceUID))
        node.store(StudyInfo(ref.study_uid), ref, image)
        check(first_tags(node))


def first_tags(node: Inventory) -> dict[str, str]:
    study = next(iter(node.studies(StudyQuery())))
    page = next(iter(node.instances(study)))
    return dict(node.tags(page, KEYS)[0])


def test_of_a_folder(image: bytes, tmp_path: Path) -> None:
    from core.app import App

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.dcm").write_bytes(image)
    app = App.open(tmp_path / "home")
    app.nodes.add("folder", "files", {"path": str(tmp_path / "images")}, {})
    node = app.nodes.open("files")
    assert isinstance(node, Inventory)
    check(first_tags(node))
    node.close()
    app.close()
