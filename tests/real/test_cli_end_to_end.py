"""The command line as a person or a script uses it, between real Orthanc servers."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OrthancPair
from tests.real.test_orthanc_node_diagnosis import make_certificate, tls_front
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port
from tests.support.studies import Study, ct_study, make_studies, merged_digests, small_study
from tests.support.waiting import wait_for


def add(ferry: Ferry, name: str, server: OrthancServer, **env: str) -> None:
    user = next(iter(server.users), "")
    login = ("--username", user) if user else ()
    ferry.run("node", "add", "orthanc", name, "--url", server.url, *login).expect()


@pytest.fixture
def orthanc_pair(request: pytest.FixtureRequest, _orthanc_pool: Any) -> OrthancPair:
    """From the older Orthanc to the newer one, unless a test asks for others: each run of the program takes time."""
    source, destination = getattr(request, "param", "1.10>1.12").split(">")
    return OrthancPair(_orthanc_pool.empty(source, "SOURCE"), _orthanc_pool.empty(destination, "DESTINATION"))


@pytest.fixture
def studies() -> list[Study]:
    return make_studies(3, series=2, instances=5)


@pytest.fixture
def filled(ferry: Ferry, orthanc_pair: OrthancPair, studies: list[Study]) -> OrthancPair:
    """Two registered servers, "mri" with three studies and "archive" with none."""
    orthanc_pair.source.upload([i for s in studies for i in s])
    add(ferry, "mri", orthanc_pair.source)
    add(ferry, "archive", orthanc_pair.destination)
    return orthanc_pair


def check_sums(finished: dict[str, int]) -> None:
    """Every planned delivery has exactly one outcome."""
    outcomes = ("sent", "verified", "committed", "skipped", "conflict", "failed", "cancelled")
    assert finished["planned"] == sum(finished[k] for k in outcomes)


@pytest.mark.parametrize("orthanc_pair", ["1.10>1.10", "1.12>1.12", "1.12>1.10"], indirect=True)
def test_clone_twice(ferry: Ferry, filled: OrthancPair, studies: list[Study]) -> None:
    total = sum(len(s) for s in studies)
    first = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--json").expect()
    assert first.finished["planned"] == first.finished["verified"] == total
    assert first.finished["bytes"] == sum(len(i) for s in studies for i in s)
    assert first.events[-1] is not None
    assert first.events[-1]["event"] == "finished"
    assert filled.destination.digests() == merged_digests(studies) == filled.source.digests()

    received = filled.destination.received_count()
    second = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--json").expect()
    assert second.finished["planned"] == second.finished["skipped"] == total
    assert second.finished["job"] == first.finished["job"]
    assert filled.destination.received_count() == received
    check_sums(first.finished)
    check_sums(second.finished)


def test_plain_words(ferry: Ferry, filled: OrthancPair, studies: list[Study]) -> None:
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "archive").expect()
    assert run.stdout.startswith("Clone mri to archive: 30 images in 3 studies: 30 confirmed.")
    assert run.stderr.count(": Confirmed") == 3
    assert studies[0].plan.patient.split("^")[0] not in run.stdout + run.stderr
    listed = ferry.run("job", "list").expect()
    assert "Clone mri to archive" in listed.stdout
    assert "finished" in listed.stdout


@pytest.mark.parametrize("orthanc_pair", ["1.10>1.12", "1.12>1.10"], indirect=True)
def test_move_deletes_at_the_source_what_was_verified(ferry: Ferry, filled: OrthancPair, studies: list[Study]) -> None:
    run = ferry.run("run", "forward", "--source", "mri", "--destination", "archive", "--after", "move", "--json")
    assert run.expect().finished["verified"] == 30
    assert filled.destination.digests() == merged_digests(studies)
    assert filled.source.count() == 0


def test_a_move_takes_no_acknowledgement_for_proof(ferry: Ferry, filled: OrthancPair) -> None:
    run = ferry.run(
        "run", "forward", "--source", "mri", "--destination", "archive", "--after", "move", "--evidence", "sent"
    ).expect(2)
    assert "A move needs proof" in run.stderr
    assert filled.source.count() == 30
    assert filled.destination.count() == 0


def test_dry_run_sends_nothing(ferry: Ferry, filled: OrthancPair, studies: list[Study]) -> None:
    filled.destination.upload(list(studies[0]))
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--dry-run", "--json").expect()
    preview = run.events[-1]
    assert preview["event"] == "preview"
    assert (preview["studies"], preview["series"], preview["instances"]) == (3, 6, 30)
    assert preview["already_there"] == 10
    assert preview["bytes"] == sum(len(i) for s in studies for i in s)
    assert filled.destination.count() == 10
    words = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--dry-run").expect()
    assert "Nothing was sent" in words.stdout
    assert "10 images are there already" in words.stdout
    assert ferry.run("job", "list", "--json").expect().events == []


def test_filters_leave_out(ferry: Ferry, filled: OrthancPair) -> None:
    filled.source.upload(list(ct_study(2, modality="MR", patient_id="MRONLY")))
    run = ferry.run(
        "run", "forward", "--source", "mri", "--destination", "archive", "--filter", "Modality = MR", "--json"
    ).expect()
    assert run.finished["planned"] == run.finished["verified"] == 2
    assert filled.destination.count() == 2


def test_the_same_uid_with_other_content_is_a_conflict(ferry: Ferry, orthanc_pair: OrthancPair) -> None:
    theirs = ct_study(2, description="ours")
    other = ct_study(2, description="theirs")
    assert theirs.sop_uids == other.sop_uids
    orthanc_pair.source.upload(list(theirs))
    orthanc_pair.destination.upload(list(other))
    add(ferry, "mri", orthanc_pair.source)
    add(ferry, "archive", orthanc_pair.destination)
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--json").expect(1)
    assert run.finished["conflict"] == 2
    assert orthanc_pair.destination.digests() == other.digests()


def test_environment_and_job_file(ferry: Ferry, filled: OrthancPair, tmp_path: Path) -> None:
    by_environment = ferry.run(
        "run", "clone", "--json", env={"DICOM_FERRY_SOURCE": "mri", "DICOM_FERRY_DESTINATION": "archive"}
    ).expect()
    assert by_environment.finished["verified"] == 30
    file = tmp_path / "night.toml"
    file.write_text('kind = "forward"\nname = "Night"\nsource = ["mri"]\ndestination = ["archive"]\nmax-attempts = 2\n')
    by_file = ferry.run("run", "forward", "--job-file", file, "--json").expect()
    assert by_file.finished["skipped"] == 30
    assert by_file.finished["name"] == "Night"
    job = next(e for e in ferry.run("job", "list", "--json").expect().events if e["name"] == "Night")
    assert job["fields"]["max_attempts"] == 2
    wrong = ferry.run("run", "clone", "--job-file", file).expect(2)
    assert "is for the kind “forward”" in wrong.stderr


@pytest.fixture
def locked(start_orthanc: Callable[..., OrthancServer]) -> OrthancServer:
    """A server that asks for a login."""
    return start_orthanc(users={"tech": "right one"}, count_received=False)


def test_wrong_and_right_password(ferry: Ferry, filled: OrthancPair, locked: OrthancServer) -> None:
    add(ferry, "vault", locked)
    run = ("run", "clone", "--source", "mri", "--destination", "vault", "--json")
    wrong = ferry.run(*run, env={"DICOM_FERRY_SECRET_VAULT": "wrong one"}).expect(2)
    assert "wrong one" not in wrong.stdout + wrong.stderr
    assert "vault" in wrong.stderr
    assert wrong.events[-1]["event"] == "error"
    assert wrong.events[-1]["next_step"]
    assert "Traceback" not in wrong.stderr
    ferry.run(*run).expect(2)  # none at all
    right = ferry.run(*run, env={"DICOM_FERRY_SECRET_VAULT": "right one"}).expect()
    assert right.finished["verified"] == 30
    log = (ferry.home / "logs" / "command-line.log").read_text(encoding="utf-8")
    assert "wrong one" not in log
    assert "right one" not in log


def test_node_test_says_what_is_wrong(ferry: Ferry, filled: OrthancPair, locked: OrthancServer) -> None:
    good = ferry.run("node", "test", "mri").expect()
    assert "✓" in good.stdout
    assert "It works." in good.stdout
    add(ferry, "vault", locked)
    bad = ferry.run("node", "test", "vault").expect(1)
    assert "✗" in bad.stdout
    assert "→" in bad.stdout
    events = ferry.run("node", "test", "vault", "--json").expect(1).events
    assert any(e["event"] == "step" and e["result"] == "failed" and e["next_step"] for e in events)
    assert events[-1] == {"event": "tested", "node": "vault", "works": False}
    listed = ferry.run("node", "list").expect().stdout
    assert "works" in listed
    assert "has a problem" in listed


def test_nobody_at_that_port(ferry: Ferry, filled: OrthancPair) -> None:
    ferry.run("node", "add", "orthanc", "gone", "--url", f"http://127.0.0.1:{free_port()}").expect()
    bad = ferry.run("node", "test", "gone").expect(1)
    assert "Traceback" not in bad.stderr
    ferry.run("find", "gone").expect(1)


def test_an_unknown_certificate_is_refused_and_can_be_pinned(ferry: Ferry, filled: OrthancPair, tmp_path: Path) -> None:
    with tls_front(filled.destination, make_certificate(tmp_path, "localhost")) as url:
        ferry.run("node", "add", "orthanc", "safe", "--url", url).expect()
        run = ("run", "clone", "--source", "mri", "--destination", "safe", "--json")
        refused = ferry.run(*run).expect(2)
        assert "certificate" in refused.stderr
        assert filled.destination.count() == 0
        steps = ferry.run("node", "test", "safe", "--json").expect(1).events
        shown = re.search(r"(?:[0-9A-Fa-f]{2}:?){32}", json.dumps(steps))
        assert shown, steps
        ferry.run("node", "edit", "safe", "--pinned-certificate", shown.group()).expect()
        ferry.run("node", "test", "safe").expect()
        assert ferry.run(*run).expect().finished["verified"] == 30


def test_two_destinations_and_a_dead_one(ferry: Ferry, filled: OrthancPair, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    ferry.run("node", "add", "folder", "disk", "--path", tmp_path / "folder").expect()
    ferry.run("node", "add", "orthanc", "gone", "--url", f"http://127.0.0.1:{free_port()}").expect()
    run = ferry.run(
        "run", "forward", "--source", "mri", "--destination", "archive", "--destination", "disk", "--destination",
        "gone", "--max-attempts", "2", "--retry-delays", "0.2", "--json",
    ).expect(1)  # fmt: skip
    assert run.finished["verified"] == 60
    assert run.finished["failed"] == 30
    check_sums(run.finished)
    failure = next(e for e in run.events if e["event"] == "failure")
    assert (failure["node"], failure["count"]) == ("gone", 30)
    assert failure["next_step"]
    assert filled.destination.count() == 30
    assert sum(f.is_file() for f in (tmp_path / "folder").rglob("*.dcm")) == 30


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("nonsense", "http://"),
        ("http://", "host"),
        ("http://host:99999", "port"),
        ("http://host:zero", "port"),
        ("ftp://host", "http"),
        ("http://me:pw@host", "login"),
        ("http://ho st", "space"),
    ],
)
def test_nonsense_for_an_address(ferry: Ferry, url: str, word: str) -> None:
    run = ferry.run("node", "add", "orthanc", "x", "--url", url).expect(2)
    assert word in run.stderr
    assert "Traceback" not in run.stderr
    assert ferry.run("node", "list", "--json").expect().events == []


def test_not_an_orthanc(ferry: Ferry, orthanc_112: OrthancServer, orthanc_110: OrthancServer) -> None:
    add(ferry, "mri", orthanc_112)
    ferry.run("node", "add", "orthanc", "wrong", "--url", f"{orthanc_110.url}/instances").expect()
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "wrong").expect(2)
    assert "Traceback" not in run.stderr


def test_unknown_names(ferry: Ferry, filled: OrthancPair) -> None:
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "nowhere").expect(2)
    assert "There is no node “nowhere”." in run.stderr
    assert "archive, mri" in run.stderr
    assert "There is no job “9”" in ferry.run("job", "start", "9").expect(2).stderr
    assert "There is no node" in ferry.run("find", "nowhere").expect(2).stderr
    ferry.run("run", "teleport").expect(2)


def test_an_interrupted_job_is_continued_by_the_same_command(ferry: Ferry, orthanc_pair: OrthancPair) -> None:
    study = small_study(250)
    orthanc_pair.source.upload(list(study))
    add(ferry, "mri", orthanc_pair.source)
    add(ferry, "archive", orthanc_pair.destination)
    command = ("run", "clone", "--source", "mri", "--destination", "archive", "--bandwidth", "0.05", "--json")
    running = ferry.start(*command)
    running.wait_event(lambda e: e["event"] in ("job", "study") and e.get("verified", 0) + e.get("sent", 0) > 0)
    running.interrupt()
    stopped = running.result().expect(130)
    assert 0 < stopped.finished["verified"] < 250
    assert stopped.finished["planned"] == 250 or stopped.finished["state"] == "stopped"
    assert "The same command continues" in stopped.stderr

    job = ferry.run("job", "list", "--json").expect().events[0]
    assert job["state"] == "stopped"
    ferry.run("job", "pause", str(job["job"])).expect()
    resumed = ferry.run(*command, timeout=120).expect()
    assert resumed.finished["job"] == job["job"]
    assert resumed.finished["planned"] == resumed.finished["verified"] == 250
    assert orthanc_pair.destination.digests() == study.digests()
    assert max(orthanc_pair.destination.received().values()) == 1


def test_report(ferry: Ferry, filled: OrthancPair, studies: list[Study], tmp_path: Path) -> None:
    ferry.run("run", "clone", "--source", "mri", "--destination", "archive").expect()
    digests = merged_digests(studies)
    file = tmp_path / "proof.csv"
    ferry.run("report", "1", "--output", file).expect()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    assert {r["sop_instance_uid"]: r["digest_both"] for r in rows} == digests
    assert {r["state"] for r in rows} == {"verified"}
    assert {r["evidence"] for r in rows} == {"digest"}
    assert all(r["sent_at"] and r["evidence_at"] and r["answer"] and r["path"] for r in rows)
    assert {r["patient_id"] for r in rows} == {s.plan.patient_id for s in studies}

    report = json.loads(ferry.run("report", "Clone mri to archive", "--format", "json").expect().stdout)
    assert report["counts"]["verified"] == report["counts"]["planned"] == 30
    images = [i for s in report["studies"] for i in s["images"]]
    assert {i["sop_instance_uid"]: i["digest_both"] for i in images} == digests

    page = ferry.run("report", "1", "--format", "html").expect().stdout
    assert page.startswith("<!DOCTYPE html>")
    assert "http" not in page.replace("http://127.0.0.1", "")  # needs nothing but itself
    assert all(uid in page for uid in digests)
    assert page.count("same digest on both sides") == 30
    assert "Wang" in page
    assert "王" in page


def test_find(ferry: Ferry, filled: OrthancPair, studies: list[Study]) -> None:
    found = ferry.run("find", "mri", "--json").expect().events
    assert {e["study_uid"] for e in found if e["event"] == "study"} == {s.study_uid for s in studies}
    assert found[-1] == {"event": "finished", "studies": 3, "listed": 3, "complete": True, "reason": ""}
    one = ferry.run("find", "mri", "--patient-id", studies[1].plan.patient_id, "--json").expect().events
    assert [e["study_uid"] for e in one if e["event"] == "study"] == [studies[1].study_uid]
    series = ferry.run("find", "mri", "--level", "series", "--json").expect().events
    assert sorted(e["series_uid"] for e in series if e["event"] == "series") == sorted(
        uid for s in studies for uid in s.series_uids
    )
    images = ferry.run("find", "mri", "--level", "instance", "--study-uid", studies[0].study_uid, "--json").expect()
    assert sorted(e["sop_uid"] for e in images.events if e["event"] == "instance") == sorted(studies[0].sop_uids)
    nothing = ferry.run("find", "mri", "--date", "19990101").expect()
    assert "0 studies" in nothing.stdout
    assert "is not a date" in ferry.run("find", "mri", "--date", "yesterday").expect(2).stderr
    words = ferry.run("find", "mri").expect().stdout
    assert "王^小東" in words
    assert "3 studies." in words


def test_jobs_are_saved_started_and_removed(ferry: Ferry, filled: OrthancPair) -> None:
    ferry.run("job", "save", "clone", "--source", "mri", "--destination", "archive", "--name", "Copy").expect()
    assert filled.destination.count() == 0
    started = ferry.run("job", "start", "Copy", "--json").expect()
    assert started.finished["verified"] == 30
    assert "used by" not in ferry.run("node", "remove", "archive").expect().stderr
    ferry.run("job", "remove", "Copy").expect()
    assert "No jobs yet" in ferry.run("job", "list").expect().stdout


def test_a_cancelled_job_is_told_and_can_be_retried(ferry: Ferry, orthanc_pair: OrthancPair) -> None:
    study = small_study(200)
    orthanc_pair.source.upload(list(study))
    add(ferry, "mri", orthanc_pair.source)
    add(ferry, "archive", orthanc_pair.destination)
    command = ("run", "clone", "--source", "mri", "--destination", "archive", "--bandwidth", "0.04", "--json")
    running = ferry.start(*command)
    running.wait_event(lambda e: e["event"] in ("job", "study") and e.get("sent", 0) > 0)
    in_use = ferry.run("node", "remove", "mri").expect(2)
    assert "Clone mri to archive" in in_use.stderr
    cancelled = ferry.run("job", "cancel", "1").expect()
    assert "Cancelled: “Clone mri to archive”." in cancelled.stdout
    ended = running.result().expect(1)
    assert ended.finished["cancelled"] > 0
    check_sums(ended.finished)
    retried = ferry.run("job", "retry", "1", "--json", timeout=120).expect()
    # What had been sent when it was cancelled is found there already.
    assert retried.finished["verified"] + retried.finished["skipped"] == 200 == retried.finished["planned"]
    assert orthanc_pair.destination.digests() == study.digests()


def test_a_second_run_attaches_to_the_engine_that_runs(ferry: Ferry, filled: OrthancPair) -> None:
    engine = ferry.start("engine", "--json")
    engine.wait_event("engine")
    run = ferry.run("run", "clone", "--source", "mri", "--destination", "archive", "--json").expect()
    assert "running already" in run.stderr
    assert run.finished["verified"] == 30
    engine.interrupt()
    assert engine.result().expect().events[-1]["running"] is False


def test_a_server_that_comes_back_gets_the_rest(
    ferry: Ferry, filled: OrthancPair, start_orthanc: Callable[..., OrthancServer]
) -> None:
    late = start_orthanc("1.10", count_received=False)
    add(ferry, "late", late)
    late.stop()
    running = ferry.start("run", "forward", "--source", "mri", "--destination", "late", "--json")
    running.wait_event(lambda e: e["event"] == "node" and e["health"] == "down")
    late.start()
    assert running.result(120).expect().finished["verified"] == 30


def test_following_until_interrupted(ferry: Ferry, orthanc_pair: OrthancPair) -> None:
    first, second = make_studies(2, instances=3)
    orthanc_pair.source.upload(list(first))
    add(ferry, "mri", orthanc_pair.source)
    add(ferry, "archive", orthanc_pair.destination)
    running = ferry.start("run", "clone", "--source", "mri", "--destination", "archive", "--follow", "--json")

    def confirmed(study: Study) -> Callable[[dict[str, Any]], bool]:
        return lambda e: e.get("study_uid") == study.study_uid and e["state"] == "confirmed" and e["verified"] == 3

    running.wait_event(confirmed(first))
    orthanc_pair.source.upload(list(second))
    running.wait_event(confirmed(second))
    running.interrupt()
    assert running.result().expect(130).finished["verified"] == 6
    assert orthanc_pair.destination.digests() == merged_digests([first, second])


def test_an_unattended_engine_obeys_other_processes(ferry: Ferry, filled: OrthancPair) -> None:
    engine = ferry.start("engine", "--json")
    engine.wait_event("engine")
    ferry.run("job", "save", "clone", "--source", "mri", "--destination", "archive", "--name", "Copy").expect()
    ferry.run("job", "start", "Copy", "--no-wait").expect()
    wait_for(lambda: filled.destination.count() == 30, what="the images")
    followed = ferry.run("job", "start", "Copy", "--json").expect()  # its next pass, or the rest of this one
    assert followed.finished["verified"] + followed.finished["skipped"] == 30
    second = ferry.run("engine").expect(1)
    assert "running already" in second.stderr
    engine.send(signal.SIGTERM)
    assert engine.wait() == 0
