"""Lists of studies to carry: accession numbers, Study Instance UIDs or patient IDs, from a file or typed in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from core.jobs.tables import NOT_TEXT, Cell, Row, read_table
from core.model.errors import ConfigurationError


class Identifier(StrEnum):
    """What the entries of a list are."""

    AUTO = "auto"
    ACCESSION = "accession"
    STUDY_UID = "study-uid"
    PATIENT_ID = "patient-id"


IDENTIFIER_WORDS = {
    Identifier.ACCESSION: "accession numbers",
    Identifier.STUDY_UID: "Study Instance UIDs",
    Identifier.PATIENT_ID: "patient IDs",
}
_HEADERS = {
    Identifier.ACCESSION: {
        "accession", "accessionnumber", "accessionno", "accessionnr", "accnr", "accno", "acc", "an", "anr",
        "auftragsnummer", "ordernumber", "00080050",
    },
    Identifier.STUDY_UID: {
        "studyuid", "studyinstanceuid", "siuid", "suid", "uid", "studyiuid", "studyinstance", "0020000d",
    },
    Identifier.PATIENT_ID: {
        "patientid", "patid", "pid", "patientnr", "patientno", "patientnumber", "patnr", "patientennummer",
        "patienten-id", "patientenid", "mrn", "00100020",
    },
}  # fmt: skip
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_LONGEST = 64
_SCIENTIFIC = re.compile(r"[0-9]+([.,][0-9]+)?E\+?[0-9]+", re.IGNORECASE)
_FORMULA_TEXT = re.compile(r'="(.*)"')
_WHOLE = re.compile(r"[0-9]+\.0")


class Refusal(StrEnum):
    """Why an entry is not looked for. The first four lose nothing; the others name something that can't be found."""

    BLANK = "blank"
    DUPLICATE = "duplicate"
    MERGED = "merged"
    HEADER = "header"
    WILDCARD = "wildcard"
    INVALID = "invalid"


HARMLESS = frozenset({Refusal.BLANK, Refusal.DUPLICATE, Refusal.MERGED, Refusal.HEADER})


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One value that is looked for; `row` counts from 1, as a spreadsheet does."""

    row: int
    value: str


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """One row that is not looked for; `reason` is a sentence for a person."""

    row: int
    value: str
    refusal: Refusal
    reason: str


@dataclass(frozen=True, slots=True)
class ListPreview:
    """What a list holds, for a person to look at before the job begins. It holds patient data.

    Attributes
    ----------
    identifier : Identifier
        What the entries are; never `AUTO`.
    column : str
        Name (or number) of the column that was taken; empty for a list that was typed in.
    columns : tuple[str, ...]
        All columns: their headings, or their numbers where there are none.
    """

    accepted: tuple[ListEntry, ...]
    refused: tuple[RefusedEntry, ...]
    identifier: Identifier
    column: str = ""
    columns: tuple[str, ...] = ()

    def counts(self) -> dict[Refusal, int]:
        """How many rows were refused, by reason."""
        found: dict[Refusal, int] = {}
        for one in self.refused:
            found[one.refusal] = found.get(one.refusal, 0) + 1
        return found

    @property
    def lost(self) -> tuple[RefusedEntry, ...]:
        """Rows that name something which is not looked for."""
        return tuple(one for one in self.refused if one.refusal not in HARMLESS)


def read_list(path: Path, column: str = "", identifier: Identifier = Identifier.AUTO) -> ListPreview:
    """Read a list from a CSV, text or Excel (.xlsx) file.

    Parameters
    ----------
    column : str
        Heading, number (from 1) or letter of the column; empty to recognise it.
    identifier : Identifier
        What the column holds; `AUTO` to tell it from its heading or its values.

    Raises
    ------
    ConfigurationError
        The file can't be read, there is no such column, or what it holds can't be told.
    """
    rows = [row for row in read_table(path) if row.cells]
    if not any(cell.text for row in rows for cell in row.cells):
        raise ConfigurationError(f"The list {path.name} is empty.", "Choose another file.", code="list-empty")
    chosen = _choose(rows, column.strip(), identifier, path.name)
    values = [(row.number, row.cell(chosen.index)) for row in rows]
    refused: list[RefusedEntry] = []
    if chosen.headed:
        head = next(n for n, (_row, cell) in enumerate(values) if any(c.text for c in rows[n].cells))
        row, cell = values.pop(head)
        refused.append(RefusedEntry(row, cell.text, Refusal.HEADER, "It is the heading of the column."))
        del rows[head]
    preview = judge_entries(values, _told(chosen, values, path.name))
    return replace(
        preview,
        refused=tuple(sorted((*refused, *preview.refused), key=lambda r: r.row)),
        column=chosen.name,
        columns=chosen.columns,
    )


def list_columns(path: Path) -> tuple[str, ...]:
    """What stands at the top of each column of a file, for a person to choose one.

    Raises
    ------
    ConfigurationError
        The file can't be read.
    """
    rows = read_table(path)
    first = next((row for row in rows if any(cell.text for cell in row.cells)), None)
    width = max((len(row.cells) for row in rows), default=0)
    return tuple(first.cell(n).text.strip() if first is not None else "" for n in range(width))


def typed_list(entries: Iterable[str], identifier: Identifier = Identifier.AUTO) -> ListPreview:
    """Judge entries that were typed or pasted, one each.

    Raises
    ------
    ConfigurationError
        What they are can't be told.
    """
    values = [(number, Cell(text.strip())) for number, text in enumerate(entries, 1)]
    if identifier is Identifier.AUTO:
        identifier = _by_values([cell.text for _row, cell in values], "the list")
    return judge_entries(values, identifier)


def judge_entries(values: Sequence[tuple[int, Cell]], identifier: Identifier) -> ListPreview:
    """Accept or refuse each value of a column, with the reason."""
    accepted: list[ListEntry] = []
    refused: list[RefusedEntry] = []
    seen: dict[str, int] = {}
    for row, cell in values:
        value = _cleaned(cell.text, identifier)
        found = _refusal(cell, value, identifier)
        if found is None and value in seen:
            found = Refusal.DUPLICATE, f"It stands in row {seen[value]} already."
        if found is not None:
            refused.append(RefusedEntry(row, value or cell.text, *found))
            continue
        seen[value] = row
        accepted.append(ListEntry(row, value))
    return ListPreview(tuple(accepted), tuple(refused), identifier)


def _cleaned(text: str, identifier: Identifier) -> str:
    """Without what spreadsheets put around a value."""
    value = text.replace("\xa0", " ").strip(" \t\r\n\0\ufeff")
    formula = _FORMULA_TEXT.fullmatch(value)
    if formula:  # ="00123": how a leading zero is kept in CSV files for Excel
        value = formula[1].strip()
    if value.startswith("'"):
        value = value[1:].strip()
    if identifier is not Identifier.STUDY_UID and _WHOLE.fullmatch(value):
        value = value[:-2]
    return value


def _refusal(cell: Cell, value: str, identifier: Identifier) -> tuple[Refusal, str] | None:
    if cell.merged_with:
        return Refusal.MERGED, f"The cell is merged with row {cell.merged_with}, which counts."
    if cell.trouble:
        return Refusal.INVALID, cell.trouble
    if not value:
        return Refusal.BLANK, "It is empty."
    if set(value) & set("*?"):
        return Refusal.WILDCARD, "It has a wildcard (* or ?), which would match other studies too."
    if "\\" in value or any(ord(c) < 32 or ord(c) == 127 for c in value):
        return Refusal.INVALID, "It has a character that no identifier has."
    if len(value) > _LONGEST:
        return Refusal.INVALID, f"It has more than {_LONGEST} characters."
    if value.upper() in NOT_TEXT:
        return Refusal.INVALID, "The spreadsheet shows an error in this cell."
    if _SCIENTIFIC.fullmatch(value):
        return (
            Refusal.INVALID,
            "The spreadsheet has shortened the number. Format the column as text and save the list again.",
        )
    if identifier is Identifier.STUDY_UID and not _UID.fullmatch(value):
        return Refusal.INVALID, "It is no UID: those are numbers with dots between them."
    return None


# which column ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    index: int
    name: str
    identifier: Identifier
    headed: bool
    columns: tuple[str, ...]


def _choose(rows: Sequence[Row], wanted: str, identifier: Identifier, file: str) -> _Column:
    first = next(row for row in rows if any(cell.text for cell in row.cells))
    width = max(len(row.cells) for row in rows)
    headings = [first.cell(n).text.strip() for n in range(width)]
    known = [_meaning(text) for text in headings]
    headed = any(known)
    index = _named(headings, known, wanted, width) if wanted else _recognised(known, identifier, rows, width)
    if index is None:
        names = ", ".join(f"“{h}”" for h in headings if h) if headed or wanted else f"1 to {width}"
        what = f"There is no column “{wanted}” in {file}." if wanted else f"Which column of {file} counts is not clear."
        raise ConfigurationError(what, f"Name one by its heading or number: {names}.", code="list-column")
    headed = headed or _is_heading(rows, first, index, wanted, headings[index])
    columns = tuple(h or str(n + 1) for n, h in enumerate(headings)) if headed else tuple(map(str, range(1, width + 1)))
    meaning = identifier if identifier is not Identifier.AUTO else known[index] or _meaning(wanted) or Identifier.AUTO
    return _Column(index, columns[index], meaning, headed, columns)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _meaning(heading: str) -> Identifier | None:
    return next((which for which, names in _HEADERS.items() if _plain(heading) in names), None)


def _named(headings: Sequence[str], known: Sequence[Identifier | None], wanted: str, width: int) -> int | None:
    """The column that a person means by a heading, a number or a letter."""
    plain = [_plain(h) for h in headings]
    if wanted.strip().casefold() in [h.casefold() for h in headings]:
        return [h.casefold() for h in headings].index(wanted.strip().casefold())
    if _plain(wanted) and _plain(wanted) in plain:
        return plain.index(_plain(wanted))
    if wanted.isdigit():
        return int(wanted) - 1 if 1 <= int(wanted) <= width else None
    meaning = _meaning(wanted)
    if meaning is not None and meaning in known:
        return known.index(meaning)
    if meaning is not None and width == 1:
        return 0
    if len(wanted) == 1 and wanted.isalpha() and wanted.isascii():
        index = ord(wanted.upper()) - ord("A")
        return index if index < width else None
    return None


def _recognised(
    known: Sequence[Identifier | None], identifier: Identifier, rows: Sequence[Row], width: int
) -> int | None:
    """The only column that can be meant; a UID says more than an accession number, and that more than a patient ID."""
    if identifier is not Identifier.AUTO:
        if identifier in known:
            return known.index(identifier)
        return 0 if width == 1 else None
    for which in (Identifier.STUDY_UID, Identifier.ACCESSION, Identifier.PATIENT_ID):
        if which in known:
            return known.index(which)
    if width == 1:
        return 0
    filled = [n for n in range(width) if any(row.cell(n).text for row in rows)]
    return filled[0] if len(filled) == 1 else None


def _is_heading(rows: Sequence[Row], first: Row, index: int, wanted: str, heading: str) -> bool:
    """Whether the first row is no entry: it was named as the column, or it alone has no digit."""
    if heading and wanted and _plain(wanted) == _plain(heading) and not wanted.isdigit():
        return True
    others = [row.cell(index).text for row in rows if row is not first and row.cell(index).text]
    return bool(heading and others) and not _has_digit(heading) and all(map(_has_digit, others))


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _told(chosen: _Column, values: Sequence[tuple[int, Cell]], file: str) -> Identifier:
    if chosen.identifier is not Identifier.AUTO:
        return chosen.identifier
    return _by_values([cell.text for _row, cell in values], file)


def _by_values(values: Sequence[str], where: str) -> Identifier:
    """UIDs are known by their form; the others are all alike."""
    cleaned = [v for v in (_cleaned(value, Identifier.STUDY_UID) for value in values) if v]
    uids = sum(1 for v in cleaned if v.count(".") >= 2 and _UID.fullmatch(v))
    if cleaned and uids * 2 > len(cleaned):
        return Identifier.STUDY_UID
    raise ConfigurationError(
        f"It can't be told whether {where} has accession numbers or patient IDs.",
        "Say which (--identifier accession, patient-id or study-uid).",
        code="list-identifier",
    )
