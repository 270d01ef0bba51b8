"""Look-up: patient ID, issuer, name and birth date by a table, where another system knows its patients otherwise."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from core.model.errors import ConfigurationError
from core.model.fields import FieldType, declared
from core.steps import original, values
from core.steps.base import Step, StepError, StepFields, StepKind, StepSurroundings
from core.steps.lookup_table import Entry, Header, TableFile
from core.steps.registry import register

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PATIENT_ID, ISSUER, NAME, BIRTH_DATE = 0x00100020, 0x00100021, 0x00100010, 0x00100030
QUALIFIERS = 0x00100024  # Issuer of Patient ID Qualifiers Sequence: it says more of the former issuer


class Unknown(StrEnum):
    """What happens to an image whose patient the table doesn't know."""

    FAIL = "fail"
    PASS = "pass"
    DEFAULT = "default"


class LookupFields(StepFields):
    """Fields of the step."""

    table: str = declared(
        title="Table",
        help="A CSV file with a line for each patient: the ID and the new ID; if wanted the new issuer, name and birth "
        "date. It is read again when it changes.",
        type=FieldType.FILE,
        min_length=1,
    )
    header: Header = declared(
        Header.AUTO,
        title="First line",
        help="Names such as old, new, issuer, name, birth date, old issuer; without them the columns stand in this "
        "order: ID, new ID, issuer, name, birth date.",
        labels={"auto": "See for yourself", "yes": "Names the columns", "no": "Is a patient already"},
        advanced=True,
    )
    unknown: Unknown = declared(
        Unknown.FAIL,
        title="Patients that are not in it",
        help="What becomes of their images.",
        labels={"fail": "Are not sent", "pass": "Pass unchanged", "default": "Get the ID below"},
    )
    default_id: str = declared(
        "", title="ID for unknown patients", help="Used where they get an ID: the same for all of them.", advanced=True
    )
    note_former: bool = declared(
        True,
        title="Note former values in the image",
        help="They are kept in the Original Attributes Sequence (0400,0561), with time and program. Switch it off "
        "where the receiver must not learn them.",
        advanced=True,
    )

    @model_validator(mode="after")
    def _default_is_there(self) -> LookupFields:
        if self.unknown is Unknown.DEFAULT:
            wrong = "it is empty" if not self.default_id else values.fault("LO", self.default_id)
            if wrong or "\\" in self.default_id:
                raise ValueError(f"the ID for unknown patients can't be used: {wrong or 'it has a backslash in it'}")
        return self


class Lookup(Step):
    """Replaces what identifies a patient as a table says."""

    def __init__(self, fields: LookupFields, table: TableFile) -> None:
        self._fields = fields
        self._table = table

    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        try:
            table = self._table.now()
        except ConfigurationError as error:
            raise StepError(error.sentence, error.next_step, detail=error.detail, code=error.code) from error
        entry = table.find(_text(dataset, PATIENT_ID), _text(dataset, ISSUER))
        if entry is None:
            entry = self._unknown()
            if entry is None:
                return ()
        return self._replaced(dataset, entry)

    def _unknown(self) -> Entry | None:
        if self._fields.unknown is Unknown.FAIL:
            raise StepError(
                f"The patient is not in the table {Path(self._fields.table).name}.",
                "Add the patient to the table, then retry; or choose what becomes of patients that are not in it.",
                code="lookup-unknown",
            )
        return Entry(self._fields.default_id) if self._fields.unknown is Unknown.DEFAULT else None

    def _replaced(self, dataset: Dataset, entry: Entry) -> tuple[str, ...]:
        wanted = (
            (PATIENT_ID, "LO", entry.patient_id, "Patient ID"),
            (ISSUER, "LO", entry.issuer, "Issuer of Patient ID"),
            (NAME, "PN", entry.name, "Patient's Name"),
            (BIRTH_DATE, "DA", entry.birth_date, "Patient's Birth Date"),
        )
        before: dict[int, Any] = {}
        names: list[str] = []
        new_id = _text(dataset, PATIENT_ID) != entry.patient_id
        for tag, vr, value, name in wanted:
            if not value or value == _text(dataset, tag):
                continue
            former = original.snapshot(dataset, tag)
            if former is not None:
                before[tag] = former
            values.put(dataset, dataset, tag, vr, value, name)
            names.append(name)
        if new_id and not entry.issuer:
            for tag in (ISSUER, QUALIFIERS):  # whoever gave out the old ID did not give out the new one
                if _text(dataset, tag) or (tag == QUALIFIERS and tag in dataset):
                    before[tag] = original.snapshot(dataset, tag)
                    del dataset[tag]
        if not names:
            return ()
        if before and self._fields.note_former:
            original.note(dataset, before, "COERCE")
        return (f"{', '.join(names)} by the table.",)


def _text(dataset: Dataset, tag: int) -> str:
    element = dataset.get(tag)
    return values.shown(element).strip() if element is not None else ""


def _table(fields: LookupFields) -> TableFile:
    """The table, read once."""
    table = TableFile(Path(fields.table), fields.header)
    table.now()
    return table


class LookupKind(StepKind):
    """Brings patients in line with another system."""

    name = "lookup"
    title = "Look up patients"
    summary = "Replace patient ID and issuer, name and birth date if wanted, by a table (CSV)."
    icon = "search"
    Fields = LookupFields

    def open(self, fields: StepFields, surroundings: StepSurroundings) -> Step:
        assert isinstance(fields, LookupFields)
        return Lookup(fields, _table(fields))

    def look(self, fields: StepFields) -> None:
        assert isinstance(fields, LookupFields)
        _table(fields)

    def describe(self, fields: StepFields) -> str:
        assert isinstance(fields, LookupFields)
        return f"Patients by {Path(fields.table).name}"


register(LookupKind())
