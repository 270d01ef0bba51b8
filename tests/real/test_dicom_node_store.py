"""Sending to a DICOM node: byte for byte, in every encoding that it takes, and what its answers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pydicom
import pydicom.uid as uids
import pytest

from core.model.errors import AnswerError, FerryError, NotSupportedError
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement
from core.nodes.dicom.node import DicomNode
from core.wire.dimse.part10 import file_head
from tests.support.dicom_nodes import data_set_of, dicom_node, refs_of
from tests.support.dimse_acts import Answer, Reject
from tests.support.dimse_peer import FaultyPeer
from tests.support.orthanc import OrthancServer
from tests.support.studies import COMPRESSED_SYNTAXES, Study, make_study

SYNTAXES = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
    *COMPRESSED_SYNTAXES,
)
VERIFICATION = "1.2.840.10008.1.1"
LAYOUT = frozenset({"PixelData", "PhotometricInterpretation", "PlanarConfiguration"})


class Pieces:
    """A stream that gives a few bytes at a time; `length` may be unknown."""

    def __init__(self, content: bytes, *, piece: int = 100, length: int | None = None) -> None:
        self.length = length
        self._content = memoryview(content)
        self._piece = piece

    def readinto(self, view: memoryview, /) -> int:
        count = min(self._piece, len(view), len(self._content))
        view[:count] = self._content[:count]
        self._content = self._content[count:]
        return count


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


@contextmanager
def at(pacs: FaultyPeer, **fields: Any) -> Iterator[DicomNode]:
    with dicom_node(pacs.aet, pacs.port, **{"answer_timeout": 2, **fields}) as opened:
        yield opened


def first_of(study: Study, sop_class: str = "") -> InstanceRef:
    return refs_of(study, sop_class)[0]


def send(node: DicomNode, study: Study, body: Any = None) -> Acknowledgement:
    return node.store(StudyInfo(study.study_uid), first_of(study), study[0] if body is None else body)


def values(data_set: pydicom.Dataset, but: frozenset[str] = frozenset()) -> dict[int, Any]:
    return {int(element.tag): element.value for element in data_set if element.keyword not in but}


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_every_encoding_arrives_in_it_with_every_attribute(version: str) -> None:
    """An Orthanc writes anew what comes by C-STORE (without the padding of values); nothing of it is another."""
    studies = [
        make_study(patient_id=f"S{n}", instances=1, transfer_syntax=syntax)
        for n, syntax in enumerate(SYNTAXES)
        if syntax != uids.DeflatedExplicitVRLittleEndian or version == "1.12"  # 1.10 forgets to deflate it again
    ]
    with OrthancServer(version, name="PACS") as server, dicom_node("PACS", server.dicom_port) as node:
        for study in studies:
            assert send(node, study) == Acknowledgement(True, study.sop_uids[0], "0000")
        for study in studies:
            stored = pydicom.dcmread(BytesIO(server.file(study.sop_uids[0])))
            assert values(stored) == values(pydicom.dcmread(BytesIO(study[0]))), study.plan.transfer_syntax
            assert stored.file_meta.TransferSyntaxUID == study.plan.transfer_syntax


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_data_set_goes_out_byte_for_byte(pacs: FaultyPeer, syntax: str) -> None:
    study = make_study(instances=1, transfer_syntax=syntax)
    with at(pacs) as node:
        send(node, study)
        assert pacs.archive.data(study.sop_uids[0]) == data_set_of(study[0])


@pytest.mark.parametrize("piece", [1, 77, 4096, 1 << 20])
@pytest.mark.parametrize("known", [True, False])
def test_from_a_stream(pacs: FaultyPeer, piece: int, known: bool) -> None:
    study = make_study(instances=1, size_bytes=20_000)
    with at(pacs) as node:
        send(node, study, Pieces(study[0], piece=piece, length=len(study[0]) if known else None))
        assert pacs.archive.data(study.sop_uids[0]) == data_set_of(study[0])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_from_memory(pacs: FaultyPeer, kind: Any) -> None:
    study = make_study(instances=1)
    with at(pacs) as node:
        send(node, study, memoryview(kind(study[0])))
        assert hashlib.md5(pacs.archive.data(study.sop_uids[0])).digest() == hashlib.md5(data_set_of(study[0])).digest()


def test_files_with_strange_heads(pacs: FaultyPeer) -> None:
    """Without preamble and meta information, without its length, and with private ones of 100 kB."""
    study = make_study(instances=1)
    file = study[0]
    start = 144 + int.from_bytes(file[140:144], "little")
    private = b"\x02\x00\x02\x01OB\0\0" + (100_000).to_bytes(4, "little") + bytes(100_000)
    bodies = {
        "no head": file[start:],
        "no preamble": file[132:],
        "no group length": file[:132] + file[144:],
        "long private": file[:132] + file[144:start] + private + file[start:],
    }
    ref = first_of(study, uids.CTImageStorage)
    with at(pacs) as node:
        for name, body in bodies.items():
            pacs.archive.lose([ref.sop_uid])
            for shape in (body, Pieces(body, piece=3000)):
                assert node.store(StudyInfo(study.study_uid), ref, shape).stored, name
                assert pacs.archive.data(ref.sop_uid) == file[start:], name


@pytest.mark.parametrize("body", [b"", b"<html>no such page</html>" * 20, b"\0" * 128 + b"DICM", b"\0" * 4000])
def test_what_is_no_dicom_is_not_sent(pacs: FaultyPeer, body: bytes) -> None:
    study = make_study(instances=1)
    with at(pacs) as node:
        for shape in (body, Pieces(body)):
            with pytest.raises(AnswerError) as raised:
                node.store(StudyInfo(study.study_uid), first_of(study), shape)
            assert raised.value.code == "bad-dicom"
    assert pacs.count("store") == 0


@pytest.mark.parametrize(("status", "said"), [(0xB000, "B000"), (0xB006, "B006"), (0xB007, "B007")])
def test_stored_with_a_warning(pacs: FaultyPeer, status: int, said: str) -> None:
    pacs.on("store", Answer(status, "something was coerced", keeps=True))
    study = make_study(instances=1)
    with at(pacs) as node:
        answer = send(node, study)
    assert answer.stored
    assert answer.answer == f"{said} something was coerced"
    assert answer.warning
    assert "{node}" not in answer.warning


def test_already_there(pacs: FaultyPeer) -> None:
    pacs.on("store", Answer(0x0111))
    with at(pacs) as node:
        answer = send(node, make_study(instances=1))
    assert not answer.stored
    assert answer.answer == "0111"


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (0xA700, FailureClass.BUSY),
        (0xA900, FailureClass.PERMANENT),
        (0xC000, FailureClass.PERMANENT),
        (0x0122, FailureClass.PERMANENT),
        (0x0110, FailureClass.RETRY),
        (0x0124, FailureClass.PERSON),
    ],
)
def test_refused(pacs: FaultyPeer, status: int, cls: FailureClass) -> None:
    pacs.on("store", Answer(status, "no"))
    with at(pacs) as node:
        with pytest.raises(AnswerError) as raised:
            send(node, make_study(instances=1))
        failure = node.failure(raised.value, "destination")
    assert failure.cls is cls
    assert "no" in failure.detail
    assert raised.value.status == status


def test_a_kind_that_is_not_taken(pacs: FaultyPeer) -> None:
    """The reason names kind and encoding; other kinds still go, over the same node."""
    pacs.refuses = lambda abstract, syntax: abstract == uids.UltrasoundImageStorage
    refused, taken = make_study(modality="US", instances=1), make_study(modality="CT", instances=1)
    with at(pacs) as node:
        with pytest.raises(AnswerError) as raised:
            send(node, refused)
        failure = node.failure(raised.value, "destination")
        assert failure.code == "association-no-context"
        assert failure.cls is FailureClass.PERMANENT
        assert uids.UltrasoundImageStorage in failure.detail
        assert send(node, taken).stored
    assert pacs.count("store") == 1


@pytest.mark.parametrize(
    ("reject", "code", "cls"),
    [
        (Reject(1, 1, 3), "association-calling-aet", FailureClass.PERSON),
        (Reject(1, 1, 7), "association-called-aet", FailureClass.PERSON),
        (Reject(2, 3, 2), "association-local-limit", FailureClass.BUSY),
    ],
)
def test_associations_that_are_refused(pacs: FaultyPeer, reject: Reject, code: str, cls: FailureClass) -> None:
    pacs.on("associate", reject)
    with at(pacs) as node:
        with pytest.raises(AnswerError) as raised:
            send(node, make_study(instances=1))
        failure = node.failure(raised.value, "destination")
        assert failure.cls is cls
        with pytest.raises(FerryError):
            node.probe()


def test_it_removes_nothing(pacs: FaultyPeer) -> None:
    study = make_study(instances=1)
    with at(pacs) as node, pytest.raises(NotSupportedError):
        node.replace(StudyInfo(study.study_uid), first_of(study))


def test_associations_are_kept_and_limited(pacs: FaultyPeer) -> None:
    study = make_study(instances=20, size_bytes=300)
    with at(pacs, connections=1) as node:
        for ref, image in zip(refs_of(study), study, strict=True):
            node.store(StudyInfo(study.study_uid), ref, image)
        assert pacs.count("associate") == 1
        node.confirm(StudyInfo(study.study_uid), refs_of(study))
        assert node.limit.held == 0, "the idle association made room"
        node.probe()
    pacs.wait_idle()


# --- in another encoding, where that is allowed


def only(*taken: str) -> Any:
    return lambda abstract, syntax: abstract != VERIFICATION and syntax not in taken


def kept(pacs: FaultyPeer, study: Study, syntax: str) -> pydicom.Dataset:
    """What the peer holds of a study's first image, read in the encoding that it agreed to."""
    data = pacs.archive.data(study.sop_uids[0])
    return pydicom.dcmread(BytesIO(file_head(uids.CTImageStorage, study.sop_uids[0], syntax) + data))


LOSSLESS = (
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.RLELossless,
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEG2000Lossless,
)


@pytest.mark.parametrize("target", [uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_reencoded_without_loss(pacs: FaultyPeer, syntax: str, target: str) -> None:
    """Where the node takes nothing but one plain encoding: every attribute and every pixel is what it was."""
    if syntax == target:
        return
    pacs.refuses = only(target)
    study = make_study(instances=1, transfer_syntax=syntax)
    for body in (study[0], Pieces(study[0], piece=1000)):
        with at(pacs, reencode=True) as node:
            answer = send(node, study, body)
        assert answer.stored
        assert "re-encoded without loss" in answer.warning
        assert uids.UID(syntax).name in answer.warning
        source, stored = pydicom.dcmread(BytesIO(study[0])), kept(pacs, study, target)
        assert values(stored, but=LAYOUT) == values(source, but=LAYOUT)
        assert (stored.pixel_array == source.pixel_array).all()
        assert stored.SOPInstanceUID == source.SOPInstanceUID


def test_not_unless_it_is_allowed(pacs: FaultyPeer) -> None:
    pacs.refuses = only(uids.ImplicitVRLittleEndian)
    with at(pacs) as node, pytest.raises(AnswerError) as raised:
        send(node, make_study(instances=1))
    assert raised.value.code == "association-no-context"
    assert pacs.count("store") == 0


@pytest.mark.parametrize(
    ("syntax", "word"),
    [(uids.JPEGBaseline8Bit, "without loss"), (uids.JPEG2000, "without loss"), (uids.ExplicitVRBigEndian, "known")],
)
def test_not_with_a_loss(pacs: FaultyPeer, syntax: str, word: str) -> None:
    pacs.refuses = only(uids.ImplicitVRLittleEndian)
    with at(pacs, reencode=True) as node, pytest.raises(AnswerError) as raised:
        send(node, make_study(instances=1, transfer_syntax=syntax))
    assert raised.value.code == "association-no-context"
    assert word in raised.value.detail
    assert pacs.count("store") == 0


def test_what_it_takes_is_not_reencoded(pacs: FaultyPeer) -> None:
    study = make_study(instances=1, transfer_syntax=uids.RLELossless)
    with at(pacs, reencode=True) as node:
        assert send(node, study).warning == ""
    assert pacs.archive.data(study.sop_uids[0]) == data_set_of(study[0])


def test_damaged_pixels_are_not_sent(pacs: FaultyPeer) -> None:
    pacs.refuses = only(uids.ExplicitVRLittleEndian)
    study = make_study(instances=1, transfer_syntax=uids.JPEGLosslessSV1)
    at_pixels = study[0].index(b"\xff\xd8")
    damaged = study[0][: at_pixels + 20] + bytes(300) + study[0][at_pixels + 320 :]
    with at(pacs, reencode=True) as node, pytest.raises(AnswerError) as raised:
        send(node, study, damaged)
    assert "not re-encoded" in raised.value.detail
    assert pacs.count("store") == 0
