"""Processing steps as chosen for a job: kind and fields, as data and as text ("tags actions=…")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from core.model.errors import ConfigurationError

_KIND = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s|\Z)")
_FIELD = re.compile(r'\s*([A-Za-z][A-Za-z0-9_-]*)=("(?:[^"]|"")*"|[^\s"]*)(?=\s|\Z)')
_PLAIN = re.compile(r'[^\s"]+\Z')


class StepChoice(BaseModel):
    """One step of a job: which kind, and the fields that were given for it.

    Attributes
    ----------
    kind : str
        Name of the step kind.
    fields : dict[str, JsonValue]
        As given; what is left out has the kind's default. Never a secret.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    fields: dict[str, JsonValue] = {}

    def __hash__(self) -> int:
        return hash((self.kind, str(sorted(self.fields.items()))))

    def __str__(self) -> str:
        """As it is written on the command line; `parse_step` reads it again."""
        return " ".join((self.kind, *(f"{k.replace('_', '-')}={_as_text(v)}" for k, v in self.fields.items())))


@dataclass(frozen=True, slots=True)
class Change:
    """What the steps made of one instance on its way to one destination. Sensitive: it tells who is who.

    Attributes
    ----------
    sop_uid, series_uid, study_uid, patient_id : str
        What identifies it at the destination.
    source_digest, digest : str
        MD5 of the DICOM file as it was read, and as it was sent.
    size : int
        Bytes of the file as it was sent.
    done : tuple[str, ...]
        Each step by its title, with its sentences; empty where no step changed anything.
    """

    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    source_digest: str
    digest: str
    size: int
    done: tuple[str, ...] = ()


def parse_step(text: str) -> StepChoice:
    """Read a step as it is written on the command line: ``KIND name=value name="two words"``.

    A quotation mark within quotation marks is doubled; a backslash means itself (paths of Windows).

    Raises
    ------
    ConfigurationError
        With what could not be understood and an example.
    """
    found = _KIND.match(text)
    if found is None:
        raise _bad(f"“{_short(text)}” doesn't begin with a kind of step")
    kind, at = found.group(1).lower(), found.end()
    fields: dict[str, JsonValue] = {}
    while text[at:].strip():
        field = _FIELD.match(text, at)
        if field is None:
            raise _bad(f"“{_short(text[at:])}” is not name=value; a value with spaces stands in quotation marks")
        name, value = field.group(1).replace("-", "_").lower(), field.group(2)
        if name in fields:
            raise _bad(f"“{name}” is given twice")
        fields[name] = value[1:-1].replace('""', '"') if value.startswith('"') else value
        at = field.end()
    return StepChoice(kind=kind, fields=fields)


def step_choices(value: object) -> object:
    """What a field of steps is given, each entry that is text read as `parse_step` does; for pydantic's "before".

    Raises
    ------
    ValueError
        With the sentence of what is wrong.
    """
    if isinstance(value, str):
        value = [value] if value.strip() else []
    if not isinstance(value, Iterable) or isinstance(value, dict):
        return value
    try:
        return tuple(parse_step(v) if isinstance(v, str) else v for v in value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list | tuple):
        text = "; ".join(str(v) for v in value)
    else:
        text = "" if value is None else str(value)
    return text if _PLAIN.match(text) else '"' + text.replace('"', '""') + '"'


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 30 else text[:30] + "…"


def _bad(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The step can't be read: {what}.",
        'Write for example: tags actions="set InstitutionName=Radiology; remove (0019,xx10)".',
        code="step",
    )
