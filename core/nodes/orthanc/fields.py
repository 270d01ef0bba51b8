"""The declared fields of an Orthanc node: those of every web server, and what is Orthanc's own."""

from __future__ import annotations

from enum import StrEnum

from pydantic import field_validator

from core.model.fields import declared
from core.nodes.web.fields import WebFields, checked_url, place_of

__all__ = ["OrthancFields", "SendBy", "place_of"]

_PAGES = ("/app/explorer.html", "/ui/app", "/ui/app/index.html", "/app")  # Orthanc Explorer's, in a browser


class SendBy(StrEnum):
    """How a server sends by itself, where it can in several ways."""

    AUTO = "auto"
    PEER = "peer"
    ACCELERATOR = "accelerator"
    STOW = "stow"


class OrthancFields(WebFields):
    """An Orthanc server reached by its REST API (https://orthanc.uclouvain.be/book/users/rest.html)."""

    url: str = declared(
        title="Address",
        help="Address of the server's web interface, with the path behind it if a proxy adds one.",
        placeholder="http://mri.hospital.lan:8042",
    )
    gzip: bool = declared(
        False,
        title="Compressed answers",
        help="Only for slow links: the server compresses what it sends, which costs it much time.",
        advanced=True,
        group="Limits",
    )

    send_by: SendBy = declared(
        SendBy.AUTO,
        title="When it sends by itself",
        help="Used wherever this server knows the destination in this way; else in another one. The transfers "
        "accelerator is a plugin that both servers need: it sends many images at once in pieces.",
        labels={
            SendBy.AUTO.value: "Choose for me",
            SendBy.PEER.value: "To a peer",
            SendBy.ACCELERATOR.value: "To a peer, by the transfers accelerator",
            SendBy.STOW.value: "To a DICOMweb server, by STOW-RS",
        },
        advanced=True,
        group="Sending by itself",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return checked_url(value, pages=_PAGES)
