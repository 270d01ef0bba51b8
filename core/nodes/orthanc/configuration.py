"""The modalities, peers and DICOMweb servers that an Orthanc itself knows: read and changed over its REST API.

Orthanc keeps such changes for good only with the options ``DicomModalitiesInDatabase`` and
``OrthancPeersInDatabase``; without them they last until it is restarted. Passwords go in and never come out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote

from core.model.errors import ConfigurationError
from core.nodes.orthanc.answers import JsonObject, number, text
from core.nodes.orthanc.plugins import dicomweb_root
from core.nodes.orthanc.rest import OrthancRest
from core.wire.status import answer_error

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODALITY_KEYS = frozenset({"AET", "Host", "Port", "Manufacturer", "LocalAet", "Timeout", "UseDicomTls"})


@dataclass(frozen=True, slots=True)
class Modality:
    """A DICOM application entity that the server sends to and asks (``/modalities``).

    Attributes
    ----------
    local_aet : str
        The AE title that the server calls itself towards it; empty for its own.
    timeout : int
        Seconds; 0 for the server's own.
    permissions : tuple[tuple[str, bool], ...]
        ``AllowEcho``, ``AllowFind``, ``AllowStore`` and so on, as far as this version of the server knows them.
    """

    name: str
    aet: str
    host: str
    port: int
    manufacturer: str = "Generic"
    local_aet: str = ""
    timeout: int = 0
    tls: bool = False
    permissions: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another Orthanc that the server sends to (``/peers``), or a DICOMweb server (``/dicom-web/servers``).

    Attributes
    ----------
    password : str | None
        Only on the way in: the server never tells it, so that it has to be given again with every change.
    header_names : tuple[str, ...]
        Names of further headers that the server sends there; their values are not told either.
    """

    name: str
    url: str
    username: str = ""
    password: str | None = field(default=None, repr=False)
    timeout: int = 0
    header_names: tuple[str, ...] = ()


class ServerConfiguration:
    """What one Orthanc knows of other servers.

    Parameters
    ----------
    rest : OrthancRest
    """

    def __init__(self, rest: OrthancRest) -> None:
        self._rest = rest

    # --- modalities ---

    def modalities(self) -> list[Modality]:
        found = self._rest.get_object("/modalities?expand")
        return [_modality(self._rest, name, entry) for name, entry in sorted(found.items())]

    def modality(self, name: str) -> Modality | None:
        return next((m for m in self.modalities() if m.name == name), None)

    def put_modality(self, modality: Modality) -> None:
        """Add or replace it."""
        if not 0 < modality.port < 65536:
            raise ConfigurationError("The port is not a number from 1 to 65535.", "Correct the port.", code="fields")
        if not 0 < len(modality.aet) <= 16:
            raise ConfigurationError("An AE title has 1 to 16 characters.", "Correct the AE title.", code="fields")
        payload: JsonObject = {
            "AET": modality.aet,
            "Host": modality.host,
            "Port": modality.port,
            "Manufacturer": modality.manufacturer,
            **dict(modality.permissions),
        }
        if modality.local_aet:
            payload["LocalAet"] = modality.local_aet
        if modality.timeout:
            payload["Timeout"] = modality.timeout
        if modality.tls:
            payload["UseDicomTls"] = True
        self._put("modalities", modality.name, payload)

    def delete_modality(self, name: str) -> bool:
        """False when it was not there."""
        return self._delete("modalities", name)

    # --- peers ---

    def peers(self) -> list[Peer]:
        return self._peers("/peers?expand")

    def peer(self, name: str) -> Peer | None:
        return next((p for p in self.peers() if p.name == name), None)

    def put_peer(self, peer: Peer) -> None:
        """Add or replace it; a user name needs the password with it."""
        self._put_peer("peers", peer)

    def delete_peer(self, name: str) -> bool:
        return self._delete("peers", name)

    # --- DICOMweb servers ---

    @property
    def has_dicomweb(self) -> bool:
        """Whether the server has the DICOMweb plugin."""
        return bool(dicomweb_root(self._rest))

    def dicomweb_servers(self) -> list[Peer]:
        """Raises `AnswerError` with the code ``gone`` where the server has no DICOMweb plugin."""
        return self._peers(f"/{self.dicomweb_folder()}?expand")

    def dicomweb_folder(self) -> str:
        """Where the plugin keeps the servers that it knows; raises `AnswerError` ``gone`` where there is no plugin."""
        root = dicomweb_root(self._rest)
        if not root:
            raise answer_error("gone", node=self._rest.node, status=404, detail="no DICOMweb plugin")
        return f"{root.strip('/')}/servers"

    def dicomweb_server(self, name: str) -> Peer | None:
        return next((p for p in self.dicomweb_servers() if p.name == name), None)

    def put_dicomweb_server(self, server: Peer) -> None:
        self._put_peer(self.dicomweb_folder(), server)

    def delete_dicomweb_server(self, name: str) -> bool:
        return self._delete(self.dicomweb_folder(), name)

    # --- requests ---

    def _peers(self, path: str) -> list[Peer]:
        return [_peer(self._rest, name, entry) for name, entry in sorted(self._rest.get_object(path).items())]

    def _put_peer(self, folder: str, peer: Peer) -> None:
        if peer.username and peer.password is None:
            raise ConfigurationError(
                f"The password of “{peer.name}” is missing.",
                "Enter it again: the server does not tell the one that it knows.",
                code="fields",
            )
        if peer.header_names:
            raise ConfigurationError(
                f"“{peer.name}” has further headers, whose values the server does not tell.",
                "Change it in the server's own configuration file.",
                code="fields",
            )
        payload: JsonObject = {"Url": peer.url}
        if peer.username:
            payload |= {"Username": peer.username, "Password": peer.password}
        if peer.timeout:
            payload["Timeout"] = peer.timeout
        self._put(folder, peer.name, payload)

    def _put(self, folder: str, name: str, payload: JsonObject) -> None:
        path = _path(folder, name)
        answer = self._rest.fetch("PUT", path, payload=payload, idempotent=True)
        if answer.status != 200:
            self._rest.refuse(path, answer.status, answer.headers, answer.body)

    def _delete(self, folder: str, name: str) -> bool:
        if name not in self._rest.get_object(f"/{folder}?expand"):
            return False
        path = _path(folder, name)
        answer = self._rest.fetch("DELETE", path)
        if answer.status != 200:
            self._rest.refuse(path, answer.status, answer.headers, answer.body)
        return True


def _path(folder: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"“{name}” can't be a name in an Orthanc.",
            "Use letters, digits, “_” and “-”, at most 64 of them.",
            code="fields",
        )
    return f"/{folder}/{quote(name, safe='')}"


def _modality(rest: OrthancRest, name: str, entry: object) -> Modality:
    if isinstance(entry, list) and len(entry) >= 3:  # before Orthanc 1.6: AE title, host, port, manufacturer
        manufacturer = str(entry[3]) if len(entry) > 3 else "Generic"
        return Modality(name, str(entry[0]), str(entry[1]), _port(entry[2]), manufacturer)
    if not isinstance(entry, dict):
        rest.unexpected("/modalities", "not a modality")
    return Modality(
        name=name,
        aet=text(entry, "AET"),
        host=text(entry, "Host"),
        port=number(entry, "Port") or 0,
        manufacturer=text(entry, "Manufacturer") or "Generic",
        local_aet=text(entry, "LocalAet"),
        timeout=number(entry, "Timeout") or 0,
        tls=entry.get("UseDicomTls") is True,
        permissions=tuple(
            (key, value) for key, value in entry.items() if isinstance(value, bool) and key not in _MODALITY_KEYS
        ),
    )


def _peer(rest: OrthancRest, name: str, entry: object) -> Peer:
    if isinstance(entry, list) and entry:  # before Orthanc 1.5.4: address, user name, password
        return Peer(name, str(entry[0]), str(entry[1]) if len(entry) > 1 else "")
    if not isinstance(entry, dict):
        rest.unexpected("/peers", "not a peer")
    headers = entry.get("HttpHeaders")
    return Peer(
        name=name,
        url=text(entry, "Url"),
        username=text(entry, "Username"),
        timeout=number(entry, "Timeout") or 0,
        header_names=tuple(str(h) for h in headers) if isinstance(headers, (list, dict)) else (),
    )


def _port(value: object) -> int:
    return int(value) if isinstance(value, (int, str)) and str(value).isdigit() else 0
