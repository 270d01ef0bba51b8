"""The screen, the tray, the keyring and the child processes of the tests are real and clean."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ferry import Ferry, json_lines
from tests.support.keyrings import SecretService
from tests.support.processes import Child, clean_environment
from tests.support.screen import Screen
from tests.support.waiting import wait_for

_WINDOW = """
from PySide6.QtWidgets import QApplication, QPushButton
app = QApplication([])
button = QPushButton("Press")
button.setWindowTitle("A test's window")
button.setGeometry(100, 100, 200, 100)
button.clicked.connect(lambda: (print("pressed", flush=True), app.quit()))
button.show()
app.exec()
"""

_TRAY = """
from PySide6.QtWidgets import QApplication, QSystemTrayIcon
QApplication([])
print(QSystemTrayIcon.isSystemTrayAvailable())
"""

_KEYRING = """
import keyring, sys
try:
    keyring.set_password("a test", "name", "secret")
    print(keyring.get_password("a test", "name"))
except Exception as error:
    print(type(error).__name__)
"""


def say(code: str, env: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout.strip()


def test_a_window_is_shown_and_clicked(xvfb: Screen, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WINDOW]
    with Child(command, tmp_path, env=clean_environment(**xvfb.env)) as window:
        found = wait_for(lambda: xvfb.windows("--onlyvisible", "--name", "A test's window"), what="window")
        xvfb.xdotool("windowmove", "--sync", found[0], "300", "300")
        picture = xvfb.screenshot(tmp_path / "screen.png")
        assert picture.stat().st_size > 1000

        def pressed() -> bool:
            # A click is lost while the window is still being placed; a person clicks again.
            xvfb.click(400, 350)
            return not window.running

        wait_for(pressed, what="the press", interval=0.2)
        assert window.stdout() == "pressed\n"
        assert window.returncode == 0


def test_a_tray_is_there_only_where_asked_for(xvfb: Screen, xvfb_with_tray: Screen) -> None:
    assert say(_TRAY, xvfb.env) == "False"
    assert say(_TRAY, xvfb_with_tray.env) == "True"


def test_the_keyring_keeps_a_secret(secret_service: SecretService) -> None:
    assert say(_KEYRING, secret_service.env) == "secret"
    assert list(secret_service.items().values()) == ["secret"]


def test_a_locked_keyring_refuses(locked_secret_service: SecretService) -> None:
    assert say(_KEYRING, locked_secret_service.env) in ("KeyringLocked", "PasswordSetError", "InitError")


@pytest.mark.posix  # Windows always has one
def test_without_a_keyring_it_says_so(no_secret_service: dict[str, str]) -> None:
    assert say(_KEYRING, no_secret_service) == "NoKeyringError"


def test_a_child_is_read_while_it_runs_and_killed(tmp_path: Path) -> None:
    code = "import sys, time; print('on', flush=True); print('err', file=sys.stderr, flush=True); time.sleep(60)"
    with Child([sys.executable, "-c", code], tmp_path) as child:
        wait_for(lambda: child.stdout() == "on\n" and child.stderr() == "err\n")
        assert child.running
        child.kill()
        assert child.returncode == -signal.SIGKILL
        assert "err" in child.describe()


def test_json_lines_leave_an_unfinished_last_line() -> None:
    assert json_lines('{"event": "a"}\nwords\n{"event": "b"}\n{"ev') == [{"event": "a"}, {"event": "b"}]


def test_the_program_runs_in_a_home_of_its_own(ferry: Ferry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    environment = ferry.environment({"EXTRA": "1"})
    assert environment["DICOM_FERRY_HOME"] == str(ferry.home)
    assert environment["EXTRA"] == "1"
    assert "DISPLAY" not in environment
    assert "HTTP_PROXY" not in environment
