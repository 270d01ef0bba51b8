"""How commands speak: text for people, one JSON object a line for programs, errors as sentences."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from core.cli_commands.manner import manner
from core.logs import without_credentials
from core.model.errors import FerryError

INTERRUPTED = 130


class Speaker:
    """Standard output for results, standard error for progress and errors.

    Attributes
    ----------
    json : bool
        Results are JSON objects, one a line, and nothing else is on standard output.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True, width=1000)  # cut nothing off
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    @property
    def live(self) -> bool:
        """Whether somebody watches a terminal on which a line may be drawn again and again."""
        return not self.json and self.err.is_terminal and not self.err.is_dumb_terminal

    def say(self, text: str, style: str = "") -> None:
        """A result in words. Nothing with ``--json``."""
        if not self.json:
            self.out.print(escape(text), style=style or None)

    def remark(self, text: str, style: str = "") -> None:
        """Something beside the result, on standard error."""
        self.err.print(escape(text), style=style or None)

    def show(self, renderable: Any) -> None:
        """A table or the like. Nothing with ``--json``."""
        if not self.json:
            self.out.print(renderable)

    def data(self, event: str, **values: Any) -> None:
        """One JSON object on a line. Nothing without ``--json``."""
        if self.json:
            line = json.dumps({"event": event, **values}, default=_plain)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def error(self, error: FerryError) -> None:
        """The sentence and the next step, both without credentials."""
        sentence, step = without_credentials(error.sentence), without_credentials(error.next_step)
        self.data("error", sentence=sentence, next_step=step, code=error.code, exit_status=error.exit_status)
        self.err.print(f"[bold red]{escape(sentence)}[/]")
        if step:
            self.err.print(f"→ {escape(step)}")
        if manner.debug and error.detail:
            self.err.print(escape(without_credentials(error.detail)), style="dim")

    def sign(self, good: str, plain: str) -> str:
        """A sign such as ✓ where the terminal can show it, else letters."""
        try:
            good.encode(self.out.encoding)
        except (UnicodeEncodeError, LookupError):
            return plain
        return good


@contextmanager
def speaking(*, json: bool = False) -> Iterator[Speaker]:
    """A command's body: turns what goes wrong into a sentence and an exit status.

    0 all as wanted; 1 something failed or conflicts; 2 the command or configuration is wrong, or the ledger can't be
    used; 130 interrupted.
    """
    speaker = Speaker(json=json)
    try:
        yield speaker
    except FerryError as error:
        _trace(speaker)
        speaker.error(error)
        raise typer.Exit(error.exit_status) from None
    except KeyboardInterrupt:
        speaker.remark("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our output (`| head`) has left; nothing is wrong, and nothing more can be said.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - until the process ends
        raise typer.Exit(0) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("a command failed in a way that was not foreseen")
        _trace(speaker)
        speaker.error(
            FerryError(
                f"Something went wrong that DICOM Ferry did not foresee ({type(error).__name__}).",
                "The log has the details; `dicom-ferry support-bundle` packs them for whoever helps you.",
                detail=repr(error),
                code="unforeseen",
            )
        )
        raise typer.Exit(1) from None


def exit_with(status: int) -> None:
    """End the command with this exit status, if it is not 0."""
    if status:
        raise typer.Exit(status)


def _trace(speaker: Speaker) -> None:
    if manner.debug:
        speaker.err.print(escape(without_credentials(traceback.format_exc())), style="dim")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
