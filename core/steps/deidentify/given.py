"""A person's table of pseudonyms: the table of the look-up step, whose new IDs become the pseudonyms."""

from __future__ import annotations

from pathlib import Path

from core.model.errors import ConfigurationError
from core.steps.base import StepError
from core.steps.lookup_table import Header, TableFile


class GivenPseudonyms:
    """Pseudonyms by Patient ID (and its issuer, where the table has a column for it). Thread-safe.

    Raises
    ------
    ConfigurationError
        The table can't be read, or is wrong.
    """

    def __init__(self, path: str) -> None:
        self._file = TableFile(Path(path).expanduser(), Header.AUTO)
        for (number, _issuer), entry in self._file.now().entries.items():
            if wrong := _fault(number, entry.patient_id):
                raise ConfigurationError(
                    f"The table {Path(path).name} can't be used: {wrong}.", "Correct it.", code="deidentify-table"
                )

    def find(self, number: str, issuer: str) -> str | None:
        """The pseudonym of a patient; None for one whom the table doesn't list.

        Raises
        ------
        StepError
            The table has changed, and can't be used any more.
        """
        try:
            entry = self._file.now().find(number, issuer)
        except ConfigurationError as error:
            raise StepError(error.sentence, error.next_step, code=error.code) from None
        if entry is not None and (wrong := _fault(number, entry.patient_id)):
            raise StepError(f"The table of pseudonyms can't be used: {wrong}.", "Correct it.", code="deidentify-table")
        return entry.patient_id if entry is not None else None


def _fault(number: str, pseudonym: str) -> str:
    if number == pseudonym:
        return "it gives a patient the own Patient ID for a pseudonym"
    if not pseudonym.isascii() or any(sign in pseudonym for sign in "^="):
        return "a pseudonym may have letters, digits and signs of ASCII, but not ^ and ="
    return ""
