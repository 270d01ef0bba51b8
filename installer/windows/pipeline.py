"""Parts of the pipeline: each a process of its own, started when those before it are done, ended when it is late."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installer.windows.descendants import adopt_orphans, end_all

#: How often the parts are looked at, seconds.
_LOOK = 0.2
_TAIL = 200  # lines
_PATIENCE = "10"


class PartError(Exception):
    """A part failed or did not end; the text says which, and what it said."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes
    ----------
    name : str
    after : Sequence[str]
        The parts that must be done first.
    most_seconds : float
        It is ended when it takes longer.
    patient : bool
        It leaves the processors to the others while they want them.
    """

    name: str
    after: Sequence[str] = ()
    most_seconds: float = 600
    patient: bool = False


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[str]
    reader: threading.Thread
    began: float
    said: list[str] = field(default_factory=list)


class Pipeline:
    """Runs parts by ``command`` with the part's name behind it.

    Parameters
    ----------
    folder : Path
        Where the command is run.
    logs : Path
        The folder in which each part's words are kept.
    clean_up : Callable[[], None]
        Called at the end, whatever happened.
    """

    def __init__(
        self, parts: Sequence[Part], command: Sequence[str], folder: Path, logs: Path, clean_up: Callable[[], None]
    ) -> None:
        self.parts = parts
        self.command = command
        self.folder = folder
        self.logs = logs
        self.clean_up = clean_up
        self.seconds: dict[str, tuple[float, float]] = {}  # part: when it began and ended
        self._running: dict[str, _Running] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        """Run all parts.

        Raises
        ------
        PartError
            One failed or was late; the others are ended at once. Or a process was left behind.
        """
        adopt_orphans()
        self.logs.mkdir(parents=True, exist_ok=True)
        waiting = list(self.parts)
        try:
            while waiting or self._running:
                done = self.seconds.keys()
                known = {part.name for part in self.parts}
                for part in [p for p in waiting if all(name in done or name not in known for name in p.after)]:
                    waiting.remove(part)
                    self._start(part)
                self._look()
                time.sleep(_LOOK)
        except BaseException:
            self._end_parts()
            self.clean_up()
            end_all(patience=0)
            raise
        self.clean_up()
        left = end_all(patience=20)
        if left:
            raise PartError("These were left running, and were ended:\n" + "\n".join(left))

    def table(self) -> list[str]:
        """When each part began and how long it took, one line each."""
        return [
            f"{name:<12} began after {began:4.0f} s, took {ended - began:4.0f} s"
            for name, (began, ended) in self.seconds.items()
        ]

    def _start(self, part: Part) -> None:
        nice = ["nice", "-n", _PATIENCE] if part.patient else []
        process = subprocess.Popen(
            [*nice, *self.command, part.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True, cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        if part.patient:
            # Where the kernel shares the processors out by sessions, a process is patient within its own alone.
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/autogroup").write_text(_PATIENCE, encoding="ascii")
        reader = threading.Thread(target=self._read, args=(part, process), daemon=True)
        self._running[part.name] = _Running(part, process, reader, self._clock())
        reader.start()

    def _read(self, part: Part, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with (self.logs / f"{part.name}.log").open("w", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                print(f"{part.name:<10} | {line.rstrip()}", flush=True)

    def _look(self) -> None:
        for name, running in list(self._running.items()):
            took = self._clock() - running.began
            if running.process.poll() is None:
                if took > running.part.most_seconds:
                    raise PartError(f"{name} was still running after {took:.0f} s.\n{self._tail(name)}")
                continue
            # Whoever it left behind may hold its output open: not waited for here.
            running.reader.join(5)
            del self._running[name]
            if running.process.returncode:
                status = running.process.returncode
                raise PartError(f"{name} failed ({status}) after {took:.0f} s.\n{self._tail(name)}")
            self.seconds[name] = (running.began, self._clock())
            print(f"{name:<10} | done in {took:.0f} s", flush=True)

    def _tail(self, name: str) -> str:
        log = self.logs / f"{name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return "\n".join([f"All that it said is in {log}; the last lines:", *lines[-_TAIL:]])

    def _end_parts(self) -> None:
        for running in self._running.values():
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()

    def _clock(self) -> float:
        return time.monotonic() - self._began
