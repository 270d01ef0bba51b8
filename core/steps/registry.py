"""Where step kinds register themselves, and the way from what was chosen to steps that are open."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import JsonValue, ValidationError

from core.model.errors import ConfigurationError
from core.model.fields import FieldType, explain, form_fields
from core.model.registry import Registry
from core.model.steps import StepChoice
from core.steps.base import Step, StepFields, StepKind, StepSurroundings

step_kinds: Registry[StepKind] = Registry("core.steps", "kind of step")


def register(kind: StepKind) -> StepKind:
    return step_kinds.register(kind.name, kind)


def checked_fields(choice: StepChoice) -> StepFields:
    """The fields of a step, validated against its kind; texts of the command line are taken for every type.

    Raises
    ------
    ConfigurationError
        Naming the step and each field that is wrong.
    """
    kind = step_kinds.get(choice.kind)
    lists = {f.name for f in form_fields(kind.Fields) if f.type in (FieldType.LIST, FieldType.NODES)}
    files = {f.name for f in form_fields(kind.Fields) if f.type in (FieldType.FILE, FieldType.FOLDER)}
    values: dict[str, JsonValue] = {}
    for name, value in choice.fields.items():
        if name in lists and isinstance(value, str):
            value = [p.strip() for p in value.split(";") if p.strip()]
        elif name in files and isinstance(value, str) and value.strip():
            value = str(Path(value.strip()).expanduser().absolute())  # the engine may run in another folder
        values[name] = value
    try:
        return kind.Fields.model_validate(values)
    except ValidationError as error:
        found = explain(error, kind.Fields)
        raise ConfigurationError(
            f"The step “{kind.title}”: {found.sentence.replace('(--', '(')}", found.next_step, code=found.code
        ) from error


def described(choice: StepChoice) -> str:
    """One short line for lists; the kind's title where its fields are wrong."""
    kind = step_kinds.get(choice.kind)
    try:
        return kind.describe(checked_fields(choice))
    except ConfigurationError:
        return kind.title


def normalised(choice: StepChoice) -> StepChoice:
    """The same step with its fields as their model writes them, without those that equal their default."""
    fields = checked_fields(choice)
    values: dict[str, JsonValue] = fields.model_dump(mode="json", exclude_defaults=True)
    return StepChoice(kind=choice.kind, fields=values)


def open_steps(choices: Iterable[StepChoice], surroundings: StepSurroundings) -> list[Step]:
    """Open all steps of a job, in their order; when one can't be opened, those before it are closed again.

    Raises
    ------
    ConfigurationError
    """
    opened: list[Step] = []
    try:
        for choice in choices:
            fields = checked_fields(choice)
            opened.append(step_kinds.get(choice.kind).open(fields, surroundings))
    except BaseException:
        for step in opened:
            step.close()
        raise
    return opened
