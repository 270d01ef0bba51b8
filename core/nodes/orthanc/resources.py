"""Resources of an Orthanc by their identifiers: their details in bulk, each accounted for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from core.nodes.orthanc.answers import JsonObject, UnexpectedShapeError, identifier
from core.nodes.orthanc.describe import children
from core.nodes.orthanc.identifiers import ListSieve
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort

_T = TypeVar("_T")


def details(rest: OrthancRest, level: str, refs: Sequence[str], abort: Abort | None) -> list[JsonObject]:
    """The objects of these identifiers in the order asked, without those that the server says are gone.

    The ``Instances`` of a long series come as `IdentifierList` where they come in bulk.
    """
    found: dict[str, JsonObject] = {}
    folder = {"Study": "studies", "Series": "series", "Instance": "instances"}[level]
    if rest.capabilities(abort=abort).bulk_content and len(refs) > 1:
        payload = {"Resources": list(refs), "Level": level, "Metadata": True}
        sieve = ListSieve() if level == "Series" else None
        for item in rest.post_list("/tools/bulk-content", payload, abort=abort, sieve=sieve):
            found[identifier(item)] = item
    left = [ref for ref in refs if ref not in found]
    paths = [f"/{folder}/{ref}" for ref in left]
    for ref, path, answer in zip(left, paths, rest.pipeline(paths, abort=abort) if paths else (), strict=True):
        if answer.status == 404 and (rest.says_absent(path, answer) or rest.surely_absent(path, abort=abort)):
            continue
        item = rest.parsed(path, answer)
        if not isinstance(item, dict) or item.get("ID") != ref:
            rest.unexpected(path, "not the resource that was asked for")
        found[ref] = item
    return [found[ref] for ref in refs if ref in found]


def shaped_children(rest: OrthancRest, path: str, item: object, key: str) -> Sequence[str]:
    try:
        if not isinstance(item, dict):
            raise UnexpectedShapeError("not an object")
        return children(item, key)
    except UnexpectedShapeError as error:
        rest.unexpected(path, str(error))


def pages_of(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
