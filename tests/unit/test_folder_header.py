"""Reading the heads of files: real character sets, odd encodings, and garbage of all kinds."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import pydicom.data
import pydicom.uid as uids
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.nodes.local import header as header_module
from core.nodes.local.header import BrokenDicomError, NotDicomError, read_attributes, read_header, read_tags
from tests.support.studies import NAMES, make_study

SYNTAXES = [
    uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian, uids.JPEGBaseline8Bit, uids.JPEG2000Lossless, uids.RLELossless,
]  # fmt: skip


def head(file: bytes):
    return read_header(io.BytesIO(file))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifiers_in_every_encoding(syntax):
    study = make_study(instances=1, transfer_syntax=syntax)
    header = head(study[0])
    assert header.sop_uid == study.sop_uids[0]
    assert header.series_uid == study.series_uids[0]
    assert header.study_uid == study.study_uid
    assert header.transfer_syntax == syntax
    assert header.part10
    assert header.study.patient_id == "FERRY-1"
    assert header.study.study_date == "20240315"


@pytest.mark.parametrize("charset", list(NAMES))
def test_names_are_decoded_by_their_character_set(charset):
    header = head(make_study(instances=1, character_set=charset)[0])
    assert header.study.patient_name == NAMES[charset]


def test_what_filters_look_at_is_there():
    study = make_study(instances=1, ReferringPhysicianName="House^G", InstitutionName="Princeton")
    tags = dict(head(study[0]).study.tags)
    assert tags["ReferringPhysicianName"] == "House^G"
    assert tags["InstitutionName"] == "Princeton"
    assert tags["StudyDescription"] == "Synthetic study"


def test_tags_of_an_instance_are_text_whatever_their_kind():
    study = make_study(instances=1, ImageType="ORIGINAL\\PRIMARY", SliceThickness="2.5")
    found = read_tags(
        io.BytesIO(study[0]), frozenset({"ImageType", "SliceThickness", "Rows", "Modality", "KVP", "Nonsense"})
    )
    assert found["ImageType"] == "ORIGINAL\\PRIMARY"
    assert found["SliceThickness"] == "2.5"
    assert found["Rows"].isdigit()
    assert found["Modality"] == "CT"
    assert "KVP" not in found


def test_attributes_leave_the_encoding_out():
    plain = read_attributes(io.BytesIO(make_study(instances=1)[0]))
    implicit = read_attributes(io.BytesIO(make_study(instances=1, transfer_syntax=uids.ImplicitVRLittleEndian)[0]))
    assert plain == implicit
    assert plain["0010,0020"] == "FERRY-1"
    assert not any(tag.startswith(("0002,", "7fe0,")) for tag in plain)


def test_a_file_without_preamble_is_taken_when_it_is_surely_dicom():
    file = make_study(instances=1, transfer_syntax=uids.ImplicitVRLittleEndian)[0]
    (length,) = struct.unpack_from("<I", file, 140)
    header = head(file[144 + length :])
    assert not header.part10
    assert header.transfer_syntax is None
    assert header.sop_uid == head(file).sop_uid


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"hello, I am a text file " * 30,
        b"%PDF-1.7" + b"\x00" * 2000,
        b"PK\x03\x04" + b"x" * 500,
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
        b"\x08\x00" * 400,
        b"\x00" * 1000,
        b"DICM",
    ],
)
def test_what_is_not_dicom_is_left_alone(content):
    with pytest.raises(NotDicomError):
        head(content)


def test_a_damaged_file_says_so_without_patient_data():
    file = make_study("Secret^Name", instances=1)[0]
    for broken in (
        file[:200],
        file[: file.index(b"\x20\x00\x0d\x00")],
        b"\x00" * 128 + b"DICM",
        b"\x00" * 128 + b"DICM" + b"\xff" * 500,
    ):
        with pytest.raises(BrokenDicomError) as caught:
            head(broken)
        assert "Secret" not in str(caught.value)


def test_a_false_length_takes_no_memory():
    file = bytearray(make_study(instances=1, transfer_syntax=uids.ImplicitVRLittleEndian)[0])
    at = file.index(b"\x08\x00\x18\x00")
    struct.pack_into("<I", file, at + 4, 0x7FFFFFF0)
    with pytest.raises(BrokenDicomError):
        head(bytes(file))


def test_a_deflate_bomb_is_inflated_within_bounds():
    file = make_study(instances=1, transfer_syntax=uids.DeflatedExplicitVRLittleEndian)[0]
    (length,) = struct.unpack_from("<I", file, 140)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"\x00" * (1 << 20)
    bomb = b"".join(squeeze.compress(zeros) for _ in range(120)) + squeeze.flush()
    with pytest.raises(BrokenDicomError):
        head(file[: 144 + length] + bomb)


def test_a_head_without_end_is_given_up():
    with pytest.raises(BrokenDicomError):
        head(make_study(instances=1)[0][:200] + b"\x00" * (8 << 20))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bytes_end_in_an_answer_or_a_clear_no(data):
    file = bytearray(make_study(instances=1, size_bytes=1400)[0])
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(file)))
    with contextlib.suppress(NotDicomError, BrokenDicomError):
        head(bytes(file[:cut]))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=600), st.booleans())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_noise_ends_in_a_clear_no(noise, marked):
    with pytest.raises((NotDicomError, BrokenDicomError)):
        head(b"\x00" * 128 + b"DICM" + noise if marked else noise)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_first_look_and_the_parser_read_the_same(monkeypatch):
    """Every file that comes with pydicom: all encodings, character sets, and a number of broken ones."""
    files = [p for p in Path(pydicom.data.__file__).parent.rglob("*") if p.is_file() and p.suffix in (".dcm", "")]
    contents = [p.read_bytes() for p in files]
    first = [_read(content) for content in contents]
    assert sum(header_module._first_look(io.BytesIO(content)) is not None for content in contents) > 50
    monkeypatch.setattr(header_module, "_first_look", lambda _file: None)
    assert first == [_read(content) for content in contents]


def _read(content: bytes):
    try:
        return read_header(io.BytesIO(content))
    except (NotDicomError, BrokenDicomError) as error:
        return str(error)
