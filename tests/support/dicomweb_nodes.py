"""Opening the program's own DICOMweb node on a test's server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.nodes.base import OpenContext
from core.nodes.dicomweb.kind import DicomwebKind
from core.nodes.dicomweb.node import DicomwebNode
from tests.support.orthanc import OrthancServer

KIND = DicomwebKind()


@contextmanager
def dicomweb_node(
    server: OrthancServer | str, *, name: str = "WEB", secrets: dict[str, str] | None = None, **fields: Any
) -> Iterator[DicomwebNode]:
    """An opened node; an Orthanc's own users are used unless others are given."""
    known = dict(secrets or {})
    if isinstance(server, OrthancServer) and server.users and "username" not in fields:
        fields["username"], known["password"] = next(iter(server.users.items()))
    url = server if isinstance(server, str) else server.dicomweb_url
    node = KIND.open(KIND.Fields(url=url, **fields), OpenContext(name, known.get))
    assert isinstance(node, DicomwebNode)
    try:
        yield node
    finally:
        node.close()
