"""External program: another program works on the DICOM file of each image."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from core.model.errors import ConfigurationError
from core.model.fields import FieldType, declared
from core.steps.base import Step, StepError, StepFields, StepKind, StepSurroundings
from core.steps.registry import register
from core.steps.where import WhereFields, takes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LOOK_SECONDS = 0.05
SAID_BYTES = 4096
#: What a program needs to start at all; everything else of the environment may hold secrets.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "PATHEXT", "COMSPEC", "PROGRAMFILES",
                "PROGRAMFILES(X86)", "PROGRAMDATA", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE")  # fmt: skip
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Uids(StrEnum):
    """What the program does with the UIDs of an image."""

    KEPT = "kept"
    CHANGED = "changed"


class ExternalFields(WhereFields):
    """Fields of the step."""

    program: str = declared(
        title="Program",
        help="The file of the program. It is started for each image, without a shell and with few rights to the "
        "environment.",
        type=FieldType.FILE,
        min_length=1,
    )
    arguments: str = declared(
        "{input} {output}",
        title="Arguments",
        help="{input} is the image's DICOM file, {output} the file that the program writes; without {output} it "
        "changes {input} itself. What has blanks in it stands in quotation marks.",
        min_length=1,
    )
    time_limit: float = declared(
        120.0, title="Time limit", help="For one image; the program is ended then, and the image not sent.",
        unit="s", ge=1, le=3600, advanced=True,
    )  # fmt: skip
    uids: Uids = declared(
        Uids.KEPT,
        title="UIDs",
        help="A program that changes UIDs is run before the destination can be asked whether it has the image already.",
        labels={"kept": "The program keeps them", "changed": "The program may change them"},
        advanced=True,
    )

    @field_validator("arguments")
    @classmethod
    def _names_the_file(cls, value: str) -> str:
        if value.count('"') % 2:
            raise ValueError("a quotation mark is not closed")
        if "{input}" not in value:
            raise ValueError("they have to name {input}, the image's file")
        return value


class External(Step):
    """Runs a program for each image, in a folder of its own. Implements `WholeFile`."""

    repeatable = False

    def __init__(self, fields: ExternalFields, surroundings: StepSurroundings) -> None:
        self._fields = fields
        self._stopped = surroundings.stopped
        self._name = Path(fields.program).name
        self.foretells_uids = fields.uids is Uids.KEPT
        self.maps_uids = not self.foretells_uids

    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        raise AssertionError("works on whole files")

    def transform(self, source: Path, target: Path) -> tuple[str, ...]:
        before = _header(source)
        if not takes(self._fields.rule, before):
            return ()
        in_place = "{output}" not in self._fields.arguments
        given = source
        if in_place:
            given = target
            shutil.copyfile(source, target)
        self._run([self._fields.program, *self._arguments(given, target)], source.parent)
        if not target.is_file() or not target.stat().st_size:
            raise StepError(
                f"The program {self._name} ended well and wrote no image.",
                "Check its arguments: it has to write the file {output}.",
                code="external-no-output",
            )
        if filecmp.cmp(source, target, shallow=False):
            return ()
        try:
            after = _header(target)
        except Exception as error:  # whatever a broken file makes pydicom run into
            raise StepError(
                f"What the program {self._name} wrote is no DICOM file.",
                "Try it by hand on an image.",
                detail=type(error).__name__,
                code="external-output",
            ) from error
        if self.foretells_uids and any(before.get(k) != after.get(k) for k in _UIDS):
            raise StepError(
                f"The program {self._name} changed UIDs, and is said to keep them.",
                "Choose “The program may change them”, or correct the program.",
                code="external-uids",
            )
        return (f"Changed by {self._name}.",)

    def _arguments(self, source: Path, target: Path) -> list[str]:
        words = (m[1] if m[1] is not None else m[2] for m in _WORD.finditer(self._fields.arguments))
        return [w.replace("{input}", str(source)).replace("{output}", str(target)) for w in words]

    def _run(self, command: list[str], folder: Path) -> None:
        own = folder / "temp"
        own.mkdir()
        environment = {k: v for k, v in os.environ.items() if k.upper() in _ENVIRONMENT}
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP", "HOME"), str(own))
        said = folder / "said.txt"
        with said.open("wb") as errors:
            try:
                process = subprocess.Popen(  # noqa: S603 - the program is what a person has chosen; no shell
                    command,
                    cwd=own,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    **_apart(),
                )
            except OSError as error:
                raise StepError(
                    f"The program {self._name} can't be started ({error.strerror or error}).",
                    "Check that it is there and may be run.",
                    detail=repr(error),
                    code="external-start",
                ) from error
            try:
                self._wait(process)
            finally:
                _end(process)
        if process.returncode:
            how = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
            raise StepError(
                f"The program {self._name} failed with {how}.",
                "See the details for what it said, and try it by hand on an image.",
                detail=_first_line(said),
                code="external-failed",
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + self._fields.time_limit
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
                return
            if self._stopped():
                raise StepError(f"The program {self._name} was ended because the job was stopped.", code="stopped")
            if time.monotonic() > until:
                raise StepError(
                    f"The program {self._name} took longer than {self._fields.time_limit:g} s and was ended.",
                    "Give it more time under “Time limit”, or see why it takes so long.",
                    code="external-timeout",
                )


def _apart() -> dict[str, Any]:
    """So that it can be ended together with the programs that it starts; on Windows without a window of its own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it with everything that it has started."""
    if sys.platform == "win32":
        if process.poll() is None:
            windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"))
            command = [str(windows / "System32" / "taskkill.exe"), "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(  # noqa: S603
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False
            )
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
    process.wait(30)


def _first_line(said: Path) -> str:
    with said.open("rb") as file:
        text = file.read(SAID_BYTES).decode("utf-8", "replace")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:500]


def _header(path: Path) -> Dataset:
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, defer_size=1 << 20)


class ExternalKind(StepKind):
    """Lets another program work on each image."""

    name = "external"
    title = "Run a program"
    summary = "Give the DICOM file of each image to a program of your own, and send what it makes of it."
    icon = "play"
    Fields = ExternalFields

    def open(self, fields: StepFields, surroundings: StepSurroundings) -> Step:
        assert isinstance(fields, ExternalFields)
        self.look(fields)
        return External(fields, surroundings)

    def look(self, fields: StepFields) -> None:
        assert isinstance(fields, ExternalFields)
        program = Path(fields.program)
        if not program.is_file() or (sys.platform != "win32" and not os.access(program, os.X_OK)):
            why = "may not be run" if program.is_file() else "is not there"
            raise ConfigurationError(f"The program {program} {why}.", "Choose another program.", code="external-start")

    def describe(self, fields: StepFields) -> str:
        assert isinstance(fields, ExternalFields)
        where = f", where {fields.where}" if fields.where else ""
        return f"Run {Path(fields.program).name}{where}"


register(ExternalKind())
