"""What all parts of the Orthanc node share: its name, its fields and its REST API."""

from __future__ import annotations

from core.model.errors import FerryError
from core.model.outcome import Failure
from core.nodes.base import Node
from core.nodes.orthanc.configuration import ServerConfiguration
from core.nodes.orthanc.fields import OrthancFields, place_of
from core.nodes.orthanc.rest import OrthancRest
from core.wire.status import http_failure
from core.wire.tls import TlsSettings


class OrthancBase(Node):
    """Base of the capabilities of an Orthanc node; each is a class of its own file.

    Attributes
    ----------
    rest : OrthancRest
    tls : TlsSettings
    proxied : bool
        Requests go through the system's proxy.
    """

    fields: OrthancFields

    def __init__(
        self, name: str, fields: OrthancFields, rest: OrthancRest, *, tls: TlsSettings, proxied: bool = False
    ) -> None:
        self.name = name
        self.fields = fields
        self.rest = rest
        self.tls = tls
        self.proxied = proxied

    @property
    def place(self) -> str:
        host, port, path = place_of(self.fields.url)
        return f"{host}:{port}{path}"

    @property
    def configuration(self) -> ServerConfiguration:
        """The modalities, peers and DICOMweb servers that this server knows."""
        return ServerConfiguration(self.rest)

    def probe(self) -> None:
        """``GET /system``, which also tells whether it is another version now."""
        self.rest.forget()
        self.rest.capabilities()

    def close(self) -> None:
        self.rest.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        return http_failure(error, side=side, node=self.name)

    def __repr__(self) -> str:
        return f"<OrthancNode {self.name}>"
