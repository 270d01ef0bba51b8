"""The diagnosis of a folder, step by step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError, LocalError
from core.nodes.folder import disk
from core.nodes.folder.fields import FolderFields
from core.nodes.folder.place import Entry, Place, Trouble
from core.nodes.local.faults import local_error

COUNT_SECONDS = 3.0
LITTLE_SPACE = 1 << 30


def diagnose(
    place: Place, fields: FolderFields, name: str, try_writing: Callable[[], None], facts: dict[str, str]
) -> Iterator[DiagnosisStep]:
    """Found, readable, writable, free space, how many files; what was learned goes into `facts`."""
    what = "ZIP file" if fields.is_zip else "Folder"
    try:
        there = place.check(create=fields.create)
    except FerryError as error:
        yield _failed(f"{what} found", error)
        for step in ("Can be read", "Can be written", "Free space", "Files"):
            yield DiagnosisStep(step, StepResult.SKIPPED)
        return
    if there:
        yield DiagnosisStep(f"{what} found", StepResult.OK, fields.path)
        yield from _readable(place, name)
    else:
        yield DiagnosisStep(
            f"{what} found", StepResult.OK, "It is not there yet and is made when the first image arrives."
        )
        yield DiagnosisStep("Can be read", StepResult.SKIPPED, "there is nothing to read yet")
    yield _writable(place, fields, try_writing, there, facts)
    yield _space(place, name, there, facts)
    yield _files(place, name, facts) if there else DiagnosisStep("Files", StepResult.OK, "none")


def _readable(place: Place, name: str) -> Iterator[DiagnosisStep]:
    try:
        next(place.entries(None), None)
    except OSError as error:
        yield _failed("Can be read", local_error(error, name))
    except FerryError as error:
        yield _failed("Can be read", error)
    else:
        yield DiagnosisStep("Can be read", StepResult.OK)


def _writable(
    place: Place, fields: FolderFields, try_writing: Callable[[], None], there: bool, facts: dict[str, str]
) -> DiagnosisStep:
    facts["writable"] = "no"
    if not there and not fields.is_zip:
        parent = os.path.dirname(disk.extended(fields.path))  # noqa: PTH120 - the extended form
        if not os.access(parent, os.W_OK):
            return DiagnosisStep(
                "Can be written",
                StepResult.WARNING,
                "The folder that it lies in can't be written to.",
                "Make the folder yourself, or ask for the right to.",
            )
        facts["writable"] = "yes"
        return DiagnosisStep("Can be written", StepResult.OK)
    try:
        try_writing()
    except LocalError as error:
        # Enough to read from: a CD is no failure.
        return DiagnosisStep(
            "Can be written",
            StepResult.WARNING,
            f"{error.sentence} Images can be read from here, but not written or deleted.",
            error.next_step,
            error.detail,
        )
    facts["writable"] = "yes"
    note = "Images can be added to it, but not deleted from it." if fields.is_zip else ""
    return DiagnosisStep("Can be written", StepResult.OK, note)


def _space(place: Place, name: str, there: bool, facts: dict[str, str]) -> DiagnosisStep:
    if not there:
        return DiagnosisStep("Free space", StepResult.SKIPPED)
    try:
        free = place.free()
    except OSError as error:
        return _failed("Free space", local_error(error, name))
    facts["free-bytes"] = str(free)
    finding = f"{free / 1e9:.1f} GB"
    if free < LITTLE_SPACE:
        return DiagnosisStep("Free space", StepResult.WARNING, finding, "Free some space before images are sent here.")
    return DiagnosisStep("Free space", StepResult.OK, finding)


def _files(place: Place, name: str, facts: dict[str, str]) -> DiagnosisStep:
    count = total = unreadable = 0
    end = time.monotonic() + COUNT_SECONDS
    more = ""
    try:
        for found in place.entries(None):
            if isinstance(found, Trouble):
                unreadable += 1
            elif isinstance(found, Entry):
                count += 1
                total += found.size
            if time.monotonic() > end:
                more = " or more"
                break
    except OSError as error:
        return _failed("Files", local_error(error, name))
    except FerryError as error:
        return _failed("Files", error)
    facts["files"] = f"{count}{more}"
    finding = f"{count:,}{more} files, {total / 1e6:,.1f} MB{more}"
    if unreadable:
        return DiagnosisStep(
            "Files",
            StepResult.WARNING,
            f"{finding}; {unreadable} places can't be looked into",
            "Ask for the right to read everything below this folder.",
        )
    return DiagnosisStep("Files", StepResult.OK, finding)


def _failed(step: str, error: FerryError) -> DiagnosisStep:
    return DiagnosisStep(step, StepResult.FAILED, error.sentence, error.next_step, error.detail)
