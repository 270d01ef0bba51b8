"""Jobs with processing steps between real servers: what arrives is the result, proved, and never the original."""

from __future__ import annotations

import hashlib
import io
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from core.model.errors import ConfigurationError
from core.model.outcome import DeliveryState, Method, SourceState
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.studies import make_studies, make_study

Start = Callable[..., OrthancServer]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture(params=["1.10", "1.12"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(version: str, start_orthanc: Start, running: RunningApp) -> tuple[OrthancServer, OrthancServer]:
    source, destination = start_orthanc(version, name="A", config={"StableAge": 1}), start_orthanc(version, name="B")
    running.orthanc("A", source)
    running.orthanc("B", destination)
    return source, destination


def program(folder: Path, text: str) -> Path:
    """A program to be run as a step."""
    path = folder / "step.py"
    path.write_text(f"#!{sys.executable}\nimport sys, shutil, pydicom\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def read(server: OrthancServer, sop_uid: str) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(server.file(sop_uid)))


def scratch_is_empty(running: RunningApp) -> bool:
    return not any(running.app.home.scratch_folder.iterdir())


TAGS = 'tags actions="set InstitutionName=Radiology West; prefix PatientID=W-; remove StudyDescription"'


def test_what_arrives_is_changed_and_proved(pair: tuple[OrthancServer, OrthancServer], running: RunningApp) -> None:
    source, destination = pair
    study = make_study(instances=12, patient="Original^Name")
    source.upload(study)
    before = source.digests()
    job = running.run("forward", ["A"], ["B"], step=[TAGS])
    assert not job.problem
    assert job.counts.verified == job.counts.total == 12
    assert running.methods(job.id) == {Method.DIGEST}
    assert destination.received_count() == 12
    there = read(destination, study.sop_uids[0])
    mine = read(source, study.sop_uids[0])
    assert there.InstitutionName == "Radiology West"
    assert there.PatientID == f"W-{mine.PatientID}"
    assert "StudyDescription" not in there
    assert there.PixelData == mine.PixelData
    assert there.file_meta.MediaStorageSOPInstanceUID == there.SOPInstanceUID
    former = there.OriginalAttributesSequence[0]
    assert former.ModifiedAttributesSequence[0].PatientID == mine.PatientID
    assert "StudyDescription" not in former.ModifiedAttributesSequence[0], "what is removed is noted nowhere"
    assert source.digests() == before
    row = next(r for r in running.rows(job.id) if r.sop_uid == study.sop_uids[0])
    assert row.change
    assert row.change.source_digest == before[study.sop_uids[0]]
    assert row.change.digest == destination.digests()[study.sop_uids[0]] == (row.evidence and row.evidence.digest)
    assert any("PatientID prefixed" in words for words in row.change.done)
    assert scratch_is_empty(running)
    transfer = running.app.ledger.transfer(row.transfer_id)
    assert transfer
    assert transfer.path == "relay"
    assert "processing steps" in transfer.path_reason

    looked = running.app.jobs.preview("forward", {"source": ["A"], "destination": ["B"], "step": [TAGS]})
    assert (looked.instances, looked.different) == (12, 0)
    assert "counted by UID" in looked.remarks[0]
    again = running.run("forward", ["A"], ["B"], step=[TAGS])  # another time of change, and the same otherwise
    assert again.pass_number == 2
    assert (again.counts.skipped, again.counts.total) == (12, 12)
    assert running.methods(again.id) == {Method.HEADER}
    assert destination.received_count() == 12, "nothing was sent again"


def test_an_image_that_steps_leave_alone_travels_byte_for_byte(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp
) -> None:
    source, destination = pair
    ct, mr = make_study(instances=3), make_study(modality="MR", accession="M", instances=3)
    source.upload(ct)
    source.upload(mr)
    step = 'tags where="Modality = MR" actions="set InstitutionName=Elsewhere"'
    job = running.run("forward", ["A"], ["B"], step=[step])
    assert job.counts.verified == 6
    held, mine = destination.digests(), source.digests()
    assert all(held[uid] == mine[uid] for uid in ct.sop_uids)
    assert all(held[uid] != mine[uid] for uid in mr.sop_uids)
    assert all(not r.change.done for r in running.rows(job.id) if r.change and r.sop_uid in ct.sop_uids)


def test_a_destination_that_holds_the_original_shows_a_conflict(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp
) -> None:
    source, destination = pair
    study = make_study(instances=4)
    source.upload(study)
    destination.upload(study)
    step = 'tags actions="set InstitutionName=Elsewhere"'
    job = running.run("forward", ["A"], ["B"], step=[step], after="move")
    assert (job.counts.conflict, job.counts.total) == (4, 4), "the original is not taken for the result"
    assert set(source.digests()) == set(study.sop_uids), "nothing is deleted on that"
    running.app.jobs.overwrite_transfer(running.rows(job.id)[0].transfer_id)
    running.wait(lambda: running.record(job.id).counts.verified == 4, "the replacement")
    running.wait_finished(job.id)
    assert read(destination, study.sop_uids[0]).InstitutionName == "Elsewhere"
    assert not source.digests()


def test_a_move_deletes_what_arrived_changed_and_keeps_what_failed(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp, tmp_path: Path
) -> None:
    source, destination = pair
    known, unknown = make_study(instances=5), make_study(instances=3, accession="U", patient_id="NOBODY")
    source.upload(known)
    source.upload(unknown)
    before = source.digests()
    patient = read(source, known.sop_uids[0]).PatientID
    table = tmp_path / "ids.csv"
    table.write_text(f"old;new;issuer\n{patient};HOSPITAL-7;WEST\n")
    job = running.run("forward", ["A"], ["B"], after="move", step=[f'lookup table="{table}"'])
    assert (job.counts.verified, job.counts.failed) == (5, 3)
    assert set(destination.digests()) == set(known.sop_uids), "of what failed nothing is sent"
    assert source.digests() == {uid: before[uid] for uid in unknown.sop_uids}
    there = read(destination, known.sop_uids[0])
    assert (there.PatientID, there.IssuerOfPatientID) == ("HOSPITAL-7", "WEST")
    item = there.OriginalAttributesSequence[0]
    assert (item.ReasonForTheAttributeModification, item.ModifiedAttributesSequence[0].PatientID) == ("COERCE", patient)
    rows = running.rows(job.id)
    assert {r.source_state for r in rows if r.state is DeliveryState.VERIFIED} == {SourceState.DELETED}
    failure = next(r.failure for r in rows if r.failure)
    assert failure.code == "lookup-unknown"
    assert "NOBODY" not in f"{failure.sentence}{failure.next_step}{failure.detail}"
    transfer = running.app.ledger.transfer(next(r.transfer_id for r in rows if r.failure))
    assert transfer
    assert transfer.state.value == "attention"

    table.write_text(f"old;new;issuer\n{patient};HOSPITAL-7;WEST\nNOBODY;HOSPITAL-8;WEST\n")
    running.app.jobs.retry(job.id)
    running.wait(lambda: running.record(job.id).counts.verified == 8, "the retry with the corrected table")
    running.wait_finished(job.id)
    assert not source.digests()
    assert read(destination, unknown.sop_uids[0]).PatientID == "HOSPITAL-8"


def test_an_image_that_changed_at_the_source_between_two_destinations_is_kept(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp, start_orthanc: Start
) -> None:
    source, _destination = pair
    first = make_study(instances=2)
    source.upload(first)
    third = start_orthanc("1.12", name="C")
    running.orthanc("C", third)
    third.pause()
    step = ['tags actions="set StationName=X"']
    job_id = running.start("forward", ["A"], ["B", "C"], after="move", step=step)
    running.wait(lambda: running.record(job_id).counts.verified == 2, "what B gets")
    for ref in source.get("/instances"):
        source.delete(f"/instances/{ref}")
    source.upload(make_study(instances=2, InstitutionName="Corrected"))
    third.resume()
    job = running.wait_finished(job_id)
    assert job.counts.verified == 4
    assert set(source.digests()) == set(first.sop_uids), "B holds what was made of something else"
    assert {r.source_state for r in running.rows(job_id)} == {SourceState.REFUSED}


def test_the_original_is_never_sent_when_a_program_fails(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp, tmp_path: Path
) -> None:
    source, destination = pair
    source.upload(make_study(instances=4))
    failing = program(tmp_path, "sys.exit('cannot work on ' + str(pydicom.dcmread(sys.argv[1]).PatientName))")
    job = running.run("forward", ["A"], ["B"], step=[f'external program="{failing}"'])
    assert job.counts.failed == 4
    assert destination.received_count() == 0
    assert destination.count() == 0
    row = running.rows(job.id)[0]
    assert row.failure
    assert row.failure.sentence == "The program step.py failed with status 1."
    assert row.failure.detail.startswith("cannot work on")
    assert row.attempt == 1, "a person has to look"
    assert scratch_is_empty(running)


def test_a_program_that_makes_new_uids_is_confirmed_by_them(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp, tmp_path: Path
) -> None:
    source, destination = pair
    study = make_study(instances=6)
    source.upload(study)
    work = program(
        tmp_path,
        "d = pydicom.dcmread(sys.argv[1])\n"
        "for k in ('SOPInstanceUID', 'SeriesInstanceUID', 'StudyInstanceUID'):\n"
        "    d[k].value = pydicom.uid.generate_uid(entropy_srcs=[d[k].value])\n"
        "d.PatientID = 'NEW'\n"
        "d.save_as(sys.argv[2])",
    )
    job = running.run("forward", ["A"], ["B"], after="move", step=[f'external program="{work}" uids=changed'])
    assert job.counts.verified == 6, job.problem
    assert not source.digests()
    rows = running.rows(job.id)
    sent = {r.change.sop_uid: r.change for r in rows if r.change}
    assert sent.keys() == destination.digests().keys()
    assert not sent.keys() & set(study.sop_uids)
    assert all(destination.digests()[uid] == change.digest for uid, change in sent.items())


def test_pushing_is_refused_and_a_move_that_loses_who_it_is(
    pair: tuple[OrthancServer, OrthancServer], running: RunningApp
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        running.start("forward", ["A"], ["B"], path="push", step=[TAGS])
    assert caught.value.code == "steps-push"
    with pytest.raises(ConfigurationError) as caught:
        running.start("forward", ["A"], ["B"], copy_metadata=True, step=[TAGS])
    assert caught.value.code == "steps-extras"
    with pytest.raises(ConfigurationError, match="setx"):
        running.start("forward", ["A"], ["B"], step=['tags actions="setx A=B"'])
    with pytest.raises(ConfigurationError, match="no kind of step"):
        running.start("forward", ["A"], ["B"], step=["taggs x=y"])


@pytest.mark.parametrize("syntax", ["deflated", "big-endian", "implicit", "jpeg"])
def test_every_encoding_stays_as_it_is(syntax: str, start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    from pydicom import uid

    names = {
        "deflated": uid.DeflatedExplicitVRLittleEndian, "big-endian": uid.ExplicitVRBigEndian,
        "implicit": uid.ImplicitVRLittleEndian, "jpeg": uid.JPEGLSLossless,
    }  # fmt: skip
    study = make_study(instances=2, transfer_syntax=names[syntax])
    (tmp_path / "from").mkdir()
    study.write(tmp_path / "from")
    running.folder("disk", tmp_path / "from")
    running.folder("out", tmp_path / "out")
    job = running.run("forward", ["disk"], ["out"], step=[TAGS])
    assert job.counts.verified == 2, running.rows(job.id)
    for change in (r.change for r in running.rows(job.id)):
        assert change
        (path,) = (tmp_path / "out").rglob(f"{change.sop_uid}.dcm")
        data = path.read_bytes()
        assert hashlib.md5(data).hexdigest() == change.digest
        there = pydicom.dcmread(path)
        assert there.file_meta.TransferSyntaxUID == names[syntax]
        assert there.InstitutionName == "Radiology West"
        was = pydicom.dcmread(
            io.BytesIO(next(b for b in study if change.sop_uid.encode() in b or syntax == "deflated"))
        )
        assert len(there.PixelData) == len(was.PixelData)


def test_a_destination_that_re_encodes_what_it_stores(start_orthanc: Start, running: RunningApp) -> None:
    from pydicom import uid

    source = start_orthanc("1.12", name="A")
    destination = start_orthanc("1.12", name="B", config={"IngestTranscoding": uid.ExplicitVRLittleEndian})
    running.orthanc("A", source)
    running.orthanc("B", destination)
    study = make_study(instances=3, transfer_syntax=uid.ImplicitVRLittleEndian)
    source.upload(study)
    job = running.run("forward", ["A"], ["B"], step=[TAGS])
    assert job.counts.verified == 3, [r.evidence for r in running.rows(job.id)]
    assert running.methods(job.id) == {Method.UID}
    assert read(destination, study.sop_uids[0]).file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    again = running.run("forward", ["A"], ["B"], step=[TAGS], after="move")
    assert again.counts.skipped == 3
    assert running.methods(again.id) == {Method.HEADER}, "fetched and compared"
    assert not source.digests()


def test_studies_keep_apart(pair: tuple[OrthancServer, OrthancServer], running: RunningApp) -> None:
    source, destination = pair
    for study in make_studies(5, instances=8):
        source.upload(study)
    job = running.run("forward", ["A"], ["B"], step=['tags actions="suffix PatientID=X; set PatientName=A^B"'])
    assert job.counts.verified == 40
    assert destination.study_count() == source.study_count() == 5
