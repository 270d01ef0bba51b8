"""Where the real servers of the tests are installed, and how each one is started.

Two Orthanc versions are used side by side. Whichever the machine's own package gives is taken from
``/usr/sbin/Orthanc``; the other ones lie unpacked in a cache folder (``make servers`` puts them there)
and are run by their own dynamic loader with their own libraries, so neither root nor a chroot is needed.
"""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ORTHANC_VERSIONS = ("1.10", "1.12")


class ServerMissingError(Exception):
    """A real server that the tests need is not installed. Tests fail by it, they never skip."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not installed. Run `make servers`, then start the tests again.")


@dataclass(frozen=True)
class OrthancProgram:
    """One installed Orthanc: how to start it and where its plugins lie."""

    command: tuple[str, ...]
    plugins: Path
    environment: dict[str, str] = field(default_factory=dict)

    def plugin(self, name: str) -> Path:
        """The plugin's shared library, e.g. ``OrthancDicomWeb``."""
        found = sorted(self.plugins.glob(f"lib{name}.so*"))
        if not found:
            raise ServerMissingError(f"The Orthanc plugin {name} ({self.plugins})")
        return found[0]


def server_folders() -> list[Path]:
    """The folders in which unpacked servers are looked for, in this order."""
    named = os.environ.get("DICOM_FERRY_SERVERS")
    if named:
        return [Path(named)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path("/opt/dicom-ferry-servers"), cache / "dicom-ferry-servers"]


@functools.cache
def orthanc_program(version: str) -> OrthancProgram:
    """The Orthanc whose version starts with ``version`` ("1.10" or "1.12").

    Raises
    ------
    ServerMissingError
        It is not installed on this machine.
    """
    for folder in server_folders():
        unpacked = folder / f"orthanc-{version}"
        if (unpacked / "usr/sbin/Orthanc").exists():
            return _unpacked_orthanc(unpacked)
    installed = Path("/usr/sbin/Orthanc")
    if installed.exists() and _reported_version(installed).startswith(f"{version}."):
        return OrthancProgram((str(installed),), Path("/usr/share/orthanc/plugins"))
    raise ServerMissingError(f"Orthanc {version}")


def orthanc_launcher_folder() -> Path | None:
    """The folder with a start program ``Orthanc``, for a PATH; None where the system's own is the only one."""
    launchers = (folder / "orthanc-1.12/launcher" for folder in server_folders())
    return next((launcher for launcher in launchers if (launcher / "Orthanc").exists()), None)


def required_program(name: str) -> str:
    """The full path of an installed program such as ``Xvfb`` or ``gnome-keyring-daemon``."""
    found = shutil.which(name)
    if found is None:
        raise ServerMissingError(name)
    return found


def _unpacked_orthanc(root: Path) -> OrthancProgram:
    loader = next(iter(sorted(root.glob("usr/lib*/**/ld-linux-*.so.*"))), None)
    if loader is None:
        raise ServerMissingError(f"The dynamic loader in {root}")
    libraries = [loader.resolve().parent, root / "usr/lib", *sorted(root.glob("usr/lib/*-linux-gnu*"))]
    environment = {}
    # The packages' data files are at absolute paths; these two are the ones that Orthanc reads.
    dictionary = next(iter(sorted(root.glob("usr/share/*dcmtk*/dicom.dic"))), None)
    if dictionary is not None:
        environment["DCMDICTPATH"] = str(dictionary)
    converters = next(iter(sorted(root.glob("usr/lib/*-linux-gnu*/gconv"))), None)
    if converters is not None:
        environment["GCONV_PATH"] = str(converters)
    path = ":".join(dict.fromkeys(str(library) for library in libraries))
    command = (str(loader), "--library-path", path, str(root / "usr/sbin/Orthanc"))
    return OrthancProgram(command, root / "usr/share/orthanc/plugins", environment)


def _reported_version(orthanc: Path) -> str:
    result = subprocess.run([orthanc, "--version"], capture_output=True, text=True, check=False, timeout=30)
    found = re.search(r"\d+\.\d+\.\d+", result.stdout + result.stderr)
    return found.group() if found else ""


#: Below the ephemeral range (32768 and up on Linux): no outgoing connection takes one.
_PORTS = range(20000, 32000)
_given: set[int] = set()


def free_port() -> int:
    """A free TCP port of loopback that nobody else takes until it is listened at.

    A server that is stopped and started again in a test finds its port still free. Each worker of a run of tests
    has a share of the ports, and none is given twice: another test may hold it without listening there yet.
    """
    chooser = random.SystemRandom()
    for _ in range(10_000):
        port = chooser.choice(_share())
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def _share() -> range:
    worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return _PORTS[int(worker[1]) % workers :: workers] if worker else _PORTS
