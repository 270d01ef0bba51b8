"""Content items of structured reports and the like: cleaned by concept (PS3.15 E.3.4), or replaced as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.steps.deidentify.profile import Action, ContentKey, Option, Row, content_items, resolved
from core.steps.deidentify.values import DUMMY_DATES, put, texts
from core.steps.deidentify.words import REMOVED

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CONTENT = 0x0040A730
STRUCTURED = frozenset({CONTENT, 0x00400555, 0x00400610, 0x0040B020})  # those with an action for the option
_VALUE_TYPE, _CONCEPT, _CODE, _SCHEME = 0x0040A040, 0x0040A043, 0x00080100, 0x00080102
TEXT_VALUE, _PERSON, _UID = 0x0040A160, 0x0040A123, 0x0040A124
_DATE_VALUES = {"DATE": (0x0040A121, "DA"), "TIME": (0x0040A122, "TM"), "DATETIME": (0x0040A120, "DT")}
VALUES = frozenset({TEXT_VALUE, _PERSON, _UID, *(tag for tag, _ in _DATE_VALUES.values())})
_SUBJECT_NAME, _SUBJECT_ID = ("DCM", "121029"), ("DCM", "121030")


@dataclass(frozen=True, slots=True)
class Hands:
    """What cleaning an item needs of the work on the whole image."""

    options: frozenset[Option]
    walk: Callable[[Dataset, frozenset[int]], None]  # all attributes of an item but those named
    map_uid: Callable[[str], str]
    shift: Callable[[Dataset, int, str], None]
    clean: Callable[[str], str]
    pseudonym: str


def clean_items(items: list[Dataset], hands: Hands) -> list[Dataset]:
    """The items that stay, cleaned in place with all that lies below them."""
    return [item for item in items if _cleaned(item, hands)]


def _cleaned(item: Dataset, hands: Hands) -> bool:
    kind = _one(item, _VALUE_TYPE)
    concept = _concept(item)
    row = content_items().get(ContentKey(*concept, kind)) if concept else None
    action = resolved((row or _unlisted(kind, hands.options)).under(hands.options), None)
    if action is Action.REMOVE:
        return False
    if action is not Action.KEEP:
        _put_value(item, kind, action, concept, hands)
    hands.walk(item, VALUES)
    return True


def _unlisted(kind: str, options: frozenset[Option]) -> Row:
    """Of an item that the table doesn't name: values that are data stay, free text, names, dates and UIDs don't."""
    dates = {Option.FULL_DATES: Action.KEEP, Option.MODIFIED_DATES: Action.CLEAN}
    match kind:
        case "TEXT":
            return Row("D", {Option.DESCRIPTORS: Action.CLEAN})
        case "PNAME":
            return Row("D", {})
        case "DATE" | "TIME" | "DATETIME":
            return Row("D", dates)
        case "UIDREF":
            return Row("U", {Option.UIDS: Action.KEEP})
        case _:
            # Items without a value type (specimen preparation, waveform annotation) may hold any value attribute.
            return Row("D", {}) if not kind else Row("K", {})


def _put_value(item: Dataset, kind: str, action: Action, concept: tuple[str, str] | None, hands: Hands) -> None:
    if TEXT_VALUE in item:
        said = " ".join(texts(item, TEXT_VALUE))
        new = hands.clean(said) if action is Action.CLEAN else REMOVED
        put(item, TEXT_VALUE, "UT", hands.pseudonym if concept == _SUBJECT_ID else new or REMOVED)
    if _PERSON in item:
        put(item, _PERSON, "PN", hands.pseudonym if concept == _SUBJECT_NAME else "ANONYMIZED")
    for tag, vr in _DATE_VALUES.values():
        if tag not in item:
            continue
        if action is Action.CLEAN:
            hands.shift(item, tag, vr)
        else:
            put(item, tag, vr, DUMMY_DATES[vr])
    if _UID in item:
        put(item, _UID, "UI", [hands.map_uid(uid) for uid in texts(item, _UID)])


def dummy_content() -> list[Dataset]:
    """D for Content Sequence: one item that says that there is nothing any more."""
    from pydicom.dataset import Dataset

    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121106", "DCM", "Comment"
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "TEXT"
    item.ConceptNameCodeSequence = [concept]
    item.TextValue = REMOVED
    return [item]


def _concept(item: Dataset) -> tuple[str, str] | None:
    named = item[_CONCEPT].value if _CONCEPT in item else None
    if not named:
        return None
    return _one(named[0], _SCHEME), _one(named[0], _CODE)


def _one(dataset: Dataset, tag: int) -> str:
    found = texts(dataset, tag)
    return found[0].strip() if found else ""
