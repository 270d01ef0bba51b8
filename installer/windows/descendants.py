"""Whatever this process started, directly or not, and how all of it is ended (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_SET_CHILD_SUBREAPER = 36  # prctl
_PROC = Path("/proc")


def adopt_orphans() -> None:
    """From now on, processes whose parents end become children of this one instead of the system's first process."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> dict[int, str]:
    """Running processes below this one: numbers and commands."""
    parents: dict[int, int] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                # Behind the name, which may hold anything, in parentheses: state, parent.
                state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(folder.name)] = int(parent)
    found: dict[int, str] = {}
    of = {os.getpid()}
    while of:
        of = {pid for pid, parent in parents.items() if parent in of and pid not in found}
        found.update({pid: _command(pid) for pid in of})
    return found


def end_all(patience: float) -> list[str]:
    """Wait until nothing runs below this process, kill what still does, and say what that was.

    Parameters
    ----------
    patience : float
        Seconds.
    """
    deadline = time.monotonic() + patience
    while (left := descendants()) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.1)
    # What is killed may have started something else meanwhile.
    until = time.monotonic() + 10
    while (still := descendants()) and time.monotonic() < until:
        for pid in still:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.05)
    return [f"{pid} {command}" for pid, command in left.items()]


def _command(pid: int) -> str:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    return b" ".join(words).decode(errors="replace").strip()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
