"""Single elements: what is in them, and what is put in the place of what identifies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.steps.base import LargeValue, StepError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DATES = frozenset({"DA", "DT", "TM"})
TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # in the character set of the data set
SHORT = frozenset({"AE", "CS", "LO", "PN", "SH"})  # of one line; longer texts can't be cleaned by rule
_SHAPES = frozenset({"AT", "CS", "FD", "FL", "SL", "SS", "UL", "US"})  # no names, numbers of people or dates
DUMMY_DATES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
# Binary and newer representations for which the library has no dummy.
_DUMMIES: dict[str, Any] = {
    "AT": 0, "OB": b"\0\0", "OD": bytes(8), "OF": bytes(4), "OL": bytes(4), "OV": bytes(8), "OW": b"\0\0", "SV": 0,
    "UN": b"\0\0", "UV": 0,
}  # fmt: skip


class CharacterSetError(Exception):
    """A text can't be decoded by the character set that the data set names."""


def vr_of(dataset: Dataset, tag: int) -> str | None:
    """The value representation of an element without taking it apart; None where nobody knows it.

    Implicit VR, and UN for an attribute of the standard, are looked up in the dictionary.
    """
    from pydicom.datadict import dictionary_VR, private_dictionary_VR
    from pydicom.tag import BaseTag

    element = dataset.get_item(tag)
    vr = element.VR if element is not None else None
    if vr is not None and vr != "UN":
        return str(vr)
    try:
        if BaseTag(tag).is_private:
            creator = creator_of(dataset, tag)
            return str(private_dictionary_VR(tag, creator)) if creator else None
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return None


def creator_of(dataset: Dataset, tag: int) -> str:
    """The private creator that has reserved the block of a private element (PS3.5 section 7.8.1); empty if none."""
    block = tag >> 8 & 0xFF
    if block < 0x10 or (tag & 0xFFFF) <= 0xFF:
        return ""
    element = dataset.get_item((tag >> 16, block))
    if element is None:
        return ""
    value = element.value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip(" \0")


def is_large(dataset: Dataset, tag: int) -> bool:
    element = dataset.get_item(tag)
    return element is not None and not element.is_raw and isinstance(element.value, LargeValue)


def is_empty(dataset: Dataset, tag: int) -> bool:
    element = dataset.get_item(tag)
    if element is None:
        return True
    if element.is_raw:
        return not element.value
    return not isinstance(element.value, LargeValue) and element.is_empty


def texts(dataset: Dataset, tag: int) -> list[str]:
    """The values of an element with text, decoded strictly.

    Raises
    ------
    CharacterSetError
    """
    element = dataset.get_item(tag)
    if element is None or element.value is None:
        return []
    raw = element.value if element.is_raw else None
    if isinstance(raw, bytes):
        vr = vr_of(dataset, tag) or "UN"
        text = _decoded(raw, dataset, vr)
        parts = [text] if vr in ("LT", "ST", "UT", "UR") else text.split("\\")
        return [part.strip(" \0") for part in parts]
    value = dataset[tag].value
    if value is None:
        return []
    from pydicom.multival import MultiValue

    return [str(v) for v in (value if isinstance(value, MultiValue | list | tuple) else [value])]


def _decoded(raw: bytes, dataset: Dataset, vr: str) -> str:
    if vr not in TEXTS:
        return raw.decode("ascii", "replace") if raw.isascii() else raw.decode("latin-1")
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    from pydicom.charset import decode_bytes, default_encoding
    from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

    named = dataset._character_set or default_encoding
    encodings = [named] if isinstance(named, str) else list(named)
    if len(encodings) == 1 and b"\x1b" not in raw:
        try:  # without a declared character set this takes every byte for a letter (Latin-1)
            return raw.decode(encodings[0])
        except (UnicodeDecodeError, LookupError) as error:
            raise CharacterSetError from error
    try:
        text = decode_bytes(raw, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
    except (UnicodeDecodeError, LookupError, UserWarning) as error:
        raise CharacterSetError from error
    if "\ufffd" in text or "\x1b" in text:
        raise CharacterSetError
    return str(text)


def put(dataset: Dataset, tag: int, vr: str, value: Any) -> None:
    """Give an element another value, whatever it held before."""
    from pydicom.dataelem import DataElement
    from pydicom.tag import BaseTag

    dataset[BaseTag(tag)] = DataElement(BaseTag(tag), vr, value)


def zero(dataset: Dataset, tag: int, vr: str) -> None:
    """Z: no value; a sequence has no items."""
    from pydicom.dataelem import empty_value_for_VR

    put(dataset, tag, vr, [] if vr == "SQ" else empty_value_for_VR(vr))


def dummy(dataset: Dataset, tag: int, vr: str, map_uid: Callable[[str], str]) -> None:
    """D: a value that says nothing. An empty element stays as it is: there is nothing to hide."""
    if is_empty(dataset, tag):
        return
    if vr == "SQ":
        for item in dataset[tag].value:
            dummy_all(item, map_uid)
        return
    if vr == "UI":
        put(dataset, tag, vr, mapped(texts(dataset, tag), map_uid))
    elif vr in DATES:
        put(dataset, tag, vr, DUMMY_DATES[vr])
    elif vr in _DUMMIES:
        put(dataset, tag, vr, _DUMMIES[vr])
    else:
        put(dataset, tag, vr, _by_library(tag, vr))


def dummy_all(item: Dataset, map_uid: Callable[[str], str]) -> None:
    """Every value of a sequence's item replaced; terms and counts that give the item its form stay."""
    for tag in sorted(item.keys()):
        vr = vr_of(item, tag)
        if tag.is_private or tag.element == 0 or vr is None:
            del item[tag]
        elif vr not in _SHAPES and tag not in (0x00080005, 0x00081150):
            dummy(item, tag, vr, map_uid)


def mapped(uids: list[str], map_uid: Callable[[str], str]) -> str | list[str]:
    new = [map_uid(uid) for uid in uids]
    return new[0] if len(new) == 1 else new


def _by_library(tag: int, vr: str) -> Any:
    """The library's dummy for text and numbers ("ANONYMIZED", 0, …)."""
    from dicomanonymizer.simpledicomanonymizer import replace_element
    from pydicom.dataelem import DataElement, empty_value_for_VR
    from pydicom.tag import BaseTag

    element = DataElement(BaseTag(tag), vr, empty_value_for_VR(vr))
    try:
        replace_element(element)
    except NotImplementedError as error:
        raise StepError(
            "The image has an attribute of a kind that can't be de-identified, so it is not sent.",
            "Leave such images out by the job's filter, or have the attribute removed before.",
            detail=f"{element.tag} {vr}",
            code="deidentify-kind",
        ) from error
    return element.value
