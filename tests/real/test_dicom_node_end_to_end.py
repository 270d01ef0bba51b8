"""DICOM nodes on the command line: registered, searched, and the destination and source of transfers with proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import free_port
from tests.support.studies import Study, make_studies, merged_digests

#: Orthanc answers to C-FIND and C-GET of those only that it is told to.
OPEN = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomCheckCalledAet": True}


@pytest.fixture
def studies() -> list[Study]:
    return make_studies(3, series=2, instances=6)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[QueryRetrieveServer]:
    with QueryRetrieveServer(tmp_path / "archive", aet="ARCHIVE") as server:
        yield server


def add_dicom(ferry: Ferry, name: str, aet: str, port: int, *more: str) -> None:
    ferry.run("node", "add", "dicom", name, "--aet", aet, "--host", "127.0.0.1", "--port", str(port), *more).expect()


def write_folder(folder: Path, studies: list[Study]) -> None:
    for number, study in enumerate(studies):
        study.write(folder / str(number))


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_folder_is_forwarded_to_an_orthanc_by_c_store(
    ferry: Ferry, tmp_path: Path, studies: list[Study], version: str, start_orthanc: Callable[..., OrthancServer]
) -> None:
    server = start_orthanc(version, name="WEST", config=OPEN)
    write_folder(tmp_path / "source", studies)
    ferry.run("node", "add", "folder", "disk", "--path", str(tmp_path / "source")).expect()
    add_dicom(ferry, "west", server.aet, server.dicom_port)
    total = sum(len(s) for s in studies)

    run = ferry.run("run", "forward", "--source", "disk", "--destination", "west", "--json").expect()
    assert run.finished["planned"] == run.finished["verified"] == total
    assert server.digests().keys() == merged_digests(studies).keys()

    found = [e for e in ferry.run("find", "west", "--json").expect().events if e["event"] == "study"]
    assert {e["study_uid"] for e in found} == {s.study_uid for s in studies}
    again = ferry.run("run", "forward", "--source", "disk", "--destination", "west", "--json").expect()
    assert again.finished["planned"] == again.finished["skipped"] == total


def test_an_orthanc_is_forwarded_to_dcmqrscp_and_back_to_a_folder(
    ferry: Ferry, tmp_path: Path, studies: list[Study], archive: QueryRetrieveServer, orthanc_112: OrthancServer
) -> None:
    orthanc_112.upload([i for s in studies for i in s])
    ferry.run("node", "add", "orthanc", "mri", "--url", orthanc_112.url).expect()
    # Its processes choose the same names for their files when they store at the same time.
    add_dicom(ferry, "archive", archive.aet, archive.port, "--connections", "1")
    (tmp_path / "back").mkdir()
    ferry.run("node", "add", "folder", "back", "--path", str(tmp_path / "back")).expect()
    total = sum(len(s) for s in studies)

    there = ferry.run("run", "forward", "--source", "mri", "--destination", "archive", "--json").expect()
    assert there.finished["planned"] == there.finished["verified"] == total
    assert archive.stored() == total

    back = ferry.run("run", "clone", "--source", "archive", "--destination", "back", "--json").expect()
    assert back.finished["planned"] == back.finished["verified"] == total


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_committed_by_an_orthanc_that_reports_to_this_computer(
    ferry: Ferry, tmp_path: Path, studies: list[Study], version: str, start_orthanc: Callable[..., OrthancServer]
) -> None:
    port = free_port()
    known = {"DicomModalities": {"ferry": ["DICOMFERRY", "127.0.0.1", port]}}
    server = start_orthanc(version, name="WEST", config={**OPEN, **known})
    write_folder(tmp_path / "source", studies)
    ferry.run("node", "add", "folder", "disk", "--path", str(tmp_path / "source")).expect()
    add_dicom(ferry, "west", server.aet, server.dicom_port)
    ferry.run(
        "node", "add", "this-computer", "here", "--aet", "DICOMFERRY", "--port", str(port), "--callers", "*@127.0.0.1"
    ).expect()

    run = ferry.run(
        "run", "forward", "--source", "disk", "--destination", "west", "--evidence", "committed", "--json"
    ).expect()
    assert run.finished["planned"] == run.finished["committed"] == sum(len(s) for s in studies)
