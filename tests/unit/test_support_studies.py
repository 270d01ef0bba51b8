"""The synthetic studies are valid DICOM, of the size asked for, and the same each time."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pydicom
import pydicom.uid as uids
import pytest

from tests.support.studies import (
    COMPRESSED_SYNTAXES,
    CT_BYTES,
    NAMES,
    SMALL_BYTES,
    ct_study,
    make_studies,
    make_study,
    merged_digests,
    small_study,
    write_large_instance,
)

SYNTAXES = [
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
    *COMPRESSED_SYNTAXES,
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: uids.UID(syntax).keyword)
def test_every_transfer_syntax_is_read_back(syntax: str) -> None:
    study = make_study(series=2, instances=2, transfer_syntax=syntax)
    datasets = [pydicom.dcmread(io.BytesIO(instance)) for instance in study]
    assert [str(ds.SOPInstanceUID) for ds in datasets] == study.sop_uids
    assert [str(ds.file_meta.MediaStorageSOPInstanceUID) for ds in datasets] == study.sop_uids
    assert {str(ds.StudyInstanceUID) for ds in datasets} == {study.study_uid}
    assert [str(ds.SeriesInstanceUID) for ds in datasets[::2]] == study.series_uids
    assert [int(ds.InstanceNumber) for ds in datasets] == [1, 2, 1, 2]
    assert {str(ds.file_meta.TransferSyntaxUID) for ds in datasets} == {str(syntax)}
    assert all(len(ds.PixelData) > 0 for ds in datasets)


@pytest.mark.parametrize("character_set", NAMES)
def test_names_survive_their_character_set(character_set: str) -> None:
    (instance,) = make_study(character_set=character_set, instances=1)
    assert str(pydicom.dcmread(io.BytesIO(instance)).PatientName) == NAMES[character_set]


def test_sizes_are_those_asked_for() -> None:
    assert all(abs(len(instance) - CT_BYTES) < 1_500 for instance in ct_study(2))
    assert all(abs(len(instance) - SMALL_BYTES) < 100 for instance in small_study(3))
    ds = pydicom.dcmread(io.BytesIO(ct_study(1)[0]))
    assert (ds.Rows, ds.Columns) == (512, 512)
    pytest.importorskip("numpy")
    assert ds.pixel_array.shape == (512, 512)


def test_the_same_plan_gives_the_same_bytes_and_studies_differ() -> None:
    assert make_study(seed=7) == make_study(seed=7)
    studies = make_studies(5, instances=4)
    assert len({study.study_uid for study in studies}) == 5
    assert len(merged_digests(studies)) == 20
    assert len(set(merged_digests(studies).values())) == 20


def test_further_elements_are_set() -> None:
    (instance,) = make_study(instances=1, InstitutionName="North", BodyPartExamined="HEAD")
    ds = pydicom.dcmread(io.BytesIO(instance))
    assert (ds.InstitutionName, ds.BodyPartExamined) == ("North", "HEAD")


def test_a_large_instance_is_streamed_to_its_file(tmp_path: Path) -> None:
    large = write_large_instance(tmp_path / "large.dcm", 20_000_000)
    assert large.path.stat().st_size == large.size
    assert abs(large.size - 20_000_000) < 600_000
    assert hashlib.md5(large.path.read_bytes()).hexdigest() == large.md5
    ds = pydicom.dcmread(large.path)
    assert str(ds.SOPInstanceUID) == large.sop_uid
    assert len(ds.PixelData) == ds.NumberOfFrames * 512 * 512 * 2
