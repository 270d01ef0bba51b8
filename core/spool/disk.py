"""Private files that survive a power cut, on POSIX and Windows alike, whatever the length of their path."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import BinaryIO

from core.model import held_file

CHUNK = 1 << 18


def extended(path: Path | str) -> str:
    r"""The path as the system's calls take it at any length: on Windows with ``\\?\`` before it."""
    text = str(path)
    if sys.platform != "win32":
        return text
    text = os.path.abspath(text)  # noqa: PTH100 - the prefix turns off all normalising, so it is done before
    if text.startswith("\\\\?\\"):
        return text
    if text.startswith("\\\\"):
        return "\\\\?\\UNC\\" + text[2:]
    return "\\\\?\\" + text


def create(path: Path | str) -> int:
    """A new file that only its owner may read, open for writing and reading; `FileExistsError` when it is there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(extended(path), flags, 0o600)


def make_folder(folder: Path) -> None:
    """Make a folder (and those above it) that only its owner may look into, durably; nothing when it is there."""
    if os.path.isdir(extended(folder)):  # noqa: PTH112 - pathlib can't take the extended form
        return
    if not os.path.isdir(extended(folder.parent)):  # noqa: PTH112
        make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another thread was quicker
        os.mkdir(extended(folder), 0o700)  # noqa: PTH102
    if not os.path.isdir(extended(folder)):  # noqa: PTH112
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    sync_folder(folder.parent)


def sync_folder(folder: Path | str) -> None:
    """Names made, renamed and removed in `folder` are on the disk when this returns.

    Windows keeps names in the file system's journal and offers no such call.
    """
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise
    finally:
        os.close(fd)


def settle_as(descriptor: int, old: Path, new: Path) -> None:
    """Close a file that is complete and give it its name; content and name are on the disk when this returns.

    The name first: content and name then reach the disk together, where a name that is given afterwards needs a
    second turn of the file system's journal. So a crash in between may leave a file of this name that isn't whole.
    Windows doesn't rename what is open.
    """
    if sys.platform == "win32":
        os.fsync(descriptor)
        os.close(descriptor)
        rename(old, new)
        return
    try:
        rename(old, new)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(new.parent)


def rename(old: Path | str, new: Path | str) -> None:
    """Give a file its name, in one step; `sync_folder` makes it last."""
    held_file.replace(extended(old), extended(new))


def open_to_read(path: Path | str) -> BinaryIO:
    """Open a file, whatever the length of its path."""
    return held_file.open_to_read(extended(path))


def remove(path: Path | str) -> bool:
    """Remove a file; False where the system doesn't let go of it now (open on Windows), True when it is gone."""
    try:
        held_file.unlink(extended(path), missing_ok=True)
    except OSError:
        return False
    return True


def size_of(path: Path | str) -> int | None:
    """Bytes of a file; None when it isn't there."""
    try:
        return os.stat(extended(path)).st_size  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
