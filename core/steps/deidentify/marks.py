"""What was done, written into the image itself (PS3.15 E.1.1, PS3.3 C.7.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.steps.deidentify.profile import EDITION, Option
from core.steps.deidentify.values import put, texts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IDENTITY_REMOVED, METHOD, METHOD_CODES, TEMPORAL = 0x00120062, 0x00120063, 0x00120064, 0x00280303
BASIC = ("113100", "Basic Application Confidentiality Profile")
# Context group 7050 (PS3.16).
CODES = {
    Option.GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.STRUCTURED: ("113104", "Clean Structured Content Option"),
    Option.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Option.MODIFIED_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Option.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Option.DEVICE: ("113109", "Retain Device Identity Option"),
    Option.UIDS: ("113110", "Retain UIDs Option"),
    Option.SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}


def mark(
    dataset: Dataset, options: frozenset[Option], earlier: list[str], fingerprint: str, *, kept: bool, direct: bool
) -> None:
    """Say what was done.

    Parameters
    ----------
    earlier : list[str]
        What earlier de-identifications said of themselves, cleaned.
    fingerprint : str
        Of the key: images with the same one have pseudonyms that go together.
    kept : bool
        A person had attributes kept that the profile takes away: the profile's own code would be untrue.
    direct : bool
        Among them is one that alone tells who the patient is.
    """
    from pydicom.dataset import Dataset as Item

    put(dataset, IDENTITY_REMOVED, "CS", "NO" if direct else "YES")
    said = [
        f"PS3.15 {EDITION} Basic Profile" + (" but for attributes kept on request" if kept else ""),
        f"DICOM Ferry, key {fingerprint}",
    ]
    method = [*(e for e in earlier if e and e not in said), *said]
    put(dataset, METHOD, "LO", method)
    codes = [*(() if kept else (BASIC,)), *(CODES[option] for option in Option if option in options)]
    have = dataset[METHOD_CODES].value if METHOD_CODES in dataset else []
    items = [item for item in have if (texts(item, 0x00080100) or [""])[0] not in {code for code, _ in codes}]
    for code, meaning in codes:
        item = Item()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
        items.append(item)
    if items:
        put(dataset, METHOD_CODES, "SQ", items)
    if Option.FULL_DATES in options:
        temporal = "UNMODIFIED"
    else:
        temporal = "MODIFIED" if Option.MODIFIED_DATES in options else "REMOVED"
    put(dataset, TEMPORAL, "CS", temporal)
