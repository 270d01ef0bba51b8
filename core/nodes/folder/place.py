"""What a place of files offers, be it a folder or a ZIP file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from core.wire.abort import Abort


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: its path below the place with forward slashes, bytes, and a number that changes with its content."""

    ref: str
    size: int
    stamp: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that couldn't be looked into; `why` goes without names."""

    why: str


class Place(Protocol):
    """Files under one root. Thread-safe. `OSError`s get out as they are, but for those of a root that is missing."""

    stages_in: Path
    """Folder for files that are still arriving, on the same file system where that helps."""

    def check(self, *, create: bool = False) -> bool:
        """Whether the root is there; False (with `create`) when it was never seen, but `prepare` can make it.

        Raises `LocalError` ("folder-missing", "share-lost", …) when it is not there, or not any more.
        """

    def prepare(self) -> None:
        """Make the root where it isn't there."""

    def entries(self, abort: Abort | None) -> Iterator[Entry | Trouble]:
        """Every file, in the order of names within each folder, files that are still being written left out."""

    def entry(self, ref: str) -> Entry | None:
        """One file; None when it isn't there. Raises `LocalError` ("outside") for what is no path below the root."""

    def open(self, ref: str) -> BinaryIO:
        """Open for reading; seeking works, though it may be slow. Raises `FileNotFoundError`."""

    def adopt(self, part: str, ref: str) -> None:
        """Give a complete, settled temporary file its name, durably; `part` may be left over.

        Raises `FileExistsError` when the name is taken.
        """

    def is_link(self, ref: str) -> bool:
        """Whether the file itself is a symbolic link."""

    def remove(self, ref: str) -> None:
        """Delete one file, and the folders that are empty then. Raises `NotSupportedError` for a ZIP file."""

    def settle(self) -> None:
        """Everything adopted is complete and on the disk, readable by any other program."""

    def free(self) -> int:
        """Bytes that fit in."""

    def close(self) -> None: ...
