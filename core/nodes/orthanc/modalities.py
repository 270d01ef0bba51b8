"""The DICOM side of an Orthanc: its own application entity, and which of the modalities it knows is a given node."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from core.model.errors import NotSupportedError
from core.model.loading import load_pydicom
from core.nodes.base import DicomAddress
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.configuration import Modality, ServerConfiguration
from core.wire.host import is_loopback

if TYPE_CHECKING:
    from core.nodes.intermediary import KnownThere, RemoteEntity

_LOOK_UP_TIMEOUT = 3.0  # seconds for one name


class OrthancEntity(OrthancBase):
    """`Dimse` and `Intermediary` of an Orthanc: where others send to it by C-STORE, and whom it can talk to for us."""

    def dicom_address(self) -> DicomAddress:
        """Its ``DicomAet`` and ``DicomPort`` (``GET /system``) at the host of its address; asked once.

        Raises
        ------
        NotSupportedError
            It does not tell them.
        """
        can = self.rest.capabilities()
        if not can.aet or not 0 < can.dicom_port < 65536:
            raise NotSupportedError(
                f"“{self.name}” does not tell its AE title and DICOM port.",
                "Register its DICOM side as a DICOM node, with AE title, host and port.",
            )
        return DicomAddress(can.aet, self.fields.host, can.dicom_port)

    def entity(self, address: DicomAddress, *, node: str, known_as: str = "") -> RemoteEntity:
        """The modality at `address`, or that of the name `known_as`."""
        load_pydicom()
        from core.nodes.orthanc.remote import RemoteModality  # with it pydicom: a third of a second of every start

        return RemoteModality(self.rest, self.fields.host, address, node=node, known_as=known_as)

    def entities(self) -> Sequence[KnownThere]:
        """Its modalities, by name, those on its own computer at the host of its address."""
        load_pydicom()
        from core.nodes.intermediary import KnownThere

        return [
            KnownThere(m.name, DicomAddress(m.aet, self._seen_from_here(m.host), m.port), m.tls, same=True)
            for m in ServerConfiguration(self.rest).modalities()
        ]

    def _seen_from_here(self, host: str) -> str:
        return self.fields.host if is_loopback(host) else host


def known_modality(modalities: Iterable[Modality], address: DicomAddress, server: str) -> Modality | None:
    """The modality that is the application entity at `address`: same AE title, port and host.

    Parameters
    ----------
    modalities : Iterable[Modality]
        Those that the server knows.
    address : DicomAddress
        As seen from this computer.
    server : str
        The server's host: "localhost" among its modalities is that computer.
    """
    alike = [m for m in modalities if m.aet.strip() == address.aet and m.port == address.port and m.host.strip()]
    wanted = _host(address.host)
    for modality in alike:
        if _host(modality.host, server) == wanted:
            return modality
    for modality in alike:  # one may say a name and the other an address
        if _addresses(_host(modality.host, server)) & _addresses(wanted):
            return modality
    return None


def _host(name: str, server: str = "") -> str:
    """A host's name in its normal form; loopback is the host `server`, or this computer."""
    host = name.strip().strip("[]").rstrip(".").lower()
    if is_loopback(host):
        host = server.rstrip(".").lower()
        if not host or is_loopback(host):
            return "localhost"
    return host


def _addresses(host: str) -> set[str]:
    """The addresses of a name, none where they can't be had. The system's look-up has no time-out: a thread waits."""
    found: queue.SimpleQueue[set[str]] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put({str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
        except (OSError, UnicodeError):
            found.put(set())

    threading.Thread(target=look_up, name=f"look-up {host}", daemon=True).start()
    try:
        return found.get(timeout=_LOOK_UP_TIMEOUT)
    except queue.Empty:
        return set()
