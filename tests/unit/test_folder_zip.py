"""A ZIP file as source and destination: read in place, added to without ever risking what it holds."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.model.errors import LocalError, NotSupportedError
from core.model.outcome import FailureClass
from core.model.study import Presence, StudyQuery
from core.nodes.folder import archive
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.node import FolderNode
from tests.support.studies import Study, make_studies, make_study
from tests.unit.test_folder_node import files_below, info, inventory, refs, store_all


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    """Opens nodes on one ZIP file and closes them in the end."""
    nodes: list[FolderNode] = []

    def open_node(path: Path = tmp_path / "export.zip", **fields: object) -> FolderNode:
        nodes.append(FolderNode(FolderFields(path=str(path), **fields), "archive"))
        return nodes[-1]

    yield open_node
    for node in nodes:
        node.close()


def zipped(path: Path, study: Study, **more: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number, instance in enumerate(study):
            file.writestr(f"CD/IM{number:04}", instance)
        for name, content in more.items():
            file.writestr(name, content)


def held(node: FolderNode, study: Study) -> dict[str, str | None]:
    return {h.sop_uid: h.digest for h in node.confirm(info(study), refs(study)) if h.presence is Presence.PRESENT}


def test_read_from_a_zip(opened, tmp_path):
    study = make_study(instances=5)
    zipped(tmp_path / "export.zip", study, readme=b"hello")
    node = opened()
    found, outcome = inventory(node)
    assert outcome.complete
    instances = found[study.study_uid]
    assert node.source_digests(instances) == study.digests()
    with node.open(instances[0]) as stream:
        assert stream.length == instances[0].size
        assert stream.readinto(memoryview(bytearray(100))) == 100
    assert node.scanned.ignored == 1
    with pytest.raises(NotSupportedError):
        list(node.delete(info(study), instances))
    assert not os.access(tmp_path / ".export.zip.ferry-adding", os.F_OK)


@pytest.mark.parametrize("layout", list(Layout))
def test_write_to_a_zip_that_any_program_can_open(opened, tmp_path, layout):
    one, two = make_studies(2, instances=4)
    node = opened(layout=layout)
    assert held(node, one) == {}
    store_all(node, one)
    assert held(node, one) == one.digests()
    store_all(node, two)
    assert not node.store(info(two), refs(two)[0], two[0]).stored
    assert held(node, two) == two.digests()
    with zipfile.ZipFile(tmp_path / "export.zip") as file:
        assert file.testzip() is None
        assert len(file.namelist()) == 8
    node.close()
    again = opened(layout=layout)
    assert held(again, one) == one.digests()
    third = make_study(instances=1, patient_id="third")
    store_all(again, third)
    again.close()
    assert files_below(tmp_path) == ["export.zip"]
    with zipfile.ZipFile(tmp_path / "export.zip") as file:
        assert file.testzip() is None
        assert len(file.namelist()) == 9


def test_other_content_is_not_replaced_and_cannot_be(opened):
    study, other = make_study(instances=1), make_study(instances=1, description="Something else")
    node = opened()
    store_all(node, study)
    assert node.store(info(study), refs(study)[0], other[0]).warning
    with pytest.raises(NotSupportedError):
        node.replace(info(study), refs(study)[0])
    assert held(node, study) == study.digests()


def test_a_crash_while_adding_loses_nothing_that_was_acknowledged(opened, tmp_path):
    one, two = make_studies(2, instances=3)
    path = tmp_path / "export.zip"
    node = opened()
    store_all(node, one)
    assert held(node, one) == one.digests()
    store_all(node, two)
    crashed = tmp_path / "crash"
    crashed.mkdir()
    # What the disk holds now, before the list of members was written again: as after kill -9.
    shutil.copy(path, crashed / "export.zip")
    shutil.copy(tmp_path / ".export.zip.ferry-adding", crashed / ".export.zip.ferry-adding")
    whole = (crashed / "export.zip").read_bytes()
    for lost in (0, 1, 500, 1500):
        (crashed / "export.zip").write_bytes(whole[: len(whole) - lost])
        (crashed / ".export.zip.ferry-adding").touch()
        after = opened(crashed / "export.zip")
        assert held(after, one) == one.digests()
        expected = dict(list(two.digests().items())[: 3 if not lost else 2])
        assert held(after, two) == expected
        for ref, body in zip(refs(two), two, strict=True):
            after.store(info(two), ref, body)
        assert held(after, two) == two.digests()
        after.close()
        assert files_below(crashed) == ["export.zip"]
        with zipfile.ZipFile(crashed / "export.zip") as file:
            assert file.testzip() is None
            assert len(file.namelist()) == 6


def test_a_crash_before_the_first_list_of_members(opened, tmp_path):
    study = make_study(instances=2)
    node = opened()
    store_all(node, study)
    crashed = tmp_path / "crash"
    crashed.mkdir()
    shutil.copy(tmp_path / "export.zip", crashed)
    shutil.copy(tmp_path / ".export.zip.ferry-adding", crashed)
    assert held(opened(crashed / "export.zip"), study) == study.digests()


@pytest.mark.posix
def test_a_full_disk_while_adding_keeps_what_was_there(opened, tmp_path, monkeypatch):
    one, two = make_studies(2, instances=2)
    node = opened()
    store_all(node, one)
    real = os.fsync
    failing = [False]

    def full(fd: int) -> None:
        if failing[0] and os.path.realpath(f"/proc/self/fd/{fd}").endswith("export.zip"):
            failing[0] = False
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr("core.nodes.folder.archive.os.fsync", full)
    failing[0] = Path("/proc/self/fd").is_dir()
    if not failing[0]:
        pytest.skip("needs /proc to tell files apart")
    with pytest.raises(LocalError) as caught:
        node.store(info(two), refs(two)[0], two[0])
    assert node.failure(caught.value, "destination").cls is FailureClass.BUSY
    assert held(node, one) == one.digests()
    assert held(node, two) == {}
    store_all(node, two)
    assert held(node, two) == two.digests()
    node.close()
    with zipfile.ZipFile(tmp_path / "export.zip") as file:
        assert file.testzip() is None
        assert len(file.namelist()) == 4


@pytest.mark.parametrize("name", ["../../evil.dcm", "/etc/evil.dcm", "C:\\evil.dcm", "a/../../../evil", "..\\..\\evil"])
def test_hostile_names_are_read_in_place_and_never_written_anywhere(opened, tmp_path, name):
    study = make_study(instances=1)
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as file:
        file.writestr(name, study[0])
    node = opened()
    found, outcome = inventory(node)
    assert outcome.complete
    assert node.source_digests(found[study.study_uid]) == study.digests()
    assert files_below(tmp_path) == ["export.zip"]


def test_a_bomb_is_refused(opened, tmp_path, monkeypatch):
    study = make_study(instances=2)
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 5 << 20)
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("good", study[0])
        file.writestr("bomb", study[1] + b"\x00" * (6 << 20))
    node = opened()
    found, outcome = inventory(node)
    assert not outcome.complete
    assert "large" in outcome.reason
    assert [i.sop_uid for i in found[study.study_uid]] == study.sop_uids[:1]


def test_a_member_that_is_damaged_is_told_and_the_others_are_read(opened, tmp_path):
    study = make_study(instances=3, size_bytes=20_000)
    path = tmp_path / "export.zip"
    zipped(path, study)
    with zipfile.ZipFile(path) as file:
        info_ = file.getinfo("CD/IM0001")
        at = info_.header_offset + 60 + info_.compress_size // 2
    content = bytearray(path.read_bytes())
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    node = opened()
    found, _ = inventory(node)
    digests = {}
    broken = []
    for instance in found[study.study_uid]:
        try:
            digests |= node.source_digests([instance])
        except LocalError as error:
            broken.append(error.code)
    wanted = study.digests()
    del wanted[study.sop_uids[1]]
    assert digests == wanted
    assert broken in ([], ["zip-damaged"])


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\x00" * 100, b"PK\x05\x06" + b"\xff" * 18])
def test_a_broken_zip_is_told_in_words_and_not_touched(opened, tmp_path, content):
    (tmp_path / "export.zip").write_bytes(content)
    node = opened()
    with pytest.raises(LocalError) as caught:
        list(node.studies(StudyQuery()))
    assert caught.value.code == "zip-damaged"
    assert node.failure(caught.value, "source").cls is FailureClass.PERSON
    study = make_study(instances=1)
    with pytest.raises(LocalError):
        node.store(info(study), refs(study)[0], study[0])
    assert (tmp_path / "export.zip").read_bytes() == content


@pytest.mark.posix
def test_a_zip_that_vanished_is_down_and_never_absent(opened, tmp_path):
    study = make_study(instances=1)
    node = opened()
    store_all(node, study)
    assert held(node, study)
    (tmp_path / "export.zip").unlink()
    for call in (
        lambda: node.confirm(info(study), refs(study)),
        lambda: node.store(info(study), refs(study)[0], study[0]),
        node.probe,
    ):
        with pytest.raises(LocalError) as caught:
            call()
        assert node.failure(caught.value, "destination").cls is FailureClass.DOWN


def test_a_missing_zip_is_no_empty_source(opened):
    with pytest.raises(LocalError) as caught:
        list(opened().studies(StudyQuery()))
    assert caught.value.code == "folder-missing"


def test_diagnosis_of_a_zip(opened, tmp_path):
    zipped(tmp_path / "export.zip", make_study(instances=2))
    steps = {s.name: s for s in opened().diagnose()}
    assert steps["ZIP file found"].finding.endswith("export.zip")
    assert steps["Files"].finding.startswith("2 files")
