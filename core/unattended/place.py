"""Where the unattended engine of this computer keeps its things, and who may open that."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

SERVICE = "dicom-ferry"
"""Name of the systemd unit and of the account that it runs under."""

TASK = "DICOM Ferry unattended engine"
"""Name of the Windows task."""


@dataclass(frozen=True, slots=True)
class Place:
    """The machine-wide home, as far as this account may see it.

    Attributes
    ----------
    account, group : str
        Who owns it; `group` is empty where no group may use it, and both where that can't be told.
    may_open : bool
        This account may read and write it.
    """

    folder: Path
    account: str
    group: str
    may_open: bool

    @property
    def who(self) -> str:
        """Who may open it, in words."""
        if not self.account:
            return "the account of the unattended engine and administrators"
        members = f" and members of the group {self.group}" if self.group else ""
        return f"the account {self.account}{members}"

    @property
    def how(self) -> str:
        """What somebody who may not open it can do."""
        if sys.platform == "win32":
            return "Ask an administrator: dicom-ferry service install --group lets a group in."
        ask = f"“sudo -u {self.account} dicom-ferry node list”"
        step = "have an administrator add you to that group" if self.group else (
            "have an administrator let a group in (dicom-ferry service install --group)"
        )  # fmt: skip
        return f"Use its commands as that account, such as {ask}, or {step}."


def start_words() -> str:
    """How an administrator starts the unattended engine of this computer."""
    if sys.platform == "win32":
        return f'schtasks /Run /TN "{TASK}"'
    return f"sudo systemctl start {SERVICE}"


def machine_folder() -> Path:
    """The one machine-wide home, whether it is there or not."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA") or r"C:\ProgramData") / "DICOM Ferry"
    if sys.platform == "darwin":
        return Path("/Library/Application Support/DICOM Ferry")
    return Path("/var/lib") / SERVICE


def machine_place(folder: Path | None = None) -> Place | None:
    """The machine-wide home; None where no unattended engine was ever set up."""
    folder = machine_folder() if folder is None else folder
    try:
        if not folder.is_dir():
            return None
        account, group = _owners(folder)
        return Place(folder, account, group, _may_open(folder))
    except OSError:
        return None


def is_own_machine_folder() -> bool:
    """Whether this process runs under the account of the machine-wide home: that then is its home."""
    if sys.platform == "win32":
        return False
    try:
        return os.geteuid() not in (0, -1) and machine_folder().stat().st_uid == os.geteuid()
    except OSError:
        return False


def _owners(folder: Path) -> tuple[str, str]:
    if sys.platform == "win32":
        return "", ""
    import grp
    import pwd

    found = folder.stat()
    try:
        account = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        account = str(found.st_uid)
    if found.st_mode & 0o070 != 0o070:
        return account, ""
    try:
        return account, grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return account, str(found.st_gid)


def _may_open(folder: Path) -> bool:
    if sys.platform != "win32" and os.geteuid() == 0:
        return folder.stat().st_uid == 0  # root would leave files there that the engine can't write
    try:
        with os.scandir(folder):
            return os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError:
        return False
