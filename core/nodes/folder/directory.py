"""A folder on a disk or share as a place of files."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

from core.model import held_file
from core.model.errors import LocalError
from core.nodes.folder import disk
from core.nodes.folder.place import Entry, Trouble
from core.nodes.local.faults import local_error, told
from core.wire.abort import Abort

_RAW = "%raw/"
# Before paths whose names are not text (bytes of another encoding), which are percent-encoded behind it.

STALE_SECONDS = 24 * 3600.0
"""Our own temporary files older than this were left by a crash and are removed."""


class Directory:
    """Files below `root`. Symbolic links are followed for reading, each folder once, and never for deleting."""

    def __init__(self, root: Path, node: str) -> None:
        self.root = root
        self.stages_in = root
        self._node = node
        self._lock = threading.Lock()
        self._device: int | None = None
        self._had_content = False

    def check(self, *, create: bool = False) -> bool:
        path = disk.extended(self.root)
        seen = self._device is not None  # before the look: another thread may make it between the two
        try:
            status = os.stat(path)  # noqa: PTH116 - the extended form
            if not os.path.isdir(path):  # noqa: PTH112
                raise told("folder-missing", self._node, detail="there is a file of that name")
            empty = self._looks_empty(path)
        except FileNotFoundError as error:
            # Once seen and now gone is a lost disk or share: making it anew would write beside it.
            if create and not seen and os.path.isdir(disk.extended(self.root.parent)):  # noqa: PTH112
                return False
            raise told("folder-missing", self._node) from error
        except NotADirectoryError as error:
            raise told("folder-missing", self._node) from error
        except OSError as error:
            raise local_error(error, self._node) from error
        with self._lock:
            if self._device not in (None, status.st_dev) and self._had_content and empty:
                # The bare mount point shows: the disk or share was taken away.
                raise told("folder-missing", self._node, detail="the folder is empty and on another disk than before")
            self._device = status.st_dev
            self._had_content = self._had_content or not empty
        return True

    def prepare(self) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(disk.extended(self.root))  # noqa: PTH102
                disk.sync_folder(disk.extended(self.root.parent))
        except OSError as error:
            raise local_error(error, self._node) from error
        self.check()

    @staticmethod
    def _looks_empty(path: str) -> bool:
        with os.scandir(path) as found:
            return next(found, None) is None

    def entries(self, abort: Abort | None) -> Iterator[Entry | Trouble]:
        root = disk.extended(self.root)
        seen: set[tuple[int, int]] = set()
        stack: list[tuple[str, str]] = [(root, "")]
        while stack:
            path, ref = stack.pop()
            if abort is not None:
                abort.check()
            try:
                status = os.stat(path)  # noqa: PTH116
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue  # reached by a link before, or a loop
                seen.add(identity)
                with os.scandir(path) as found:
                    children = sorted(found, key=lambda e: e.name)
            except OSError as error:
                if not ref:
                    raise
                yield Trouble(f"a folder can't be opened ({local_error(error, self._node).code})")
                continue
            folders = []
            for child in children:
                below = f"{ref}/{child.name}" if ref else child.name
                given = _ref(below)
                try:
                    if child.is_dir():
                        folders.append((child.path, below))
                    elif child.is_file():
                        if disk.is_part(child.name):
                            self._sweep(child)
                            continue
                        info = child.stat()
                        yield Entry(given, info.st_size, info.st_mtime_ns)
                except FileNotFoundError:
                    continue  # gone between the listing and the look
                except OSError as error:
                    yield Trouble(f"a file can't be looked at ({local_error(error, self._node).code})")
            stack.extend(reversed(folders))
        self.check()  # a share lost in the middle may look like empty folders

    def _sweep(self, child: os.DirEntry[str]) -> None:
        if not disk.is_our_part(child.name) or child.is_symlink():
            return
        with contextlib.suppress(OSError):  # not ours to delete, or in use: it is only litter
            if time.time() - child.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                os.unlink(child.path)  # noqa: PTH108

    def entry(self, ref: str) -> Entry | None:
        path = self._path(ref)
        try:
            status = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(ref, status.st_size, status.st_mtime_ns)

    def open(self, ref: str) -> BinaryIO:
        path = self._path(ref)
        if not os.path.isfile(path):  # noqa: PTH113 - a pipe or device would hang the reader
            raise FileNotFoundError(2, "No such file")
        return held_file.open_to_read(path)

    def adopt(self, part: str, ref: str) -> None:
        path = self._path(ref)
        folder = self.root.joinpath(*self._parts(ref)).parent
        disk.make_folders(self.root, folder)
        self._inside(disk.extended(folder))
        if os.path.lexists(path):
            raise FileExistsError(17, "File exists")
        try:
            held_file.replace(part, path)
        except FileNotFoundError:
            # A thread that deletes took the empty folder away in between.
            disk.make_folders(self.root, folder)
            held_file.replace(part, path)
        disk.sync_folder(disk.extended(folder))

    def overwrite(self, part: str, name: str) -> None:
        """Put a complete, settled temporary file in the place of a file right below the root."""
        held_file.replace(part, disk.extended(self.root / name))
        disk.sync_folder(disk.extended(self.root))

    def is_link(self, ref: str) -> bool:
        return os.path.islink(self._path(ref))  # noqa: PTH114

    def remove(self, ref: str) -> None:
        path = self._path(ref)
        folder = self.root.joinpath(*self._parts(ref)).parent
        self._inside(disk.extended(folder))
        held_file.unlink(path)  # of a link only the link goes
        disk.sync_folder(disk.extended(folder))
        while folder != self.root and self.root in folder.parents:
            try:
                os.rmdir(disk.extended(folder))  # noqa: PTH106
            except OSError:
                return  # not empty, or being filled by another thread
            folder = folder.parent

    def settle(self) -> None:
        """Each file was settled as it was adopted."""

    def free(self) -> int:
        return shutil.disk_usage(disk.extended(self.root)).free

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, ref: str) -> str:
        return disk.extended(self.root.joinpath(*self._parts(ref)))

    @staticmethod
    def _parts(ref: str) -> list[str]:
        if ref.startswith(_RAW):
            ref = os.fsdecode(unquote_to_bytes(ref[len(_RAW) :]))
        windows = os.sep == "\\"
        parts = (ref.replace("\\", "/") if windows else ref).split("/")
        if any(p in ("", ".", "..") or "\x00" in p or (windows and ":" in p) for p in parts):
            raise LocalError("That is no path below the folder.", "Take inventory again.", code="outside")
        return parts

    def _inside(self, folder: str) -> None:
        """Refuse to write or delete through a link that leads out of the root."""
        root = disk.real(self.root)
        real = disk.real(folder)
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise LocalError(
                f"A link in “{self._node}” leads out of the folder.",
                "Nothing is written or deleted there; remove the link or choose the folder it leads to.",
                code="outside",
            )


def _ref(path: str) -> str:
    """The path as text that every database takes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _RAW + quote(os.fsencode(path))
    return path
