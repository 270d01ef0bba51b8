"""Starting when a person logs in: the Run key of Windows, an autostart entry of a Linux desktop.

It may also have been set for everybody on the computer, by the installer or by IT.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from core.model.errors import LocalError

IN_TRAY = "--in-tray"
NAME = "DICOM Ferry"
RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"
#: Where Windows' own settings and Task Manager switch entries of the Run keys off: an odd first byte says so.
APPROVED_KEY = r"Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run"
DESKTOP_FILE = "dicom-ferry.desktop"


class By(Enum):
    """Who has it started."""

    NOBODY = "nobody"
    PERSON = "person"
    EVERYBODY = "everybody"  # set for the computer


@dataclass(frozen=True, slots=True)
class AtLogin:
    """How it stands.

    Attributes
    ----------
    by : By
    may_change : bool
        This person can switch it; what was set for everybody on Windows is the administrator's.
    """

    by: By
    may_change: bool = True

    @property
    def on(self) -> bool:
        return self.by is not By.NOBODY


def available() -> bool:
    """Whether this system has such entries that the program knows to write."""
    return sys.platform in ("win32", "linux")


def window_command() -> list[str]:
    """What starts the window in the tray."""
    if getattr(sys, "frozen", False):
        folder = Path(sys.executable).parent
        names = ("DICOM Ferry.exe",) if sys.platform == "win32" else ("DICOM Ferry", "dicom-ferry")
        found = next((folder / name for name in names if (folder / name).exists()), Path(sys.executable))
        return [str(found), IN_TRAY]
    beside = Path(sys.executable).parent / ("dicom-ferry.exe" if sys.platform == "win32" else "dicom-ferry")
    if beside.exists():
        return [str(beside), IN_TRAY]
    return [sys.executable, "-m", "core", IN_TRAY]


def at_login() -> AtLogin:
    """How it stands now, read from the system.

    Raises
    ------
    LocalError
        It can't be read.
    """
    try:
        return _read()
    except OSError as error:
        raise _refused("read", error) from error


def start_at_login(on: bool) -> AtLogin:
    """Have it started for this person, or not; how it stands afterwards.

    Raises
    ------
    LocalError
        The system refuses, or an administrator has set it for everybody.
    """
    try:
        before = _read()
        if before.on != on:
            if not before.may_change:
                raise LocalError(
                    "DICOM Ferry is started for everybody who logs in here; that was set for the whole computer.",
                    "Ask your administrator, or switch it off in Task Manager → Startup apps.",
                    code="autostart",
                )
            _write(on)
        return _read()
    except OSError as error:
        raise _refused("changed", error) from error


def _refused(what: str, error: OSError) -> LocalError:
    return LocalError(
        f"Whether DICOM Ferry starts when you log in can't be {what} ({error.strerror or error}).",
        "Ask whoever manages this computer.",
        detail=repr(error),
        code="autostart",
    )


if sys.platform == "win32":
    import winreg
    from subprocess import list2cmdline

    def _value(root: int, key: str) -> object:
        """The value `NAME` of a key, as a 64-bit program sees it; None where it isn't there."""
        try:
            with winreg.OpenKey(root, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as opened:
                return winreg.QueryValueEx(opened, NAME)[0]
        except FileNotFoundError:
            return None

    def _switched_off(root: int) -> bool:
        approved = _value(root, APPROVED_KEY)
        return isinstance(approved, bytes) and bool(approved) and bool(approved[0] & 1)

    def _read() -> AtLogin:
        for root, by in ((winreg.HKEY_LOCAL_MACHINE, By.EVERYBODY), (winreg.HKEY_CURRENT_USER, By.PERSON)):
            if _value(root, RUN_KEY) and not _switched_off(root):
                return AtLogin(by, may_change=by is By.PERSON)
        return AtLogin(By.NOBODY)

    def _write(on: bool) -> None:
        access = winreg.KEY_SET_VALUE | winreg.KEY_WOW64_64KEY
        with winreg.CreateKeyEx(winreg.HKEY_CURRENT_USER, RUN_KEY, 0, access) as key:
            if on:
                command = window_command()
                text = f'"{command[0]}" {list2cmdline(command[1:])}'
                winreg.SetValueEx(key, NAME, 0, winreg.REG_SZ, text)
            else:
                winreg.DeleteValue(key, NAME)
        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, APPROVED_KEY, 0, access) as key:
                winreg.DeleteValue(key, NAME)
        except FileNotFoundError:
            pass  # nobody has switched it off there

else:

    def _own() -> Path:
        base = os.environ.get("XDG_CONFIG_HOME", "").strip() or str(Path.home() / ".config")
        return Path(base) / "autostart" / DESKTOP_FILE

    def _of_computer() -> Path | None:
        """The entry for everybody, the most important one first (Desktop Application Autostart Specification)."""
        folders = os.environ.get("XDG_CONFIG_DIRS", "").strip() or "/etc/xdg"
        paths = (Path(folder) / "autostart" / DESKTOP_FILE for folder in folders.split(":") if folder)
        return next((path for path in paths if path.is_file()), None)

    def _starts(path: Path) -> bool:
        """An entry that is hidden, or switched off by the desktop, starts nothing."""
        values = dict(
            line.split("=", 1)
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if "=" in line
        )
        off = values.get("Hidden", "").strip().lower() == "true"
        return not off and values.get("X-GNOME-Autostart-enabled", "true").strip().lower() != "false"

    def _read() -> AtLogin:
        own, everybody = _own(), _of_computer()
        if own.is_file():  # it stands for the computer's, whatever it says
            return AtLogin(By.PERSON if _starts(own) else By.NOBODY)
        return AtLogin(By.EVERYBODY if everybody is not None and _starts(everybody) else By.NOBODY)

    def _write(on: bool) -> None:
        own, everybody = _own(), _of_computer()
        own.unlink(missing_ok=True)
        if on == (everybody is not None and _starts(everybody)):
            return
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(desktop_entry(on=on), encoding="utf-8")


def desktop_entry(*, on: bool) -> str:
    """The entry of a Linux desktop; one that is hidden takes the place of the computer's."""
    lines = [
        "[Desktop Entry]", "Type=Application", f"Name={NAME}", f"Exec={' '.join(map(_exec_word, window_command()))}",
        "Icon=dicom-ferry", "Terminal=false", f"Hidden={'false' if on else 'true'}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _exec_word(word: str) -> str:
    """A word as the Desktop Entry Specification wants it in Exec, which is read as a string first."""
    escaped = "".join(f"\\{c}" if c in '"`$\\' else "%%" if c == "%" else c for c in word)
    if shlex.quote(word) == word and escaped == word:
        return word
    return '"' + escaped.replace("\\", "\\\\") + '"'
