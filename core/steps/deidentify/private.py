"""Private attributes: all removed, or those kept that are known or declared to be safe (PS3.15 E.3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.steps.deidentify.profile import safe_private
from core.steps.deidentify.values import creator_of, is_large, texts, vr_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CHARACTERISTICS = 0x00080300  # Private Data Element Characteristics Sequence (PS3.3 C.12.1)
_GROUP, _CREATOR, _STATUS, _SAFE_ELEMENTS = 0x00080301, 0x00080302, 0x00080303, 0x00080304
_ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # a sequence that nobody has declared as one

Declared = dict[tuple[str, int], frozenset[int] | None]
"""By creator and group: the elements declared safe; None where all are."""


def is_private(tag: int) -> bool:
    return bool(tag >> 16 & 1)


def is_creator(tag: int) -> bool:
    return is_private(tag) and 0x10 <= (tag & 0xFFFF) <= 0xFF


def declared_safe(dataset: Dataset) -> Declared:
    """What the image itself says of its private blocks."""
    found: Declared = {}
    if CHARACTERISTICS not in dataset:
        return found
    for item in dataset[CHARACTERISTICS].value:
        group, status = item.get(_GROUP), item.get(_STATUS)
        creator = (texts(item, _CREATOR) or [""])[0]
        if group is None or status is None or not creator or not isinstance(group.value, int):
            continue
        if status.value == "SAFE":
            found[creator, group.value] = None
        elif status.value == "MIXED":
            listed = item.get(_SAFE_ELEMENTS)
            value = listed.value if listed is not None else None
            many = [value] if isinstance(value, int) else list(value or ())
            found[creator, group.value] = frozenset(int(v) & 0xFF for v in many)
    return found


def is_safe(dataset: Dataset, tag: int, declared: Declared) -> bool:
    """Whether a private element may stay: known or declared, and of a kind that can be looked into."""
    creator, group, element = creator_of(dataset, tag), tag >> 16, tag & 0xFF
    if not creator:
        return False
    if (creator, group, element) not in safe_private():
        if (creator, group) not in declared:
            return False
        listed = declared[creator, group]
        if listed is not None and element not in listed:
            return False
    if vr_of(dataset, tag) in (None, "UN") and not is_large(dataset, tag):
        raw = dataset.get_item(tag).value
        return not (isinstance(raw, bytes) and raw.startswith(_ITEM))
    return True


def drop_unused_creators(dataset: Dataset) -> None:
    """A block of which nothing is left is not reserved any more."""
    tags = [int(tag) for tag in dataset.keys() if is_private(tag)]  # noqa: SIM118 - its items are elements
    used = {(tag >> 16, tag >> 8 & 0xFF) for tag in tags if not is_creator(tag)}
    for tag in filter(is_creator, tags):
        if (tag >> 16, tag & 0xFF) not in used:
            del dataset[tag]


def keep_characteristics_of_what_is_left(dataset: Dataset) -> None:
    """The declaration names only blocks that are still there."""
    if CHARACTERISTICS not in dataset:
        return
    creators = [int(tag) for tag in dataset.keys() if is_creator(tag)]  # noqa: SIM118 - its items are elements
    left = {(tag >> 16, (texts(dataset, tag) or [""])[0]) for tag in creators}
    items = [
        item
        for item in dataset[CHARACTERISTICS].value
        if (getattr(item.get(_GROUP), "value", None), (texts(item, _CREATOR) or [""])[0]) in left
    ]
    if items:
        dataset[CHARACTERISTICS].value = items
    else:
        del dataset[CHARACTERISTICS]
