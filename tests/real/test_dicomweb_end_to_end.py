"""DICOMweb nodes on the command line: registered, tested, searched, destination and source of transfers with proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_studies, merged_digests


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_folder_goes_to_a_service_and_comes_back(
    ferry: Ferry, tmp_path: Path, version: str, start_orthanc: Callable[..., OrthancServer]
) -> None:
    studies = make_studies(3, series=2, instances=6)
    server = start_orthanc(version, dicomweb=True, users={"ferry": "secret"})
    for number, study in enumerate(studies):
        study.write(tmp_path / "source" / str(number))
    ferry.run("node", "add", "folder", "disk", "--path", str(tmp_path / "source")).expect()
    ferry.run("node", "add", "folder", "back", "--path", str(tmp_path / "back")).expect()
    ferry.run("node", "add", "dicomweb", "web", "--url", server.dicomweb_url, "--username", "ferry").expect()
    secret = {"DICOM_FERRY_SECRET_WEB": "secret"}
    told = ferry.run("node", "test", "web", env=secret).expect().stdout
    assert "It works." in told
    assert "Takes images" in told
    sent = ferry.run("run", "forward", "--source", "disk", "--destination", "web", "--json", env=secret).expect()
    assert sent.finished["planned"] == sent.finished["verified"] == 36
    assert server.digests() == merged_digests(studies)
    found = [e for e in ferry.run("find", "web", "--json", env=secret).expect().events if e["event"] == "study"]
    assert {e["study_uid"] for e in found} == {s.study_uid for s in studies}
    back = ferry.run("run", "forward", "--source", "web", "--destination", "back", "--json", env=secret).expect()
    assert back.finished["planned"] == back.finished["verified"] == 36
    report = ferry.run("report", "1", "--format", "csv", env=secret).expect().stdout
    assert len(report.splitlines()) == 37
    assert "secret" not in report + told


def test_what_is_entered_wrong_is_told_with_what_to_do(
    ferry: Ferry, start_orthanc: Callable[..., OrthancServer]
) -> None:
    server = start_orthanc("1.12", dicomweb=True)
    ferry.run("node", "add", "dicomweb", "web", "--url", server.url).expect()
    told = ferry.run("node", "test", "web").expect(1).stdout
    assert server.dicomweb_url in told
    refused = ferry.run("find", "web").expect(1)
    assert "“web”" in refused.stdout + refused.stderr
    wrong = ferry.run("node", "add", "dicomweb", "other", "--url", "pacs/dicom-web").expect(2)
    assert "https://host/dicom-web" in wrong.stdout + wrong.stderr
