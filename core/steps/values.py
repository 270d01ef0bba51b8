"""Values that steps set: judged by their value representation (PS3.5 6.2), and written so that nothing is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from core.steps.base import StepError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

INTEGERS = {"US": (0, 2**16 - 1), "SS": (-(2**15), 2**15 - 1), "UL": (0, 2**32 - 1), "SL": (-(2**31), 2**31 - 1),
            "UV": (0, 2**64 - 1), "SV": (-(2**63), 2**63 - 1)}  # fmt: skip
FLOATS = frozenset({"FL", "FD"})
TEXTS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
WHOLE = frozenset({"LT", "ST", "UR", "UT"})  # one value: a backslash is part of the text
WIDE = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})  # written in the Specific Character Set
LONGEST = {"AE": 16, "CS": 16, "LO": 64, "LT": 10240, "SH": 16, "ST": 1024, "PN": 64}
UTF8 = "ISO_IR 192"
CHARACTER_SET = 0x00080005
_PATTERNS = {
    "AE": (re.compile(r"[\x20-\x5b\x5d-\x7e]{0,16}\Z"), "at most 16 characters, without accents"),
    "AS": (re.compile(r"([0-9]{3}[DWMY])?\Z"), "an age such as 018M or 047Y"),
    "CS": (re.compile(r"[A-Z0-9 _]{0,16}\Z"), "at most 16 capitals, digits, spaces and underscores"),
    "DA": (re.compile(r"([0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01]))?\Z"), "a date such as 20240315"),
    "DS": (re.compile(r"([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?)?\Z"), "a number of at most 16 characters"),
    "DT": (
        re.compile(r"([0-9]{4}([0-9]{2}){0,5}(\.[0-9]{1,6})?([+-][0-9]{4})?)?\Z"),
        "a moment such as 20240315093000",
    ),
    "IS": (re.compile(r"([+-]?[0-9]{1,11})?\Z"), "a whole number"),
    "TM": (re.compile(r"(([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9]|60)?)?(\.[0-9]{1,6})?)?\Z"), "a time such as 0930"),
    "UI": (re.compile(r"((0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*)?\Z"), "a UID: digits and dots, at most 64 characters"),
}


def fault(vr: str, text: str) -> str:
    """Why a text can't be a value of this value representation, as the end of a sentence; empty where it can."""
    if vr in INTEGERS or vr in FLOATS:
        return _number_fault(vr, text)
    if vr not in TEXTS:
        return f"tags of the kind {vr} hold no text or number that could be typed"
    for part in [text] if vr in WHOLE else text.split("\\"):
        if vr in _PATTERNS:
            pattern, wanted = _PATTERNS[vr]
            if not pattern.match(part) or len(part) > (64 if vr == "UI" else 26 if vr == "DT" else 16):
                return f"it takes {wanted}"
        groups = part.split("=") if vr == "PN" else [part]
        if vr == "PN" and (len(groups) > 3 or any(g.count("^") > 4 for g in groups)):
            return "a name has at most five parts (FAMILY^Given^Middle^Prefix^Suffix) in at most three groups"
        if any(len(g) > LONGEST.get(vr, 2**32) for g in groups):
            return f"it takes at most {LONGEST[vr]:,} characters"
        control = set(map(chr, range(32))) - ({"\n", "\r", "\t", "\f", "\x1b"} if vr in WHOLE or vr == "UC" else set())
        if control & set(part):
            return "it has a control character in it"
    return ""


def _number_fault(vr: str, text: str) -> str:
    for part in text.split("\\") if text else ():
        try:
            number = float(part) if vr in FLOATS else int(part)
        except ValueError:
            return "it takes a number" if vr in FLOATS else "it takes a whole number"
        if vr in INTEGERS and not INTEGERS[vr][0] <= number <= INTEGERS[vr][1]:
            return f"it takes numbers from {INTEGERS[vr][0]:,} to {INTEGERS[vr][1]:,}"
    return ""


def converted(vr: str, text: str) -> Any:
    """A text as pydicom takes the value."""
    if vr in WHOLE:
        return text
    if vr not in INTEGERS and vr not in FLOATS:
        return text.split("\\") if "\\" in text else text
    numbers = [float(p) if vr in FLOATS else int(p) for p in text.split("\\")] if text else []
    return numbers[0] if len(numbers) == 1 else numbers or None


def shown(element: Any) -> str:
    """The value of an element as a text that can be set again; values are parted by a backslash."""
    value = element.value
    if value is None or element.VR in ("SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"):
        return ""
    return "\\".join(str(v) for v in value) if element.VM > 1 else str(value)


def put(dataset: Dataset, item: Dataset, tag: int, vr: str, text: str, name: str) -> None:
    """Set a value in the data set or in an item of one of its sequences.

    Parameters
    ----------
    dataset : Dataset
        Of the top level: its Specific Character Set counts, and is widened where the text needs that.
    name : str
        The tag as people know it, for messages.

    Raises
    ------
    StepError
        The image's character set has no room for the text.
    """
    from pydicom.dataelem import DataElement

    if vr in WIDE and not text.isascii():
        _make_room(dataset, text, name)
    item[tag] = DataElement(tag, vr, converted(vr, text))


def _make_room(dataset: Dataset, text: str, name: str) -> None:
    from pydicom.charset import convert_encodings

    named = dataset.get("SpecificCharacterSet")
    names = [n for n in ([named] if isinstance(named, str) else list(named or ())) if n]
    if names and names != ["ISO_IR 6"]:
        for encoding in convert_encodings(names):
            try:
                text.encode(encoding)
            except (UnicodeEncodeError, LookupError):
                continue
            return
        raise StepError(
            f"The new value of {name} has letters that the image's character set ({', '.join(names)}) doesn't have.",
            "Write the value with the letters of that character set.",
            code="step-character-set",
        )
    if not all(_is_plain(element) for element in dataset.iterall()):
        raise StepError(
            f"The new value of {name} has letters beyond ASCII, and the image has such letters already without saying "
            "in which character set.",
            "Write the value in ASCII, or set SpecificCharacterSet to what the images really have, in a step before.",
            code="step-character-set",
        )
    dataset.SpecificCharacterSet = UTF8  # ASCII means the same in it


def recode(dataset: Dataset, name: str) -> None:
    """Before the Specific Character Set is set: its texts are decoded by the one that the image names.

    Where it names none, the new one says what the texts are in, and they stay as they are.

    Raises
    ------
    StepError
        The new one may lack letters of the old one.
    """
    if not dataset.get("SpecificCharacterSet"):
        return
    if name != UTF8:
        raise StepError(
            f"The image names its character set, and {name} may not have all of its letters.",
            f"Images that name a character set can be brought to {UTF8} only.",
            code="step-character-set",
        )
    dataset.decode()


def _is_plain(element: Any) -> bool:
    return element.VR not in WIDE or shown(element).isascii()
