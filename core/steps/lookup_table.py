"""The table of a look-up: which patient ID becomes which, from a CSV file; what is wrong with it is told by line."""

from __future__ import annotations

import csv
import io
import re
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from core.model.errors import ConfigurationError
from core.steps import values

LOOK_SECONDS = 1.0  # between two looks at whether the file has changed
MOST_BYTES = 256 << 20
NAMED = 5  # lines that a message names


class Column(StrEnum):
    """What a column of the table holds."""

    OLD = "patient ID"
    OLD_ISSUER = "issuer of the patient ID"
    NEW = "new patient ID"
    ISSUER = "new issuer"
    NAME = "new name"
    BIRTH_DATE = "new birth date"


class Header(StrEnum):
    """Whether the first line names the columns."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


#: Names of columns without blanks and signs, in small letters.
_NAMES: dict[Column, tuple[str, ...]] = {
    Column.OLD: ("old", "oldid", "oldpatientid", "from", "currentid", "currentpatientid", "original", "originalid"),
    Column.OLD_ISSUER: ("oldissuer", "oldissuerofpatientid", "currentissuer", "fromissuer"),
    Column.NEW: ("new", "newid", "newpatientid", "to", "pseudonym", "replacement", "targetid"),
    Column.ISSUER: ("issuer", "newissuer", "issuerofpatientid", "newissuerofpatientid", "toissuer"),
    Column.NAME: ("name", "newname", "patientname", "newpatientname", "patientsname"),
    Column.BIRTH_DATE: ("birthdate", "dateofbirth", "dob", "newbirthdate", "patientbirthdate", "newpatientbirthdate"),
}  # fmt: skip
_PLAIN = (Column.OLD, Column.NEW, Column.ISSUER, Column.NAME, Column.BIRTH_DATE)
_VR = {Column.NEW: "LO", Column.ISSUER: "LO", Column.NAME: "PN", Column.BIRTH_DATE: "DA"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a patient becomes; empty where the table doesn't say."""

    patient_id: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Entries by patient ID and issuer; the issuer is empty where the table has no column for it."""

    entries: dict[tuple[str, str], Entry]
    by_issuer: bool

    def find(self, patient_id: str, issuer: str) -> Entry | None:
        return self.entries.get((patient_id.strip(), issuer.strip() if self.by_issuer else ""))


class TableFile:
    """A table as it is on the disk now: read once, and again when the file has changed. Thread-safe."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._looked = 0.0
        self._table: Table | None = None
        self._wrong: ConfigurationError | None = None

    def now(self) -> Table:
        """The table.

        Raises
        ------
        ConfigurationError
            It can't be read, or is wrong: nothing of an older reading is used then.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_SECONDS or self._seen is None:
                self._look()
            if self._wrong is not None:
                raise self._wrong
            assert self._table is not None
            return self._table

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen == self._seen and self._wrong is None:
                return
            self._table, self._wrong = None, None
            self._table = read_table(self._path, self._header)
            self._seen = seen
        except ConfigurationError as error:
            self._wrong, self._seen = error, None
        except OSError as error:
            self._seen = None
            self._wrong = ConfigurationError(
                f"The table {self._path.name} can't be read ({error.strerror or error}).",
                "Put it back in its place, or choose another.",
                detail=repr(error),
                code="lookup-table",
            )


def read_table(path: Path, header: Header) -> Table:
    """Read a table of patient IDs.

    Raises
    ------
    ConfigurationError
        With the lines that are wrong.
    OSError
    """
    if path.stat().st_size > MOST_BYTES:
        raise _wrong(path, "it is larger than any table of patients", "Choose another file.")
    rows = _rows(path)
    if not rows:
        raise _wrong(path, "it is empty", "It needs a line for each patient: the ID, and the new ID.")
    columns, first = _columns(path, rows[0][1], header)
    entries: dict[tuple[str, str], Entry] = {}
    lines: dict[tuple[str, str], int] = {}
    faults: list[str] = []
    for number, row in rows[first:]:
        cells = {column: row[at].strip() if at < len(row) else "" for column, at in columns.items()}
        key = (cells[Column.OLD], cells.get(Column.OLD_ISSUER, ""))
        birth = re.sub(r"[-./]", "", cells.get(Column.BIRTH_DATE, ""))
        cells[Column.BIRTH_DATE] = birth
        wrong = _fault(cells)
        entry = Entry(cells[Column.NEW], cells.get(Column.ISSUER, ""), cells.get(Column.NAME, ""), birth)
        if not wrong and key in entries and entries[key] != entry:
            wrong = f"the patient ID of line {lines[key]} once more, with something else"
        if wrong:
            faults.append(f"line {number}: {wrong}")
            continue
        entries[key] = entry
        lines.setdefault(key, number)
    if faults:
        more = f" and {len(faults) - NAMED:,} more" if len(faults) > NAMED else ""
        raise _wrong(path, "; ".join(faults[:NAMED]) + more, "Correct these lines.")
    if not entries:
        raise _wrong(path, "it names no patient", "It needs a line for each patient: the ID, and the new ID.")
    return Table(entries, Column.OLD_ISSUER in columns)


def _fault(cells: dict[Column, str]) -> str:
    if not cells[Column.OLD]:
        return "no patient ID"
    if not cells[Column.NEW]:
        return "no new patient ID"
    for column, vr in _VR.items():
        text = cells.get(column, "")
        if text and ("\\" in text or values.fault(vr, text)):
            why = "it has a backslash in it" if "\\" in text else values.fault(vr, text)
            return f"a {column} that can't be: {why}"
    return ""


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")  # what a spreadsheet on Windows writes
    if "\0" in text or "\ufffd" in text:
        raise _wrong(path, "it is no CSV file", "Save the table as “CSV UTF-8”.")
    head = text.splitlines()[0] if text.strip() else ""
    sign = max((";", "\t", ","), key=head.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _wrong(path, f"its quotation marks don't close ({error})", "Save it anew as “CSV UTF-8”.") from error


def _columns(path: Path, row: list[str], header: Header) -> tuple[dict[Column, int], int]:
    """Where each column is, and the number of lines before the first patient."""
    known = {name: column for column, names in _NAMES.items() for name in names}
    plain = [re.sub(r"[\s_.'-]", "", cell.casefold()) for cell in row]
    found: dict[Column, int] = {}
    for at, name in enumerate(plain):
        column = known.get(name)
        if column is not None and column in found:
            raise _wrong(path, f"two columns hold the {column}", "Take one of them out.")
        if column is not None:
            found[column] = at
    ids = [at for at, name in enumerate(plain) if name in ("patientid", "id", "patient", "pid")]
    named = bool(ids or found.keys() & {Column.OLD, Column.NEW})
    if header is Header.NO or (header is Header.AUTO and not named):
        if len(row) < 2:
            raise _wrong(path, "it has one column only", "It needs two at least: the patient ID, and the new one.")
        return {column: at for at, column in enumerate(_PLAIN) if at < len(row)}, 0
    for column in (Column.OLD, Column.NEW):
        if column not in found and ids:
            found[column] = ids.pop(0)
    missing = [c for c in (Column.OLD, Column.NEW) if c not in found]
    if missing:
        raise _wrong(
            path,
            f"its first line names no column with the {missing[0]}",
            "Name the columns “old” and “new”, with “issuer”, “name” and “birth date” if wanted.",
        )
    return found, 1


def _wrong(path: Path, what: str, step: str) -> ConfigurationError:
    return ConfigurationError(f"The table {path.name} can't be used: {what}.", step, code="lookup-table")
