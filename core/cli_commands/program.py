"""All commands as one program: put together from their groups, with the words that may stand before each of them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from core import __version__
from core.cli_commands import (
    demo,
    find,
    gateway,
    job,
    node,
    pseudonym_key,
    report,
    rule,
    run,
    service,
    steps,
    upkeep,
)
from core.cli_commands.manner import manner
from core.home import HOME_VARIABLE
from core.model.fields import secret_fields
from core.nodes.registry import node_kinds

_HELP = "\n\n".join(
    (
        "Carries imaging studies from one place to another, and proves that every image arrived.",
        "Without a command the window opens. Register nodes (node add), look what they hold (find), carry studies "
        "between them (run), and export the proof (report). `dicom-ferry demo` shows it all on studies made up for it.",
        "Everything kept on disk lies in one folder; DICOM_FERRY_HOME names another. Passwords are kept in the "
        "system's keyring; where there is none, DICOM_FERRY_SECRET_<NODE> gives them (capitals, with _ for all but "
        "letters and digits).",
        "Exit status: 0 all as wanted; 1 something failed or conflicts; 2 the command or configuration is wrong, or "
        "the ledger can't be used; 130 interrupted.",
    )
)


def build_app() -> typer.Typer:
    """All commands, those of the registered kinds included."""
    app = typer.Typer(
        name="dicom-ferry",
        help=_HELP,
        no_args_is_help=False,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    node.add_kinds()
    run.add_kinds()
    job.add_kinds()
    app.callback(invoke_without_command=False)(_global_options)
    app.add_typer(node.app, name="node")
    app.command()(find.find)
    app.add_typer(rule.app, name="rule")
    app.add_typer(run.app, name="run")
    app.add_typer(job.app, name="job")
    app.add_typer(steps.app, name="steps")
    app.add_typer(pseudonym_key.app, name="pseudonym-key")
    app.add_typer(gateway.app, name="gateway")
    app.add_typer(service.app, name="service")
    app.command()(report.report)
    app.command()(demo.demo)
    upkeep.add_to(app)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dicom-ferry {version()}")
        raise typer.Exit


def version() -> str:
    """The version of the program that runs, installed or not."""
    return __version__


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and end.", callback=_say_version, is_eager=True)
    ] = False,
    home: Annotated[
        str, typer.Option("--home", help="The home folder, before the command; as DICOM_FERRY_HOME.", metavar="FOLDER")
    ] = "",
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show raw details of errors and keep a detailed log, which may hold patient data."
        ),
    ] = False,
) -> None:
    if home:
        os.environ[HOME_VARIABLE] = home
    manner.debug = manner.debug or debug


def normalised(arguments: list[str]) -> list[str]:
    """Let ``--debug`` stand anywhere, and ``--secret-stdin`` without the field that may follow it."""
    fields = {name for kind in node_kinds.all().values() for name in secret_fields(kind.Fields)}
    found: list[str] = []
    rest = iter(range(len(arguments)))
    for i in rest:
        word = arguments[i]
        if word == "--":
            return found + arguments[i:]
        if word == "--debug":
            manner.debug = True
        elif word == "--secret-stdin":
            following = arguments[i + 1].replace("-", "_") if i + 1 < len(arguments) else ""
            if following in fields:
                next(rest)
                found.append(f"--secret-stdin={following}")
            else:
                found.append("--secret-stdin=")
        else:
            found.append(word)
    return found
