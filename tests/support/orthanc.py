"""A real Orthanc server of a chosen version, started for one test or for the whole run."""

from __future__ import annotations

import atexit
import base64
import collections
import http.client
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from tests.support.scratch import make_scratch_folder, remove_scratch_folder
from tests.support.servers import free_port, orthanc_program, required_program
from tests.support.waiting import PATIENCE

#: Every instance that reaches the server, already stored or not, by REST, DIMSE or DICOMweb: one line each.
_RECEIVED_LUA = """
local received = io.open({path}, "a")
received:setvbuf("no")
function ReceivedInstanceFilter(dicom, origin, info)
  received:write((dicom.SOPInstanceUID or "?") .. "\\n")
  return true
end
"""

_running: set[OrthancServer] = set()


class OrthancServer:
    """One Orthanc process with its own storage, ports and configuration.

    Parameters
    ----------
    version
        ``"1.10"`` or ``"1.12"``.
    name
        The server's name, and the AE title unless ``aet`` is given.
    users
        User names and passwords; without any, no login is asked for.
    dicomweb
        Load the DICOMweb plugin (root ``/dicom-web/``).
    lua
        Texts of further Lua scripts.
    count_received
        Write down each instance that reaches the server (costs about a fifth of its throughput).
    disk_bytes
        Put the storage on a file system of this size, so that the disk can really be full.
    certificate
        PEM file with certificate and key: the server then speaks HTTPS only.
    config
        Further keys of Orthanc's configuration file, e.g. ``{"OverwriteInstances": True, "StableAge": 1}``.
    """

    def __init__(
        self,
        version: str = "1.12",
        *,
        name: str = "ORTHANC",
        aet: str | None = None,
        users: Mapping[str, str] | None = None,
        dicomweb: bool = False,
        lua: Iterable[str] = (),
        count_received: bool = True,
        disk_bytes: int | None = None,
        certificate: Path | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.version = version
        self.name = name
        self.aet = aet or name[:16]
        self.users = dict(users or {})
        self.dicomweb = dicomweb
        self.lua = tuple(lua)
        self.count_received = count_received
        self.disk_bytes = disk_bytes
        self.certificate = certificate
        self.config = dict(config or {})
        self.http_port = free_port()
        self.dicom_port = free_port()
        self.folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # --- life

    @property
    def url(self) -> str:
        """The base URL of the REST API, without a slash at its end."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers. Its stored instances are those of the last run."""
        assert not self.running, "the server is running already"
        first = self.folder is None
        for attempt in itertools.count(1):
            self._launch()
            try:
                self.wait_ready()
            except OrthancDiedError:
                # Another process may have taken the port between its choice and our start.
                if self.disk_bytes is not None and "unshare:" in self.log():
                    raise OrthancDiedError(
                        "A small disk for a server needs a mount name space of its own, which this machine "
                        f"refuses ({self.log(1)}). In a container, run the tests with CAP_SYS_ADMIN."
                    ) from None
                if not (first and attempt < 4 and "port" in self.log().lower()):
                    raise
                self.http_port, self.dicom_port = free_port(), free_port()
            else:
                return self
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Stop it in the regular way (SIGTERM); it can be started again with what it stores."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (SIGKILL); it can be started again with what it stores."""
        self._end(signal.SIGKILL)

    def restart(self, **config: Any) -> Self:
        """Stop and start again on the same ports, with ``config`` added to its configuration."""
        self.stop()
        self.config.update(config)
        return self.start()

    def wipe(self) -> Self:
        """Start again with nothing stored, no changes, no jobs, and nothing registered at run time."""
        self.kill()
        if self.folder is not None:
            for name in ("storage", "index"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("received", "log"):
                (self.folder / name).unlink(missing_ok=True)
        return self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections are accepted by the kernel and never answered."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal only asks: a thread on another processor may still answer. This waits for the last one.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server and delete its folder."""
        self.kill()
        if self.folder is not None:
            remove_scratch_folder(self.folder)
            self.folder = None

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def wait_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until the REST API answers.

        Raises
        ------
        OrthancDiedError
            The process ended; the message carries the end of its log.
        """
        deadline = time.monotonic() + timeout
        while True:
            if not self.running:
                raise OrthancDiedError(f"Orthanc {self.version} ended at its start:\n{self.log()}")
            try:
                status, _ = self._exchange("GET", "/system")
            except OSError:
                status = 0
            if status in (200, 401):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"Orthanc {self.version} did not answer:\n{self.log()}")
            time.sleep(0.01)

    def log(self, lines: int = 40) -> str:
        """The end of the server's log."""
        path = self.folder / "log" if self.folder else None
        if path is None or not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])

    def complaints(self, lines: int = 20) -> str:
        """What it has logged since its last start."""
        _, _, since = self.log(10_000).rpartition("Orthanc has started")
        return "\n".join(since.splitlines()[-lines:]).strip()

    # --- what it holds

    def upload(self, instances: bytes | Path | Iterable[bytes | Path], *, connections: int = 4) -> list[str]:
        """Store instances (encoded, or paths of files) and return their Orthanc identifiers in order."""
        batch = [instances] if isinstance(instances, bytes | Path) else list(instances)
        identifiers = [""] * len(batch)
        positions = iter(range(len(batch)))

        def body(instance: bytes | Path) -> bytes:
            return instance if isinstance(instance, bytes) else instance.read_bytes()

        def work() -> None:
            with _Connection(self) as connection:
                for position in positions:
                    answer = connection.request("POST", "/instances", body(batch[position]))
                    identifiers[position] = json.loads(answer)["ID"]

        _in_threads(work, min(connections, len(batch)))
        return identifiers

    def count(self) -> int:
        """How many instances are stored."""
        return int(self.get("/statistics")["CountInstances"])

    def study_count(self) -> int:
        return int(self.get("/statistics")["CountStudies"])

    def digests(self) -> dict[str, str]:
        """MD5 of each stored file, by SOP Instance UID, as the server computed it on reception."""
        stored = {
            row["ID"]: row["MainDicomTags"]["SOPInstanceUID"]
            for row in self.post("/tools/find", {"Level": "Instance", "Query": {}, "Expand": True})
        }
        found: dict[str, str] = {}
        rest = iter(list(stored.items()))

        def work() -> None:
            with _Connection(self) as connection:
                for identifier, sop_uid in rest:
                    answer = connection.request("GET", f"/instances/{identifier}/attachments/dicom/md5")
                    found[sop_uid] = answer.decode()

        _in_threads(work, min(4, len(stored)))
        return found

    def file(self, sop_uid: str) -> bytes:
        """The stored file of an instance."""
        identifiers = self.post("/tools/lookup", sop_uid.encode())
        return self.raw("GET", f"/instances/{identifiers[0]['ID']}/file")

    def received(self) -> collections.Counter[str]:
        """How often each SOP Instance UID reached this server since its start with an empty storage.

        Counted by the server before it looks whether the instance is already stored, whatever the way
        (REST, C-STORE, STOW-RS, a peer). A request cut off in its body does not count: Orthanc drops it.
        """
        assert self.count_received, "this server was started with count_received=False"
        path = self._folder / "received"
        return collections.Counter(path.read_text().split()) if path.exists() else collections.Counter()

    def received_count(self) -> int:
        """How many instances reached this server, those sent again included (see `received`)."""
        return self.received().total()

    def forget_received(self) -> None:
        """Count from nought again."""
        path = self._folder / "received"
        if path.exists():
            os.truncate(path, 0)

    # --- the REST API, for arranging and looking

    def get(self, path: str) -> Any:
        return json.loads(self.raw("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        """POST ``body`` (bytes as they are, anything else as JSON) and return the decoded answer."""
        answer = self.raw("POST", path, _encode(body))
        return json.loads(answer) if answer else None

    def put(self, path: str, body: Any = b"") -> bytes:
        return self.raw("PUT", path, _encode(body))

    def delete(self, path: str) -> bytes:
        return self.raw("DELETE", path)

    def raw(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request; the answer's body. Any status but 200 is an ``AssertionError``."""
        status, answer = self._exchange(method, path, body)
        assert status == 200, f"{method} {path} answered {status}: {answer[:500]!r}\n{self.log(10)}"
        return answer

    # --- inside

    @property
    def _folder(self) -> Path:
        assert self.folder is not None, "the server was never started"
        return self.folder

    def _exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = self._connect(timeout=PATIENCE)
        try:
            connection.request(method, path, body, self._headers())
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.http_port, timeout=timeout, context=context)

    def _headers(self) -> dict[str, str]:
        if not self.users:
            return {}
        user, password = next(iter(self.users.items()))
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    def _launch(self) -> None:
        if self.folder is None:
            self.folder = make_scratch_folder()
        program = orthanc_program(self.version)
        for name in ("storage", "index"):
            (self.folder / name).mkdir(exist_ok=True)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(), indent=1))
        command = [
            # Ends the server when the test run is killed.
            *([required_program("setpriv"), "--pdeathsig", "KILL"] if _in_main_thread() else []),
            *self._small_disk(),
            *program.command,
            str(configuration),
        ]
        # Its own time zone and language, so that no answer depends on the machine's.
        environment = {**os.environ, **program.environment, "LC_ALL": "C.UTF-8"}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )
        _running.add(self)

    def _small_disk(self) -> Iterator[str]:
        """Commands that mount a file system of ``disk_bytes`` for this process only (gone when it ends)."""
        if self.disk_bytes is None:
            return
        yield required_program("unshare")
        yield "--mount"
        if os.geteuid() != 0:
            yield "--map-root-user"
        mount = f'mount -t tmpfs -o size={self.disk_bytes} tmpfs "{self.folder}/storage" && exec "$@"'
        yield from ("sh", "-c", mount, "sh")

    def _configuration(self) -> dict[str, Any]:
        folder = self._folder
        scripts = list(self.lua)
        if self.count_received:
            scripts.append(_RECEIVED_LUA.format(path=json.dumps(str(folder / "received"))))
        for number, text in enumerate(scripts):
            (folder / f"{number}.lua").write_text(text)
        plugins = [orthanc_program(self.version).plugin("OrthancDicomWeb")] if self.dicomweb else []
        return {
            "Name": self.name,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "TemporaryDirectory": str(folder),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": bool(self.users),
            "RegisteredUsers": self.users,
            "SslEnabled": self.certificate is not None,
            **({"SslCertificate": str(self.certificate)} if self.certificate else {}),
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "Plugins": [str(plugin) for plugin in plugins],
            "LuaScripts": [str(folder / f"{number}.lua") for number in range(len(scripts))],
            **self.config,
        }

    def _end(self, how: signal.Signals) -> None:
        _running.discard(self)
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class OrthancDiedError(Exception):
    """The server's process ended while it was waited for."""


class _Connection:
    """One keep-alive connection, renewed when the server has closed it."""

    def __init__(self, server: OrthancServer) -> None:
        self._server = server
        self._headers = server._headers()
        self._connection = server._connect(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            return self._once(method, path, body)
        except (ConnectionError, http.client.RemoteDisconnected):
            # Orthanc closes a connection that idles for a second.
            self._connection.close()
            return self._once(method, path, body)

    def _once(self, method: str, path: str, body: bytes | None) -> bytes:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, f"{method} {path} answered {response.status}: {answer[:500]!r}"
        return answer


def running_servers() -> list[OrthancServer]:
    """The servers that run now, for the report of a test that failed."""
    return sorted(_running, key=lambda server: server.name)


def _in_threads(work: Callable[[], None], count: int) -> None:
    """Run ``work`` in ``count`` threads and raise what a failing one raised."""
    with ThreadPoolExecutor(max(1, count)) as pool:
        for future in [pool.submit(work) for _ in range(count)]:
            future.result()


def _in_main_thread() -> bool:
    # The kernel sends the signal when the *thread* that started the process ends.
    return threading.current_thread() is threading.main_thread()


def _encode(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


def address(url: str) -> tuple[str, int]:
    """Host and port of a URL, for a proxy in front of a server."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


@atexit.register
def _kill_all() -> None:
    for server in list(_running):
        server.close()
