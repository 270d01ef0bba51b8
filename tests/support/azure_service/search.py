"""QIDO-RS: searching studies, series and instances, in pages of at most 200."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydicom.datadict

from tests.support.azure_service import shelf
from tests.support.azure_service.listener import Request
from tests.support.azure_service.shelf import Held
from tests.support.azure_service.store import DICOM_JSON

if TYPE_CHECKING:
    from tests.support.azure_service.service import AzureService

MOST, USUAL = 200, 100
_SEARCHABLE = {
    "study": (
        "0020000D",
        "00100010",
        "00100020",
        "00100030",
        "00080050",
        "00080090",
        "00080020",
        "00081030",
        "00080061",
    ),
    "series": ("0020000E", "00080060", "00400244", "00081090"),
    "instance": ("00080018",),
}
_LEVELS = ("study", "series", "instance")
_RETURNED = {
    "study": (shelf.STUDY_TAGS, shelf.MORE_STUDY_TAGS),
    "series": (shelf.SERIES_TAGS, shelf.MORE_SERIES_TAGS),
    "instance": (shelf.INSTANCE_TAGS, shelf.MORE_INSTANCE_TAGS),
}
_COUNTED = {"study": "00201206", "series": "00201209"}


class BadQuery(Exception):  # noqa: N818 - an answer of the service
    """400, with the sentence."""


@dataclass
class Query:
    """A search request, understood."""

    level: str
    given: tuple[str, ...]  # UIDs in the path
    matches: list[tuple[str, str]]
    include: set[str]
    everything: bool
    limit: int = USUAL
    offset: int = 0
    fuzzy: bool = False


def answer(service: AzureService, request: Request, level: str, given: tuple[str, ...]) -> None:
    """``GET /v2/studies?…`` and its relatives."""
    accept = request.headers.get("Accept", "*/*")
    if not any(kind in accept for kind in (DICOM_JSON, "*/*", "application/*")):
        request.answer(406, "The Accept header is not supported.")
        return
    try:
        query = understood(request, level, given)
    except BadQuery as error:
        request.answer(400, str(error))
        return
    held = service.shelf.find(*given, searched=True)
    depth = _LEVELS.index(level) + 1
    groups: dict[tuple[str, ...], list[Held]] = {}
    for one in held:
        groups.setdefault(one.key[:depth], []).append(one)
    rows = [group for group in groups.values() if any(_matches(one, query) for one in group)]
    rows.sort(key=lambda group: group[0].key)
    page = rows[query.offset : query.offset + query.limit]
    if not page:
        request.answer(204)
        return
    request.answer_json(200, [_row(query, group, held) for group in page], DICOM_JSON)


def understood(request: Request, level: str, given: tuple[str, ...]) -> Query:
    query = Query(level, given, [], set(), False)
    first = len(given)  # levels above the path's UIDs can't be searched by
    searchable = {tag for name in _LEVELS[first : _LEVELS.index(level) + 1] for tag in _SEARCHABLE[name]}
    for name, value in request.query:
        plain = name.lower()
        if plain in ("limit", "offset"):
            number = int(value) if value.isdigit() else -1
            if plain == "limit" and not 1 <= number <= MOST:
                raise BadQuery(f"The specified limit value {value} is outside the allowed range of [1..{MOST}].")
            if number < 0:
                raise BadQuery(f"The specified offset value {value} is not valid.")
            setattr(query, plain, number)
        elif plain == "includefield":
            for field in value.split(","):
                if field == "all":
                    query.everything = True
                else:
                    query.include.add(tag_of(field))
        elif plain == "fuzzymatching":
            query.fuzzy = value.lower() == "true"
        else:
            tag = tag_of(name)
            if tag not in searchable:
                raise BadQuery(f"Cannot search by {name} at this level.")
            if not value:
                raise BadQuery(f"The value of {name} is empty.")
            query.matches.append((tag, value))
    return query


def tag_of(name: str) -> str:
    if len(name) == 8 and all(c in "0123456789abcdefABCDEF" for c in name):
        return name.upper()
    tag = pydicom.datadict.tag_for_keyword(name)
    if tag is None:
        raise BadQuery(f"Unknown attribute {name}.")
    return f"{tag:08X}"


def _matches(held: Held, query: Query) -> bool:
    return all(_match(held, tag, value, query.fuzzy) for tag, value in query.matches)


def _match(held: Held, tag: str, value: str, fuzzy: bool) -> bool:
    have = held.first("00080060") if tag == "00080061" else held.first(tag)
    if tag in ("00080020", "00100030") and "-" in value:
        begin, _, end = value.partition("-")
        return bool(have) and (not begin or have >= begin) and (not end or have <= end)
    if fuzzy and tag in ("00100010", "00080090"):
        words = have.replace("^", " ").lower().split()
        return all(any(word.startswith(part) for word in words) for part in value.lower().replace("^", " ").split())
    return have.lower() == value.lower()  # "Exact Match": no wildcards, no lists of UIDs


def _row(query: Query, group: list[Held], held: list[Held]) -> dict[str, Any]:
    wanted: set[str] = {tag for tag, _ in query.matches} | {shelf.STUDY}
    for name in _LEVELS[len(query.given) : _LEVELS.index(query.level) + 1]:
        usual, more = _RETURNED[name]
        wanted.update(usual)
        wanted.update(more if query.everything else set(more) & query.include)
    wanted.update(shelf.SERIES for _ in query.given[1:])
    row = {tag: value for tag, value in group[0].attributes.items() if tag in wanted}
    for level, tag in _COUNTED.items():
        if level == query.level and tag in query.include:
            row[tag] = {"vr": "IS", "Value": [len(group)]}
    if query.level == "study" and "00080061" in query.include | {tag for tag, _ in query.matches}:
        row["00080061"] = {"vr": "CS", "Value": sorted({one.first("00080060") for one in group})}
    return dict(sorted(row.items()))
