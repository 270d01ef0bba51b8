"""DICOM files through steps: every encoding, large values left where they are, hostile files refused."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from core.engine import applying, changed_file
from core.engine.applying import TitledStep
from core.engine.same_content import same_but_for_time
from core.model.errors import LocalError
from core.model.implementation import IMPLEMENTATION_CLASS_UID
from core.model.study import InstanceRef
from core.steps.base import LargeValue, Step, StepError
from tests.support.studies import make_study, write_large_instance

SYNTAXES = [
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless,
]  # fmt: skip
REF = InstanceRef("1", "1", "1")


class Doing(Step):
    """Does what a test wants."""

    def __init__(self, *actions: str) -> None:
        self.actions = actions

    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        for action in self.actions:
            exec(action, {"ds": dataset, "pydicom": pydicom})
        return ("Done.",) if self.actions else ()


def made(data: bytes, *actions: str, steps: Sequence[Step] | None = None) -> applying.Made:
    titled = [TitledStep("Test", s) for s in (steps or [Doing(*actions)])]
    return applying.make(titled, io.BytesIO(data), hashlib.md5(data).hexdigest(), REF, None)


def read(one: applying.Made) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(one.body.whole()))


def saved(dataset: pydicom.FileDataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


@pytest.mark.parametrize("large", [changed_file.LARGE, 16], ids=["as it is", "much left in the file"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=[s.name for s in SYNTAXES])
def test_only_what_was_changed_differs(syntax: uid.UID, large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_file, "LARGE", large)
    (data,) = make_study(instances=1, transfer_syntax=syntax)
    before = pydicom.dcmread(io.BytesIO(data))
    one = made(data, "ds.InstitutionName = 'West'")
    after = read(one)
    assert after.InstitutionName == "West"
    del after.InstitutionName
    for element in before:
        assert after[element.tag] == element
    assert len(before) == len(after)
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert after.preamble == bytes(128)
    assert one.change.digest == hashlib.md5(one.body.whole()).hexdigest()
    assert one.change.size == len(one.body.whole())
    one.close()


def test_the_file_meta_says_what_it_is_now_and_no_more() -> None:
    (data,) = make_study(instances=1)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.SourceApplicationEntityTitle = "HOSPITAL"
    dataset.preamble = b"II*\0" + bytes(124)
    one = made(saved(dataset), "ds.SOPInstanceUID = '1.2.3'", "ds.StudyInstanceUID = '1.2.4'")
    after = read(one)
    assert after.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert "SourceApplicationEntityTitle" not in after.file_meta
    assert after.preamble == bytes(128)
    assert (one.change.sop_uid, one.study.study_uid, one.instance.study_uid) == ("1.2.3", "1.2.4", "1.2.4")


def test_what_no_step_changes_stays_byte_for_byte() -> None:
    (data,) = make_study(instances=1)
    one = made(data[:4] + b"x" + data[5:])
    assert one.body.whole() == data[:4] + b"x" + data[5:]
    assert one.change.digest == one.change.source_digest
    assert one.change.done == ()


def test_what_lies_behind_the_pixels_and_signatures() -> None:
    dataset = pydicom.dcmread(io.BytesIO(make_study(instances=1)[0]))
    dataset.add_new(0x7FE10010, "LO", "MAKER")
    dataset.add_new(0x7FE11001, "LO", "behind")
    signed, inner = Dataset(), Dataset()
    signed.MACIDNumber = 1
    dataset.add_new(0xFFFAFFFA, "SQ", [signed])
    dataset.add_new(0x4FFE0001, "SQ", [signed])
    inner.AccessionNumber = "1"
    inner.add_new(0xFFFAFFFA, "SQ", [signed])
    dataset.RequestAttributesSequence = [inner]
    dataset.add_new(0xFFFCFFFC, "OB", bytes(10))
    data = saved(dataset)
    untouched = made(data)
    assert untouched.body.whole() == data, "signatures hold as long as nothing is changed"
    one = made(data, "ds.StudyID = '1'")
    after = read(one)
    assert after[0x7FE11001].value == "behind"
    assert 0xFFFAFFFA not in after
    assert 0x4FFE0001 not in after
    assert 0xFFFAFFFA not in after.RequestAttributesSequence[0]
    assert after.RequestAttributesSequence[0].AccessionNumber == "1"
    assert applying.SIGNATURES_GONE in one.change.done
    assert after.PixelData == dataset.PixelData


def test_large_values_can_be_removed_and_replaced_but_not_read() -> None:
    dataset = pydicom.dcmread(io.BytesIO(make_study(instances=1)[0]))
    blob = bytes(range(256)) * 8192
    block = dataset.private_block(0x0019, "MAKER", create=True)
    for number in (0x10, 0x11, 0x12):
        block.add_new(number, "OB", blob)
    dataset.add_new(0x00420011, "OB", blob)
    one = made(
        saved(dataset),
        "assert type(ds[0x00191010].value).__name__ == 'LargeValue'",
        "del ds[0x00191010]",
        "ds[0x00191011].value = b'ab'",
    )
    after = read(one)
    assert 0x00191010 not in after
    assert after[0x00191011].value == b"ab"
    assert after[0x00191012].value == after[0x00420011].value == blob


def test_a_delimiter_within_compressed_pixels_ends_nothing() -> None:
    dataset = pydicom.dcmread(get_testdata_file("MR_small_RLE.dcm"))
    tricky = b"\xfe\xff\xdd\xe0\0\0\0\0" * 5000
    dataset.PixelData = encapsulate([tricky])
    dataset["PixelData"].is_undefined_length = True
    assert read(made(saved(dataset), "ds.StudyID = '1'")).PixelData == dataset.PixelData


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-300], lambda d: d[:400], lambda d: d[:132], lambda d: b"", lambda d: b"<html>" * 100,
        lambda d: d.replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00\xff\xff"), lambda d: d + b"\xff" * 40,
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    (data,) = make_study(instances=1, size_bytes=4000)
    with pytest.raises(StepError) as caught:
        made(damage(data), "ds.StudyID = '1'")
    assert caught.value.code in ("step-unreadable", "step-no-identity")


def test_a_bomb_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_file, "MOST_INFLATED", 1 << 20)
    (data,) = make_study(instances=1, size_bytes=3 << 20, transfer_syntax=uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(StepError):
        made(data, "ds.StudyID = '1'")


@pytest.mark.parametrize(
    "action",
    [
        "del ds.SOPInstanceUID",
        "ds.SeriesInstanceUID = ''",
        "ds.StudyInstanceUID = '1.' * 40 + '1'",
        "ds.StudyInstanceUID = '1.2.x'",
        "del ds.SOPClassUID",
    ],
)
def test_an_image_without_identity_is_not_sent(action: str) -> None:
    with pytest.raises(StepError) as caught:
        made(make_study(instances=1)[0], action)
    assert caught.value.code == "step-no-identity"


def test_whatever_a_step_runs_into_nothing_of_the_image_is_told() -> None:
    with pytest.raises(StepError) as caught:
        made(make_study(instances=1, patient="Secret^Name")[0], "raise KeyError(str(ds.PatientName))")
    assert caught.value.code == "step-failed"
    assert "Secret" not in f"{caught.value} {caught.value.detail}"


def test_texts_are_written_anew_where_the_character_set_changes() -> None:
    (data,) = make_study(instances=1, patient="Müller^Änne", character_set="ISO_IR 100")
    one = made(data, "ds.decode()", "ds.SpecificCharacterSet = 'ISO_IR 192'", "ds.StudyDescription = 'Łódź'")
    after = read(one)
    assert (str(after.PatientName), after.StudyDescription) == ("Müller^Änne", "Łódź")


def test_equal_but_for_the_time_of_the_change() -> None:
    from core.model.steps import StepChoice
    from core.steps.base import StepSurroundings
    from core.steps.registry import open_steps

    (data,) = make_study(instances=1)

    def changed(value: str) -> applying.Made:
        fields = {"actions": f"set AccessionNumber={value}"}
        return made(data, steps=open_steps([StepChoice(kind="tags", fields=fields)], StepSurroundings()))

    first, second, other = changed("1"), changed("1"), changed("2")
    assert first.change.digest != second.change.digest
    assert same_but_for_time(first.content, second.content)
    assert not same_but_for_time(first.content, other.content)


def test_a_large_file_passes_in_little_memory(tmp_path: Path) -> None:
    large = write_large_instance(tmp_path / "large.dcm", 120_000_000)

    class Stream:
        def __init__(self) -> None:
            self.file = large.path.open("rb")
            self.length: int | None = large.path.stat().st_size

        def readinto(self, view: memoryview, /) -> int:
            return self.file.readinto(view)

    stream = Stream()
    tracemalloc.start()
    file, digest = applying.received(stream, tmp_path, lambda _count: None, "disk")
    one = applying.make([TitledStep("Test", Doing("ds.StudyID = '1'"))], file, digest, REF, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stream.file.close()
    assert peak < 20_000_000
    assert one.change.size > 100_000_000
    # Windows removes it when it is closed, which a kill does, too.
    assert os.name == "nt" or not list(tmp_path.glob("step-*")), "nothing that would be left behind by a kill"
    one.close()
    assert not list(tmp_path.glob("step-*"))


def test_large_values_are_told_apart() -> None:
    assert isinstance(LargeValue(), bytes)
    assert not LargeValue()


def test_a_disk_without_room_is_this_computer_s_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the image's, which a person would look at in vain: it is tried again."""

    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(changed_file, "temporary_file", lambda _folder: Full())
    monkeypatch.setattr(applying, "temporary_file", lambda _folder: Full())
    (data,) = make_study(instances=1, transfer_syntax=uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(LocalError) as caught:
        made(data, "ds.AccessionNumber = '7'")
    assert caught.value.code == "scratch-full"

    class Stream:
        length: int | None = None

        def readinto(self, view: memoryview, /) -> int:
            return len(view)

    with pytest.raises(LocalError):
        applying.received(Stream(), tmp_path, lambda _count: None, "disk")
    monkeypatch.undo()
    with pytest.raises(LocalError):
        applying.received(Stream(), tmp_path / "gone", lambda _count: None, "disk")


def test_what_a_killed_program_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "step-left").mkdir()
    (tmp_path / "step-left" / "input.dcm").write_bytes(b"x")
    (tmp_path / "step-file").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x")
    applying.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
