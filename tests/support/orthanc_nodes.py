"""Opening the program's own Orthanc node on a test's server, and reading its listings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.model.study import InstanceRef, StudyInfo, StudyQuery
from core.nodes.base import OpenContext
from core.nodes.orthanc.kind import OrthancKind
from core.nodes.orthanc.node import OrthancNode
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy

KIND = OrthancKind()


@contextmanager
def orthanc_node(
    server: OrthancServer | FaultProxy | str,
    *,
    name: str = "PACS",
    secrets: dict[str, str] | None = None,
    **fields: Any,
) -> Iterator[OrthancNode]:
    """An opened node; a server's own users are used unless others are given."""
    known = dict(secrets or {})
    if isinstance(server, OrthancServer) and server.users and "username" not in fields:
        fields["username"], known["password"] = next(iter(server.users.items()))
    url = server if isinstance(server, str) else server.url
    node = KIND.open(KIND.Fields(url=url, **fields), OpenContext(name, known.get))
    assert isinstance(node, OrthancNode)
    try:
        yield node
    finally:
        node.close()


def all_studies(node: OrthancNode, query: StudyQuery | None = None) -> list[StudyInfo]:
    """All studies that match; the listing has to vouch that these are all."""
    listing = node.studies(query or StudyQuery())
    found = list(listing)
    assert listing.outcome.complete, listing.outcome.reason
    assert listing.outcome.count == len(found)
    return found


def the_study(node: OrthancNode, study_uid: str) -> StudyInfo:
    found = node.study(study_uid)
    assert found is not None
    return found


def all_instances(node: OrthancNode, study: StudyInfo, **options: Any) -> list[InstanceRef]:
    return [one for page in node.instances(study, **options) for one in page]


def read_file(node: OrthancNode, instance: InstanceRef) -> bytes:
    """The whole file as `Read.open` streams it."""
    whole = bytearray()
    piece = memoryview(bytearray(65536))
    with node.open(instance) as stream:
        while count := stream.readinto(piece):
            whole += piece[:count]
        assert stream.length in (None, len(whole))
    return bytes(whole)
