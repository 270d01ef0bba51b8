"""The work on one image: every element at every level judged by the tables, what no table names by its kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.steps.base import StepError
from core.steps.deidentify import content, doubts, private
from core.steps.deidentify.dates import shifted
from core.steps.deidentify.profile import Action, Option, Row, attributes, resolved, type_of
from core.steps.deidentify.values import (
    DATES,
    DUMMY_DATES,
    SHORT,
    dummy,
    is_empty,
    is_large,
    mapped,
    put,
    texts,
    vr_of,
    zero,
)
from core.steps.deidentify.words import REMOVED, Identity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PATIENT_NAME, PATIENT_ID, ISSUER, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100021, 0x00100030
GRAPHICS = 0x00700001
_TIMEZONE = 0x00080201
_CHARACTER_SET = 0x00080005
# Not in the tables, and yet a way back: what was encrypted before, and what signatures were made of.
_WAYS_BACK = frozenset({0x04000500, 0x4FFE0001})
_URLS_OF_SCHEMES = frozenset({0x0008010E, 0x00080120})
_CODES = frozenset({0x00080100, 0x00080104, 0x00080119})
_SCHEME = 0x00080102
_DIGITS = b"0123456789+-.eE \\\0"
_FREE = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_LONG = frozenset({"LT", "ST", "UT"})
# Not in the tables either: the birth date in another calendar, and who is to be called.
_TELLING = frozenset({0x00100033, 0x00100034, 0x00100035, 0x0074100C, 0x21000160})
# Whole values that tell who it is, wherever else they are repeated; and who keeps them.
_NUMBERS: Mapping[int, Option | None] = {
    PATIENT_ID: None, 0x00101000: None, 0x00080050: None, 0x00200010: None, 0x00380010: None, 0x00380060: None,
    0x00401001: None, 0x00400009: None, 0x00400253: None, 0x00402016: None, 0x00402017: None, 0x00101090: None,
    0x00101050: None, 0x00101040: None, 0x00102154: None, 0x00120040: None,
    0x00080080: Option.INSTITUTION, 0x00080081: Option.INSTITUTION, 0x00081040: Option.INSTITUTION,
    0x00181000: Option.DEVICE, 0x00081010: Option.DEVICE,
}  # fmt: skip
_DAYS = (0x00080020, 0x00080021, 0x00080022, 0x00080023)


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for all images of a job.

    Attributes
    ----------
    codes : Mapping[int, str]
        Table E.1-1 under the options: the action code by tag.
    kept : frozenset[int]
        Tags that a person wants as they are.
    """

    options: frozenset[Option]
    codes: Mapping[int, str]
    kept: frozenset[int]
    map_uid: Callable[[str], str]


def plan(options: frozenset[Option], kept: frozenset[int], map_uid: Callable[[str], str]) -> Plan:
    return Plan(options, {tag: row.under(options) for tag, row in attributes().items()}, kept, map_uid)


class Work:
    """One image being de-identified.

    Parameters
    ----------
    pseudonym : Callable[[str], str]
        Of a Patient ID that stands somewhere in the image.
    patient : str
        The pseudonym of the patient whose image it is.
    days : int
        By which this patient's dates move.

    Attributes
    ----------
    counts : Counter[str]
        How many attributes were removed, replaced, cleaned, and so on.
    """

    def __init__(self, given: Plan, dataset: Dataset, pseudonym: Callable[[str], str], patient: str, days: int) -> None:
        self._plan = given
        self._dataset = dataset
        self._pseudonym = pseudonym
        self._patient = patient
        self._days = days
        self._sop_class = (texts(dataset, 0x00080016) or [""])[0]
        self._identity = Identity()
        self._declared: private.Declared = {}
        self.counts: Counter[str] = Counter()

    def do(self) -> None:
        """Change the data set in place."""
        self._learn(self._dataset)
        if Option.SAFE_PRIVATE in self._plan.options:
            self._declared = private.declared_safe(self._dataset)
        self._walk(self._dataset, top=True)
        put(self._dataset, PATIENT_NAME, "PN", self._patient)
        put(self._dataset, PATIENT_ID, "LO", self._patient)

    def cleaned(self, text: str, *, thorough: bool = True) -> str:
        """A text without all that tells who it is; `thorough` also without what looks like that."""
        return self._identity.cut_from(text, thorough=thorough)

    # who it is ---------------------------------------------------------------------------------------------

    def _learn(self, dataset: Dataset) -> None:
        """Gather, before anything is changed, what must not be left in any text."""
        for tag in sorted(dataset.keys()):
            if tag.group & 1:
                continue
            vr = vr_of(dataset, tag)
            if vr == "PN":
                for name in texts(dataset, tag):
                    self._identity.add_name(name)
            elif tag in _NUMBERS:
                if (keeper := _NUMBERS[tag]) is None or keeper not in self._plan.options:
                    for value in texts(dataset, tag):
                        self._identity.add_value(value)
            elif tag == BIRTH_DATE or (tag in _DAYS and Option.FULL_DATES not in self._plan.options):
                for value in texts(dataset, tag):
                    self._identity.add_date(value)
            elif vr == "SQ":
                for item in self._items(dataset, tag):
                    self._learn(item)

    def _items(self, dataset: Dataset, tag: int) -> list[Dataset]:
        from pydicom.dataset import Dataset as Item

        if is_large(dataset, tag) or not _ends_with_its_items(dataset.get_item(tag)):
            raise _unreadable(tag)
        value = dataset[tag].value
        if not value:
            return []
        items = [] if isinstance(value, bytes | str) else list(value)
        if not items or not all(isinstance(item, Item) for item in items):
            raise _unreadable(tag)
        return items

    # every element -----------------------------------------------------------------------------------------

    def _walk(self, dataset: Dataset, *, top: bool = False, but: frozenset[int] = frozenset()) -> None:
        for tag in sorted(dataset.keys()):
            if tag not in but:
                self._judge(dataset, tag, top)
        private.drop_unused_creators(dataset)
        private.keep_characteristics_of_what_is_left(dataset)

    def _judge(self, dataset: Dataset, tag: int, top: bool) -> None:
        group = tag >> 16
        if group & 1:
            self._judge_private(dataset, tag)
            return
        if tag in self._plan.kept:
            self.counts["kept on request"] += 1
            return
        vr = vr_of(dataset, tag)
        overlay = 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF  # curves and overlays
        if overlay or vr is None or self._has_no_place(tag):
            self._remove(dataset, tag, "overlays" if overlay else "removed")
            return
        row = attributes().get(tag)
        if tag == PATIENT_NAME and row is not None:
            put(dataset, tag, "PN", self._patient)
        elif tag == PATIENT_ID:
            own = texts(dataset, tag)
            put(dataset, tag, "LO", self._pseudonym(own[0]) if own and own[0] and not top else self._patient)
        elif row is None and not _is_known(tag):
            self._remove(dataset, tag, "unknown")
        elif row is None:
            self._judge_by_kind(dataset, tag, vr)
        else:
            action = resolved(self._plan.codes[tag], type_of(tag, self._sop_class) if top else None)
            self._act(dataset, tag, vr, action, row, top)

    @staticmethod
    def _has_no_place(tag: int) -> bool:
        """Group lengths, commands and file meta information within a data set; what tells or leads back."""
        return not tag & 0xFFFF or tag >> 16 in (0x0000, 0x0002) or tag in _WAYS_BACK | _TELLING

    def _judge_private(self, dataset: Dataset, tag: int) -> None:
        keeps = Option.SAFE_PRIVATE in self._plan.options
        if keeps and private.is_creator(tag):
            return  # removed afterwards, when nothing is left in its block
        if not keeps or not private.is_safe(dataset, tag, self._declared):
            self._remove(dataset, tag, "private")
            return
        vr = vr_of(dataset, tag)
        if is_large(dataset, tag):
            return
        if vr is not None:
            self._judge_by_kind(dataset, tag, vr)
        if tag in dataset and vr not in _FREE and self._tells(dataset, tag):
            self._remove(dataset, tag, "private")

    def _tells(self, dataset: Dataset, tag: int) -> bool:
        """Whether a value that no rule has looked into has somebody's name or number in it all the same."""
        value = dataset.get_item(tag).value
        return isinstance(value, bytes) and self._identity.in_bytes(value)

    def _act(self, dataset: Dataset, tag: int, vr: str, action: Action, row: Row, top: bool) -> None:
        match action:
            case Action.REMOVE:
                self._remove(dataset, tag, "removed")
            case Action.ZERO:
                zero(dataset, tag, vr)
                self.counts["emptied"] += 1
            case Action.DUMMY:
                self._dummy(dataset, tag, vr)
            case Action.KEEP if vr == "SQ":
                self._walk_items(dataset, tag)
            case Action.KEEP:
                if vr in _FREE and not is_empty(dataset, tag):
                    self._cut_kept(dataset, tag, vr)
            case Action.UID:
                if vr == "SQ":
                    self._walk_items(dataset, tag)
                else:
                    self._map(dataset, tag)
            case Action.CLEAN:
                self._clean(dataset, tag, vr, row, top)

    def _judge_by_kind(self, dataset: Dataset, tag: int, vr: str) -> None:
        """An attribute that Table E.1-1 doesn't name, or a private one that is safe."""
        if vr == "SQ":
            self._walk_items(dataset, tag)
        elif vr == "UI":
            if Option.UIDS not in self._plan.options and not _names_a_class(tag):
                self._map(dataset, tag)
        elif vr == "PN":
            zero(dataset, tag, vr)
        elif vr in DATES:
            if Option.MODIFIED_DATES in self._plan.options:
                self._shift(dataset, tag, vr)
            elif Option.FULL_DATES not in self._plan.options:
                self._dummy(dataset, tag, vr)
        elif vr == "UR":
            if tag not in _URLS_OF_SCHEMES:
                self._remove(dataset, tag, "removed")
        elif vr in _FREE:
            self._cut(dataset, tag, vr)
        elif vr in ("AE", "CS"):
            self._check_short(dataset, tag, vr)
        elif vr in ("IS", "DS") and self._is_no_number(dataset, tag):
            self._dummy(dataset, tag, vr)

    # what is done to one element ---------------------------------------------------------------------------

    def _remove(self, dataset: Dataset, tag: int, what: str) -> None:
        del dataset[tag]
        self.counts[what] += 1

    def _walk_items(self, dataset: Dataset, tag: int) -> None:
        for item in self._items(dataset, tag):
            self._walk(item)

    def _dummy(self, dataset: Dataset, tag: int, vr: str) -> None:
        self.counts["replaced"] += 1
        if tag == content.CONTENT:
            self.counts["content"] += 1
            put(dataset, tag, "SQ", content.dummy_content())
        elif tag == GRAPHICS:
            self._items(dataset, tag)
            put(dataset, tag, "SQ", [_point(item, self._walk) for item in dataset[tag].value])
        elif tag == doubts.ENCAPSULATED_DOCUMENT:
            put(dataset, tag, "OB", doubts.BLANK_PAGE)
        elif vr == "SQ":
            self._items(dataset, tag)
            dummy(dataset, tag, vr, self._plan.map_uid)
        else:
            dummy(dataset, tag, vr, self._plan.map_uid)

    def _map(self, dataset: Dataset, tag: int) -> None:
        old = texts(dataset, tag)
        new = [self._plan.map_uid(uid) for uid in old]
        if new != old:
            put(dataset, tag, "UI", mapped(old, self._plan.map_uid))
            self.counts["UIDs"] += len(new)

    def _shift(self, dataset: Dataset, tag: int, vr: str) -> None:
        if is_empty(dataset, tag) or vr == "TM":  # whole days: the time of day stays
            return
        new = [shifted(value, vr, self._days) for value in texts(dataset, tag)]
        if any(value is None for value in new):
            put(dataset, tag, vr, DUMMY_DATES[vr])
        else:
            put(dataset, tag, vr, new[0] if len(new) == 1 else new)
        self.counts["dates"] += 1

    def _clean(self, dataset: Dataset, tag: int, vr: str, row: Row, top: bool) -> None:
        if tag in content.STRUCTURED:
            items = content.clean_items(self._items(dataset, tag), self._hands())
            if items or tag != content.CONTENT:
                put(dataset, tag, "SQ", items)
            else:
                del dataset[tag]
            self.counts["cleaned"] += 1
        elif vr in DATES:
            self._shift(dataset, tag, vr)
        elif vr == "SQ":
            self._walk_items(dataset, tag)
        elif tag == _TIMEZONE and re.fullmatch(r"[+-]\d{4}", " ".join(texts(dataset, tag)).strip()):
            return
        elif vr in SHORT and not is_empty(dataset, tag):
            new = [self.cleaned(value) for value in texts(dataset, tag)]
            self.counts["cleaned"] += 1
            put(dataset, tag, vr, [_fitting(value, vr) for value in new])
        else:  # longer texts and anything else: nobody can say by rule that nothing is left in it
            action = resolved(row.basic, type_of(tag, self._sop_class) if top else None)
            self._act(dataset, tag, vr, action, row, top)

    def _hands(self) -> content.Hands:
        return content.Hands(
            self._plan.options,
            lambda item, but: self._walk(item, but=but),
            self._plan.map_uid,
            self._shift,
            self.cleaned,
            self._patient,
        )

    def _cut(self, dataset: Dataset, tag: int, vr: str) -> None:
        """Free text that the profile leaves: what this image itself tells of people and numbers goes.

        From longer texts, into which people write what they like, also what looks like such.
        """
        if is_large(dataset, tag):
            raise _unreadable(tag)
        if is_empty(dataset, tag):
            return
        if tag == content.TEXT_VALUE:  # outside of content that is cleaned by concept
            put(dataset, tag, vr, REMOVED)
            return
        if tag in _CODES and _is_of_the_standard(dataset):
            return
        thorough = vr in _LONG
        old = texts(dataset, tag)
        if thorough or any(self._identity.found_in(value) for value in old):
            new = [self._identity.cut_from(value, thorough=thorough) or REMOVED for value in old]
            if new == old:
                return
            put(dataset, tag, vr, new[0] if len(new) == 1 else new)
            self.counts["cleaned"] += 1

    def _cut_kept(self, dataset: Dataset, tag: int, vr: str) -> None:
        """What is kept stays whole, unless it tells the patient; that a hospital is called like somebody does not."""
        old = texts(dataset, tag)
        if any(self._identity.told_by(value) for value in old):
            new = [self._identity.cut_from(value, thorough=False) or REMOVED for value in old]
            put(dataset, tag, vr, new[0] if len(new) == 1 else new)
            self.counts["cleaned"] += 1

    @staticmethod
    def _is_no_number(dataset: Dataset, tag: int) -> bool:
        value = dataset.get_item(tag).value
        return isinstance(value, bytes) and bool(value.translate(None, _DIGITS))

    def _check_short(self, dataset: Dataset, tag: int, vr: str) -> None:
        """Codes and AE titles are data; one that is somebody's number is not."""
        if is_empty(dataset, tag) or tag == _CHARACTER_SET:
            return
        old = texts(dataset, tag)
        if any(self._identity.has_number(value) for value in old):
            put(dataset, tag, vr, "ANONYMIZED")
            self.counts["replaced"] += 1


def _fitting(value: str, vr: str) -> str:
    return value or ("ANONYMIZED" if vr in ("AE", "PN") else REMOVED)


def _is_known(tag: int) -> bool:
    """Whether the standard has such an attribute; of one that it hasn't, nobody can say what it tells."""
    from pydicom.datadict import dictionary_has_tag, repeater_has_tag

    return bool(dictionary_has_tag(tag) or repeater_has_tag(tag))


def _names_a_class(tag: int) -> bool:
    """UIDs of classes, transfer syntaxes, coding schemes and implementations: the same for everybody."""
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(tag)
    return any(part in keyword for part in ("SOPClass", "TransferSyntax")) or keyword in (
        "CodingSchemeUID",
        "ContextGroupExtensionCreatorUID",
        "ContextUID",
        "CreatorVersionUID",
        "MappingResourceUID",
    )


def _is_of_the_standard(item: Dataset) -> bool:
    """Whether a code is of a published scheme, whose meanings name no patient (private ones begin with 99)."""
    scheme = (texts(item, _SCHEME) or [""])[0].strip().upper()
    return bool(scheme) and scheme != "L" and not scheme.startswith("99")


def _point(item: Dataset, walk: Callable[..., None]) -> Dataset:
    """D for a graphic annotation: the same layer and images, and one point instead of what was drawn."""
    from pydicom.dataset import Dataset as Item

    for tag in (0x00700008, 0x00700009, 0x00700209):  # texts, graphics, compound graphics
        if tag in item:
            del item[tag]
    walk(item)
    point = Item()
    point.GraphicAnnotationUnits = "PIXEL"
    point.GraphicDimensions = 2
    point.NumberOfGraphicPoints = 1
    point.GraphicData = [1.0, 1.0]
    point.GraphicType = "POINT"
    item.GraphicObjectSequence = [point]
    return item


def _ends_with_its_items(element: Any) -> bool:
    """Whether a sequence still in bytes is made of items and nothing else (PS3.5 section 7.5): pydicom forgives all."""
    data = element.value
    if not element.is_raw or not isinstance(data, bytes):
        return True
    order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
    at = 0
    while at < len(data):
        group, number = (int.from_bytes(data[i : i + 2], order) for i in (at, at + 2))
        length = int.from_bytes(data[at + 4 : at + 8], order)
        if (group, number) != (0xFFFE, 0xE000) or at + 8 > len(data):
            return (group, number) == (0xFFFE, 0xE0DD) and at > 0
        if length == 0xFFFFFFFF:
            return True  # its end is found while it is taken apart
        at += 8 + length
    return at == len(data)


def _unreadable(tag: int) -> StepError:
    return StepError(
        "The image has a part that can't be taken apart, so it can't be de-identified and is not sent.",
        "Look at it at the source, or leave such images out by the job's filter.",
        detail=f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
        code="deidentify-unreadable",
    )
