"""Options made from declared fields: on the command line, in the environment, in a job file."""

from __future__ import annotations

import codecs
import getpass
import inspect
import locale
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import typer
from pydantic import BaseModel, JsonValue
from rich.markup import escape

from core.model.errors import ConfigurationError
from core.model.fields import FieldType, FormField, form_fields, secret_fields
from core.settings import read_fields_file

PREFIX = "DICOM_FERRY_"
_METAVARS = {
    FieldType.INTEGER: "NUMBER",
    FieldType.NUMBER: "NUMBER",
    FieldType.FILE: "FILE",
    FieldType.FOLDER: "FOLDER",
    FieldType.NODE: "NODE",
    FieldType.NODES: "NODE",
    FieldType.STEPS: "STEP",
    FieldType.LIST: "A,B,…",
    FieldType.DATE: "YYYYMMDD",
    FieldType.RULE: "RULE",
}


@dataclass(slots=True)
class Given:
    """Values of fields, and where those came from that were not typed.

    Attributes
    ----------
    values : dict[str, JsonValue]
        Only fields that were given somewhere: the rest is for the model's defaults.
    origins : dict[str, str]
        Field name to "the environment variable …" or "the job file …".
    follow, name : bool | None, str
        What a job file says beside the fields.
    """

    values: dict[str, JsonValue] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    follow: bool | None = None
    name: str = ""

    def explain(self, error: ConfigurationError, fields: tuple[FormField, ...]) -> ConfigurationError:
        """The same error, saying where a wrong value came from when nobody typed it."""
        named = [f"{f.option} came from {self.origins[f.name]}" for f in fields
                 if f.name in self.origins and f"({f.option})" in error.sentence]  # fmt: skip
        if named:
            error.next_step = f"Correct this and try again; {', '.join(named)}."
        return error


def parameters(model: type[BaseModel], *, all_optional: bool = False) -> list[inspect.Parameter]:
    """One keyword parameter for each field of a model, as Typer reads them. Secrets get none but a refusal."""
    fields = sorted(form_fields(model), key=lambda f: not f.required)  # stable: what is needed comes first
    return [_parameter(f, all_optional) for f in fields]


def build(name: str, doc: str, common: list[inspect.Parameter], body: Callable[..., None]) -> Callable[..., None]:
    """A function for Typer whose parameters are made here and handed to `body` by name."""

    def command(**arguments: Any) -> None:
        body(**arguments)

    command.__name__ = name.replace("-", "_")
    command.__doc__ = doc
    command.__signature__ = inspect.Signature(common)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in common}
    return command


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A keyword parameter; `default` is what `typer.Option` or `typer.Argument` gave."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def gather(
    model: type[BaseModel],
    arguments: Mapping[str, Any],
    *,
    file: Path | None = None,
    kind: str = "",
    environment: Mapping[str, str] | None = None,
) -> Given:
    """What was given for the fields of a model: typed, else in the environment, else in the file.

    Raises
    ------
    ConfigurationError
        A secret was typed, or the file can't be read or is for another kind.
    """
    environment = os.environ if environment is None else environment
    fields = form_fields(model)
    given = Given()
    if file is not None:
        _read_file(given, file, kind)
    if environment.get(PREFIX + "FOLLOW", "").strip():
        given.follow = environment[PREFIX + "FOLLOW"].strip().lower() in ("1", "true", "yes", "on")
    for f in fields:
        if f.type is FieldType.SECRET:
            given.values.pop(f.name, None)
            if arguments.get(_python_name(f)) is not None:
                raise ConfigurationError(
                    f"{f.title} is never taken from the command line: every program of this computer can read that.",
                    f"Use --secret-stdin {f.name} and give it on standard input.",
                    code="secret",
                )
            continue
        variable = PREFIX + f.name.upper()
        if environment.get(variable, "").strip():
            given.values[f.name] = _from_text(f, environment[variable])
            given.origins[f.name] = f"the environment variable {variable}"
        typed = arguments.get(_python_name(f))
        if typed is not None and typed != []:
            given.values[f.name] = _typed(f, typed)
            given.origins.pop(f.name, None)
    return given


def secret_option(model: type[BaseModel], purpose: str = "keep it in the system's keyring") -> list[inspect.Parameter]:
    """`--secret-stdin`, where the model has secrets."""
    names = secret_fields(model)
    if not names:
        return []
    return [
        option(
            "secret_stdin",
            Optional[list[str]],  # noqa: UP045
            typer.Option(
                None,
                "--secret-stdin",
                metavar="[FIELD]",
                help=f"Read a secret as one line from standard input (asked for on a terminal) and {purpose}. "
                f"FIELD is one of {', '.join(names)}; {names[0]} when left out. "
                f"Give it once for each secret.",
            ),
        )
    ]


def read_secrets(
    model: type[BaseModel], what: str, name: str, wanted: list[str] | None, *, may_be_empty: bool = False
) -> dict[str, str]:
    """One line of standard input for each --secret-stdin, in their order."""
    known = secret_fields(model)
    secrets: dict[str, str] = {}
    for asked in wanted or []:
        field = asked.replace("-", "_") or known[0]
        if field not in known:
            raise ConfigurationError(
                f"{what} has no secret “{asked}”.",
                f"Its secrets are: {', '.join(known)}." if known else "It has no secrets.",
                code="secret",
            )
        if sys.stdin is None:
            line = ""
        elif sys.stdin.isatty():
            line = getpass.getpass(f"{field.replace('_', ' ').capitalize()} for {name}: ")
        else:
            line = _line_of_input()
        if not line and not may_be_empty:
            raise ConfigurationError(
                f"No {field.replace('_', ' ')} came on standard input.",
                "Write it there as one line, for example from a file: --secret-stdin < FILE.",
                code="no-secret",
            )
        secrets[field] = line
    return secrets


def _line_of_input() -> str:
    """One line of standard input: UTF-8, or what this system's programs write where it is none.

    On Windows, a pipe has the encoding of whatever program fills it: PowerShell and editors write UTF-8, cmd doesn't.
    """
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:  # replaced by something of text alone
        return sys.stdin.readline().rstrip("\r\n")
    line: bytes = raw.readline().removeprefix(codecs.BOM_UTF8)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode(locale.getpreferredencoding(False), errors="replace")
    return text.rstrip("\r\n")


def _read_file(given: Given, file: Path, kind: str) -> None:
    for key, value in read_fields_file(file).items():
        name = key.replace("-", "_")
        if name == "kind":
            if value != kind:
                raise ConfigurationError(
                    f"The job file {file} is for the kind “{value}”, and “{kind}” was asked for.",
                    "Name the kind that the file is for, or another file.",
                    code="job-file",
                )
        elif name == "name":
            given.name = str(value)
        elif name == "follow":
            given.follow = bool(value)
        else:
            given.values[name] = value  # type: ignore[assignment]
            given.origins[name] = f"the job file {file}"


def _parameter(f: FormField, all_optional: bool) -> inspect.Parameter:
    if f.type is FieldType.SECRET:
        return option(_python_name(f), Optional[str], typer.Option(None, f.option, hidden=True))  # noqa: UP045
    panel = (f.group or None) if not f.required or all_optional else None
    text = escape(_help(f, all_optional))
    if f.type is FieldType.SWITCH:
        names = f"{f.option}/--no-{f.option[2:]}"
        return option(
            _python_name(f),
            Optional[bool],  # noqa: UP045 - Typer below 0.16 reads no unions made with |
            typer.Option(None, names, help=text, rich_help_panel=panel, show_default=False),
        )
    many = f.type in (FieldType.NODES, FieldType.STEPS)
    metavar = "WORD" if f.choices else _METAVARS.get(f.type, "TEXT")
    return option(
        _python_name(f),
        Optional[list[str]] if many else Optional[str],  # noqa: UP045
        typer.Option(None, f.option, help=text, metavar=metavar, rich_help_panel=panel, show_default=False),
    )


def _help(f: FormField, all_optional: bool) -> str:
    text = f.help or f"{f.title}."
    if f.type in (FieldType.NODES, FieldType.STEPS):
        text += " Give it once for each."
    if f.type is FieldType.STEPS:
        text += " Written as 'KIND name=value name=\"two words\"'; `dicom-ferry steps kinds` tells what there is."
    if f.type is FieldType.RULE:
        text += " How rules are written: dicom-ferry rule --help."
    if f.choices:
        text += (
            " "
            + "; ".join(value if label.casefold() == value else f"“{value}”: {label}" for value, label in f.choices)
            + "."
        )
    if f.minimum is not None and f.maximum is not None:
        text += f" {_number(f.minimum)} to {_number(f.maximum)}{' ' + f.unit if f.unit else ''}."
    elif f.unit and f.unit not in text:
        text += f" In {f.unit}."
    if f.required and not all_optional:
        text += " [needed]"
    elif f.type is not FieldType.SWITCH:
        shown = _plain_default(f.default)
        text += f" [default: {shown}]" if shown else ""
    elif f.default:
        text += " [default: on]"
    return text


def _plain_default(value: Any) -> str:
    if value is None or value == "" or value == ():
        return ""
    if isinstance(value, (tuple, list)):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _python_name(f: FormField) -> str:
    return f"field_{f.name}"


def _typed(f: FormField, value: Any) -> JsonValue:
    if f.type in (FieldType.NODES, FieldType.STEPS):
        return [str(v) for v in value]
    return value if isinstance(value, bool) else _from_text(f, str(value))


def _from_text(f: FormField, text: str) -> JsonValue:
    """A value as text, made into what the model takes; the model does the judging."""
    if f.type is FieldType.STEPS:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if f.type in (FieldType.NODES, FieldType.LIST):
        return [part.strip() for part in text.split(",") if part.strip()]
    if f.type in (FieldType.FILE, FieldType.FOLDER) and text.strip():
        return str(Path(text.strip()).expanduser().absolute())  # the engine may run in another folder
    return text.strip() if f.type is not FieldType.TEXT else text


def _number(value: float) -> str:
    """Whole numbers in all their digits."""
    return str(int(value)) if value == int(value) else f"{value:g}"
