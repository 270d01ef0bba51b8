"""The real servers that the tests stand on: they start, count, restart, fill up, and both versions are there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.support.ferry import ROOT
from tests.support.orthanc import OrthancServer
from tests.support.scratch import sweep
from tests.support.studies import COMPRESSED_SYNTAXES, make_study, small_study


def test_it_is_the_version_asked_for(orthanc: OrthancServer) -> None:
    assert orthanc.get("/system")["Version"].startswith(f"{orthanc.version}.")
    assert orthanc.get("/plugins/dicom-web")["ID"] == "dicom-web"


def test_digests_are_those_of_the_files(orthanc: OrthancServer) -> None:
    study = small_study(20)
    orthanc.upload(study)
    assert orthanc.digests() == study.digests()
    assert orthanc.file(study.sop_uids[3]) == study[3]
    assert (orthanc.count(), orthanc.study_count()) == (20, 1)


@pytest.mark.parametrize("syntax", COMPRESSED_SYNTAXES)
def test_compressed_instances_are_stored(orthanc_112: OrthancServer, syntax: str) -> None:
    study = make_study(instances=2, transfer_syntax=syntax)
    orthanc_112.upload(study)
    assert orthanc_112.digests() == study.digests()


def test_an_instance_sent_again_is_counted(orthanc: OrthancServer) -> None:
    study = small_study(5)
    orthanc.upload(study)
    orthanc.upload(study[:2])
    assert orthanc.count() == 5
    assert orthanc.received_count() == 7
    assert orthanc.received()[study.sop_uids[0]] == 2
    orthanc.forget_received()
    orthanc.upload(study[:1])
    assert orthanc.received_count() == 1


def test_instances_from_a_peer_are_counted_too(orthanc_pair: OrthancPair) -> None:
    source, destination = orthanc_pair
    study = small_study(5)
    source.upload(study)
    source.put("/peers/there", {"Url": destination.url})
    source.post("/peers/there/store", {"Resources": source.get("/studies"), "Synchronous": True})
    assert destination.digests() == study.digests()
    assert destination.received_count() == 5


def test_instances_by_c_store_are_counted_too(orthanc_pair: OrthancPair) -> None:
    source, destination = orthanc_pair
    study = small_study(3)
    source.upload(study)
    source.put(
        "/modalities/there",
        {"AET": destination.aet, "Host": "127.0.0.1", "Port": destination.dicom_port},
    )
    source.post("/modalities/there/store", {"Resources": source.get("/studies"), "Synchronous": True})
    assert destination.count() == destination.received_count() == 3


def test_it_starts_empty_after_a_wipe_and_full_after_a_kill(orthanc_112: OrthancServer) -> None:
    study = small_study(3)
    orthanc_112.upload(study)
    orthanc_112.kill()
    orthanc_112.start()
    assert orthanc_112.digests() == study.digests()
    orthanc_112.wipe()
    assert orthanc_112.count() == orthanc_112.received_count() == 0
    assert orthanc_112.get("/changes")["Changes"] == []


def test_login_and_configuration(start_orthanc: Callable[..., OrthancServer]) -> None:
    server = start_orthanc(users={"ada": "secret"}, config={"OverwriteInstances": True}, count_received=False)
    assert server.get("/system")["OverwriteInstances"] is True
    server.users = {"ada": "wrong"}
    with pytest.raises(AssertionError, match="answered 401"):
        server.get("/system")


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_full_disk_is_really_full(start_orthanc: Callable[..., OrthancServer], version: str) -> None:
    server = start_orthanc(version, disk_bytes=1_000_000)
    with pytest.raises(AssertionError, match="Cannot write to file"):
        server.upload(make_study(instances=10, size_bytes=200_000), connections=1)
    assert 0 < server.count() < 10


def test_the_folder_of_a_killed_run_is_cleared_away() -> None:
    code = """
import sys
from tests.support.ferry import ROOT
from tests.support.orthanc import OrthancServer
from tests.support.scratch import sweep
server = OrthancServer("1.12").start()
print(server.folder, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    run = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().strip())
        os.utime(folder, (0, 0))
        sweep(folder.parent)
        assert (folder / "orthanc.json").exists(), "it still belongs to somebody"
        run.kill()
        run.wait()
        os.utime(folder, (0, 0))
        sweep(folder.parent)
    assert not folder.exists()


@pytest.mark.parametrize("orthanc_pair", ["1.10>1.12"], indirect=True)
def test_a_pair_of_two_versions(orthanc_pair: OrthancPair) -> None:
    assert [server.version for server in orthanc_pair] == ["1.10", "1.12"]
