"""Tables as people save them: text with any usual separator and encoding, and Excel workbooks (.xlsx)."""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.model.errors import ConfigurationError

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

MOST_BYTES = 100_000_000  # of a file; a million lines have some 30 MB
MOST_UNPACKED = 1_000_000_000
WITH_MERGED = 60_000_000  # bytes of unpacked sheets up to which a workbook is read whole, with its merged cells
EXACT = 10**15  # spreadsheets keep 15 digits of a number
SEPARATORS = ";\t,|"
NOT_TEXT = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"})
_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0"
_ZEROS = re.compile(r"0+")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell says as text; `trouble` is a sentence where that is not what was typed into it.

    `merged_with` is the number of the row that a merged cell belongs to, where that is another one; else 0.
    """

    text: str = ""
    trouble: str = ""
    merged_with: int = 0


_EMPTY = Cell()


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its number, counted from 1 as spreadsheets and editors do."""

    number: int
    cells: Sequence[Cell]

    def cell(self, index: int) -> Cell:
        """The cell of a column (from 0); an empty one where the row is shorter."""
        return self.cells[index] if index < len(self.cells) else _EMPTY


def read_table(path: Path) -> list[Row]:
    """All rows of a file.

    Raises
    ------
    ConfigurationError
        It can't be read, or is of a form that this program doesn't know.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _refused(path, "is too large for a list", "Split it into several lists.")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The list {path} can't be read ({error.strerror or error}).",
            "Check the name of the file, and that you may read it.",
            detail=repr(error),
            code="list-unreadable",
        ) from error
    if data.startswith(_OLE):
        raise _refused(path, "is an old Excel file, or one with a password", "Save it as .xlsx without a password.")
    if data.startswith(_ZIP):
        return _workbook(path, data)
    return list(_text(path, data))


def _refused(path: Path, what: str, step: str, detail: str = "") -> ConfigurationError:
    return ConfigurationError(f"The list {path.name} {what}.", step, detail=detail, code="list-unreadable")


# text -----------------------------------------------------------------------------------------------------


def _text(path: Path, data: bytes) -> Iterator[Row]:
    text = _decoded(data)
    if "\0" in text:
        raise _refused(path, "is no text", "Save it as CSV (UTF-8) or as .xlsx.")
    lines = re.split(r"\r\n|\r|\n", text)
    if not lines[-1]:
        lines.pop()
    first = 0
    separator = _separator(lines)
    if lines and re.fullmatch(r"sep=.", lines[0].strip('"')):  # for Excel only
        separator, first = lines[0].strip('"')[4], 1
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), delimiter=separator)
    at = first + 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _refused(path, "is no table of text", "Save it as CSV (UTF-8) or as .xlsx.", repr(error)) from error
        yield Row(at, [Cell(value.strip()) for value in record] or [_EMPTY])
        at = first + reader.line_num + 1


def _decoded(data: bytes) -> str:
    """By its byte order mark, else by what it can be: UTF-8, UTF-16, and Latin-1 (as Windows has it) at last."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    sample = data[:4096]
    for encoding, zeros in (("utf-16-le", sample[1::2].count(0)), ("utf-16-be", sample[::2].count(0))):
        if zeros * 3 > len(sample):  # digits and separators have one in every second byte
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _separator(lines: Sequence[str]) -> str:
    """What divides most lines into equally many parts; a list of single values has none."""
    some = [line for line in lines[:200] if line.strip()]
    best, agreed = ",", 0
    for separator in SEPARATORS:
        counts = [_unquoted(line).count(separator) for line in some]
        most = max(set(counts), key=lambda c: (counts.count(c) if c else 0, c), default=0)
        if most and counts.count(most) > agreed:
            best, agreed = separator, counts.count(most)
    return best


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


# workbooks ------------------------------------------------------------------------------------------------


def _workbook(path: Path, data: bytes) -> list[Row]:
    from openpyxl import load_workbook  # some hundred milliseconds that only such lists need

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = {i.filename: i.file_size for i in archive.infolist()}
        if "xl/workbook.xml" not in sizes:
            raise _refused(path, "is no Excel workbook", "Save it as .xlsx or CSV (UTF-8).")
        unpacked = sum(sizes.values())
        if unpacked > MOST_UNPACKED:
            raise _refused(path, "is too large for a list", "Split it into several lists.")
        whole = sum(n for name, n in sizes.items() if name.startswith("xl/worksheets/")) <= WITH_MERGED
        book = load_workbook(io.BytesIO(data), read_only=not whole, data_only=True, keep_links=False)
        try:
            sheet: Any = book.active or book.worksheets[0]
            merged = _merged(sheet) if whole else {}
            return [
                Row(number, [_cell(cell, merged) for cell in cells])
                for number, cells in enumerate(sheet.iter_rows(), 1)
            ]
        finally:
            book.close()
    except ConfigurationError:
        raise
    except Exception as error:  # a damaged workbook breaks the reader in any of many ways
        raise _refused(
            path, "is damaged, or no Excel workbook", "Save it again as .xlsx or CSV.", repr(error)
        ) from error


def _merged(sheet: Worksheet) -> Mapping[tuple[int, int], int]:
    """The first row of each merged cell, for the places below it in its first column."""
    found: dict[tuple[int, int], int] = {}
    for area in sheet.merged_cells.ranges:
        for row in range(area.min_row + 1, area.max_row + 1):
            found[row, area.min_col] = area.min_row
    return found


def _cell(cell: Any, merged: Mapping[tuple[int, int], int]) -> Cell:
    value = cell.value
    if value is None:
        return Cell(merged_with=merged.get((cell.row, cell.column), 0)) if merged else _EMPTY
    if isinstance(value, bool | dt.datetime | dt.date | dt.time | dt.timedelta):
        return Cell(str(value), "The spreadsheet takes it for a date, a time or a truth value, not for text.")
    if isinstance(value, int | float):
        return _number(value, str(getattr(cell, "number_format", "") or ""))
    return Cell(str(value).strip())


def _number(value: int | float, shown: str) -> Cell:
    """Digits as the cell shows them: no ".0", and with the leading zeros that its format gives it."""
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        return Cell(repr(value), "It is a number with decimals. Format the column as text and type it again.")
    if abs(value) >= EXACT:
        lost = "The spreadsheet keeps only 15 digits of a number. Format the column as text and type it again."
        return Cell(str(int(value)), lost)
    digits = str(int(value))
    return Cell(digits.zfill(len(shown)) if _ZEROS.fullmatch(shown) and value >= 0 else digits)
