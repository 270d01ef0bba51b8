"""A person's table of pseudonyms: Patient ID in the first column, pseudonym in the second."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from core.model.errors import ConfigurationError

_PSEUDONYM = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,64}\Z")
_HEADINGS = frozenset({"patientid", "patient", "id", "pid", "mrn", "patientennummer", "patientnr"})
_MOST_BYTES = 100_000_000


def given_pseudonyms(name: str) -> dict[str, str]:
    """The table in a file: text parted by commas, semicolons or tabs.

    Raises
    ------
    ConfigurationError
        It can't be read, or a row of it can't be used.
    """
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _wrong(path, "is too large", "Split it.")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The table of pseudonyms {path} can't be read ({error.strerror or error}).",
            "Check the name of the file, and that you may read it.",
            detail=type(error).__name__,
            code="deidentify-table",
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    if "\0" in text:
        raise _wrong(path, "is no text", "Save it as CSV (UTF-8).")
    separator = max(";\t,", key=text.split("\n", 1)[0].count)
    found: dict[str, str] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=separator), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        patient, pseudonym = (*cells, "", "")[:2]
        if number == 1 and re.sub(r"[^a-z]", "", patient.lower()) in _HEADINGS:
            continue
        _check_row(path, number, patient, pseudonym, found)
        found[patient] = pseudonym
    if not found:
        raise _wrong(path, "lists no patient", "Write the Patient ID in the first column, the pseudonym in the second.")
    return found


def _check_row(path: Path, number: int, patient: str, pseudonym: str, found: dict[str, str]) -> None:
    if not patient or not pseudonym:
        raise _wrong(path, f"has a row without Patient ID or pseudonym (row {number})", "Complete or delete that row.")
    if not _PSEUDONYM.match(pseudonym) or "^" in pseudonym or "=" in pseudonym:
        raise _wrong(
            path,
            f"has a pseudonym that can't be a Patient ID (row {number})",
            "Use at most 64 letters, digits and signs of ASCII, without \\, ^ and =.",
        )
    if pseudonym == patient:
        raise _wrong(path, f"gives a patient the own Patient ID (row {number})", "Give another pseudonym.")
    if found.get(patient, pseudonym) != pseudonym:
        raise _wrong(path, f"gives a patient two pseudonyms (row {number})", "Delete one of them.")


def _wrong(path: Path, what: str, step: str) -> ConfigurationError:
    return ConfigurationError(f"The table of pseudonyms {path.name} {what}.", step, code="deidentify-table")
