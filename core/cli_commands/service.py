"""`dicom-ferry service install | remove | status | secret`: the engine that runs with nobody logged in."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.errors import ConfigurationError
from core.secrets import PASSWORD
from core.unattended import systemd, systemd_user, unit_secrets
from core.unattended.units import unit_text, user_unit_text

app = typer.Typer(
    help="The unattended engine: carries out all started jobs with nobody logged in.",
    no_args_is_help=True,
)

_User = Annotated[
    bool, typer.Option("--user", help="An engine of your own, on your own home folder; needs no root (Linux).")
]
_DEFAULT = "LocalService" if sys.platform == "win32" else "dicom-ferry"


@app.command()
def install(
    user: _User = False,
    account: Annotated[
        str | None, typer.Option(help="Account that it runs under; made on Linux if missing.", show_default=_DEFAULT)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Members of this group may open its window and give commands; '' ends that.", show_default=False
        ),
    ] = None,
    folder: Annotated[
        list[Path] | None, typer.Option(help="Folder beside its home in which it may write; may be repeated (Linux).")
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the unit or task, and change nothing.")] = False,
) -> None:
    """Install it (systemd unit, or start-up task of Windows) under an account of its own, and start it.

    Its home is /var/lib/dicom-ferry, on Windows C:\\ProgramData\\DICOM Ferry. What is not given
    stays as it was at the last installation, but for the folders.
    """
    with speaking() as speaker:
        if _windows():
            _refuse(user or folder, "--user and --folder are for Linux.")
            task = _task()
            if show:
                speaker.out.print(task.task_text(account or _DEFAULT), highlight=False, markup=False)
                return
            _say(speaker, task.install(account, group, speaker.remark))
            return
        choice = systemd.chosen(account, group, tuple(folder or ()))
        if show:
            text = user_unit_text() if user else unit_text(choice)
            speaker.out.print(text, end="", markup=False)
            return
        _say(speaker, systemd_user.install() if user else systemd.install(choice))


@app.command()
def remove(
    user: _User = False,
    data: Annotated[
        bool, typer.Option("--remove-data", help="Its nodes, jobs, records, received images and secrets, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Stop and remove it; images on their way are settled first. What it keeps stays, unless told otherwise."""
    with speaking() as speaker:
        _refuse(user and data, "With --user, `dicom-ferry remove-data` removes what you keep.")
        if data and not yes and not typer.confirm("Remove its nodes, jobs, records and received images for ever?"):
            exit_with(1)
        if _windows():
            _refuse(user, "--user is for Linux.")
            _say(speaker, _task().remove(data=data))
        else:
            _say(speaker, systemd_user.remove() if user else systemd.remove(data=data))


@app.command()
def status(user: _User = False) -> None:
    """Say whether it is installed, under which account, and whether it runs."""
    with speaking() as speaker:
        if _windows():
            _say(speaker, _task().status())
        else:
            _say(speaker, systemd_user.status() if user else systemd.status())


@app.command()
def secret(
    node: Annotated[str, typer.Argument(help="Name of the node.", show_default=False)],
    field: Annotated[str, typer.Option(help="Which secret of the node.")] = PASSWORD,
    forget: Annotated[bool, typer.Option("--forget", help="Remove it.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Don't encrypt it: for a systemd before version 250 (Linux).")
    ] = False,
) -> None:
    """Give the unattended engine a password: typed, or a line on standard input. It is no argument and no variable.

    On Linux it becomes a credential of the unit, encrypted with the computer's key (systemd-creds). On Windows it is
    handed to the engine, which keeps it in the Credential Manager of its account.
    """
    with speaking() as speaker:
        if _windows():
            task = _task()
            value = "" if forget else _asked()
            _say(speaker, task.give_secret(node, field, value))
        elif forget:
            _say(speaker, unit_secrets.forget_secret(node, field))
        else:
            _say(speaker, unit_secrets.give_secret(node, field, _asked(), plain=plain))


def _asked() -> str:
    """The secret, without an echo; from a pipe its first line."""
    if sys.stdin.isatty():
        value = str(typer.prompt("Password", hide_input=True))
    else:
        value = sys.stdin.buffer.readline().decode("utf-8", errors="strict").rstrip("\r\n")
    if not value:
        raise ConfigurationError("No password was given.", "Type it, or write it to standard input.", code="no-secret")
    return value


def _say(speaker: Speaker, lines: list[str]) -> None:
    for line in lines:
        speaker.say(line)


def _windows() -> bool:
    if sys.platform not in ("win32", "linux"):
        raise ConfigurationError(
            "This system starts programs by other means.",
            "Have `dicom-ferry engine` started by it (launchd on macOS).",
            code="service",
        )
    return sys.platform == "win32"


def _task() -> ModuleType:
    return import_module("core.unattended.task")


def _refuse(wrong: object, sentence: str) -> None:
    if wrong:
        raise ConfigurationError(sentence, "See: dicom-ferry service --help", code="options")
