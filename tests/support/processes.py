"""Child processes of tests: they end with the test run, and what they said is shown when a test fails."""

from __future__ import annotations

import atexit
import collections
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.servers import required_program
from tests.support.waiting import PATIENCE

_numbers = itertools.count(1)
_running: set[Child] = set()
#: The children of the test that runs now, ended or not.
_of_this_test: collections.deque[Child] = collections.deque(maxlen=20)


class Child:
    """A process whose output goes to files, so that it never blocks and can be read at any time."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = next(_numbers)
        self.command = [str(part) for part in command]
        self._stdout = folder / f"{number}.stdout"
        self._stderr = folder / f"{number}.stderr"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [*ends_with_us(), *self.command],
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=None if env is None else dict(env),
                cwd=cwd,
            )
        if stdin is not None and self.process.stdin is not None:
            try:
                self.process.stdin.write(stdin)
                self.process.stdin.close()
            except BrokenPipeError:  # It ended without reading: its exit status tells.
                pass
        _running.add(self)
        _of_this_test.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def stdout(self) -> str:
        """What it has written until now."""
        return self._stdout.read_text(errors="replace")

    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit status.

        An ``AssertionError`` with what it wrote when it takes longer than ``timeout`` seconds.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s\n{self.describe()}") from None

    def send(self, which: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(which)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.send(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it: politely, then not."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        _running.discard(self)

    def describe(self) -> str:
        """Command, exit status and the end of what it wrote."""
        status = "running" if self.running else f"ended with {self.returncode}"
        return (
            f"$ {' '.join(self.command)}\n[{status}]\n"
            f"--- stdout\n{self.stdout()[-3000:]}\n--- stderr\n{self.stderr()[-6000:]}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def ends_with_us() -> list[str]:
    """The words before a command that make the kernel end it when this process is killed."""
    # The signal comes when the *thread* that started the process ends: only the main one lasts.
    if threading.current_thread() is not threading.main_thread():
        return []
    return [required_program("setpriv"), "--pdeathsig", "KILL"]


def forget_children() -> None:
    """A new test begins."""
    _of_this_test.clear()


def children_of_this_test() -> list[Child]:
    return list(_of_this_test)


def clean_environment(**more: str) -> dict[str, str]:
    """An environment without the desktop, keyring, proxies and settings of whoever runs the tests."""
    kept = ("PATH", "TMPDIR", "DICOM_FERRY_SERVERS", "LD_LIBRARY_PATH", "SYSTEMROOT")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        **more,
    }


@atexit.register
def _end_all() -> None:
    for child in list(_running):
        child.close()
