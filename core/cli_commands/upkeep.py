"""`dicom-ferry self-test | support-bundle | remove-data | engine`."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from core import __version__
from core.app import App
from core.cli_commands.interruption import Interruption
from core.cli_commands.node import show_steps
from core.cli_commands.opening import opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.diagnosis import DiagnosisStep
from core.model.errors import ConfigurationError, FerryError, LocalError
from core.model.events import EngineChanged, Event, LogLevel, LogLine, NodeChanged, NodeHealth
from core.removal import remove_everything, what_is_kept
from core.self_test import self_test
from core.support import write_support_bundle
from core.unattended.handover import take_handed_over
from core.unattended.place import start_words
from core.unattended.readiness import Readiness
from core.unattended.task import tell_process

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("self-test")(check_installation)
    app.command("support-bundle")(support_bundle)
    app.command("remove-data")(remove_data)
    app.command()(engine)


def check_installation(
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON objects, one a line; or all of them to a file, if one is named.")
    ] = False,
    file: Annotated[Path | None, typer.Argument(help="With --json: the file to write.", show_default=False)] = None,
) -> None:
    """Check this installation: kinds, resources, ledger, keyring, web, DICOM, window. Exit status 1 on failure."""
    with speaking(json=json and file is None) as speaker:
        if file is not None and not json:
            raise ConfigurationError("A file is written with --json only.", f"Write: self-test --json {file}")
        steps: list[DiagnosisStep] = []
        failed = show_steps(speaker, _kept(self_test(), steps))
        if file is not None:
            _write_results(file, steps, works=not failed)
        speaker.data("tested", works=not failed)
        speaker.say("Something is wrong with this installation." if failed else "All is well.",
                    "bold red" if failed else "bold green")  # fmt: skip
    exit_with(1 if failed else 0)


def _kept(steps: Iterator[DiagnosisStep], kept: list[DiagnosisStep]) -> Iterator[DiagnosisStep]:
    for step in steps:
        kept.append(step)
        yield step


def _write_results(file: Path, steps: list[DiagnosisStep], *, works: bool) -> None:
    """One JSON object: version, system, verdict and the result of each check."""
    found = {
        "version": __version__,
        "system": platform.platform(),
        "works": works,
        "checks": [asdict(step) for step in steps],
    }
    try:
        file.write_text(dumps(found, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise LocalError(
            f"The results can't be written to {file} ({error.strerror or error}).",
            "Choose another place.",
            detail=repr(error),
            code="file",
        ) from error


def support_bundle(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="ZIP file to write.")] = None,
) -> None:
    """Pack versions, settings, nodes, job counts and logs for whoever helps you: no patient data, no secrets."""
    with speaking() as speaker, opened() as app:
        path = output or Path(f"dicom-ferry-support-{datetime.now().astimezone():%Y%m%d-%H%M%S}.zip")
        names = write_support_bundle(app, path)
        speaker.say(f"Wrote {path} with {', '.join(names)}. Look through it before you pass it on.")


def remove_data(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Remove what is kept on this computer for this account: nodes, jobs, passwords, keys, the record of what was sent.

    What was received by a node of this computer and not passed on is removed as well, unless it has a folder elsewhere.
    Keys for pseudonyms are gone for good then, unless a copy was made (pseudonym-key copy).
    """
    with speaking() as speaker:
        kept = what_is_kept() if not yes else None
        if kept is not None:
            open_ = kept.unconfirmed_studies
            speaker.say(f"{kept.folder} holds {kept.nodes} nodes and the record of what was sent.")
            if open_:
                speaker.say(f"Studies not yet confirmed at their destination: {open_}.", "bold yellow")
            if not typer.confirm("Remove it all? This can't be undone."):
                exit_with(1)
        removed = remove_everything() if yes or kept is not None else None
        speaker.say(f"Removed {removed}." if removed else "Nothing is kept here.")


def engine(json: Json = False) -> None:
    """Carry out all started jobs, unattended, until interrupted (SIGINT or SIGTERM).

    The window and the command line attach to it and command it. It ends with exit status 0 when it was asked to.
    `dicom-ferry service install` has the system start it, under an account of its own.
    """
    readiness = Readiness()
    with speaking(json=json) as speaker, opened() as app, Interruption(readiness.stopping) as interruption:
        _refuse_others(app)
        shown = _Unattended(speaker, readiness)
        handle = app.engine(shown.event, unattended=True)
        if handle.attached:
            handle.stop()
            raise FerryError(
                "DICOM Ferry is running already on this home folder.",
                "Nothing needs to be done; or stop that one first.",
                code="engine-runs",
            )
        if app.home.unattended is not None and sys.platform == "win32":
            tell_process(app.home.folder)
        speaker.data("engine", running=True, process=os.getpid())
        speaker.remark("The engine runs. Ctrl-C settles what is on its way and ends it.")
        told = False
        while not interruption.asked.wait(0.5 if told else 0.05):
            if not told and handle.ready:
                readiness.ready()
                told = True
            if told:
                take_handed_over(app)
            if handle.error is not None:
                raise FerryError(
                    "The engine stopped by itself.", "The log has the details; start it again.",
                    detail=repr(handle.error), code="engine-stopped",
                )  # fmt: skip
        speaker.remark("Stopping: images on their way are being settled …")
        handle.stop()
        speaker.data("engine", running=False, process=os.getpid())


def _refuse_others(app: App) -> None:
    """On a home that a group may use, the engine's own account alone runs the engine: it has the secrets."""
    owner = app.home.unattended
    if owner is not None and os.name == "posix" and app.home.folder.stat().st_uid != os.geteuid():
        raise ConfigurationError(
            f"The engine of this home runs under the account {owner.account} alone.",
            f"Have it started: {start_words()}",
            code="home-of-account",
        )


class _Unattended:
    """Says what an unattended engine meets: nodes that go and come, warnings and errors."""

    def __init__(self, speaker: Speaker, readiness: Readiness) -> None:
        self._speaker = speaker
        self._readiness = readiness
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, NodeChanged) and event.health is not NodeHealth.UNKNOWN:
                self._speaker.data("node", name=event.name, health=event.health.value, reason=event.reason)
                self._speaker.remark(f"{event.name}: {event.reason or event.health.value}")
            elif isinstance(event, LogLine) and event.level is not LogLevel.INFO:
                self._speaker.data("log", level=event.level.value, at=event.at, text=event.text, node=event.node)
                self._speaker.remark(event.text)
            elif isinstance(event, EngineChanged):
                open_ = event.unconfirmed_studies
                self._readiness.status(
                    f"{open_} {'study' if open_ == 1 else 'studies'} not yet confirmed" if open_ else "all is confirmed"
                )
                self._speaker.data(
                    "engine", running=event.running, speed=round(event.speed), unconfirmed=event.unconfirmed_studies
                )
