"""Starting at login: the switch shows what the system really does, whoever set it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.cli import IN_TRAY
from core.model.errors import LocalError
from gui import autostart
from gui.autostart import AtLogin, By
from installer.windows import product

linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux desktops alone")
windows = pytest.mark.skipif(sys.platform != "win32", reason="of Windows alone")


def test_the_names_are_those_of_the_installers() -> None:
    assert autostart.IN_TRAY == IN_TRAY == product.AT_LOGIN
    assert autostart.NAME == product.NAME
    assert autostart.RUN_KEY == product.RUN_KEY
    assert autostart.window_command()[-1] == IN_TRAY


# --- Linux


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's entry; `tmp_path / "etc"` holds the computer's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'etc'}:{tmp_path / 'etc2'}")
    return tmp_path / "config" / "autostart" / autostart.DESKTOP_FILE


@pytest.fixture
def everybody(tmp_path: Path, own: Path) -> Path:
    """The entry for everybody, switched on."""
    path = tmp_path / "etc2" / "autostart" / autostart.DESKTOP_FILE
    path.parent.mkdir(parents=True)
    path.write_text("[Desktop Entry]\nType=Application\nName=DICOM Ferry\nExec=dicom-ferry --in-tray\n")
    return path


@linux
def test_switched_on_and_off(own: Path) -> None:
    assert autostart.at_login() == AtLogin(By.NOBODY)
    assert autostart.start_at_login(True) == AtLogin(By.PERSON)
    text = own.read_text(encoding="utf-8")
    assert text.startswith("[Desktop Entry]\n")
    assert f" {IN_TRAY}\n" in text
    assert autostart.start_at_login(True) == AtLogin(By.PERSON)
    assert autostart.start_at_login(False) == AtLogin(By.NOBODY)
    assert not own.exists()


@linux
def test_what_the_desktop_switched_off_is_off(own: Path) -> None:
    autostart.start_at_login(True)
    with own.open("a", encoding="utf-8") as file:
        file.write("X-GNOME-Autostart-enabled=false\n")
    assert not autostart.at_login().on
    assert autostart.start_at_login(True).on
    assert "X-GNOME" not in own.read_text(encoding="utf-8")


@linux
def test_set_for_everybody_a_person_may_opt_out(own: Path, everybody: Path) -> None:
    assert autostart.at_login() == AtLogin(By.EVERYBODY)
    assert autostart.start_at_login(False) == AtLogin(By.NOBODY)
    assert "Hidden=true" in own.read_text(encoding="utf-8")
    assert autostart.start_at_login(True) == AtLogin(By.EVERYBODY)
    assert not own.exists()


@linux
def test_words_of_the_command_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostart, "window_command", lambda: ['/opt/100% "my" $ferry/dicom-ferry', IN_TRAY])
    line = next(line for line in autostart.desktop_entry(on=True).splitlines() if line.startswith("Exec="))
    assert line == 'Exec="/opt/100%% \\\\"my\\\\" \\\\$ferry/dicom-ferry" --in-tray'


@linux
def test_what_can_t_be_written_is_a_sentence(own: Path) -> None:
    own.parent.parent.mkdir(parents=True)
    own.parent.write_text("in the way")
    with pytest.raises(LocalError, match="can't be changed"):
        autostart.start_at_login(True)


# --- Windows

if sys.platform == "win32":
    import winreg


@pytest.fixture
def empty_registry() -> Iterator[None]:
    def clear() -> None:
        for root in (winreg.HKEY_CURRENT_USER, winreg.HKEY_LOCAL_MACHINE):
            for key in (autostart.RUN_KEY, autostart.APPROVED_KEY):
                try:
                    with winreg.OpenKey(root, key, 0, winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY) as opened:
                        winreg.DeleteValue(opened, autostart.NAME)
                except FileNotFoundError:
                    continue

    clear()
    yield
    clear()


def put(root: int, key: str, value: str | bytes) -> None:
    with winreg.CreateKeyEx(root, key, 0, winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY) as opened:
        kind = winreg.REG_SZ if isinstance(value, str) else winreg.REG_BINARY
        winreg.SetValueEx(opened, autostart.NAME, 0, kind, value)


@windows
@pytest.mark.usefixtures("empty_registry")
def test_the_run_key_of_the_person() -> None:
    assert autostart.at_login() == AtLogin(By.NOBODY)
    assert autostart.start_at_login(True) == AtLogin(By.PERSON)
    with winreg.OpenKey(winreg.HKEY_CURRENT_USER, autostart.RUN_KEY) as key:
        text = winreg.QueryValueEx(key, autostart.NAME)[0]
    assert text.startswith('"')
    assert text.endswith(f" {IN_TRAY}")
    assert autostart.start_at_login(False) == AtLogin(By.NOBODY)


@windows
@pytest.mark.usefixtures("empty_registry")
def test_what_task_manager_switched_off_is_off_and_can_be_switched_on() -> None:
    autostart.start_at_login(True)
    put(winreg.HKEY_CURRENT_USER, autostart.APPROVED_KEY, bytes([3]) + bytes(11))
    assert autostart.at_login() == AtLogin(By.NOBODY)
    assert autostart.start_at_login(True) == AtLogin(By.PERSON)
    put(winreg.HKEY_CURRENT_USER, autostart.APPROVED_KEY, bytes([2]) + bytes(11))
    assert autostart.at_login().on


@windows
@pytest.mark.usefixtures("empty_registry")
def test_what_the_installer_set_for_everybody_is_the_administrators() -> None:
    put(winreg.HKEY_LOCAL_MACHINE, autostart.RUN_KEY, f'"C:\\Program Files\\DICOM Ferry\\DICOM Ferry.exe" {IN_TRAY}')
    assert autostart.at_login() == AtLogin(By.EVERYBODY, may_change=False)
    with pytest.raises(LocalError, match="for everybody"):
        autostart.start_at_login(False)
    put(winreg.HKEY_LOCAL_MACHINE, autostart.APPROVED_KEY, bytes([3]) + bytes(11))
    assert autostart.at_login() == AtLogin(By.NOBODY)
