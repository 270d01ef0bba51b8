"""Files that survive a power cut, on POSIX and Windows alike, whatever the length of their path."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from core.spool.disk import extended as extended
from core.spool.disk import sync_folder as sync_folder

PART_PREFIX = ".ferry-"
PART_SUFFIX = ".part"
CHUNK = 1 << 18


def is_part(name: str) -> bool:
    """Whether this is a file that is still being written (ours or another program's): never an instance."""
    return name.endswith(PART_SUFFIX)


def is_our_part(name: str) -> bool:
    return name.startswith(PART_PREFIX) and name.endswith(PART_SUFFIX)


def create_part(folder: Path) -> tuple[str, BinaryIO]:
    """A new temporary file in `folder`, open for writing and reading; its path is in the extended form."""
    path = extended(folder / f"{PART_PREFIX}{secrets.token_hex(8)}{PART_SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return path, os.fdopen(os.open(path, flags, 0o666), "w+b")


def settle(file: BinaryIO) -> None:
    """Everything written so far is on the disk when this returns."""
    file.flush()
    os.fsync(file.fileno())


def make_folders(root: Path, below: Path) -> None:
    """Make `below` and what lies between it and `root` (which exists), durably."""
    missing = []
    at = below
    while at != root and not os.path.isdir(extended(at)):  # noqa: PTH112 - pathlib can't take the extended form
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        try:
            os.mkdir(extended(folder))  # noqa: PTH102
        except FileExistsError:
            if not os.path.isdir(extended(folder)):  # noqa: PTH112
                raise NotADirectoryError(20, "Not a directory") from None
            continue  # another thread was quicker
        sync_folder(extended(folder.parent))


def real(path: Path | str) -> str:
    """Where a path really lies, links followed; on Windows in the extended form.

    Some file systems can't tell (drives in memory, network drives of other makers, long paths): without a link in the
    path, it lies where it says.

    Raises
    ------
    OSError
        There is a link, and nobody can tell where it leads.
    """
    given = extended(path)
    try:
        return os.path.realpath(given)
    except OSError:
        plain = os.path.abspath(given)  # noqa: PTH100 - the extended form
        if _goes_by_links(plain):
            raise
        return plain


def _goes_by_links(path: str) -> bool:
    while True:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_reparse_tag", 0)):
            return True
        above = os.path.dirname(path)  # noqa: PTH120 - the extended form
        if above == path or not os.path.splitdrive(above)[1].strip("\\/"):
            return False
        path = above


def md5_of(file: BinaryIO, check: Callable[[], None] | None = None) -> str:
    """MD5 of an open file from where it stands to its end, lower-case hexadecimal.

    `check` is called between chunks and may raise.
    """
    digest = hashlib.md5(usedforsecurity=False)
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := file.readinto(view):  # type: ignore[attr-defined]
        digest.update(view[:count])
        if check is not None:
            check()
    return digest.hexdigest()
