"""The demo: synthetic studies, DICOM nodes of its own and Orthanc servers where installed, in a throw-away home."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import JsonValue

from core.app import App
from core.demo_studies import write_studies
from core.logs import stop_logging
from core.model import held_file
from core.model.errors import LocalError
from core.secrets import variable_name

_START_SECONDS = 30.0
_USER = "demo"
_HERE = "127.0.0.1"
_RESERVE = 0.1  # GB that the stores leave free on the disk


@dataclass(frozen=True, slots=True)
class DemoJob:
    """A job of the demo, as `JobBook.create` takes it."""

    kind: str
    name: str
    fields: dict[str, JsonValue]


class Demo:
    """Everything that the demo makes; leaving it removes all of it.

    Attributes
    ----------
    folder : Path
        Temporary, owner-only: studies, servers' data, and the home.
    jobs : tuple[DemoJob, ...]
        To be run one after the other: each reads what the one before has brought.
    servers : bool
        Whether real Orthanc servers take part.
    """

    def __init__(self, *, with_servers: bool = True) -> None:
        self._with_servers = with_servers
        self._processes: list[subprocess.Popen[bytes]] = []
        self._variables: list[str] = []
        self.folder = Path()
        self.servers = False
        self.files = 0
        self.jobs: tuple[DemoJob, ...] = ()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="dicom-ferry-demo-"))
        try:
            self.files = write_studies(self.folder / "studies")
            program = orthanc_program() if self._with_servers else None
            self._register(program)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the servers and remove the folder. May be called twice."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for variable in self._variables:
            os.environ.pop(variable, None)
        stop_logging()  # its file lies in the folder, and Windows removes no open file
        if self.folder != Path():
            with contextlib.suppress(OSError):  # a folder for files of the moment: the system empties it
                held_file.remove_tree(self.folder)

    def _register(self, program: Path | None) -> None:
        app = App.open(self.home)
        try:
            app.nodes.add("folder", "Studies", {"path": str(self.folder / "studies")}, {})
            for side in ("West", "East"):
                _add_dicom_pair(app, side)
            first, clones = ["PACS West"], [_job("clone", "Store West", ["PACS East"])]
            if program is not None:
                for name in ("Orthanc West", "Orthanc East"):
                    self._start_orthanc(app, program, name)
                self.servers = True
                first.append("Orthanc West")
                clones.append(_job("clone", "Orthanc West", ["Orthanc East"]))
            self.jobs = (_job("forward", "Studies", first), *clones)
        finally:
            app.close()

    def _start_orthanc(self, app: App, program: Path, name: str) -> None:
        """Start a server that only this computer reaches, and only with a password made for it."""
        password = secrets.token_urlsafe(18)
        for last in (False, False, True):  # another process may take the port between its choice and the start
            port = _free_port()
            process = self._launch(program, name, port, password)
            if _answers(process, port, password):
                break
            self._processes.remove(process)
            process.kill()
            process.wait()
            if last:
                log = (self.folder / name / "log.txt").read_text(encoding="utf-8", errors="replace")
                raise LocalError(
                    "An Orthanc server for the demo did not start.",
                    "Run the demo without servers: dicom-ferry demo --no-servers.",
                    detail=log[-2000:],
                    code="demo-server",
                )
        # By the environment of this process: the demo leaves nothing in the keyring.
        os.environ[variable_name(name)] = password
        self._variables.append(variable_name(name))
        app.nodes.add("orthanc", name, {"url": f"http://127.0.0.1:{port}", "username": _USER}, {})

    def _launch(self, program: Path, name: str, port: int, password: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        settings = {
            "Name": name,
            "StorageDirectory": str(folder / "data"),
            "IndexDirectory": str(folder / "data"),
            "HttpPort": port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {_USER: password},
            "Plugins": [],
            "ExecuteLuaEnabled": False,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the program that was found on this computer
                [*_ends_with_us(), str(program), str(folder / "orthanc.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Ctrl-C is for us: the servers are stopped when their images are settled.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._processes.append(process)
        return process


def orthanc_program() -> Path | None:
    """The Orthanc that is installed on this computer; None when there is none."""
    found = shutil.which("Orthanc")
    candidates = [Path(found)] if found else []
    if sys.platform == "win32":
        roots = (os.environ.get("PROGRAMFILES"), os.environ.get("PROGRAMW6432"))
        candidates += [Path(root) / "Orthanc Server" / "Orthanc.exe" for root in roots if root]
    else:
        candidates += [Path("/usr/sbin/Orthanc"), Path("/usr/local/sbin/Orthanc"), Path("/opt/orthanc/Orthanc")]
    return next((c for c in candidates if c.is_file()), None)


def _ends_with_us() -> list[str]:
    """Words before a command that make Linux end it when this process is killed."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []  # the signal would come when the starting thread ends
    return [setpriv, "--pdeathsig", "TERM"]


def _add_dicom_pair(app: App, side: str) -> None:
    """This computer as a DICOM node, for itself alone, and the node by which the others reach that by DIMSE."""
    address: dict[str, JsonValue] = {"aet": f"FERRY_{side.upper()}", "port": _free_port()}
    app.nodes.add("this-computer", f"Store {side}", {**address, "bind": _HERE, "reserve": _RESERVE}, {})
    app.nodes.add("dicom", f"PACS {side}", {**address, "host": _HERE}, {})


def _job(kind: str, source: str, destinations: list[str]) -> DemoJob:
    fields: dict[str, JsonValue] = {"source": [source], "destination": [*destinations]}
    return DemoJob(kind, f"Demo: {source} to {' and '.join(destinations)}", fields)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int, password: str) -> bool:
    """Wait until the server lets us in; False when it ended or took too long."""
    login = base64.b64encode(f"{_USER}:{password}".encode()).decode()
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/system", headers={"Authorization": f"Basic {login}"})
            if connection.getresponse().status == 200:
                return True
        time.sleep(0.05)
    return False
