"""Values of any tags of images, from their metadata (WADO-RS, PS3.18 section 10.4.1.1.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.model.rules.tags import tag_path
from core.model.study import InstanceRef
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.answers import text_of
from core.nodes.dicomweb.base import instance_path, series_path
from core.wire.abort import Abort
from core.wire.status import answer_error

_SINGLY = 8  # images of a series up to which each is asked for by itself
_SOP_UID = "00080018"


def metadata_values(
    access: DicomwebAccess, instances: Sequence[InstanceRef], keywords: frozenset[str]
) -> list[Mapping[str, str]]:
    """Values for each image, in their order, by what rules call them; what an image doesn't have is left out.

    Raises
    ------
    AnswerError
        ``gone`` where one of them isn't there.
    """
    wanted = {key: path for key in keywords if (path := tag_path(key))}
    found: dict[str, Mapping[str, str]] = {}
    for (study_uid, series_uid), members in _by_series(instances).items():
        uids = {one.sop_uid for one in members}
        for item in _items(access, study_uid, series_uid, uids):
            element = item.get(_SOP_UID)
            uid = text_of(element) if isinstance(element, dict) else ""
            if uid in uids:
                values = {key: list(_along(item, path)) for key, path in wanted.items()}
                found[uid] = {key: "\\".join(texts) for key, texts in values.items() if texts}
    missing = sum(one.sop_uid not in found for one in instances)
    if missing:
        raise answer_error("gone", node=access.node, detail=f"{missing} images that were listed have no metadata")
    return [found[one.sop_uid] for one in instances]


def _along(item: object, path: tuple[int, ...]) -> Iterator[str]:
    """The values at the end of a path of tags, in all items of the sequences on the way."""
    element = item.get(f"{path[0]:08X}") if isinstance(item, dict) else None
    if not isinstance(element, dict):
        return
    values = element.get("Value")
    if len(path) > 1:
        for inner in values if isinstance(values, list) else ():
            yield from _along(inner, path[1:])
    elif element.get("vr") == "SQ":  # of a sequence a rule asks only whether there is something in it
        yield str(len(values)) if isinstance(values, list) and values else ""
    else:
        yield text_of(element)


def metadata_of(
    access: DicomwebAccess, study_uid: str, series_uid: str, sop_uid: str, *, abort: Abort | None = None
) -> dict[str, Any] | None:
    """All attributes of one image in DICOM JSON, but bulk data; None where the answer has none."""
    path = instance_path(study_uid, series_uid, sop_uid) + "/metadata"
    with access.request("GET", path, abort=abort) as response:
        for item in access.objects(path, response):
            return item
    return None


def _by_series(instances: Sequence[InstanceRef]) -> dict[tuple[str, str], list[InstanceRef]]:
    found: dict[tuple[str, str], list[InstanceRef]] = {}
    for one in instances:
        found.setdefault((one.study_uid, one.series_uid), []).append(one)
    return found


def _items(access: DicomwebAccess, study_uid: str, series_uid: str, wanted: set[str]) -> Iterator[dict[str, Any]]:
    if len(wanted) <= _SINGLY:
        for uid in wanted:
            item = metadata_of(access, study_uid, series_uid, uid)
            if item is not None:
                yield item
        return
    path = series_path(study_uid, series_uid) + "/metadata"
    with access.request("GET", path) as response:
        yield from access.objects(path, response)
