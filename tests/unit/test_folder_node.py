"""A folder as source and destination: what is stored is found, confirmed by digest, and deleted only when proved."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from core.model.diagnosis import StepResult
from core.model.errors import FerryError, LocalError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import (
    Compare,
    Confirm,
    Delete,
    DeleteState,
    Diagnose,
    Follow,
    Identity,
    Inventory,
    OpenContext,
    Push,
    Read,
    Write,
)
from core.nodes.folder.disk import is_our_part
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.node import FolderNode
from core.nodes.registry import node_kinds
from core.wire.abort import Abort
from tests.support.studies import Study, make_studies, make_study
from tests.support.waiting import PATIENCE

layouts = pytest.mark.parametrize("layout", list(Layout))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[object]:
    """Opens folder nodes and closes them in the end."""
    nodes: list[FolderNode] = []

    def open_node(path: Path = tmp_path / "store", **fields: object) -> FolderNode:
        kind = node_kinds.get("folder")
        node = kind.open(FolderFields(path=str(path), **fields), OpenContext("exchange", lambda _: None))
        assert isinstance(node, FolderNode)
        nodes.append(node)
        return node

    yield open_node
    for node in nodes:
        node.close()
        node.close()


def info(study: Study) -> StudyInfo:
    plan = study.plan
    return StudyInfo(
        study.study_uid, patient_name=plan.patient, patient_id=plan.patient_id, study_date=plan.study_date,
        description=plan.description, modalities=(plan.modality,),
    )  # fmt: skip


def refs(study: Study) -> list[InstanceRef]:
    return [
        InstanceRef(sop, study.plan.series_uid(series), study.study_uid, "elsewhere/" + sop)
        for series, _, sop in study.plan.positions()
    ]


def store_all(node: FolderNode, study: Study) -> None:
    for ref, body in zip(refs(study), study, strict=True):
        assert node.store(info(study), ref, body).stored


def inventory(node: FolderNode, query: StudyQuery | None = None) -> tuple[dict[str, list[InstanceRef]], object]:
    listing = node.studies(query or StudyQuery())
    found = {s.study_uid: [i for page in node.instances(s) for i in page] for s in listing}
    return found, listing.outcome


class Bytes:
    """A stream that gives its bytes in small pieces, and may break off."""

    def __init__(self, body: bytes, length: int | None = None, error: Exception | None = None) -> None:
        self.length = length
        self._body = memoryview(body)
        self._error = error

    def readinto(self, view: memoryview, /) -> int:
        if not self._body and self._error is not None:
            raise self._error
        count = min(len(view), len(self._body), 700)
        view[:count] = self._body[:count]
        self._body = self._body[count:]
        return count


def files_below(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def test_capabilities(opened):
    node = opened()
    for capability in (Diagnose, Inventory, Read, Write, Confirm, Delete, Compare, Identity):
        assert isinstance(node, capability), capability
    for capability in (Follow, Push):
        assert not isinstance(node, capability)
    assert node.gives_digests
    assert not node.digests_in_bulk
    assert not node.keeps_digests


@layouts
def test_store_confirm_read_and_inventory(opened, tmp_path, layout):
    study = make_study(series=2, instances=3)
    node = opened(layout=layout)
    assert [h.presence for h in node.confirm(info(study), refs(study))] == [Presence.ABSENT] * 6
    assert not (tmp_path / "store").exists(), "asking makes nothing"
    store_all(node, study)
    held = node.confirm(info(study), refs(study))
    assert {h.sop_uid: h.digest for h in held} == study.digests()
    assert [h.size for h in held] == [len(i) for i in study]
    assert held[0].transfer_syntax == study.plan.transfer_syntax
    again = opened(layout=layout)
    found, outcome = inventory(again)
    assert outcome.complete
    assert outcome.count == 1
    assert sorted(i.sop_uid for i in found[study.study_uid]) == sorted(study.sop_uids)
    for instance in found[study.study_uid]:
        with again.open(instance) as stream:
            body = bytearray(stream.length)
            view, at = memoryview(body), 0
            while count := stream.readinto(view[at:]):
                at += count
        assert hashlib.md5(body).hexdigest() == study.digests()[instance.sop_uid]
    assert again.source_digests(found[study.study_uid]) == study.digests()
    assert not [name for name in files_below(tmp_path / "store") if is_our_part(name)]


@layouts
def test_storing_again_says_so_and_replaces_nothing(opened, layout):
    study, other = make_study(instances=1), make_study(instances=1, description="other content")
    assert study.sop_uids == other.sop_uids
    node = opened(layout=layout)
    store_all(node, study)
    same = node.store(info(study), refs(study)[0], study[0])
    assert not same.stored
    assert not same.warning
    different = node.store(info(study), refs(study)[0], other[0])
    assert not different.stored
    assert different.warning
    assert node.confirm(info(study), refs(study))[0].digest == study.digests()[study.sop_uids[0]]
    node.replace(info(study), refs(study)[0])
    assert node.confirm(info(study), refs(study))[0].presence is Presence.ABSENT
    assert node.store(info(study), refs(study)[0], other[0]).stored
    assert node.confirm(info(study), refs(study))[0].digest == other.digests()[study.sop_uids[0]]


def test_a_name_that_is_taken_by_another_image_is_passed_over(opened, tmp_path):
    study, stranger = make_study(instances=1), make_study(instances=1, patient_id="OTHER")
    node = opened()
    path = tmp_path / "store" / study.study_uid / study.series_uids[0] / f"{study.sop_uids[0]}.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(stranger[0])
    assert node.confirm(info(study), refs(study))[0].presence is Presence.ABSENT
    store_all(node, study)
    assert node.confirm(info(study), refs(study))[0].digest == study.digests()[study.sop_uids[0]]
    assert path.read_bytes() == stranger[0]


def test_what_lies_there_under_any_name_is_found(opened, tmp_path):
    studies = make_studies(3, instances=4)
    for number, study in enumerate(studies):
        study.write(tmp_path / "store" / f"anything {number}" / "Bilder (ä)")
    node = opened()
    for study in studies:
        held = node.confirm(info(study), refs(study))
        assert {h.sop_uid: h.digest for h in held} == study.digests()
    found, outcome = inventory(node)
    assert outcome.complete
    assert {uid: len(instances) for uid, instances in found.items()} == {s.study_uid: 4 for s in studies}


def test_what_changes_between_inventories_is_seen(opened, tmp_path):
    one, two = make_studies(2, instances=3)
    one.write(tmp_path / "store")
    node = opened()
    assert set(inventory(node)[0]) == {one.study_uid}
    paths = two.write(tmp_path / "store" / "later")
    assert set(inventory(node)[0]) == {one.study_uid, two.study_uid}
    paths[0].unlink()
    found, _ = inventory(node)
    assert len(found[two.study_uid]) == 2
    shutil.rmtree(tmp_path / "store" / "later")
    assert set(inventory(node)[0]) == {one.study_uid}


def test_what_is_not_dicom_is_left_alone_and_what_is_broken_is_told(opened, tmp_path):
    study = make_study(instances=3)
    study.write(tmp_path / "store")
    (tmp_path / "store" / "readme.txt").write_text("hello")
    (tmp_path / "store" / "empty.dcm").write_bytes(b"")
    (tmp_path / "store" / "arriving.dcm.part").write_bytes(study[0])
    node = opened()
    found, outcome = inventory(node)
    assert outcome.complete
    assert len(found[study.study_uid]) == 3
    assert node.scanned.ignored == 2
    (tmp_path / "store" / "broken.dcm").write_bytes(study[0][:300])
    found, outcome = inventory(node)
    assert not outcome.complete
    assert "damaged" in outcome.reason
    assert len(found[study.study_uid]) == 3


def test_a_file_that_cannot_be_read_makes_the_list_incomplete(opened, tmp_path, monkeypatch):
    study = make_study(instances=2)
    paths = study.write(tmp_path / "store")
    node = opened()
    real = node.files.open

    def refuse(ref: str) -> object:
        if ref == paths[0].name:
            raise PermissionError(13, "Permission denied")
        return real(ref)

    monkeypatch.setattr(node.files, "open", refuse)
    found, outcome = inventory(node)
    assert not outcome.complete
    assert "no-permission" in outcome.reason
    assert len(found[study.study_uid]) == 1
    with pytest.raises(LocalError) as caught:
        node.source_digests([replace(refs(study)[0], ref=paths[0].name)])
    assert node.failure(caught.value, "source").cls is FailureClass.PERMANENT
    monkeypatch.setattr(node.files, "open", real)
    found, outcome = inventory(node)
    assert outcome.complete
    assert len(found[study.study_uid]) == 2


def test_copies_are_one_image_and_differing_copies_are_told(opened, tmp_path):
    study, other = make_study(instances=2), make_study(instances=2, description="Changed study x")
    study.write(tmp_path / "store" / "a")
    study.write(tmp_path / "store" / "b")
    node = opened()
    found, outcome = inventory(node)
    assert outcome.complete
    assert len(found[study.study_uid]) == 2
    other.write(tmp_path / "store" / "c")
    found, outcome = inventory(node)
    assert not outcome.complete
    assert "different contents" in outcome.reason
    assert len(found[study.study_uid]) == 2


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (StudyQuery(), 3),
        (StudyQuery(patient_id="FERRY-00002"), 1),
        (StudyQuery(patient_id="FERRY*"), 3),
        (StudyQuery(patient_name="wang*"), 3),
        (StudyQuery(patient_name="[wang]*"), 0),
        (StudyQuery(accession="A0000?"), 3),
        (StudyQuery(date_from="20240315", date_to="20240315"), 3),
        (StudyQuery(date_from="20240316"), 0),
        (StudyQuery(modalities=("MR", "CT")), 3),
        (StudyQuery(modalities=("MR",)), 0),
        (StudyQuery(description="synth*"), 3),
        (StudyQuery(study_uids=("1.2.3",)), 0),
    ],
)
def test_queries(opened, tmp_path, query, count):
    for study in make_studies(3, instances=1):
        study.write(tmp_path / "store")
    found, outcome = inventory(opened(), query)
    assert len(found) == count == outcome.count


def test_a_study_by_its_uid_and_tags_of_instances(opened, tmp_path):
    study = make_study(series=2, instances=2)
    study.write(tmp_path / "store")
    node = opened()
    found = node.study(study.study_uid)
    assert found is not None
    assert found.instance_count == 4
    assert found.modalities == ("CT",)
    assert dict(found.tags)["ModalitiesInStudy"] == "CT"
    assert node.study("1.2.3.4") is None
    part = [i for page in node.instances(found, series_ref=study.series_uids[1]) for i in page]
    assert sorted(i.sop_uid for i in part) == sorted(study.sop_uids[2:])
    assert {t["SeriesDescription"] for t in node.tags(part, frozenset({"SeriesDescription"}))} == {"CT series"}


# storing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_streams_of_known_and_unknown_length(opened, told):
    study = make_study(instances=1, size_bytes=50_000)
    node = opened()
    node.store(info(study), refs(study)[0], Bytes(study[0], len(study[0]) if told else None))
    assert node.confirm(info(study), refs(study))[0].digest == study.digests()[study.sop_uids[0]]


def test_nothing_stays_of_a_stream_that_breaks_off(opened, tmp_path):
    study = make_study(instances=1)
    node = opened()
    cut = TransportError(TransportFault.CUT, "The source closed the connection.")
    with pytest.raises(TransportError) as caught:
        node.store(info(study), refs(study)[0], Bytes(study[0][:1000], len(study[0]), cut))
    assert caught.value is cut, "the source's trouble is not taken for ours"
    with pytest.raises(TransportError):
        node.store(info(study), refs(study)[0], Bytes(study[0][:1000], len(study[0])))
    abort = Abort()
    abort.abort()
    with pytest.raises(TransportError) as caught:
        node.store(info(study), refs(study)[0], Bytes(study[0]), abort=abort)
    assert caught.value.fault is TransportFault.ABORTED
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"<html>502 Bad Gateway</html>", b"\x00" * 128 + b"DICM"])
def test_what_is_not_dicom_is_not_stored(opened, tmp_path, body):
    study = make_study(instances=1)
    node = opened()
    with pytest.raises(LocalError) as caught:
        node.store(info(study), refs(study)[0], body)
    assert caught.value.code == "not-dicom"
    assert node.failure(caught.value, "destination").cls is FailureClass.PERMANENT
    assert files_below(tmp_path) == []


def test_another_image_than_announced_is_not_stored(opened, tmp_path):
    study = make_study(instances=2)
    node = opened()
    with pytest.raises(LocalError) as caught:
        node.store(info(study), refs(study)[0], study[1])
    assert caught.value.code == "other-instance"
    assert files_below(tmp_path) == []


def test_many_threads_store_and_confirm_at_once(opened):
    studies = make_studies(6, instances=8)
    node = opened(layout=Layout.PATIENT)

    def carry(study: Study) -> dict[str, str | None]:
        with ThreadPoolExecutor(4) as inner:
            list(inner.map(lambda pair: node.store(info(study), *pair), zip(refs(study), study, strict=True)))
        return {h.sop_uid: h.digest for h in node.confirm(info(study), refs(study))}

    with ThreadPoolExecutor(4) as pool:
        for study, held in zip(studies, pool.map(carry, studies), strict=True):
            assert held == study.digests()
    assert {u: len(i) for u, i in inventory(node)[0].items()} == {s.study_uid: 8 for s in studies}


def test_the_same_image_stored_by_many_threads_is_stored_once(opened, tmp_path):
    study = make_study(instances=1)
    node = opened()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: node.store(info(study), refs(study)[0], study[0]), range(16)))
    assert any(a.stored for a in answers)
    assert len(files_below(tmp_path)) == 1


# deleting -----------------------------------------------------------------------------------------------


def verified(node: FolderNode, study: Study) -> list[InstanceRef]:
    instances = [i for page in node.instances(info(study)) for i in page]
    digests = node.source_digests(instances)
    return [replace(i, digest=digests[i.sop_uid]) for i in instances]


def test_delete_takes_exactly_what_was_verified_and_empty_folders(opened, tmp_path):
    study = make_study(instances=3)
    store = tmp_path / "store"
    study.write(store / "a" / "b")
    node = opened()
    instances = verified(node, study)
    new = make_study(instances=1, patient_id="NEW").write(store / "a" / "c")[0]
    assert [o.state for o in node.delete(info(study), instances[:2])] == [DeleteState.DELETED] * 2
    assert len(files_below(store)) == 2
    assert [o.state for o in node.delete(info(study), instances)] == [DeleteState.GONE] * 2 + [DeleteState.DELETED]
    assert files_below(store) == [new.relative_to(store).as_posix()]
    assert not (store / "a" / "b").exists()
    new.unlink()
    assert store.exists()


def test_a_file_that_changed_after_its_verification_stays(opened, tmp_path):
    study, other = make_study(instances=1), make_study(instances=1, description="Something else")
    path = study.write(tmp_path / "store")[0]
    node = opened()
    instances = verified(node, study)
    path.write_bytes(other[0])
    assert [o.state for o in node.delete(info(study), instances)] == [DeleteState.CHANGED]
    path.write_bytes(make_study(instances=1, patient_id="X")[0])
    assert [o.state for o in node.delete(info(study), [replace(instances[0], digest=None)])] == [DeleteState.CHANGED]
    assert path.exists()


@pytest.mark.parametrize("ref", ["../outside.dcm", "/etc/passwd", "a/../../outside.dcm", "", "..", "a//b", "x\x00y"])
def test_nothing_outside_of_the_folder_is_read_or_deleted(opened, tmp_path, ref):
    study = make_study(instances=1)
    (tmp_path / "outside.dcm").write_bytes(study[0])
    (tmp_path / "store").mkdir()
    node = opened()
    instance = InstanceRef(study.sop_uids[0], study.series_uids[0], study.study_uid, ref)
    assert [o.state for o in node.delete(info(study), [instance])] == [DeleteState.REFUSED]
    with pytest.raises(LocalError), node.open(instance):
        pass
    assert (tmp_path / "outside.dcm").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_links_are_followed_for_reading_only_and_loops_end(opened, tmp_path):
    study = make_study(instances=2)
    outside = study.write(tmp_path / "outside")
    store = tmp_path / "store"
    store.mkdir()
    (store / "link").symlink_to(tmp_path / "outside")
    (store / "loop").symlink_to(store)
    (tmp_path / "outside" / "back").symlink_to(store)
    (store / "dangling").symlink_to(tmp_path / "nowhere")
    node = opened()
    found, outcome = inventory(node)
    assert outcome.complete
    assert len(found[study.study_uid]) == 2
    assert [o.state for o in node.delete(info(study), verified(node, study))] == [DeleteState.REFUSED] * 2
    assert all(p.exists() for p in outside)
    (store / study.study_uid).symlink_to(tmp_path / "outside")
    other = make_study(instances=1, patient_id="N")
    shutil.rmtree(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    with pytest.raises(LocalError) as caught:
        node.store(info(study), refs(study)[0], study[0])
    assert caught.value.code == "outside"
    assert files_below(tmp_path / "outside") == []
    store_all(node, other)


# bad days -----------------------------------------------------------------------------------------------


def test_a_folder_that_vanished_is_down_and_never_absent(opened, tmp_path):
    study = make_study(instances=2)
    node = opened()
    store_all(node, study)
    listed = verified(node, study)
    (tmp_path / "store").rename(tmp_path / "away")
    calls = (
        lambda: node.confirm(info(study), refs(study)),
        lambda: node.store(info(study), refs(study)[0], study[0]),
        lambda: list(node.studies(StudyQuery())),
        lambda: list(node.instances(info(study))),
        lambda: node.study(study.study_uid),
        lambda: list(node.delete(info(study), listed)),
        lambda: node.source_digests(listed),
        node.probe,
    )
    for call in calls:
        with pytest.raises(FerryError) as caught:
            call()
        failure = node.failure(caught.value, "destination")
        assert failure.cls is FailureClass.DOWN, failure
        assert failure.sentence
        assert failure.next_step
    assert not (tmp_path / "store").exists()
    (tmp_path / "away").rename(tmp_path / "store")
    node.probe()
    assert {h.sop_uid: h.digest for h in node.confirm(info(study), refs(study))} == study.digests()


def test_a_bare_mount_point_is_down(opened, tmp_path, monkeypatch):
    study = make_study(instances=1)
    node = opened()
    store_all(node, study)
    node.probe()
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(node.files, "_device", -1)  # as if another file system lay there before
    with pytest.raises(LocalError) as caught:
        node.confirm(info(study), refs(study))
    assert caught.value.code == "folder-missing"


def test_a_source_folder_is_never_made_up(opened, tmp_path):
    node = opened(tmp_path / "typo")
    for call in (lambda: list(node.studies(StudyQuery())), node.probe):
        with pytest.raises(LocalError) as caught:
            call()
        assert caught.value.code == "folder-missing"
    assert not (tmp_path / "typo").exists()


def test_creating_can_be_switched_off_and_needs_the_folder_above(opened, tmp_path):
    study = make_study(instances=1)
    for node in (opened(create=False), opened(tmp_path / "no" / "such")):
        with pytest.raises(LocalError) as caught:
            node.store(info(study), refs(study)[0], study[0])
        assert caught.value.code == "folder-missing"
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(opened, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(LocalError) as caught:
        opened().probe()
    assert caught.value.code == "folder-missing"


def test_a_full_disk_leaves_nothing_behind_and_says_so(opened, tmp_path, monkeypatch):
    study = make_study(instances=1)
    node = opened()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.nodes.folder.disk.settle", full)
    with pytest.raises(LocalError) as caught:
        node.store(info(study), refs(study)[0], study[0])
    failure = node.failure(caught.value, "destination")
    assert (failure.code, failure.cls) == ("disk-full", FailureClass.BUSY)
    assert "full" in failure.sentence
    assert files_below(tmp_path) == []


def test_after_a_refused_write_the_probe_tries_to_write(opened, tmp_path, monkeypatch):
    study = make_study(instances=1)
    node = opened()
    (tmp_path / "store").mkdir()

    def refuse(_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("core.nodes.folder.disk.create_part", refuse)
    with pytest.raises(LocalError) as caught:
        node.store(info(study), refs(study)[0], study[0])
    assert node.failure(caught.value, "destination").cls is FailureClass.PERSON
    with pytest.raises(LocalError):
        node.probe()
    monkeypatch.undo()
    node.probe()
    store_all(node, study)


def drain(stream, view: memoryview) -> None:
    while stream.readinto(view):
        pass


def test_a_file_that_shrinks_while_it_is_read_is_no_shorter_image(opened, tmp_path):
    study = make_study(instances=1, size_bytes=300_000)
    path = study.write(tmp_path / "store")[0]
    node = opened()
    instance = next(iter(node.instances(info(study))))[0]
    with node.open(instance) as stream:
        os.truncate(path, 100_000)
        view = memoryview(bytearray(1 << 16))
        with pytest.raises(LocalError) as caught:
            drain(stream, view)
    assert node.failure(caught.value, "source").cls is FailureClass.RETRY


def test_a_file_that_was_taken_away_or_replaced_is_gone(opened, tmp_path):
    study = make_study(instances=2)
    paths = study.write(tmp_path / "store")
    node = opened()
    instances = {i.ref: i for i in next(iter(node.instances(info(study))))}
    paths[1].write_bytes(study[0])
    paths[0].unlink()
    for path in paths:
        with pytest.raises(LocalError) as caught, node.open(instances[path.name]):
            pass
        assert node.failure(caught.value, "source").cls is FailureClass.GONE


@pytest.mark.posix
def test_a_name_in_another_encoding_is_read_and_deleted(opened, tmp_path):
    study = make_study(instances=1)
    (tmp_path / "store").mkdir()
    try:
        path = tmp_path / "store" / os.fsdecode(b"M\xfcller 50%.dcm")
        path.write_bytes(study[0])
    except OSError:
        pytest.skip("this file system takes text only")
    node = opened()
    instances = verified(node, study)
    instances[0].ref.encode()
    with node.open(instances[0]) as stream:
        assert stream.length == len(study[0])
    assert [o.state for o in node.delete(info(study), instances)] == [DeleteState.DELETED]
    assert not path.exists()


def test_litter_of_a_crash_is_swept_after_a_day(opened, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    old, fresh, foreign = store / ".ferry-1.part", store / ".ferry-2.part", store / "other.part"
    for path in (old, fresh, foreign):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    inventory(opened())
    assert files_below(store) == [".ferry-2.part", "other.part"]


def test_an_aborted_inventory_ends_at_once(opened, tmp_path):
    make_study(instances=2).write(tmp_path / "store")
    abort = Abort()
    abort.abort()
    node = opened()
    with pytest.raises(TransportError):
        list(node.studies(StudyQuery(), abort=abort))
    assert inventory(node)[1].complete


def test_deleting_while_listing_skips_nothing(opened, tmp_path):
    studies = make_studies(120, instances=1)
    for study in studies:
        study.write(tmp_path / "store")
    node = opened()
    seen = []
    for found in node.studies(StudyQuery()):
        seen.append(found.study_uid)
        instances = [i for page in node.instances(found) for i in page]
        assert [o.state for o in node.delete(found, instances)] == [DeleteState.DELETED]
    assert sorted(seen) == sorted(s.study_uid for s in studies)
    assert inventory(node)[0] == {}


# the node as such ---------------------------------------------------------------------------------------


def test_diagnosis(opened, tmp_path):
    steps = {s.name: s for s in opened().diagnose()}
    assert steps["Folder found"].result is StepResult.OK
    assert "made when" in steps["Folder found"].finding
    assert not (tmp_path / "store").exists()
    make_study(instances=2).write(tmp_path / "store")
    node = opened()
    steps = {s.name: s for s in node.diagnose()}
    assert {s.result for s in steps.values()} <= {StepResult.OK, StepResult.WARNING}
    assert steps["Files"].finding.startswith("2 files")
    facts = dict(node.facts())
    assert facts["writable"] == "yes"
    assert int(facts["free-bytes"]) > 0
    assert files_below(tmp_path / "store") == sorted(f"{u}.dcm" for u in make_study(instances=2).sop_uids)
    steps = list(opened(tmp_path / "no" / "such").diagnose())
    assert steps[0].result is StepResult.FAILED
    assert steps[0].next_step
    assert {s.result for s in steps[1:]} == {StepResult.SKIPPED}


@pytest.mark.posix
def test_the_same_folder_under_another_path_is_known(opened, tmp_path):
    study = info(make_study(instances=1))
    (tmp_path / "store" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    node = opened()
    assert node.same_storage(opened(tmp_path / "alias"), study)
    assert node.place == opened(tmp_path / "alias").place
    assert node.same_storage(opened(tmp_path / "store" / "inner"), study)
    assert opened(tmp_path / "store" / "inner").same_storage(node, study)
    assert not node.same_storage(opened(tmp_path / "other"), study)


def test_attributes_of_what_is_held(opened):
    study = make_study(instances=1)
    node = opened()
    assert node.store(info(study), refs(study)[0], study[0]).stored
    found = node.attributes(info(study), refs(study)[0])
    assert found is not None
    assert found["0010,0020"] == "FERRY-1"
    assert node.attributes(info(study), replace(refs(study)[0], sop_uid="1.2.3")) is None


def test_waiting_for_another_threads_inventory_can_be_aborted(opened, tmp_path, monkeypatch):
    make_study(instances=1).write(tmp_path / "store")
    node = opened()
    looking, go_on = threading.Event(), threading.Event()
    real = node._scan._look

    def slow(abort: Abort | None) -> None:
        looking.set()
        assert go_on.wait(PATIENCE)
        real(abort)

    monkeypatch.setattr(node._scan, "_look", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: list(node.studies(StudyQuery())))
        assert looking.wait(PATIENCE)
        abort = Abort()
        abort.abort()
        with pytest.raises(TransportError):
            list(node.studies(StudyQuery(), abort=abort))
        go_on.set()
        assert len(first.result()) == 1
