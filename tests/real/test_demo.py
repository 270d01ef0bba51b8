"""The demo in a window on a real screen, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.ferry import Ferry
from tests.support.screen import Screen
from tests.support.waiting import PATIENCE, wait_for


@pytest.fixture
def scratch(tmp_path: Path, ferry: Ferry) -> Path:
    """Where the demo makes its throw-away folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    ferry.env["TMPDIR"] = str(folder)
    return folder


def servers_of(folder: Path) -> list[int]:
    """Processes of Orthanc servers whose configuration lies below the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(w.startswith(os.fsencode(folder)) and w.endswith(b"orthanc.json") for w in words):
                found.append(int(entry.name))
    return found


def test_in_the_window(ferry: Ferry, scratch: Path, xvfb: Screen) -> None:
    running = ferry.start("demo", env={**xvfb.env, "QT_QPA_PLATFORM": "xcb"})
    wait_for(lambda: xvfb.windows("--name", "DICOM Ferry"), timeout=60, what="the window")
    assert len(servers_of(scratch)) == 2
    running.send(signal.SIGTERM)
    assert running.wait(PATIENCE) == 130
    wait_for(lambda: not servers_of(scratch), what="the end of the servers")
    assert list(scratch.glob("dicom-ferry-demo-*")) == []
    assert not ferry.home.exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_on_the_terminal(ferry: Ferry, scratch: Path, how: signal.Signals) -> None:
    running = ferry.start("demo", "--headless")
    wait_for(lambda: len(servers_of(scratch)) == 2, what="the servers")
    running.send(how)
    assert running.wait(PATIENCE) in (0, 130)  # it may have been done just then
    wait_for(lambda: not servers_of(scratch), what="the end of the servers")
    assert list(scratch.glob("dicom-ferry-demo-*")) == []


def test_killed_it_takes_its_servers_along(ferry: Ferry, scratch: Path) -> None:
    running = ferry.start("demo", "--headless")
    wait_for(lambda: len(servers_of(scratch)) == 2, what="the servers")
    running.kill()
    wait_for(lambda: not servers_of(scratch), what="the end of the servers")
