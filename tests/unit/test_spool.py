"""The spool: what is kept lasts, what isn't leaves nothing behind, and the catalogue tells the truth about it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pydicom.uid as uids
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

from core.model.errors import LocalError
from core.model.study import ChangeKind
from core.spool import disk
from core.spool.attributes import HEAD, UnusableInstanceError, read_attributes
from core.spool.incoming import IncomingFile, encode_meta, parse_meta
from core.spool.record import Arrival, Kept, Removed
from core.spool.spool import CATALOGUE, Spool
from core.wire.dimse.part10 import file_head
from tests.support.studies import NAMES, Study, make_studies, make_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    opened = Spool.open(folder)
    yield opened
    opened.close()


def put(spool: Spool, instance: bytes, **announced: str) -> Arrival:
    with spool.receive_file() as incoming:
        view = memoryview(instance)
        for start in range(0, len(view), 1000):
            incoming.write(view[start : start + 1000])
        return spool.keep(incoming, **announced)


def put_dataset(spool: Spool, instance: bytes) -> Arrival:
    """As it comes by C-STORE: the data set alone."""
    meta = parse_meta(instance)
    with spool.receive(meta.sop_class, meta.sop_uid, meta.transfer_syntax) as incoming:
        incoming.write(memoryview(instance)[meta.length :])
        return spool.keep(incoming, sop_class=meta.sop_class, sop_uid=meta.sop_uid, sender="CT@10.0.0.1")


def changed(instance: bytes) -> bytes:
    """The same UIDs, another pixel."""
    return instance[:-1] + bytes([instance[-1] ^ 1])


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in (folder / "files").rglob("*.dcm")}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


# --- keeping


def test_what_is_kept_is_there_byte_for_byte_and_in_the_catalogue(spool: Spool) -> None:
    study = make_study(series=2, instances=3)
    for sop_uid, instance in zip(study.sop_uids, study, strict=True):
        arrival = put(spool, instance, sop_uid=sop_uid)
        assert arrival.kept is Kept.STORED
        assert spool.path(arrival.record).read_bytes() == instance
        assert arrival.record.digest == md5(instance)
        assert arrival.record.size == len(instance)
        assert arrival.record.received > 0
    (found,) = spool.catalogue.studies()
    assert (found.study_uid, found.series, found.instances) == (study.study_uid, 2, 6)
    assert found.bytes == sum(map(len, study))
    assert found.modalities == ("CT",)
    assert found.sop_classes == (uids.CTImageStorage,)
    assert found.info().patient_name == NAMES["ISO_IR 192"]
    assert found.info().study_date == "20240315"
    assert [s.series_uid for s in spool.catalogue.series(study.study_uid)] == study.series_uids
    assert [s.instances for s in spool.catalogue.series(study.study_uid)] == [3, 3]
    listed = [r for page in spool.catalogue.instances(study.study_uid) for r in page]
    assert {r.sop_uid: r.digest for r in listed} == study.digests()
    one = [r for page in spool.catalogue.instances(study.study_uid, study.series_uids[1]) for r in page]
    assert [r.attributes["InstanceNumber"] for r in sorted(one, key=lambda r: r.attributes["InstanceNumber"])] == list(
        "123"
    )
    assert spool.catalogue.totals() == (1, 6, sum(map(len, study)))


def test_a_data_set_by_c_store_gets_its_file_meta_information(spool: Spool) -> None:
    (instance,) = make_study(instances=1)
    record = put_dataset(spool, instance).record
    path = spool.path(record)
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == uids.ExplicitVRLittleEndian
    assert ds.file_meta.MediaStorageSOPInstanceUID == record.sop_uid
    assert path.read_bytes()[record.data_offset :] == instance[parse_meta(instance).length :]
    assert record.digest == md5(path.read_bytes())
    assert record.sender == "CT@10.0.0.1"


def test_a_file_of_ours_is_the_same_whoever_makes_it() -> None:
    """What comes by C-STORE and what is fetched by C-GET can be compared by digest."""
    for syntax in (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, "1.2.3"):
        assert encode_meta(uids.CTImageStorage, "1.2.3.4.55", syntax) == file_head(
            uids.CTImageStorage, "1.2.3.4.55", syntax
        )


def test_the_same_content_again_makes_no_second_copy(spool: Spool) -> None:
    (instance,) = make_study(instances=1)
    first = put(spool, instance)
    assert put(spool, instance).kept is Kept.DUPLICATE
    again = put_dataset(spool, instance)  # other file meta information, the same data set
    assert again.kept is Kept.DUPLICATE
    assert again.record == first.record
    assert len(files_below(spool.folder)) == 1
    assert not list((spool.folder / "incoming").rglob("*.part"))


def test_other_content_under_the_same_uid_is_not_overwritten(spool: Spool) -> None:
    (instance,) = make_study(instances=1)
    first = put(spool, instance)
    for other in (changed(instance), instance + b"\x00" * 8):
        arrival = put(spool, other)
        assert arrival.kept is Kept.CONFLICT
        assert arrival.record.digest == md5(instance)
    assert put_dataset(spool, changed(instance)).kept is Kept.CONFLICT
    assert spool.path(first.record).read_bytes() == instance


def test_the_same_image_from_many_at_once_is_kept_once(spool: Spool) -> None:
    instances = [make_study(instances=1, accession=f"A{n}")[0] for n in range(5)]
    found: list[list[Kept]] = [[] for _ in instances]
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        for number, instance in enumerate(instances):
            found[number].append(put(spool, instance).kept)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(one) for one in found] == [[Kept.DUPLICATE] * 7 + [Kept.STORED]] * 5
    assert len(files_below(spool.folder)) == 5


def test_an_image_whose_file_was_taken_away_is_healed_by_sending_it_again(spool: Spool) -> None:
    (instance,) = make_study(instances=1)
    record = put(spool, instance).record
    spool.path(record).unlink()
    assert spool.size_of(record) is None
    assert put(spool, instance).kept is Kept.DUPLICATE
    assert spool.path(record).read_bytes() == instance


def test_an_image_whose_file_was_taken_away_takes_no_other_content(spool: Spool) -> None:
    (instance,) = make_study(instances=1)
    spool.path(put(spool, instance).record).unlink()
    with pytest.raises(LocalError) as caught:
        put(spool, changed(instance))
    assert caught.value.code == "file-lost"


@pytest.mark.parametrize(
    ("spoil", "announced", "code"),
    [
        (lambda i: i[132:], {}, "unreadable"),
        (lambda i: b"", {}, "unreadable"),
        (lambda i: i[:200], {}, "unreadable"),
        (lambda i: i[:500], {}, "unreadable"),
        (lambda i: i[: parse_meta(i).length] + b"\x08\x00\x05\x00" + b"\xff" * 3000, {}, "uid-missing"),
        (lambda i: without(i, "StudyInstanceUID"), {}, "uid-missing"),
        (lambda i: without(i, "SeriesInstanceUID"), {}, "uid-missing"),
        (lambda i: without(i, "SOPInstanceUID"), {}, "uid-missing"),
        (lambda i: i, {"sop_uid": "1.2.3"}, "uid-differs"),
        (lambda i: i, {"sop_class": uids.MRImageStorage}, "uid-differs"),
    ],
)
def test_what_is_not_what_it_claims_to_be_leaves_nothing(
    spool: Spool, spoil: Any, announced: dict[str, str], code: str
) -> None:
    (instance,) = make_study(instances=1)
    with pytest.raises(UnusableInstanceError) as caught:
        put(spool, spoil(instance), **announced)
    assert caught.value.code == code
    assert not files_below(spool.folder)
    assert not list((spool.folder / "incoming").rglob("*.part"))
    assert spool.catalogue.totals() == (0, 0, 0)


def without(instance: bytes, keyword: str) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(instance))
    delattr(ds, keyword)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=False)
    return out.getvalue()


@pytest.mark.posix  # Windows deletes no file that is open
def test_one_file_that_spoils_a_batch_takes_no_other_with_it(spool: Spool) -> None:
    studies = make_studies(12, instances=1)
    results: list[Kept | Exception] = []
    start = threading.Barrier(len(studies))

    def send(number: int, instance: bytes) -> None:
        with spool.receive_file() as incoming:
            incoming.write(memoryview(instance))
            start.wait()
            if number % 3 == 0:
                incoming.path.unlink()
            try:
                results.append(spool.keep(incoming).kept)
            except OSError as error:
                results.append(error)

    threads = [threading.Thread(target=send, args=(n, study[0])) for n, study in enumerate(studies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(Kept.STORED) == 8
    assert sum(isinstance(r, FileNotFoundError) for r in results) == 4
    assert spool.catalogue.totals()[:2] == (8, 8)
    assert len(files_below(spool.folder)) == 8


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_nobody_else_may_read_it(spool: Spool) -> None:
    put(spool, make_study(instances=1)[0])
    for path in [spool.folder, *spool.folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path}: {mode:o}"


def test_one_process_has_one_spool(folder: Path) -> None:
    one, two = Spool.open(folder), Spool.open(folder / ".." / folder.name)
    assert one is two
    one.close()
    assert put(two, make_study(instances=1)[0]).kept is Kept.STORED
    two.close()
    with pytest.raises(LocalError):
        put(two, make_study(instances=1)[0])


# --- deleting


def test_exactly_what_was_seen_is_deleted(spool: Spool) -> None:
    study = make_study(series=2, instances=2)
    for instance in study:
        put(spool, instance)
    first, second, third, fourth = study.sop_uids
    digests = study.digests()
    assert spool.delete([(first, digests[first].upper()), (second, "0" * 32), ("1.2.3", None), (first, None)]) == [
        Removed.DELETED,
        Removed.CHANGED,
        Removed.GONE,
        Removed.GONE,
    ]
    assert set(spool.catalogue.find(study.sop_uids)) == {second, third, fourth}
    assert len(files_below(spool.folder)) == 3
    spool.delete([(third, None), (fourth, None)])
    assert [s.series_uid for s in spool.catalogue.series(study.study_uid)] == study.series_uids[:1]
    spool.delete([(second, None)])
    assert spool.catalogue.study(study.study_uid) is None
    assert put(spool, study[0]).kept is Kept.STORED


def test_what_was_deleted_does_not_come_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the record's end and the file's."""
    spool = Spool.open(folder)
    study = make_study(instances=2)
    for instance in study:
        put(spool, instance)
    with monkeypatch.context() as held:
        held.setattr(disk, "remove", lambda path: False)
        assert spool.delete([(study.sop_uids[0], None)]) == [Removed.DELETED]
    assert len(files_below(folder)) == 2
    spool.close()
    again = Spool.open(folder)
    try:
        assert len(files_below(folder)) == 1
        assert set(again.catalogue.find(study.sop_uids)) == {study.sop_uids[1]}
    finally:
        again.close()


# --- opening again


def test_everything_is_there_after_a_restart(folder: Path) -> None:
    study = make_study(instances=5)
    spool = Spool.open(folder)
    for instance in study:
        put(spool, instance)
    before = spool.catalogue.cursor()
    spool.close()
    again = Spool.open(folder)
    try:
        assert {u: r.digest for u, r in again.catalogue.find(study.sop_uids).items()} == study.digests()
        assert again.catalogue.cursor() >= before
        assert put(again, study[0]).kept is Kept.DUPLICATE
    finally:
        again.close()
    assert not list((folder / "incoming").iterdir())


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(folder: Path) -> None:
    incoming = folder / "incoming"
    for name in ("dead", "alive"):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "1.part").write_bytes(b"half an image")
        (incoming / f"{name}.lock").touch()
    with FileLock(incoming / "alive.lock"):
        Spool.open(folder).close()
        assert not (incoming / "dead").exists()
        assert (incoming / "alive" / "1.part").exists()
    Spool.open(folder).close()
    assert not (incoming / "alive").exists()


def test_a_file_without_its_record_is_removed(folder: Path) -> None:
    """Killed between the file's name and its record: its sender has no 0000, and whether it is whole nobody knows."""
    study = make_study(instances=4)
    spool = Spool.open(folder)
    record = put(spool, study[0]).record
    shelf = spool.path(record).parent
    token = shelf.name.partition("-")[0]
    spool.close()
    (folder / "incoming" / f"{token}.lock").touch()  # as it lies there after a kill
    (shelf / "99.dcm").write_bytes(study[1])
    (shelf / "9a.dcm").write_bytes(study[2][:400])
    other = folder / "files" / "0123456789ab-0"  # of a process that is alive
    other.mkdir()
    (other / "0.dcm").write_bytes(study[3])
    (folder / "incoming" / "0123456789ab.lock").touch()
    with FileLock(folder / "incoming" / "0123456789ab.lock"):
        again = Spool.open(folder)
    try:
        assert files_below(folder) == {record.name, "files/0123456789ab-0/0.dcm"}
        assert set(again.catalogue.find(study.sop_uids)) == {study.sop_uids[0]}
        assert put(again, study[1]).kept is Kept.STORED
    finally:
        again.close()


def test_empty_folders_go(folder: Path) -> None:
    spool = Spool.open(folder)
    record = put(spool, make_study(instances=1)[0]).record
    spool.delete([(record.sop_uid, None)])
    spool.close()
    Spool.open(folder).close()
    assert not list((folder / "files").iterdir())


@pytest.mark.parametrize("damage", ["deleted", "garbage", "truncated", "another version"])
def test_a_lost_catalogue_is_made_anew_from_the_files(folder: Path, damage: str) -> None:
    studies = make_studies(3, instances=4)
    spool = Spool.open(folder)
    for study in studies:
        for instance in study:
            put(spool, instance)
    cursor = spool.catalogue.cursor()
    spool.close()
    catalogue = folder / CATALOGUE
    if damage == "deleted":
        catalogue.unlink()
    elif damage == "garbage":
        catalogue.write_bytes(os.urandom(20_000))
    elif damage == "truncated":
        catalogue.write_bytes(catalogue.read_bytes()[:9000])
    else:
        with sqlite3.connect(catalogue) as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
    again = Spool.open(folder)
    try:
        for study in studies:
            found = again.catalogue.find(study.sop_uids)
            assert {u: r.digest for u, r in found.items()} == study.digests()
        page = again.catalogue.changes(cursor)
        assert page.reset or len(page.changes) == 12, "whoever follows learns of everything anew"
        assert put(again, studies[0][0]).kept is Kept.DUPLICATE
        other = make_study(instances=1, patient_id="new")
        assert put(again, other[0]).kept is Kept.STORED
        assert again.catalogue.totals()[:2] == (4, 13)
    finally:
        again.close()


def test_a_catalogue_that_was_being_made_anew_is_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(instances=6)
    spool = Spool.open(folder)
    for instance in study:
        put(spool, instance)
    spool.close()
    (folder / CATALOGUE).unlink()
    from core.spool import recovery

    seen = []
    adopt = recovery._adopt

    def dies(*args: Any, **keys: Any) -> bool:
        if len(seen) == 3:
            raise OSError(5, "the power is gone")
        seen.append(args)
        return adopt(*args, **keys)

    with monkeypatch.context() as held:
        held.setattr(recovery, "_adopt", dies)
        with pytest.raises(OSError, match="power"):
            Spool.open(folder)
    again = Spool.open(folder)
    try:
        assert {u: r.digest for u, r in again.catalogue.find(study.sop_uids).items()} == study.digests()
        assert not (folder / "aside").exists()
    finally:
        again.close()


# --- following


def test_the_change_log_tells_what_came_and_what_is_complete(spool: Spool) -> None:
    study = make_study(series=2, instances=2)
    start = spool.catalogue.cursor()
    for instance in study[:3]:
        put(spool, instance)
    page = spool.catalogue.changes(start)
    assert [(c.kind, c.ref) for c in page.changes] == [(ChangeKind.NEW_INSTANCE, u) for u in study.sop_uids[:3]]
    assert page.done
    assert not page.reset
    spool.settle(60.0)
    assert not spool.catalogue.changes(page.last).changes
    assert not spool.is_quiet(study.study_uid, quiet=60.0)
    spool.settle(0.0)
    settled = spool.catalogue.changes(page.last)
    assert {(c.kind, c.ref) for c in settled.changes} == {
        (ChangeKind.STABLE_STUDY, study.study_uid),
        *((ChangeKind.STABLE_SERIES, f"{study.study_uid}/{uid}") for uid in study.series_uids),
    }
    assert spool.is_quiet(study.study_uid, quiet=0.0)
    assert spool.is_quiet(study.study_uid, study.series_uids[0], quiet=0.0)
    assert not spool.is_quiet("1.2.3", quiet=0.0)
    spool.settle(0.0)
    assert not spool.catalogue.changes(settled.last).changes, "told once"


def test_a_late_image_makes_a_study_incomplete_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.spool import keeper

    study = make_study(instances=2)
    put(spool, study[0])
    spool.settle(0.0)
    since = spool.catalogue.cursor()
    later = keeper.time.time() + 10
    monkeypatch.setattr(keeper.time, "time", lambda: later)
    put(spool, study[1])
    spool.settle(5.0)
    assert [c.kind for c in spool.catalogue.changes(since).changes] == [ChangeKind.NEW_INSTANCE]
    spool.settle(0.0)
    assert [c.kind for c in spool.catalogue.changes(since).changes] == [
        ChangeKind.NEW_INSTANCE,
        ChangeKind.STABLE_SERIES,
        ChangeKind.STABLE_STUDY,
    ]


def test_a_clock_that_was_set_back_delays_completeness_only_by_the_quiet_time(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.spool import keeper

    now = keeper.time.time()
    clock = [now + 86_400]
    monkeypatch.setattr(keeper.time, "time", lambda: clock[0])
    put(spool, make_study(instances=1)[0])
    since = spool.catalogue.cursor()
    clock[0] = now
    spool.settle(60.0)
    clock[0] = now + 61
    spool.settle(60.0)
    assert [c.kind for c in spool.catalogue.changes(since).changes] == [
        ChangeKind.STABLE_SERIES,
        ChangeKind.STABLE_STUDY,
    ]


def test_the_change_log_comes_in_pages_without_gaps(spool: Spool) -> None:
    studies = make_studies(7, instances=3)
    start = spool.catalogue.cursor()
    for study in studies:
        for instance in study:
            put(spool, instance)
    spool.settle(0.0)
    seen, since = [], start
    while True:
        page = spool.catalogue.changes(since, limit=4)
        seen += page.changes
        assert len(page.changes) <= 4
        since = page.last
        if page.done:
            break
    assert len(seen) == 21 + 7 + 7
    assert [c.sequence for c in seen] == sorted({c.sequence for c in seen})
    assert spool.catalogue.changes(since + 1).reset


# --- attributes


def _known_files() -> list[Path]:
    """What comes with pydicom and can be kept as it is."""
    wanted = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID")
    found = []
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(wanted))
        except Exception:  # noqa: BLE001 - several of them are broken on purpose
            continue
        if "TransferSyntaxUID" in ds.file_meta and all(ds.get(k) for k in wanted):
            found.append(path)
    return found


@pytest.mark.filterwarnings("ignore")
def test_attributes_are_those_that_pydicom_finds(spool: Spool) -> None:
    files = _known_files()
    assert len(files) > 50
    for path in files:
        with pydicom.config.disable_value_validation():
            ds = pydicom.dcmread(path, stop_before_pixels=True)
        with IncomingFile(spool.folder / "incoming" / "x.part") as incoming:
            incoming.write(memoryview(path.read_bytes()))
            a = incoming.complete(spool.folder / "x.dcm").attributes
        where = path.name
        for keyword in ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"):
            assert a.instance.get(keyword, "") == _text(ds, keyword), f"{where}: {keyword}"
        for keyword in ("SeriesInstanceUID", "Modality", "SeriesNumber", "BodyPartExamined"):
            assert a.series.get(keyword, "") == _text(ds, keyword), f"{where}: {keyword}"
        for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "AccessionNumber"):
            assert a.study.get(keyword, "") == _text(ds, keyword), f"{where}: {keyword}"


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    if value is None:
        return ""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(getattr(v, "original_string", v)) for v in value)
    return str(value if isinstance(value, PersonName) else getattr(value, "original_string", value)).strip("\0 ")


@pytest.mark.parametrize("charset", NAMES)
def test_names_are_decoded_by_their_character_set(spool: Spool, charset: str) -> None:
    record = put(spool, make_study(instances=1, character_set=charset)[0]).record
    study = spool.catalogue.study(record.study_uid)
    assert study is not None
    assert study.info().patient_name == NAMES[charset]


@pytest.mark.parametrize(
    "syntax",
    [
        uids.ImplicitVRLittleEndian,
        uids.ExplicitVRLittleEndian,
        uids.ExplicitVRBigEndian,
        uids.DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("undefined_length", [True, False])
@pytest.mark.parametrize("long_head", [True, False])
def test_sequences_before_the_identifiers_are_stepped_over(
    spool: Spool, syntax: str, undefined_length: bool, long_head: bool
) -> None:
    """Nested ones of either kind of length, and one that is longer than what is kept of the head."""
    inner, item, ds = Dataset(), Dataset(), Dataset()
    inner.CodeValue = "121401"
    inner.CodeMeaning = "x" * 60
    item.PurposeOfReferenceCodeSequence = Sequence([inner, inner])
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.PurposeOfReferenceCodeSequence.is_undefined_length = undefined_length
    ds.ReferencedStudySequence = Sequence([item] * (2000 if long_head else 3))
    ds["ReferencedStudySequence"].is_undefined_length = undefined_length
    ds.SOPClassUID, ds.SOPInstanceUID = uids.CTImageStorage, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "1.2", "1.3", "P-1"
    ds.Rows = 512
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True, implicit_vr=syntax == uids.ImplicitVRLittleEndian,
               little_endian=syntax != uids.ExplicitVRBigEndian)  # fmt: skip
    if long_head and syntax != uids.DeflatedExplicitVRLittleEndian:
        assert len(out.getvalue()) > 3 * HEAD
    record = put(spool, out.getvalue()).record
    assert (record.sop_uid, record.study_uid, record.series_uid) == ("1.2.3.4", "1.2", "1.3")
    assert (record.attributes["Rows"], record.patient_id) == ("512", "P-1")


_SAMPLE = make_study(instances=1)[0]
_START = parse_meta(_SAMPLE).length


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    where=st.integers(0, 900), junk=st.binary(max_size=24), cut=st.integers(0, 1500), syntax=st.sampled_from(
        [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian,
         uids.DeflatedExplicitVRLittleEndian]
    ), whole=st.booleans(),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_no_garbage_gets_further_than_an_error(where: int, junk: bytes, cut: int, syntax: str, whole: bool) -> None:
    data = bytearray(_SAMPLE[_START : _START + cut] if cut else _SAMPLE[_START:])
    data[where : where + len(junk)] = junk
    with contextlib.suppress(UnusableInstanceError):
        read_attributes(
            bytes(data), syntax, whole=whole, file=io.BytesIO(_SAMPLE[:_START] + bytes(data)), offset=_START
        )


# --- the catalogue's questions


def test_studies_are_found_by_what_the_catalogue_knows(spool: Spool) -> None:
    studies: list[Study] = [
        make_study(instances=1, patient_id=f"P{n}", accession=f"A{n}", study_date=date)
        for n, date in enumerate(("20200101", "20200102", "20210101", ""))
    ]
    for study in studies:
        put(spool, study[0])

    def uids_of(**asked: Any) -> list[int]:
        found = [s.study_uid for s in spool.catalogue.studies(**asked)]
        return [n for n, study in enumerate(studies) if study.study_uid in found]

    assert uids_of() == [0, 1, 2, 3]
    assert uids_of(patient_id="P1") == [1]
    assert uids_of(accession="A2") == [2]
    assert uids_of(date_from="20200102") == [1, 2]
    assert uids_of(date_to="20200102") == [0, 1]
    assert uids_of(study_uids=[studies[3].study_uid, "1.2.3"]) == [3]


def test_many_instances_are_listed_whole_while_others_go(spool: Spool) -> None:
    study = make_study(series=2, instances=350, size_bytes=400)
    for instance in study:
        put(spool, instance)
    seen = []
    for number, page in enumerate(spool.catalogue.instances(study.study_uid)):
        seen += [r.sop_uid for r in page]
        if number == 0:
            spool.delete([(r.sop_uid, r.digest) for r in page])
    assert sorted(seen) == sorted(study.sop_uids)
    assert spool.catalogue.syntaxes_held(uids.CTImageStorage) == [uids.ExplicitVRLittleEndian]
    shutil.rmtree(spool.folder / "files")
