"""The declared fields of an Orthanc node: those of every web server, and what is Orthanc's own."""

from __future__ import annotations

from pydantic import field_validator

from core.model.fields import declared
from core.nodes.web.fields import WebFields, checked_url, place_of

__all__ = ["OrthancFields", "place_of"]

_PAGES = ("/app/explorer.html", "/ui/app", "/ui/app/index.html", "/app")  # Orthanc Explorer's, in a browser


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

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return checked_url(value, pages=_PAGES)
