"""Servers that fill up, refuse, re-encode, restart, limit their answers, or lose and gain images in mid-run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.crossing import Crossing, says
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.studies import Study, make_study, merged_digests, small_study
from tests.support.waiting import wait_for

ONE_WAY = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
BOTH_WAYS = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
JPEG_LS = "1.2.840.10008.1.2.4.80"
Start = Callable[..., OrthancServer]


# --- at the destination


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@ONE_WAY
def test_disk_full(crossing: Crossing, version: str, start_orthanc: Start) -> None:
    """Some fit, the others fail with the reason and stay at the source."""
    small = start_orthanc(version, disk_bytes=1_200_000)
    crossing.add("small", small.url)
    study = make_study(instances=30, size_bytes=100_000, accession="LARGE")
    crossing.source.upload(study)
    run = crossing.run(to="small").expect(1)
    says(run, "“small” has no room left, or can't write to its storage.", "Free space on the server")
    counts = run.finished
    assert counts["planned"] == 40
    assert counts["failed"] > 0
    assert counts["verified"] + counts["failed"] == 40
    held, left = small.digests(), crossing.source.digests()
    original = {**study.digests(), **crossing.study.digests()}
    assert len(left) == counts["failed"]
    assert {**held, **left} == original


@ONE_WAY
def test_a_filter_of_the_server(crossing: Crossing, start_orthanc: Start) -> None:
    """What a Lua script of the server leaves out has failed, with that reason, and stays at the source."""
    refused = crossing.study.sop_uids[3]
    lua = f'function ReceivedInstanceFilter(dicom) return dicom.SOPInstanceUID ~= "{refused}" end'
    strict = start_orthanc("1.12", lua=[lua], count_received=False)
    crossing.add("strict", strict.url)
    run = crossing.run(to="strict").expect(1)
    says(run, "“strict” refused this image by a filter of its own (“FilteredOut”).", "Ask the administrator")
    assert (run.finished["verified"], run.finished["failed"]) == (9, 1)
    assert list(crossing.source.digests()) == [refused]
    assert len(strict.digests()) == 9


@ONE_WAY
def test_a_destination_that_re_encodes(crossing: Crossing, start_orthanc: Start) -> None:
    """Its copies have other digests: proved by UID, which the evidence says; a second pass takes them for the same."""
    coder = start_orthanc("1.12", config={"IngestTranscoding": JPEG_LS})
    crossing.add("coder", coder.url)
    run = crossing.run(to="coder", after="keep").expect(0)
    assert run.finished["verified"] == 10
    with crossing.app() as app:
        rows = app.ledger.deliveries(job_id=1)
        assert {row.evidence.method.value for row in rows if row.evidence} == {"uid"}
        assert all(row.evidence and "re-encodes" in row.evidence.note for row in rows)
    again = crossing.run(to="coder", after="keep").expect(0)
    assert (again.finished["skipped"], again.finished["conflict"]) == (10, 0)
    assert set(coder.received().values()) == {1}
    moved = crossing.run(to="coder").expect(0)
    assert moved.finished["skipped"] == 10
    assert crossing.source.count() == 0


def _other(study: Study) -> Study:
    """The same study with the same UIDs and another content."""
    plan = study.plan
    made = small_study(plan.instances, InstitutionName="Elsewhere")
    assert made.sop_uids == study.sop_uids
    return made


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@pytest.mark.parametrize("overwrites", [False, True])
@ONE_WAY
def test_other_content_under_the_same_uid(
    crossing: Crossing, version: str, overwrites: bool, start_orthanc: Start
) -> None:
    """It is shown and left alone, whatever the server would do; with --overwrite it is replaced."""
    holder = start_orthanc(version, config={"OverwriteInstances": overwrites})
    other = _other(crossing.study)
    holder.upload(other[:4])
    before = holder.digests()
    crossing.add("holder", holder.url)
    run = crossing.run(to="holder").expect(1)
    assert (run.finished["conflict"], run.finished["verified"]) == (4, 6)
    assert {uid: digest for uid, digest in holder.digests().items() if uid in before} == before
    assert sorted(crossing.source.digests()) == sorted(before)
    replaced = crossing.run("--overwrite", to="holder").expect(0)
    assert replaced.finished["verified"] == 4
    assert holder.digests() == crossing.study.digests()
    assert crossing.source.count() == 0


@pytest.mark.parametrize("version", ["1.10", "1.12"])
@ONE_WAY
def test_other_content_at_a_server_without_digests(crossing: Crossing, version: str, start_orthanc: Start) -> None:
    """The same UID proves nothing about what lay there before: what is there is compared, and the source kept."""
    holder = start_orthanc(version, config={"StoreMD5ForAttachments": False})
    other = _other(crossing.study)
    holder.upload(other[:4] + crossing.study[4:6])
    crossing.add("holder", holder.url)
    run = crossing.run(to="holder").expect(1)
    assert (run.finished["conflict"], run.finished["skipped"], run.finished["verified"]) == (4, 2, 4)
    assert sorted(crossing.source.digests()) == sorted(crossing.study.sop_uids[:4])
    for uid, held in zip(other.sop_uids, [*other[:4], *crossing.study[4:]], strict=True):
        assert holder.file(uid) == held


@pytest.mark.parametrize("config", [{"StoreMD5ForAttachments": False}, {"StorageCompression": True}])
@BOTH_WAYS
def test_ways_of_storing_at_the_destination(crossing: Crossing, config: dict[str, bool], start_orthanc: Start) -> None:
    """A server that keeps no digests, or compresses its files: what was sent is what it gives out."""
    odd = start_orthanc(crossing.destination.version, config=config)
    crossing.add("odd", odd.url)
    assert crossing.run(to="odd").expect(0).finished["verified"] == 10
    assert crossing.source.count() == 0
    _holds(odd, crossing.study)


@BOTH_WAYS
def test_a_source_that_compresses_its_files(crossing: Crossing, start_orthanc: Start) -> None:
    odd = start_orthanc(crossing.source.version, config={"StorageCompression": True})
    odd.upload(crossing.study)
    crossing.add("odd", odd.url)
    assert crossing.run(source="odd").expect(0).finished["verified"] == 10
    assert odd.count() == 0
    _holds(crossing.destination, crossing.study)


@BOTH_WAYS
def test_a_source_that_keeps_no_digests(crossing: Crossing, start_orthanc: Start) -> None:
    """All is proved by what was read; whether it is still the same there can't be told, so nothing is deleted."""
    odd = start_orthanc(crossing.source.version, config={"StoreMD5ForAttachments": False})
    odd.upload(crossing.study)
    crossing.add("odd", odd.url)
    run = crossing.run(source="odd").expect(1)
    says(run, "10 images were confirmed but could not be deleted", "does not tell whether it is still the same")
    assert run.finished["verified"] == 10
    assert odd.count() == 10
    _holds(crossing.destination, crossing.study)


def _holds(server: OrthancServer, study: Study) -> None:
    for uid, sent in zip(study.sop_uids, study, strict=True):
        assert server.file(uid) == sent
    assert set(server.received().values()) == {1}


@pytest.mark.parametrize("side", ["source", "destination"])
@BOTH_WAYS
def test_limits_for_answers(crossing: Crossing, side: str, start_orthanc: Start) -> None:
    """``LimitFindResults`` cuts answers off without a word: all is listed, sent and confirmed nevertheless."""
    studies = [small_study(30, patient_id=f"LIMIT-{n}", series=2) for n in range(12)]
    limited = start_orthanc(getattr(crossing, side).version, config={"LimitFindResults": 5, "LimitFindInstances": 5})
    crossing.add("limited", limited.url)
    (limited if side == "source" else crossing.source).upload([one for study in studies for one in study])
    nodes = ("limited", "to") if side == "source" else ("from", "limited")
    words = ("--source", nodes[0], "--destination", nodes[1])
    run = crossing.command("run", "forward", "--after", "move", "--json", *words).expect(0)
    original = merged_digests(studies)
    if side == "destination":
        original |= crossing.study.digests()
    held = limited if side == "destination" else crossing.destination
    for uid in original:
        assert held.post("/tools/lookup", uid.encode()), f"{uid} did not arrive"
    assert held.count() == len(original) == run.finished["verified"]
    assert (limited if side == "source" else crossing.source).count() == 0


# --- at the source, and in mid-run


@BOTH_WAYS
def test_deleted_at_the_source_in_mid_run(crossing: Crossing) -> None:
    """What somebody deletes before its turn has failed, with that reason; the others go on."""
    gone = crossing.study.sop_uids[7]
    reading = crossing.before_source.delay(60, "/(file|attachments/dicom/data)$")
    running = crossing.start("--workers", "1")
    reading.wait_hit()
    identifier = crossing.source.post("/tools/lookup", gone.encode())[0]["ID"]
    crossing.source.delete(f"/instances/{identifier}")
    reading.off()
    run = running.result(60).expect(1)
    says(run, "“from” no longer holds this: it was deleted there meanwhile.")
    assert (run.finished["verified"], run.finished["failed"]) == (9, 1)
    expected = crossing.study.digests()
    del expected[gone]
    assert crossing.destination.digests() == expected


@BOTH_WAYS
def test_what_arrives_meanwhile_stays(crossing: Crossing) -> None:
    """A move deletes what it has seen and proved, not what was added to the study since."""
    late = make_study(instances=11, size_bytes=1_400)[-1:]
    marking = crossing.before_destination.delay(60, "^PUT /studies/.*/metadata/")
    running = crossing.start()
    marking.wait_hit()
    crossing.source.upload(late)
    marking.off()
    running.result(60).expect(0)
    assert crossing.destination.digests() == crossing.study.digests()
    assert crossing.source.count() == 1
    crossing.run().expect(0)
    assert crossing.source.count() == 0
    assert crossing.destination.count() == 11


@BOTH_WAYS
def test_changed_at_the_source_after_it_was_proved(crossing: Crossing) -> None:
    """The source receives other content under the same UID before it is deleted there: that stays."""
    changed = _other(crossing.study)[5]
    uid = crossing.study.sop_uids[5]
    marking = crossing.before_destination.delay(60, "^PUT /studies/.*/metadata/")
    running = crossing.start()
    marking.wait_hit()
    identifier = crossing.source.post("/tools/lookup", uid.encode())[0]["ID"]
    crossing.source.delete(f"/instances/{identifier}")
    crossing.source.upload(changed)
    marking.off()
    run = running.result(60).expect(1)
    says(run, "1 image was confirmed but could not be deleted at the source.")
    assert list(crossing.source.digests()) == [uid]
    assert crossing.source.file(uid) == changed
    assert crossing.destination.digests() == crossing.study.digests()


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("how", ["restart", "kill"])
@BOTH_WAYS
def test_restarted_in_mid_run(crossing: Crossing, side: str, how: str) -> None:
    """The job waits for the server and goes on by itself; what was proved is not sent again."""
    server: OrthancServer = getattr(crossing, side)
    slow = (crossing.before_source if side == "source" else crossing.before_destination).delay(
        0.05, "/(file|attachments/dicom/data)$" if side == "source" else "^POST /instances$"
    )
    running = crossing.start("--workers", "2", "--max-attempts", "60")
    slow.wait_hit(4)
    if how == "restart":
        server.restart()
    else:
        server.kill()
        wait_for(lambda: crossing.before_source.count("/system") + crossing.before_destination.count("/system") > 4,
                 what="probes of the server that is down")  # fmt: skip
        server.start()
    run = running.result(60).expect(0)
    assert run.finished["verified"] == 10
    crossing.moved()


@pytest.mark.parametrize("takes_over", [False, True])
@ONE_WAY
def test_a_move_with_a_fallback(crossing: Crossing, takes_over: bool, start_orthanc: Start) -> None:
    """Deleted is what was proved where it was sent, whether or not the fallback had to stand in."""
    spare = start_orthanc("1.12")
    crossing.add("spare", spare.url)
    if takes_over:
        crossing.destination.kill()
    run = crossing.run("--fallback", "spare", "--fallback-after", "0.2", "--max-attempts", "60").expect(0)
    assert run.finished["verified"] == 10
    assert crossing.source.count() == 0
    holder = spare if takes_over else crossing.destination
    assert holder.digests() == crossing.study.digests()
    if takes_over:
        crossing.destination.start()


@ONE_WAY
def test_gone_and_never_back(crossing: Crossing) -> None:
    slow = crossing.before_destination.delay(0.05, "^POST /instances$")
    running = crossing.start("--workers", "1")
    slow.wait_hit(3)
    crossing.destination.kill()
    run = running.result(60).expect(1)
    says(run, "“to” behind it is not reachable")
    assert run.finished["failed"] > 0
    crossing.destination.start()
    crossing.nothing_lost()
    crossing.run().expect(0)
    crossing.moved()


@BOTH_WAYS
def test_the_destination_loses_what_it_had_confirmed(crossing: Crossing) -> None:
    """Proof from before a stop is asked for again before anything is deleted: a wiped destination costs nothing."""
    marking = crossing.before_destination.hang("^PUT /studies/.*/metadata/")
    ferry = Ferry(crossing.home.parent)
    running = ferry.start(*crossing.words())
    marking.wait_hit()
    running.kill()
    marking.off()
    assert crossing.eye.look().states["verified"] == 10
    crossing.destination.wipe()
    run = crossing.run().expect(1)
    says(run, "10 images were confirmed but could not be deleted", "no longer holds what it had confirmed")
    crossing.nothing_deleted()
    crossing.run().expect(0)
    crossing.moved()


# --- following


@BOTH_WAYS
def test_a_change_log_that_is_cleared(crossing: Crossing) -> None:
    """While it is followed, the source's administrator clears the log: an inventory finds what it no longer tells."""
    running = crossing.start("--follow", "--poll-interval", "0.2", kind="clone")
    wait_for(lambda: crossing.destination.count() == 10, what="the first study")
    asked = crossing.before_source.count("/changes")
    wait_for(lambda: crossing.before_source.count("/changes") > asked, what="a look at the change log")
    crossing.source.upload(small_study(5, patient_id="SEEN"))
    wait_for(lambda: crossing.destination.count() == 15, what="what the change log tells")
    hidden = crossing.before_source.hang("^GET /changes")
    hidden.wait_hit()
    crossing.source.upload(small_study(5, patient_id="HIDDEN"))
    crossing.source.delete("/changes")
    hidden.off()
    wait_for(lambda: crossing.destination.count() == 20, what="what only an inventory finds")
    with crossing.app() as app:
        app.jobs.cancel(1)
    running.result(60)
    assert set(crossing.destination.received().values()) == {1}
