"""The DICOMDIR: written so that pydicom reads it as a file-set, kept current, read as a hint only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet

from core.nodes.folder.dicomdir import NAME
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.node import FolderNode
from tests.support.studies import NAMES, Study, make_studies, make_study
from tests.support.waiting import wait_for
from tests.unit.test_folder_node import files_below, info, inventory, store_all, verified


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    """Opens nodes with the layout of media, and closes them in the end."""
    nodes: list[FolderNode] = []

    def open_node(path: Path = tmp_path / "cd", **fields: object) -> FolderNode:
        nodes.append(FolderNode(FolderFields(path=str(path), **{"layout": Layout.DICOMDIR, **fields}), "medium"))
        return nodes[-1]

    yield open_node
    for node in nodes:
        node.close()


def in_dicomdir(folder: Path) -> dict[str, str]:
    """SOP Instance UID → path, as pydicom's own file-set reads it."""
    read = FileSet(folder / NAME)
    found = {str(i.SOPInstanceUID): i.path for i in read}
    read._stage["t"].cleanup()  # its temporary folder, else it warns when it is collected
    return found


def sops(*studies: Study) -> set[str]:
    return {uid for study in studies for uid in study.sop_uids}


def test_a_file_set_that_pydicom_reads(opened, tmp_path):
    studies = [
        *make_studies(3, series=2, instances=3),
        make_study("Müller^Jörg", character_set="ISO_IR 100", patient_id="U1", modality="US", instances=2),
        make_study(character_set="\\ISO 2022 IR 87", patient_id="J1", modality="MR", instances=1),
    ]
    node = opened()
    for study in studies:
        store_all(node, study)
    node.close()
    found = in_dicomdir(tmp_path / "cd")
    assert set(found) == sops(*studies)
    for uid, path in found.items():
        assert pydicom.dcmread(path).SOPInstanceUID == uid
    records = pydicom.dcmread(tmp_path / "cd" / NAME).DirectoryRecordSequence
    kinds = [r.DirectoryRecordType for r in records]
    assert {k: kinds.count(k) for k in set(kinds)} == {"PATIENT": 5, "STUDY": 5, "SERIES": 8, "IMAGE": 21}
    names = {str(r.PatientName) for r in records if r.DirectoryRecordType == "PATIENT"}
    assert {"Müller^Jörg", NAMES["\\ISO 2022 IR 87"]} <= names


def test_kept_current_over_sessions_and_deletions(opened, tmp_path):
    one, two = make_studies(2, instances=3)
    node = opened()
    store_all(node, one)
    node.close()
    node = opened()
    store_all(node, two)
    node.close()
    assert set(in_dicomdir(tmp_path / "cd")) == sops(one, two)
    node = opened()
    list(node.delete(info(one), verified(node, one)))
    node.close()
    assert set(in_dicomdir(tmp_path / "cd")) == sops(two)
    node = opened()
    assert inventory(node)[1].complete


def test_written_soon_after_a_change_without_closing(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("core.nodes.folder.upkeep.TIDY_SECONDS", 0.05)
    study = make_study(instances=3)
    node = opened()
    store_all(node, study)
    wait_for(
        lambda: (tmp_path / "cd" / NAME).exists() and set(in_dicomdir(tmp_path / "cd")) == sops(study),
        what="the DICOMDIR",
    )


def test_files_that_lack_what_a_record_needs_are_named_all_the_same(opened, tmp_path):
    study = make_study(instances=2, modality="SR", StudyID="", StudyDate="", PatientID="")
    node = opened()
    store_all(node, study)
    node.close()
    assert set(in_dicomdir(tmp_path / "cd")) == sops(study)


def test_only_with_the_layout_and_the_switch(opened, tmp_path):
    study = make_study(instances=1)
    for number, fields in enumerate(({"dicomdir": False}, {"layout": Layout.UID}, {"layout": Layout.PATIENT})):
        node = opened(tmp_path / str(number), **fields)
        store_all(node, study)
        node.close()
        assert not (tmp_path / str(number) / NAME).exists()
        assert len(files_below(tmp_path / str(number))) == 1


def test_a_dicomdir_is_no_image_and_not_trusted_as_complete(opened, tmp_path):
    one, two = make_studies(2, instances=2)
    node = opened()
    store_all(node, one)
    node.close()
    two.write(tmp_path / "cd" / "extra")
    found, outcome = inventory(opened())
    assert set(found) == {one.study_uid, two.study_uid}
    assert outcome.complete


def test_what_it_names_and_is_not_there_makes_the_list_incomplete(opened, tmp_path):
    study = make_study(instances=3)
    node = opened()
    store_all(node, study)
    node.close()
    Path(in_dicomdir(tmp_path / "cd")[study.sop_uids[0]]).unlink()
    found, outcome = inventory(opened())
    assert len(found[study.study_uid]) == 2
    assert not outcome.complete
    assert "DICOMDIR" in outcome.reason


def test_names_on_media_in_lower_case_are_found(opened, tmp_path):
    study = make_study(instances=2)
    node = opened()
    store_all(node, study)
    node.close()
    for path in sorted((tmp_path / "cd").rglob("*"), key=lambda p: -len(p.parts)):
        path.rename(path.with_name(path.name.lower()))
    found, outcome = inventory(opened(dicomdir=False))
    assert outcome.complete
    assert len(found[study.study_uid]) == 2


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 128 + b"DICM" + b"\x00" * 50])
def test_a_damaged_dicomdir_is_not_needed(opened, tmp_path, content):
    study = make_study(instances=2)
    study.write(tmp_path / "cd")
    (tmp_path / "cd" / NAME).write_bytes(content)
    found, _ = inventory(opened())
    assert len(found[study.study_uid]) == 2
