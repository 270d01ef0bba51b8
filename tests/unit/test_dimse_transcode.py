"""Data sets between implicit, explicit and deflated: every value as it was, nested, private and unknown ones too."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from core.wire.dimse.file_meta import split_head
from core.wire.dimse.transcode import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    NotConvertibleError,
    inflated,
    transcoded,
)
from tests.support.studies import make_study

FILES = (
    "CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "rtdose.dcm", "reportsi.dcm", "nested_priv_SQ.dcm", "test-SR.dcm",
    "waveform_ecg.dcm", "priv_SQ.dcm", "no_meta_group_length.dcm",
)  # fmt: skip


def encoded(data_set: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax == IMPLICIT
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def converted(data: bytes, source: str, target: str) -> bytes:
    return b"".join(transcoded(data, source=source, target=target))


def values(data: bytes, syntax: str) -> dict[Any, Any]:
    found = read_dataset(io.BytesIO(data), is_implicit_VR=syntax == IMPLICIT, is_little_endian=True)
    return _plain(found)


def _plain(data_set: Dataset) -> dict[Any, Any]:
    return {
        element.tag: [_plain(item) for item in element.value] if element.VR == "SQ" else _comparable(element)
        for element in data_set
        if element.tag.element
    }


def _comparable(element: Any) -> Any:
    return element.value if isinstance(element.value, bytes) else str(element.value)


def body(name: str) -> tuple[bytes, str]:
    """The data set of one of pydicom's files as it is there, and its transfer syntax."""
    head = split_head(Path(str(get_testdata_file(name, download=False))).read_bytes())
    assert isinstance(head.data_set, memoryview)
    return bytes(head.data_set), head.transfer_syntax


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_there_and_back(name: str) -> None:
    """Values are those of before; nothing is decoded, so that what is wrong in them stays wrong too."""
    data, syntax = body(name)
    assert syntax in (IMPLICIT, EXPLICIT)
    other = IMPLICIT if syntax == EXPLICIT else EXPLICIT
    there = converted(data, syntax, other)
    assert values(there, other).keys() == values(data, syntax).keys()
    back = converted(there, other, syntax)
    again = converted(converted(back, syntax, other), other, syntax)
    assert again == back, "a second time changes nothing"
    mine, theirs = values(back, syntax), values(data, syntax)
    unlike = {tag for tag in theirs if mine.get(tag) != theirs[tag]}
    assert not unlike or syntax == EXPLICIT, f"{name}: {unlike}"


@pytest.mark.parametrize("source", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("target", [IMPLICIT, EXPLICIT])
def test_images(source: str, target: str) -> None:
    study = make_study(instances=1, transfer_syntax=source)
    data = study[0][144 + int.from_bytes(study[0][140:144], "little") :]
    assert values(converted(data, source, target), target) == values(data, source)


def test_nested_sequences_and_private_elements() -> None:
    inner = Dataset()
    inner.CodeValue = "T-D1100"
    inner.add_new(0x00091001, "UN", b"\x01\x02\x03\x04")
    item = Dataset()
    item.ConceptNameCodeSequence = [inner, Dataset()]
    whole = Dataset()
    whole.PixelRepresentation = 1
    whole.add_new(0x00280106, "SS", -5)
    whole.AnatomicRegionSequence = [item, item]
    whole.add_new(0x00090010, "LO", "FERRY")
    whole.add_new(0x00091010, "FD", 1.5)
    whole.PatientName = "Müller"
    whole.SpecificCharacterSet = "ISO_IR 100"
    for source, target in ((EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT)):
        data = encoded(whole, source)
        made = converted(data, source, target)
        read = read_dataset(io.BytesIO(made), is_implicit_VR=target == IMPLICIT, is_little_endian=True)
        assert read.AnatomicRegionSequence[1].ConceptNameCodeSequence[0].CodeValue == "T-D1100"
        assert len(read.AnatomicRegionSequence[0].ConceptNameCodeSequence) == 2
        assert read[0x00280106].value == -5
        assert read.PatientName == "Müller"
        assert converted(converted(made, target, source), source, target) == made


def test_deflated() -> None:
    study = make_study(instances=1, transfer_syntax=DEFLATED)
    data = study[0][144 + int.from_bytes(study[0][140:144], "little") :]
    plain = inflated(data, 1 << 20)
    assert values(plain, EXPLICIT)[0x00100020] == "FERRY-1"
    with pytest.raises(NotConvertibleError, match="too large"):
        inflated(data, 100)
    with pytest.raises(NotConvertibleError):
        inflated(data[:50], 1 << 20)
    with pytest.raises(NotConvertibleError):
        inflated(b"nonsense", 1 << 20)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    with pytest.raises(NotConvertibleError, match="too large"):
        inflated(bomb.compress(bytes(50 << 20)) + bomb.flush(), 1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00\x05\x00UI\xff\xff12",
        b"\x08\x00\x05\x00",
        b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff",
        b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\x08\x00\x05\x00\0\0\0\0",
        b"\x08\x00\x15\x11SQ\0\0\x10\0\0\0\xfe\xff\x00\xe0\xff\0\0\0",
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100,
        b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
    ],
)
def test_what_is_no_data_set_is_refused(data: bytes) -> None:
    for target in (IMPLICIT, EXPLICIT):
        with pytest.raises(NotConvertibleError):
            converted(data, EXPLICIT, target)
