"""The program under test, run as a person runs it: a process of its own with a home of its own."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.keyrings import no_keyring
from tests.support.processes import Child, clean_environment
from tests.support.waiting import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]


def json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines (``--json`` prints one a line); an unfinished last line is left."""
    found = []
    for line in text.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            found.append(json.loads(line))
    return found


@dataclass(frozen=True)
class FerryRun:
    """What a finished run of the program said."""

    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of its standard output."""
        return json_lines(self.stdout)

    @property
    def finished(self) -> dict[str, Any]:
        """The last ``finished`` event, which counts the whole job."""
        last = [event for event in self.events if event.get("event") == "finished"]
        assert last, f"no 'finished' event in {self.describe()}"
        return last[-1]

    def describe(self) -> str:
        return f"{' '.join(self.args)} → {self.returncode}\n{self.stdout[-3000:]}\n{self.stderr[-6000:]}"

    def expect(self, returncode: int = 0) -> FerryRun:
        """Itself, if it ended with this status."""
        assert self.returncode == returncode, f"expected exit status {returncode}: {self.describe()}"
        return self


class RunningFerry(Child):
    """A run that is still going on."""

    def events(self) -> list[dict[str, Any]]:
        return json_lines(self.stdout())

    def wait_event(
        self, wanted: str | Callable[[dict[str, Any]], bool], *, timeout: float = PATIENCE
    ) -> dict[str, Any]:
        """The first event of that name, or for which ``wanted`` is true, as soon as it is there."""

        def found() -> dict[str, Any] | None:
            ended = not self.running
            for event in self.events():
                if event.get("event") == wanted if isinstance(wanted, str) else wanted(event):
                    return event
            assert not ended, f"ended before {wanted}\n{self.describe()}"
            return None

        answer = wait_for(found, timeout=timeout, what=f"the event {wanted}")
        assert answer is not None
        return answer

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.send(signal.SIGINT)

    def result(self, timeout: float = PATIENCE) -> FerryRun:
        """Wait for its end."""
        status = self.wait(timeout)
        return FerryRun(tuple(self.command), status, self.stdout(), self.stderr())


class Ferry:
    """Runs of the program that share one home folder (``DICOM_FERRY_HOME``) and environment.

    Without further variables there is no keyring and no screen; secrets then come from the environment.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = dict(env or {})
        self._started: list[RunningFerry] = []
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """All variables of a run: a clean set, this object's, and ``env``."""
        return clean_environment(
            **{
                "HOME": str(self.folder),
                "PYTHONPATH": str(ROOT),
                "DICOM_FERRY_HOME": str(self.home),
                "QT_QPA_PLATFORM": "offscreen",
                "COLUMNS": "200",
                **no_keyring(self.folder),
                **self.env,
                **(env or {}),
            }
        )

    def start(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        wrapper: tuple[str, ...] = (),
        module: str = "core",
    ) -> RunningFerry:
        """Start ``python -m core ARGS`` (``wrapper`` before it: strace, …) and return at once."""
        running = RunningFerry(
            [*wrapper, sys.executable, "-m", module, *args],
            self.folder / "output",
            env=self.environment(env),
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
            cwd=self.folder,
        )
        self._started.append(running)
        return running

    def run(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float = PATIENCE,
    ) -> FerryRun:
        """Run ``python -m core ARGS`` to its end."""
        running = self.start(*args, env=env, stdin=stdin)
        try:
            return running.result(timeout)
        finally:
            running.close()

    def close(self) -> None:
        for running in self._started:
            running.close()
