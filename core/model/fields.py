"""Fields declared once: from a pydantic model come form, wizard page, command-line option and saved file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from core.model.errors import ConfigurationError


class Declared(BaseModel):
    """Base of every declared kind's fields: frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, str_strip_whitespace=True)


class FieldType(StrEnum):
    TEXT = "text"
    SECRET = "secret"
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    LIST = "list"
    FILE = "file"
    FOLDER = "folder"
    NODE = "node"
    NODES = "nodes"
    DATE = "date"
    RULE = "rule"
    STEPS = "steps"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value that a person may choose for a field instead of typing it.

    Attributes
    ----------
    value : str
    label : str
        What is shown for it.
    fills : tuple[tuple[str, str], ...]
        Names and values of other fields that go with it.
    """

    value: str
    label: str
    fills: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FormField:
    """One field as forms, wizards and command line need it.

    Attributes
    ----------
    name : str
        Name in the model and in saved files; on the command line ``--name`` with dashes.
    title, help : str
    type : FieldType
    default : Any
        None where required.
    required, advanced : bool
    choices : tuple[tuple[str, str], ...]
        Value and label, for CHOICE.
    minimum, maximum : float | None
    unit : str
        Shown behind a number ("s", "connections").
    group : str
        Heading under which forms show it.
    placeholder : str
    empty : str
        What it means in words when it is left empty ("Directly"); for NODE and for entries with `columns`.
    needs : str
        Name of a field without which this one means nothing: forms show it once that is on or chosen.
    unless : str
        Name of a field that makes this one meaningless once that is on or chosen.
    among : str
        For NODE and NODES: only nodes whose kind has this trait.
    columns : tuple[tuple[str, str], ...]
        For LIST: titles and placeholders of the parts of an entry, which `separator` joins. For LINES: what can be
        done to a tag, with an "=" behind what takes a value, and in words.
    separator : str
    suggested_by : tuple[str, ...]
        Fields that decide which values the kind can suggest for this one.
    beside : bool
        Belongs on one line with the field before it.
    """

    name: str
    title: str
    help: str
    type: FieldType
    default: Any
    required: bool
    advanced: bool
    choices: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    group: str = ""
    placeholder: str = ""
    empty: str = ""
    needs: str = ""
    unless: str = ""
    among: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    separator: str = ""
    suggested_by: tuple[str, ...] = ()
    beside: bool = False

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")


def declared(
    default: Any = PydanticUndefined,
    *,
    title: str,
    help: str = "",
    type: FieldType | None = None,
    advanced: bool = False,
    unit: str = "",
    group: str = "",
    placeholder: str = "",
    labels: dict[str, str] | None = None,
    empty: str = "",
    needs: str = "",
    unless: str = "",
    among: str = "",
    columns: tuple[tuple[str, str], ...] = (),
    separator: str = "",
    suggested_by: tuple[str, ...] = (),
    beside: bool = False,
    hidden: bool = False,
    **limits: Any,
) -> Any:
    """A pydantic field with what people see of it, as `FormField` says.

    `limits` are pydantic's (ge, le, min_length, pattern). A `hidden` one is no choice of a person: a kind that is a
    preset of another one derives it from its own fields. It is neither shown nor saved.
    """
    extra = {
        "advanced": advanced,
        "unit": unit,
        "group": group,
        "placeholder": placeholder,
        "labels": labels or {},
        "type": type,
        "empty": empty,
        "needs": needs,
        "unless": unless,
        "among": among,
        "columns": columns,
        "separator": separator,
        "suggested_by": suggested_by,
        "beside": beside,
        "hidden": hidden,
    }
    if hidden:
        limits["exclude"] = True
    if "default_factory" in limits:
        return Field(title=title, description=help, json_schema_extra={"ferry": extra}, **limits)  # type: ignore[dict-item]
    return Field(default, title=title, description=help, json_schema_extra={"ferry": extra}, **limits)  # type: ignore[dict-item]


def form_fields(model: type[BaseModel]) -> tuple[FormField, ...]:
    """The declared fields of a model, in the order of declaration."""
    found = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        ferry: dict[str, Any] = extra.get("ferry", {}) if isinstance(extra, dict) else {}  # type: ignore[assignment]
        if ferry.get("hidden"):
            continue
        annotation = _without_none(info.annotation)
        ftype = ferry.get("type") or _guess(annotation)
        choices: tuple[tuple[str, str], ...] = ()
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            labels = ferry.get("labels", {})
            choices = tuple((str(m.value), labels.get(m.value, str(m.value).capitalize())) for m in annotation)
        minimum = maximum = None
        for rule in info.metadata:
            minimum = getattr(rule, "ge", getattr(rule, "gt", minimum))
            maximum = getattr(rule, "le", getattr(rule, "lt", maximum))
        found.append(
            FormField(
                name=name,
                title=info.title or name.replace("_", " ").capitalize(),
                help=info.description or "",
                type=ftype,
                default=None if info.is_required() else info.get_default(call_default_factory=True),
                required=info.is_required(),
                advanced=bool(ferry.get("advanced")),
                choices=choices,
                minimum=minimum,
                maximum=maximum,
                unit=str(ferry.get("unit", "")),
                group=str(ferry.get("group", "")),
                placeholder=str(ferry.get("placeholder", "")),
                empty=str(ferry.get("empty", "")),
                needs=str(ferry.get("needs", "")),
                unless=str(ferry.get("unless", "")),
                among=str(ferry.get("among", "")),
                columns=tuple(ferry.get("columns", ())),
                separator=str(ferry.get("separator", "")),
                suggested_by=tuple(ferry.get("suggested_by", ())),
                beside=bool(ferry.get("beside")),
            )
        )
    return tuple(found)


def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """Names of the fields that are kept in the keyring and never in a file."""
    return tuple(f.name for f in form_fields(model) if f.type is FieldType.SECRET)


def titles(model: type[BaseModel]) -> dict[str, str]:
    """What people call each field."""
    return {field.name: field.title for field in form_fields(model)}


def explain(error: ValidationError, model: type[BaseModel]) -> ConfigurationError:
    """Turn pydantic's findings into one sentence a person understands, naming fields by their titles."""
    titles = {f.name: f for f in form_fields(model)}
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        field = titles.get(name)
        where = f"{field.title} ({field.option})" if field else (f"“{name}”" if name else "")
        message = str(item["msg"]).removeprefix("Value error, ").removesuffix(".")
        if item["type"] == "missing":
            parts.append(f"{where} is missing.")
        elif item["type"] == "extra_forbidden":
            known = ", ".join(f.option for f in titles.values())
            parts.append(f"There is no field {where}; the fields are {known}.")
        else:
            parts.append(f"{where}: {message}." if where else f"{message[:1].upper()}{message[1:]}.")
    return ConfigurationError(" ".join(parts), "Correct this and try again.", code="fields")


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        rest = [a for a in get_args(annotation) if a is not NoneType]
        if len(rest) == 1:
            return rest[0]
    return annotation


def _guess(annotation: Any) -> FieldType:
    if annotation is bool:
        return FieldType.SWITCH
    if annotation is int:
        return FieldType.INTEGER
    if annotation is float:
        return FieldType.NUMBER
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return FieldType.CHOICE
    if get_origin(annotation) in (tuple, list):
        return FieldType.LIST
    return FieldType.TEXT
