"""The command line's entry: without arguments the window, with arguments the commands."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, cast

import typer

from core import __version__
from core.asked_to_end import listen_for_the_end
from core.cli_commands.speaking import manner, speaking
from core.home import HOME_VARIABLE
from core.logs import without_credentials
from core.model.errors import ConfigurationError
from core.model.fields import secret_fields
from core.running_mark import mark_running
from core.screen import has_display

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


#: The one word after which the window opens in the tray: how it is started when a person logs in.
IN_TRAY = "--in-tray"


def build_app() -> typer.Typer:
    """All commands, those of the registered kinds included."""
    # Imported here: the window's start needs none of it.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (or the window) and return the exit status."""
    _make_speakable()
    threading.excepthook = _thread_failed
    listen_for_the_end()
    mark_running()
    arguments = _take_home(list(sys.argv[1:] if arguments is None else arguments))
    if arguments in ([], [IN_TRAY]):
        return _window(in_tray=bool(arguments))
    try:
        build_app()(_normalised(arguments), prog_name="dicom-ferry")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
    except KeyboardInterrupt:
        status = 130
    else:
        status = 0
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    return status


def _take_home(arguments: list[str]) -> list[str]:
    """Use the home folder that ``--home`` names, for the window as well as for commands; the other words."""
    if arguments and arguments[0].startswith("--home="):
        arguments = ["--home", arguments[0].removeprefix("--home="), *arguments[1:]]
    if len(arguments) > 1 and arguments[0] == "--home" and arguments[1].strip():
        os.environ[HOME_VARIABLE] = arguments[1]
        return arguments[2:]
    return arguments


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


def _normalised(arguments: list[str]) -> list[str]:
    """Let ``--debug`` stand anywhere, and ``--secret-stdin`` without the field that may follow it."""
    from core.nodes.registry import node_kinds

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


def _window(*, in_tray: bool) -> int:
    """Open the window, or say in a sentence why there is none."""
    try:
        with speaking():
            try:
                window = cast(Callable[..., int], import_module("gui.app").main)
            except ImportError as error:
                raise ConfigurationError(
                    "The window can't be opened: Qt for Python (PySide6) is missing or incomplete on this computer.",
                    "Install PySide6-Essentials, or use the commands: dicom-ferry --help.",
                    detail=repr(error),
                    code="no-window",
                ) from error
            if not has_display():
                raise ConfigurationError(
                    "The window can't be opened: there is no screen here.",
                    "Log in on the desktop, or use the commands: dicom-ferry --help.",
                    code="no-window",
                )
            return int(window(in_tray=in_tray) or 0)
    except typer.Exit as end:
        return int(end.exit_code)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """What went wrong in a thread belongs into the log; whoever waits for the thread tells the person."""
    if failed.exc_value is not None:
        logging.getLogger(__name__).error(
            "thread %s", failed.thread.name if failed.thread else "", exc_info=failed.exc_value
        )
        if manner.debug:
            sys.stderr.write(without_credentials("".join(traceback.format_exception(failed.exc_value))))


def _make_speakable() -> None:
    """A sign that this terminal can't show must not end a command, nor that there is no terminal at all."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the program of the window on Windows, which has no console
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
