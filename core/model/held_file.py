"""Files that another program holds for a moment: on Windows a virus scanner or an indexer looks at what is new.

Every renaming, replacing and removing of the program goes through here, and opening what was just written: the
other program lets go within moments, and so nothing has failed. Elsewhere files can be renamed and removed while
they are open, so nothing is ever waited for there.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

T = TypeVar("T")

SECONDS: Final = 2.0
"""For so long altogether a held file is waited for."""

_PAUSES: Final = (0.02, 0.03, 0.05, 0.1, 0.2)
_OPEN_ELSEWHERE: Final = frozenset({32, 33})  # ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION
# ERROR_ACCESS_DENIED is what replacing and removing say of an open file, too; ERROR_DELETE_PENDING; and
# ERROR_USER_MAPPED_FILE: a scanner has it in its memory.
_IN_THE_WAY: Final = _OPEN_ELSEWHERE | {5, 303, 1224}


def once_let_go(
    act: Callable[[], T],
    *,
    held: frozenset[int] = _IN_THE_WAY,
    seconds: float = SECONDS,
    stop: threading.Event | None = None,
) -> T:
    """Do something with a file, again and again while another program holds it.

    Parameters
    ----------
    act : Callable[[], T]
        Changes nothing when it raises one of these errors, or goes on where it was.
    held : frozenset[int]
        Windows' error numbers that say so.
    seconds : float
        Waited at most, altogether.
    stop : threading.Event | None
        Ends the waiting at once when it is set.

    Raises
    ------
    OSError
        It is still held then, or something else is wrong.
    """
    waiting = stop or threading.Event()
    left = seconds
    pauses = iter(_PAUSES)
    while True:
        try:
            return act()
        except OSError as error:
            if getattr(error, "winerror", None) not in held or left <= 0:
                raise
            pause = min(next(pauses, _PAUSES[-1]), left)
            left -= pause
            if waiting.wait(pause):
                raise


def replace(old: Path | str, new: Path | str, *, stop: threading.Event | None = None) -> None:
    """`os.replace`, once whoever holds one of the two has let go."""
    once_let_go(lambda: os.replace(old, new), stop=stop)  # noqa: PTH105 - takes the extended form as well


def unlink(path: Path | str, *, missing_ok: bool = False) -> None:
    """`os.unlink`, once whoever holds the file has let go."""
    try:
        once_let_go(lambda: os.unlink(path))  # noqa: PTH108
    except FileNotFoundError:
        if not missing_ok:
            raise


def remove_tree(folder: Path | str) -> None:
    """`shutil.rmtree`, once whoever holds something in it has let go; nothing where there is no such folder."""
    try:
        once_let_go(lambda: shutil.rmtree(folder))
    except FileNotFoundError:
        if os.path.lexists(folder):
            raise


def open_to_read(path: Path | str) -> BinaryIO:
    """``open(path, "rb")``, once whoever keeps everybody else out of the file has let go."""

    def act() -> BinaryIO:
        try:
            return open(path, "rb")  # noqa: PTH123
        except PermissionError as error:
            raise _told_apart(str(path), error) from error

    return once_let_go(act, held=_OPEN_ELSEWHERE)


def _told_apart(path: str, error: PermissionError) -> OSError:
    """The error with Windows' own number, which `open` doesn't tell: no right to read, or held by somebody."""
    if sys.platform == "win32":
        import _winapi

        everybody = 1 | 2 | 4  # FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE
        try:
            handle = _winapi.CreateFile(path, _winapi.GENERIC_READ, everybody, 0, _winapi.OPEN_EXISTING, 0, 0)
        except OSError as telling:
            return telling
        _winapi.CloseHandle(handle)
        return OSError(error.errno, error.strerror, path, 32)  # let go just now
    return error
