"""The program on a real screen with a window manager, by mouse and keyboard."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.processes import Child, clean_environment
from tests.support.screen import Screen
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]


def _start(screen: Screen, folder: Path) -> Child:
    env = clean_environment(HOME=str(folder), DICOM_FERRY_HOME=str(folder / "home"), **screen.env)
    return Child([sys.executable, "-m", "gui"], folder, env=env, cwd=ROOT)


def test_one_window_that_keys_drive_and_end(xvfb: Screen, tmp_path: Path) -> None:
    first = _start(xvfb, tmp_path)
    try:
        window = wait_for(lambda: xvfb.windows("--onlyvisible", "--name", "^DICOM Ferry$"), what="the window")[0]
        second = _start(xvfb, tmp_path)
        assert second.wait() == 0, second.stderr()
        assert xvfb.windows("--onlyvisible", "--name", "^DICOM Ferry$") == [window]
        xvfb.xdotool("windowactivate", "--sync", window)
        xvfb.xdotool("key", "ctrl+n")
        wait_for(lambda: xvfb.windows("--onlyvisible", "--name", "^New transfer$"), what="the wizard")
        wait_for(lambda: xvfb.active() == "New transfer", what="the wizard to have the keyboard")
        xvfb.xdotool("key", "Escape")
        wait_for(lambda: not xvfb.windows("--onlyvisible", "--name", "^New transfer$"), what="the wizard's end")
        picture = xvfb.screenshot(tmp_path / "screen.png")
        assert picture.stat().st_size > 10_000, "an empty screen is smaller"
        xvfb.xdotool("windowactivate", "--sync", window, "key", "ctrl+q")
        assert first.wait() == 0, first.stderr()
        assert "Traceback" not in first.stderr()
    finally:
        first.close()
