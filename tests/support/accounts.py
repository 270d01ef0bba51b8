"""Another account of this computer, made for one test by root: what it runs has that account's rights alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.ferry import ROOT, FerryRun, RunningFerry
from tests.support.processes import clean_environment


def why_not() -> str:
    """Why no account can be made here; empty where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root of a Linux can make accounts"
    missing = [name for name in ("useradd", "userdel", "groupadd", "setpriv", "runuser") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)}"
    return "" if interpreter() else "no Python here that another account may run"


def interpreter() -> str:
    """A Python of this version that other accounts may run: this one, or the system's."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        said = subprocess.run(
            ["runuser", "-u", "nobody", "--", "env", "-i", f"PYTHONPATH={_path()}", "PYTHONDONTWRITEBYTECODE=1", name,
             "-c", "import core.cli, pydantic_core, sqlalchemy"],
            capture_output=True, check=False, cwd="/",
        )  # fmt: skip
        if said.returncode == 0:
            return name
    return ""


def _path() -> str:
    return f"{sysconfig.get_path('purelib')}:{ROOT}"


class Accounts:
    """Accounts and groups that end with the test, and a folder that all of them may enter."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dicom-ferry-accounts-"))
        self.folder.chmod(0o755)
        self._users: list[str] = []
        self._groups: list[str] = []
        self._running: list[RunningFerry] = []

    @property
    def program(self) -> Path:
        """The program as it is installed: a command that every account may run."""
        path = self.folder / "dicom-ferry"
        if not path.exists():
            path.write_text(
                f"#!/bin/sh\nexport PYTHONPATH='{_path()}' PYTHONDONTWRITEBYTECODE=1\n"
                f'exec {interpreter()} -m core "$@"\n',
                encoding="utf-8",
            )
            path.chmod(0o755)
        return path

    def name(self, of: str) -> str:
        return f"dferry-{of}-{os.getpid()}"

    def make(self, of: str, *groups: str) -> str:
        """A person's account."""
        name = self.name(of)
        self.adopt(name)
        more = ["--groups", ",".join(groups)] if groups else []
        subprocess.run(["useradd", "--no-create-home", "--home-dir", f"{self.folder}/{of}", *more, name], check=True)
        home = self.folder / of
        home.mkdir(mode=0o700)
        os.chown(home, *self.ids(name))
        return name

    def adopt(self, name: str) -> str:
        """An account that the program makes: it ends with the test as well."""
        self._users.append(name)
        return name

    def group(self, of: str) -> str:
        name = self.name(of)
        self._groups.append(name)
        subprocess.run(["groupadd", name], check=True)
        return name

    @staticmethod
    def ids(name: str) -> tuple[int, int]:
        found = pwd.getpwnam(name)
        return found.pw_uid, found.pw_gid

    def start(self, account: str, *words: str, env: Mapping[str, str] | None = None, group: str = "") -> RunningFerry:
        """The program under that account, as a service manager starts it: nothing of a desktop, no keyring, no bus."""
        home = pwd.getpwnam(account).pw_dir
        as_account = [
            "setpriv", "--reuid", account, "--regid", group or str(self.ids(account)[1]), "--init-groups",
            "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
        ]  # fmt: skip
        running = RunningFerry(
            [*(as_account if account != "root" else []), str(self.program), *words],
            self.folder / "output",
            env=clean_environment(HOME=home, USER=account, COLUMNS="200", **(env or {})),
            cwd=Path("/"),
        )
        self._running.append(running)
        return running

    def run(self, account: str, *words: str, env: Mapping[str, str] | None = None, group: str = "") -> FerryRun:
        return self.start(account, *words, env=env, group=group).result()

    def close(self) -> None:
        for running in self._running:
            running.close()
        for name in self._users:
            subprocess.run(["userdel", name], capture_output=True, check=False)
        for name in self._groups:
            subprocess.run(["groupdel", name], capture_output=True, check=False)
        left = [n for n in self._users if _exists(n)]
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"accounts are left: {left}"


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
