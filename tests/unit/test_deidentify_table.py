"""Every row of PS3.15 Table E.1-1, under the Basic Profile and under each option, at the top and within sequences."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset

from core.steps.deidentify.profile import Action, Option, attributes, content_items, resolved, safe_private, type_of
from core.steps.deidentify.pseudonyms import Pseudonyms
from tests.support.deidentifying import KEY, UID_ROOT, as_bytes, as_read, ct_image, opened, traces

MARK = "GNUKUDU"  # in every text; nowhere else
DAY, OLD_UID = "20230815", UID_ROOT + "77.1"
PSEUDONYMS = Pseudonyms(bytes.fromhex(KEY))
FIELD_OF = {
    Option.UIDS: {"keep_uids": True},
    Option.DEVICE: {"keep_device": True},
    Option.INSTITUTION: {"keep_institution": True},
    Option.PATIENT: {"keep_patient": True},
    Option.FULL_DATES: {"dates": "keep"},
    Option.MODIFIED_DATES: {"dates": "shift"},
    Option.DESCRIPTORS: {"keep_descriptors": True},
    Option.STRUCTURED: {"keep_content": True},
    Option.GRAPHICS: {"keep_graphics": True},
    Option.SAFE_PRIVATE: {"keep_private": True},
}
# What the step itself sets, what no data set may hold, and what is refused before the work begins.
NOT_HERE = {0x00420011, 0x00280303} | {t for t in attributes() if t >> 16 in (0x0000, 0x0002, 0x0004)}
SETTINGS = [None, *Option]


def vr_of(tag: int) -> str:
    """By pydicom's dictionary; a few rows are younger than that, and of which kind they are makes no difference."""
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return "LO"


def value_for(tag: int, vr: str) -> Any:
    """A value of this kind that would tell something."""
    match vr:
        case "AE" | "CS" | "SH" | "LO" | "UC":
            return MARK
        case "PN":
            return f"{MARK}^{MARK}"
        case "LT" | "ST" | "UT":
            return f"seen by Dr {MARK} on 15.08.2023"
        case "DA":
            return DAY
        case "DT":
            return DAY + "091011"
        case "TM":
            return "091011"
        case "UI":
            return OLD_UID
        case "UR":
            return f"https://{MARK.lower()}.example/1"
        case "AS":
            return "067Y"
        case "IS" | "DS":
            return "8675309"
        case "SQ":
            return [an_item()]
        case "FD" | "FL":
            return 8675309.0
        case "OB" | "OW" | "UN":
            return MARK.encode() + b"\0"
        case _:
            return 40961


def an_item() -> Dataset:
    item = Dataset()
    item.PersonName = f"{MARK}^{MARK}"
    item.ReferencedSOPInstanceUID = OLD_UID
    item.ValueType, item.TextValue = "TEXT", f"{MARK} was here"
    return item


def holder(tag: int) -> Dataset:
    ds = Dataset()
    ds.add_new(tag, vr_of(tag), value_for(tag, vr_of(tag)))
    return ds


def image_with(tag: int) -> Dataset:
    ds = ct_image()
    ds.add_new(tag, vr_of(tag), value_for(tag, vr_of(tag)))
    ds.ReferencedSeriesSequence = [holder(tag)]  # in no table: what is in it is judged one by one
    # MARK is a name that the image tells, so that cleaning by its words has something to find
    ds.OtherPatientNames = f"{MARK}^X"
    return ds


def shifted(value: str) -> str:
    days = PSEUDONYMS.days("id\0PID-4711-0815")
    moved = dt.date(int(value[:4]), int(value[4:6]), int(value[6:8])) + dt.timedelta(days=days)
    return moved.strftime("%Y%m%d") + value[8:]


def complaint(tag: int, action: Action, ds: Dataset, option: Option | None) -> str:
    """What is wrong with the attribute after the step; empty if it is as the action says."""
    vr = vr_of(tag)
    if action is Action.REMOVE:
        return "still there" if tag in ds else ""
    if tag not in ds:
        return "missing"
    element, before = ds[tag], value_for(tag, vr)
    if tag in (0x00100010, 0x00100020):
        return "" if str(element.value).startswith("ANON-") else f"no pseudonym: {element.value}"
    if vr == "SQ":
        return sequence_complaint(tag, action, element.value)
    match action:
        case Action.ZERO:
            return "" if element.is_empty else f"not empty: {element.value}"
        case Action.DUMMY:
            return "" if not element.is_empty and element.value != before else f"not replaced: {element.value}"
        case Action.UID:
            return "" if element.value == PSEUDONYMS.uid(OLD_UID) else f"not mapped: {element.value}"
        case Action.KEEP:
            return "" if element.value == before else f"not kept: {element.value}"
        case Action.CLEAN if option is Option.MODIFIED_DATES and vr in ("DA", "DT"):
            return "" if element.value == shifted(before) else f"not shifted: {element.value}"
        case _:
            return ""  # that nothing of it is left is looked for in the bytes


def sequence_complaint(tag: int, action: Action, items: Any) -> str:
    if action is Action.ZERO:
        return "" if not items else "not empty"
    if action in (Action.DUMMY, Action.UID) and not items:
        return "no item"
    for item in items:
        if MARK in str(item):
            return "its item tells the name"
        if action in (Action.UID, Action.KEEP) and "ReferencedSOPInstanceUID" not in item:
            return "its item was not kept"
    return ""


@pytest.mark.parametrize("option", SETTINGS, ids=lambda o: o.value if o else "basic")
def test_every_row_of_the_table_is_as_its_action_says(option: Option | None):
    step = opened(**FIELD_OF[option] if option else {})
    chosen = frozenset({option} if option else ())
    wrong = []
    for tag, row in attributes().items():
        if tag in NOT_HERE or (option and row.under(chosen) == row.basic):  # then it is as the first test says
            continue
        ds = image_with(tag)
        step.apply(ds)
        code = row.under(chosen)
        top = resolved(code, type_of(tag, ds.SOPClassUID))
        nested = resolved(code, None)
        for where, action, found in (("top", top, ds), ("nested", nested, ds.ReferencedSeriesSequence[0])):
            if said := complaint(tag, effective(action, row.basic, option, tag, where, ds), found, option):
                wrong.append(f"{tag:08X} {keyword_for_tag(tag)} {where} {code}: {said}")
        if not keeps(top, nested, vr_of(tag)) and traces(as_bytes(ds), MARK):
            wrong.append(f"{tag:08X} {keyword_for_tag(tag)} {code}: the name is in the file")
    assert not wrong, "\n".join(wrong)


def keeps(top: Action, nested: Action, vr: str) -> bool:
    return Action.KEEP in (top, nested) and vr != "SQ"


def effective(action: Action, basic: str, option: Option | None, tag: int, where: str, ds: Dataset) -> Action:
    """Where the step does more than the option asks: what can't be cleaned by rule is done as without the option."""
    vr = vr_of(tag)
    if action is not Action.CLEAN:
        return action
    by_rule = vr in ("AE", "CS", "LO", "PN", "SH", "SQ", "DA", "DT", "TM") or tag == 0x00080201
    return action if by_rule else resolved(basic, type_of(tag, ds.SOPClassUID) if where == "top" else None)


def test_the_tables_are_whole():
    """As many rows as the standard's tables have (E.1-1 without repeating groups and the row of private ones)."""
    rows = attributes()
    assert len(rows) == 652
    assert sum(1 for row in rows.values() if row.options) == 445
    assert len(safe_private()) == 479
    assert len({id(row) for row in content_items().values()}) == 211


def test_a_row_with_new_uids_keeps_them_on_request():
    """But for those of signatures and of content items, which have rules of their own."""
    others = {tag for tag, row in attributes().items() if row.basic == "U" and Option.UIDS not in row.options}
    assert others == {0x04000100, 0x0040A124}


@pytest.mark.parametrize("group", [0x5000, 0x5002, 0x501E, 0x6000, 0x6002, 0x601E])
def test_curves_and_overlays_go_as_a_whole(group: int):
    ds = ct_image()
    ds.add_new((group, 0x0010), "US", 2)
    ds.add_new((group, 0x3000), "OW", MARK.encode() + b"\0")
    ds.add_new((group, 0x4000), "LT", MARK)
    ds.add_new((group, 0x0022), "LO", MARK)
    for fields in ({}, {"keep_graphics": True}):
        out = as_read(ds)
        opened(**fields).apply(out)
        assert not [element.tag for element in out if element.tag.group == group]
        assert not traces(as_bytes(out), MARK)


@pytest.mark.parametrize(
    ("code", "kind", "action"),
    [
        ("X/Z", "3", "X"), ("X/Z", "2", "Z"), ("X/Z", None, "Z"), ("X/D", "3", "X"), ("X/D", "1", "D"),
        ("X/D", "1C", "D"), ("X/D", None, "D"), ("X/Z/D", "3", "X"), ("X/Z/D", "2C", "Z"), ("X/Z/D", "1", "D"),
        ("X/Z/D", None, "D"), ("Z/D", "2", "Z"), ("Z/D", "1", "D"), ("Z/D", None, "D"), ("X/Z/U*", "3", "X"),
        ("X/Z/U*", "2", "Z"), ("X/Z/U*", "1", "U"), ("X/Z/U*", None, "U"), ("X", None, "X"), ("K", "1", "K"),
    ],
)  # fmt: skip
def test_a_choice_of_actions_is_made_by_the_type_of_the_attribute(code, kind, action):
    assert resolved(code, kind) == action


def test_what_an_iod_requires_keeps_its_place():
    """Content Date is required in an enhanced CT (type 1C: kept with a dummy), of type 2 in a CT: empty."""
    assert type_of(0x00080012, "1.2.840.10008.5.1.4.1.1.2") == "3"
    assert type_of(0x0008002A, "1.2.840.10008.5.1.4.1.1.2.1") in ("1", "1C")
    assert type_of(0x0008002A, "1.2.3.4") is None
