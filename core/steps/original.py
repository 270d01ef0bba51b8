"""What an image held before it was corrected: Original Attributes Sequence (0400,0561), PS3.3 C.12.1.1.9."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.model.implementation import IMPLEMENTATION_VERSION_NAME
from core.steps.base import LargeValue

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def note(dataset: Dataset, before: Mapping[int, Any], reason: str) -> None:
    """Add an item with the former values of attributes of the top level; those that were not there have none.

    Parameters
    ----------
    before : Mapping[int, DataElement]
        By tag, as they were.
    reason : str
        "COERCE" where identifiers were brought in line with another system's, "CORRECT" otherwise.
    """
    from pydicom.dataset import Dataset as New
    from pydicom.sequence import Sequence

    kept = New()
    for tag in sorted(before):
        if not isinstance(before[tag].value, LargeValue):
            kept[tag] = before[tag]
    if not kept:
        return
    item = New()
    item.ModifiedAttributesSequence = Sequence([kept])
    item.AttributeModificationDateTime = datetime.now().astimezone().strftime("%Y%m%d%H%M%S.%f%z")
    item.ModifyingSystem = IMPLEMENTATION_VERSION_NAME
    item.SourceOfPreviousValues = ""
    item.ReasonForTheAttributeModification = reason
    former = list(dataset.get("OriginalAttributesSequence") or ())
    dataset.OriginalAttributesSequence = Sequence([*former, item])


def snapshot(dataset: Dataset, tag: int) -> Any:
    """A copy of an element as it is now; None where it isn't there."""
    return copy.deepcopy(dataset[tag]) if tag in dataset else None
