"""`dicom-ferry node`: register, list, test, edit and remove nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from pydantic import JsonValue
from rich.markup import escape
from rich.table import Table

from core.app import App
from core.cli_commands import remote
from core.cli_commands.fields import Given, build, gather, option, parameters, read_secrets, secret_option
from core.cli_commands.opening import engine_runs, opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import ConfigurationError
from core.model.fields import form_fields
from core.nodes.base import NodeKind
from core.nodes.registry import node_kinds

app = typer.Typer(help="Register, list, test, edit and remove nodes.", no_args_is_help=True)
add = typer.Typer(
    help="Register a node: an Orthanc server, a folder, …. Each kind has its own options: "
    "dicom-ferry node add KIND --help.",
    no_args_is_help=True,
)
app.add_typer(add, name="add")
app.add_typer(remote.app, name="remote")

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")]

_EPILOG = (
    "Each option may also come from the environment, as DICOM_FERRY_ and its name in capitals with underscores. "
    "Secrets never come as options: give them on standard input with --secret-stdin."
)


def add_kinds() -> None:
    """Make `node add KIND` for every registered kind."""
    remote.add_kinds()
    for kind in node_kinds.all().values():
        add.command(kind.name, help=f"{kind.title}. {kind.summary}", epilog=_EPILOG)(_add_command(kind))


def _add_command(kind: NodeKind) -> Any:
    def body(name: str, json: bool, secret_stdin: list[str] | None = None, **arguments: Any) -> None:
        with speaking(json=json) as speaker:
            given = gather(kind.Fields, arguments)
            secrets = read_secrets(kind.Fields, f"A node of the kind {kind.name}", name, secret_stdin)
            with opened() as app:
                _refuse_or_warn(speaker, app, kind, name, given, secrets)
                record = app.nodes.add(kind.name, name, given.values, secrets)
                speaker.data("added", node=record.name, kind=record.kind, address=app.nodes.address(record))
                speaker.say(f"Added {record.name} ({app.nodes.address(record)}).")
                speaker.say(f"Try it: dicom-ferry node test {_quoted(record.name)}")

    common = [
        option("name", str, typer.Argument(..., metavar="NAME", help="A name of your choice, shown everywhere.")),
        *parameters(kind.Fields),
        *secret_option(kind.Fields),
        option("json", bool, typer.Option(False, "--json", help="Write JSON objects, one a line.")),
    ]
    return build(f"add_{kind.name}", kind.summary, common, body)


@app.command("list")
def list_nodes(json: Json = False) -> None:
    """List the registered nodes, with what their last test found."""
    with speaking(json=json) as speaker, opened() as app:
        table = Table("Name", "Kind", "Address", "Last test", box=None, header_style="bold", pad_edge=False)
        records = app.nodes.all()
        for record in records:
            profile = app.nodes.profile(record.name)
            found = "not tested" if profile is None else ("works" if profile.works else "has a problem")
            when = "" if profile is None else f" ({profile.at.astimezone():%Y-%m-%d %H:%M})"
            address = app.nodes.address(record)
            table.add_row(*(escape(t) for t in (record.name, record.kind, address, found + when)))
            speaker.data(
                "node",
                name=record.name,
                kind=record.kind,
                address=address,
                fields=record.fields,
                tested=profile.at if profile else None,
                works=profile.works if profile else None,
            )
        if records:
            speaker.show(table)
        else:
            speaker.say("No nodes yet. Add the server your studies come from: dicom-ferry node add --help")


@app.command("test")
def look_at(name: Name, json: Json = False) -> None:
    """Look at a node step by step: found, reachable, trusted, let in, able. Exit status 1 when it fails."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.nodes.get(name)
        speaker.say(f"{record.name} ({app.nodes.address(record)})", "bold")
        with app.listening():  # some nodes are asked to send something here
            failed = show_steps(speaker, app.nodes.diagnose(record.name))
        speaker.data("tested", node=record.name, works=not failed)
        speaker.say("It doesn't work yet." if failed else "It works.", "bold red" if failed else "bold green")
    exit_with(1 if failed else 0)


def show_steps(speaker: Speaker, steps: Iterable[DiagnosisStep]) -> bool:
    """Print the checklist as it grows; whether a step failed."""
    signs = {
        StepResult.OK: (speaker.sign("✓", "ok"), "green"),
        StepResult.WARNING: ("!", "yellow"),
        StepResult.FAILED: (speaker.sign("✗", "X"), "bold red"),
        StepResult.SKIPPED: ("-", "dim"),
    }
    failed = False
    for step in steps:
        failed = failed or step.result is StepResult.FAILED
        sign, style = signs[step.result]
        if not speaker.json:
            finding = f"  {escape(step.finding)}" if step.finding else ""
            speaker.out.print(f"  [{style}]{sign}[/] {escape(step.name)}{finding}")
            if step.next_step:
                speaker.out.print(f"      → {escape(step.next_step)}")
            if step.tell and step.result is not StepResult.OK:
                speaker.out.print(escape("".join(f"      {line}\n" for line in step.tell.splitlines())), end="")
        speaker.data(
            "step",
            name=step.name,
            result=step.result.value,
            finding=step.finding,
            next_step=step.next_step,
            detail=step.detail,
            tell=step.tell,
        )
    return failed


@app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
def edit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")],
) -> None:
    """Change fields or secrets of a node; those not named stay. See its options: node edit NAME --help."""
    if name in ("--help", "-h"):
        typer.echo(context.get_help())
        return
    with speaking(json="--json" in context.args), opened() as app:
        record = app.nodes.get(name)
        kind = app.nodes.kind(record)
    editor = typer.Typer(add_completion=False)
    editor.command(kind.name, help=f"Change {record.name} ({kind.title}).", epilog=_EPILOG)(
        _edit_command(kind, record.name)
    )
    editor(context.args, prog_name=f"dicom-ferry node edit {_quoted(record.name)}")


def _edit_command(kind: NodeKind, name: str) -> Any:
    def body(json: bool, secret_stdin: list[str] | None = None, **arguments: Any) -> None:
        with speaking(json=json) as speaker:
            given = gather(kind.Fields, arguments, environment={})  # a change is only what was typed
            secrets = read_secrets(
                kind.Fields, f"A node of the kind {kind.name}", name, secret_stdin, may_be_empty=True
            )
            if not given.values and not secrets:
                raise ConfigurationError(
                    "Nothing was said about what to change.",
                    f"See what can be: dicom-ferry node edit {_quoted(name)} --help.",
                    code="nothing-to-change",
                )
            with opened() as app:
                record = app.nodes.get(name)
                _refuse_or_warn(speaker, app, kind, name, Given({**record.fields, **given.values}), secrets)
                changed = app.nodes.edit(name, given.values, secrets)
                if engine_runs(app):
                    app.jobs.nodes_changed()
                speaker.data("edited", node=name, kind=kind.name, address=app.nodes.address(changed))
                speaker.say(f"Changed {name} ({app.nodes.address(changed)}).")

    common = [
        *parameters(kind.Fields, all_optional=True),
        *secret_option(kind.Fields),
        option("json", bool, typer.Option(False, "--json", help="Write JSON objects, one a line.")),
    ]
    return build("edit", "", common, body)


@app.command()
def remove(name: Name, json: Json = False) -> None:
    """Forget a node and its secrets. Its studies stay where they are, and so does the proof in the ledger."""
    with speaking(json=json) as speaker, opened() as app:
        record = app.nodes.get(name)
        app.nodes.remove(record.name)
        speaker.data("removed", node=record.name)
        speaker.say(f"Removed {record.name}.")


def _refuse_or_warn(
    speaker: Speaker, app: App, kind: NodeKind, name: str, given: Given, secrets: dict[str, str]
) -> None:
    fields: dict[str, JsonValue] = given.values
    try:
        warnings = app.nodes.warnings(kind.name, fields, secrets, name=name)
    except ConfigurationError as error:
        raise given.explain(error, form_fields(kind.Fields)) from error
    app.nodes.need_keyring(name, secrets)
    for warning in warnings:
        speaker.remark(f"! {warning}", "yellow")
        speaker.data("warning", sentence=warning)


def _quoted(name: str) -> str:
    return f'"{name}"' if any(c in name for c in " ()'&") else name
