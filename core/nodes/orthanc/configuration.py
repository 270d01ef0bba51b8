"""The modalities, peers and DICOMweb servers that an Orthanc itself knows, as its sending needs them.

For listing and editing by a person see `core.nodes.orthanc.remotes`.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.nodes.orthanc.answers import number, text
from core.nodes.orthanc.plugins import dicomweb_root
from core.nodes.orthanc.rest import OrthancRest
from core.wire.status import answer_error


@dataclass(frozen=True, slots=True)
class Modality:
    """A DICOM application entity that the server sends to and asks (``/modalities``).

    Attributes
    ----------
    local_aet : str
        The AE title that the server calls itself towards it; empty for its own.
    timeout : int
        Seconds; 0 for the server's own.
    """

    name: str
    aet: str
    host: str
    port: int
    local_aet: str = ""
    timeout: int = 0
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Another Orthanc that the server sends to (``/peers``), or a DICOMweb server (``/dicom-web/servers``).

    Attributes
    ----------
    header_names : tuple[str, ...]
        Names of further headers that the server sends there; neither their values nor the password are told.
    """

    name: str
    url: str
    username: str = ""
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

    def modalities(self) -> list[Modality]:
        found = self._rest.get_object("/modalities?expand")
        return [_modality(self._rest, name, entry) for name, entry in sorted(found.items())]

    def modality(self, name: str) -> Modality | None:
        return next((m for m in self.modalities() if m.name == name), None)

    def peers(self) -> list[Peer]:
        return self._peers("/peers?expand")

    def dicomweb_servers(self) -> list[Peer]:
        """Raises `AnswerError` with the code ``gone`` where the server has no DICOMweb plugin."""
        return self._peers(f"{self.dicomweb_folder()}?expand")

    def dicomweb_folder(self) -> str:
        """Where the plugin keeps the servers that it knows; raises `AnswerError` ``gone`` where there is no plugin."""
        root = dicomweb_root(self._rest)
        if not root:
            raise answer_error("gone", node=self._rest.node, status=404, detail="no DICOMweb plugin")
        return f"{root}/servers"

    def _peers(self, path: str) -> list[Peer]:
        return [_peer(self._rest, name, entry) for name, entry in sorted(self._rest.get_object(path).items())]


def _modality(rest: OrthancRest, name: str, entry: object) -> Modality:
    if isinstance(entry, list) and len(entry) >= 3:  # before Orthanc 1.6: AE title, host, port, manufacturer
        return Modality(name, str(entry[0]), str(entry[1]), _port(entry[2]))
    if not isinstance(entry, dict):
        rest.unexpected("/modalities", "not a modality")
    return Modality(
        name=name,
        aet=text(entry, "AET"),
        host=text(entry, "Host"),
        port=number(entry, "Port") or 0,
        local_aet=text(entry, "LocalAet"),
        timeout=number(entry, "Timeout") or 0,
        tls=entry.get("UseDicomTls") is True,
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
