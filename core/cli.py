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
from typing import cast

from core.asked_to_end import listen_for_the_end
from core.cli_commands.manner import manner
from core.home import HOME_VARIABLE
from core.logs import without_credentials
from core.model.errors import ConfigurationError
from core.running_mark import mark_running
from core.screen import has_display

#: The one word after which the window opens in the tray: how it is started when a person logs in.
IN_TRAY = "--in-tray"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (or the window) and return the exit status."""
    _make_speakable()
    threading.excepthook = _thread_failed
    listen_for_the_end()
    mark_running()
    arguments = _take_home(list(sys.argv[1:] if arguments is None else arguments))
    if arguments in ([], [IN_TRAY]):
        return _window(in_tray=bool(arguments))
    # Imported here: the window's start needs none of it.
    from core.cli_commands.program import build_app, normalised

    try:
        build_app()(normalised(arguments), prog_name="dicom-ferry")
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


def _window(*, in_tray: bool) -> int:
    """Open the window, or say in a sentence why there is none."""
    try:
        return int(_opener()(in_tray=in_tray) or 0)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told as commands tell it
        return _told(error)


def _told(error: BaseException) -> int:
    """Say in a sentence what went wrong, as commands do; the exit status."""
    # Imported here: the window's start needs none of it.
    import typer

    from core.cli_commands.speaking import speaking

    try:
        with speaking():
            raise error
    except typer.Exit as end:
        return int(end.exit_code)


def _opener() -> Callable[..., int]:
    """What opens the window.

    Raises
    ------
    ConfigurationError
        There is no Qt, or no screen.
    """
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
    return window


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
