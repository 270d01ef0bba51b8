"""The tables of PS3.15 Annex E: what is done with which attribute under which options.

The Basic Profile's column of Table E.1-1 is that of the library dicom-anonymizer (edition 2026c). What it lacks lies
in ``resources/deidentification``: the options' columns of the same table (``options.csv``, edition 2026a), Table
E.3.4-1 (``content_items.csv``, 2026a), Table E.3.10-1 (``safe_private.csv``, 2026a), and the types that attributes
with a choice of actions have in the IODs of PS3.3 (``types.csv``).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

EDITION = "2026c"
_STORAGE = "1.2.840.10008.5.1.4.1.1."  # begins most Storage SOP classes: left out in types.csv


class Option(StrEnum):
    """Options of the profile (PS3.15 E.3), by the columns of the tables."""

    UIDS = "uids"
    DEVICE = "device"
    INSTITUTION = "institution"
    PATIENT = "patient"
    FULL_DATES = "full_dates"
    MODIFIED_DATES = "modified_dates"
    DESCRIPTORS = "descriptors"
    STRUCTURED = "structured"
    GRAPHICS = "graphics"
    SAFE_PRIVATE = "safe_private"


class Action(StrEnum):
    """Action codes of Table E.1-1a that stand alone."""

    REMOVE = "X"
    ZERO = "Z"
    DUMMY = "D"
    KEEP = "K"
    CLEAN = "C"
    UID = "U"


@dataclass(frozen=True, slots=True)
class Row:
    """What the Basic Profile says, and what options say instead."""

    basic: str
    options: Mapping[Option, Action]

    def under(self, options: frozenset[Option]) -> str:
        """The action code under these options; where they differ, cleaning goes before keeping."""
        said = {action for option, action in self.options.items() if option in options}
        if Action.CLEAN in said:
            return Action.CLEAN
        return Action.KEEP if said else self.basic


@dataclass(frozen=True, slots=True)
class ContentKey:
    """By what Table E.3.4-1 names content items."""

    scheme: str
    code: str
    value_type: str


def _lines(name: str) -> Iterator[dict[str, str]]:
    text = resources.files("resources").joinpath("deidentification", name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def _options(line: Mapping[str, str]) -> dict[Option, Action]:
    return {option: Action(line[option]) for option in Option if line.get(option)}


@cache
def attributes() -> Mapping[int, Row]:
    """Table E.1-1 by tag, without its rows for repeating groups and private attributes."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as library

    options: dict[int, dict[Option, Action]] = {}
    for line in _lines("options.csv"):
        if "x" not in line["tag"]:
            options[int(line["tag"], 16)] = _options(line)
    columns = {
        "D": library.D_TAGS,
        "Z": library.Z_TAGS,
        "X": library.X_TAGS,
        "U": library.U_TAGS,
        "Z/D": library.Z_D_TAGS,
        "X/Z": library.X_Z_TAGS,
        "X/D": library.X_D_TAGS,
        "X/Z/D": library.X_Z_D_TAGS,
        "X/Z/U*": library.X_Z_U_STAR_TAGS,
    }
    found: dict[int, Row] = {}
    for basic, tags in columns.items():
        for parts in tags:
            if len(parts) == 2:
                tag = parts[0] << 16 | parts[1]
                found[tag] = Row(basic, options.get(tag, {}))
    return found


@cache
def content_items() -> Mapping[ContentKey, Row]:
    """Table E.3.4-1, by today's code and by the retired SNOMED code of the same concept."""
    found: dict[ContentKey, Row] = {}
    for line in _lines("content_items.csv"):
        row = Row(line["basic"], _options(line))
        found[ContentKey(line["scheme"], line["code"], line["value_type"])] = row
        if line["retired_code"]:
            for scheme in ("SRT", "SNM3", "99SDM"):
                found[ContentKey(scheme, line["retired_code"], line["value_type"])] = row
    return found


@cache
def safe_private() -> frozenset[tuple[str, int, int]]:
    """Table E.3.10-1: private creator, group, and element within the creator's block."""
    return frozenset(
        (line["creator"], int(line["group"], 16), int(element, 16))
        for line in _lines("safe_private.csv")
        for element in line["elements"].split()
    )


@cache
def _types() -> tuple[frozenset[str], Mapping[tuple[str, int], str]]:
    known: frozenset[str] = frozenset()
    found: dict[tuple[str, int], str] = {}
    for line in _lines("types.csv"):
        if not line["tag"]:
            known = frozenset(line["classes"].split())
            continue
        for sop_class in line["classes"].split():
            found[sop_class, int(line["tag"], 16)] = line["type"]
    return known, found


def type_of(tag: int, sop_class: str) -> str | None:
    """Type (1, 1C, 2, 2C or 3) of an attribute at the top level of an IOD; None where it isn't known."""
    known, found = _types()
    short = sop_class.removeprefix(_STORAGE)
    return found.get((short, tag), "3") if short in known else None


def resolved(code: str, kind: str | None) -> Action:
    """One action of a code that gives a choice by the attribute's type (Table E.1-1a).

    Where the type isn't known the attribute may be required: it keeps a place, without what identifies.
    """
    match code, kind:
        case (("X/Z" | "X/D" | "X/Z/D" | "X/Z/U*"), "3"):
            return Action.REMOVE
        case "X/Z", _:
            return Action.ZERO
        case (("X/Z/D" | "X/Z/U*"), ("2" | "2C")):
            return Action.ZERO
        case "X/Z/U*", _:
            return Action.UID
        case "Z/D", ("2" | "2C" | "3"):
            return Action.ZERO
        case (("Z/D" | "X/D" | "X/Z/D"), _):
            return Action.DUMMY
        case _:
            return Action(code)
