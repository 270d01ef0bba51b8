"""Two gigabytes in one image to a DICOMweb service and back, in the memory of a small one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.azure_service import AzureService
from tests.support.azure_service.sign_in import AUDIENCE
from tests.support.ferry import Ferry, RunningFerry
from tests.support.studies import write_large_instance
from tests.support.waiting import wait_for

_ROOM = 200  # MB of the program, as it starts included


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_gigabytes_there_and_back(ferry: Ferry, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    large = write_large_instance(tmp_path / "in" / "large.dcm", 2_000_000_000)
    with AzureService(tmp_path / "service") as service:
        ferry.run("node", "add", "folder", "in", "--path", str(tmp_path / "in")).expect()
        ferry.run("node", "add", "folder", "out", "--path", str(tmp_path / "out")).expect()
        login = ("--oauth-url", service.token_url, "--client-id", service.client.client_id)
        scope = ("--scope", f"{AUDIENCE}/.default")
        ferry.run("node", "add", "dicomweb", "web", "--url", f"{service.url}/v2", *login, *scope).expect()
        secret = {"DICOM_FERRY_SECRET_WEB_CLIENT_SECRET": service.secret}
        for source, destination in (("in", "web"), ("web", "out")):
            command = ("run", "forward", "--source", source, "--destination", destination, "--json")
            run = ferry.start(*command, env=secret)
            peaks = [0.0]

            def ended(run: RunningFerry = run, peaks: list[float] = peaks) -> bool:
                peaks.append(_peak(run.pid))
                return not run.running

            wait_for(ended, timeout=600, what="the transfer")
            done = run.result().expect()
            assert done.finished["verified"] == 1
            print(f"{source} → {destination}: {max(peaks):.0f} MB, {done.finished['seconds']:.1f} s")
            assert 0 < max(peaks) < _ROOM
    (back,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size > 1_000_000)
    digest = hashlib.md5(usedforsecurity=False)
    with back.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    assert digest.hexdigest() == large.md5


def _peak(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return int(status.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in status else 0.0
