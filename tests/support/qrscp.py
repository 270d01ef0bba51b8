"""DCMTK's dcmqrscp: a small PACS (C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET) that every DIMSE test can talk to."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.processes import Child
from tests.support.servers import free_port, required_program
from tests.support.waiting import wait_for


class QueryRetrieveServer:
    """One dcmqrscp with a folder of its own.

    Parameters
    ----------
    folder
        Made by this; holds configuration, images and what it wrote.
    hosts
        The AE titles that it may send to by C-MOVE, with their ports on loopback.
    aet
        Its AE title.
    options
        Further options of the command ("--no-parallel", "+xi").
    """

    def __init__(
        self, folder: Path, *, hosts: Mapping[str, int] | None = None, aet: str = "QRSCP", options: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.hosts = dict(hosts or {})
        self.aet = aet
        self.options = options
        self.port = free_port()
        self._child: Child | None = None

    def start(self) -> Self:
        """Start it, or start it again, and wait until it takes connections."""
        storage = self.folder / "images"
        storage.mkdir(parents=True, exist_ok=True)
        hosts = "\n".join(f"h{n} = ({aet}, 127.0.0.1, {port})" for n, (aet, port) in enumerate(self.hosts.items()))
        configuration = self.folder / "dcmqrscp.cfg"
        configuration.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f'AETable BEGIN\n{self.aet} "{storage}" RW (200, 1024mb) ANY\nAETable END\n'
        )
        command: list[str | Path] = [required_program("dcmqrscp"), "--config", configuration, *self.options]
        self._child = Child(command, self.folder)
        wait_for(self._answers, what="dcmqrscp")
        return self

    def stop(self) -> None:
        """End it, and wait until nothing listens any more: a process of an association may outlive the first one."""
        if self._child is not None:
            self._child.close()
            self._child = None
            wait_for(lambda: not self._listens(), what="the end of dcmqrscp")

    def stored(self) -> int:
        """How many images lie in its folder."""
        return sum(1 for path in (self.folder / "images").iterdir() if path.name != "index.dat")

    def _answers(self) -> bool:
        assert self._child is not None
        assert self._child.running, self._child.describe()
        return self._listens()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
