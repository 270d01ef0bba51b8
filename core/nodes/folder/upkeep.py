"""What is written after changes: the DICOMDIR of a folder, the list of members of a ZIP file."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from core.model import held_file
from core.model.errors import FerryError
from core.nodes.folder import disk
from core.nodes.folder.archive import Archive
from core.nodes.folder.dicomdir import NAME, DirectoryRecords
from core.nodes.folder.directory import Directory
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.scan import Scan
from core.nodes.local.faults import speaking

log = logging.getLogger(__name__)

TIDY_SECONDS = 2.0
"""Written about this long after a change, once for all that changed meanwhile."""
STALE_MARK = ".dicomdir-stale.part"
"""Lies in the folder from the first change until the DICOMDIR is written: what a crash leaves tells the next one."""
SHARE_OF_TIME = 20
"""Writing costs as much as there is in the folder; no more than a twentieth of the time goes there."""


class Upkeep:
    """Writes soon after `soon` was called, from a thread of its own, and at last when closed."""

    def __init__(self, files: Directory | Archive, scan: Scan, fields: FolderFields, node: str) -> None:
        self._files = files
        self._scan = scan
        self._node = node
        dicomdir = fields.layout is Layout.DICOMDIR and fields.dicomdir
        self._dicomdir = files if dicomdir and isinstance(files, Directory) else None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._took = 0.0
        self._changed = False
        self._closed = False
        self._records: DirectoryRecords | None = None
        self._marked = False
        self._resumed = False

    def resume(self) -> None:
        """Write what a crash kept from being written; asked once, when the node is first used for writing."""
        if self._resumed or self._dicomdir is None:
            return
        self._resumed = True
        if os.path.exists(self._mark(self._dicomdir)):  # noqa: PTH110 - the extended form
            self.soon()

    def soon(self) -> None:
        """Something was stored or deleted."""
        if self._dicomdir is None and not isinstance(self._files, Archive):
            return
        with self._lock:
            self._changed = True
            if self._dicomdir is not None and not self._marked:
                with contextlib.suppress(OSError):  # without it only a crash would go unnoticed
                    Path(self._mark(self._dicomdir)).touch()
                    self._marked = True
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(max(TIDY_SECONDS, SHARE_OF_TIME * self._took), self._write)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> bool:
        """Write what is still to be written; False when it was closed before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._write()
        with self._writing:
            if self._records is not None:
                self._records.close()
                self._records = None
        return True

    def _write(self) -> None:
        with self._writing:
            with self._lock:
                self._timer = None
                changed, self._changed = self._changed, False
            if not changed:
                return
            began = time.monotonic()
            try:
                with speaking(self._node):
                    self._files.settle()
                    if self._dicomdir is not None:
                        self._write_dicomdir(self._dicomdir)
            except FerryError as error:
                log.warning("%s: the DICOMDIR or the list of files could not be written: %s", self._node, error)
                with self._lock:
                    self._changed = True  # the next change, or closing, tries again
            self._took = time.monotonic() - began

    def _write_dicomdir(self, files: Directory) -> None:
        self._scan.refresh(None, anew=False)
        if self._records is None:
            self._records = DirectoryRecords()
        self._records.update(self._instances(), files.open)
        part, file = disk.create_part(files.root)
        try:
            with file:
                self._records.write(file)
                disk.settle(file)
            files.overwrite(part, NAME)
        finally:
            held_file.unlink(part, missing_ok=True)
        with self._lock:
            if not self._changed:  # nothing came since the files were listed
                with contextlib.suppress(OSError):
                    held_file.unlink(self._mark(files))
                self._marked = False

    @staticmethod
    def _mark(files: Directory) -> str:
        return disk.extended(files.root / STALE_MARK)

    def _instances(self) -> Iterator[tuple[str, int]]:
        last = ""
        while page := self._scan.index.known(last):
            yield from ((k.ref, k.stamp) for k in page)
            last = page[-1].ref
