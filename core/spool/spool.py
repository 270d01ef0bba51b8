"""The spool: takes in images so that they last, and gives out, lists and deletes what it holds."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, delete

from core.model import held_file
from core.model.errors import LocalError
from core.spool import disk
from core.spool import schema as t
from core.spool.catalogue import Catalogue
from core.spool.database import DamagedError, dispose, open_database
from core.spool.incoming import PART_SUFFIX, Complete, IncomingFile, encode_meta, same_data
from core.spool.keeper import Keeper, Numbers, closed, remove_records, settle_quiet
from core.spool.record import Arrival, InstanceRecord, Kept, Removed
from core.spool.recovery import (
    clear_garbage,
    clear_shelves,
    forget_dead,
    rebuild,
    remove_orphans,
    set_aside,
    sweep_incoming,
)

log = logging.getLogger(__name__)

CATALOGUE = "catalogue.sqlite"
SHELF = 1000
"""Files in one folder."""
_open: dict[Path, Spool] = {}
_opening = threading.RLock()


class Spool:
    """One folder of received images. Thread-safe; several processes may have it open at a time.

    A file is written under a temporary name. Once it is complete it is given its name, and file and folder are
    synced; then it is recorded in the catalogue (SQLite, WAL, ``synchronous=FULL``), and `keep` returns. Files that
    arrive together share the last step. A file without a record is none: when its process is gone, it is removed.

    Errors: `OSError` from the disk passes as it is; the catalogue's trouble is a `LocalError`.

    Attributes
    ----------
    folder : Path
    catalogue : Catalogue
        What is held, for lists and queries.
    """

    def __init__(self, folder: Path) -> None:
        """Use `Spool.open`."""
        self.folder = folder
        self._users = 1
        self._named = itertools.count()
        self._shelf: Path | None = None
        self._shelving = threading.Lock()
        self._swept: list[str] = []
        self._sweeping = threading.Lock()
        disk.make_folder(folder)
        incoming = folder / "incoming"
        disk.make_folder(incoming)
        disk.make_folder(folder / "files")
        with FileLock(folder / "opening.lock", mode=0o600, timeout=60.0):
            dead, alive = sweep_incoming(incoming)
            self._token = token = secrets.token_hex(6)
            self._mark = FileLock(incoming / f"{token}.lock", mode=0o600, thread_local=False)
            self._mark.acquire(timeout=0)
            self._incoming = incoming / token
            disk.make_folder(self._incoming)
            try:
                self._reading, self._writing = _opened(folder, alive)
                self.catalogue = Catalogue(self._reading)
                self._keeper = Keeper(self._writing, folder)
                try:
                    if not self.catalogue.is_filled():
                        rebuild(folder, dead, self._keeper)
                    remove_orphans(folder, dead, self._keeper)
                    clear_garbage(folder, self._keeper)
                    clear_shelves(folder, {*alive, token})
                    forget_dead(incoming, dead)
                except BaseException:
                    self._keeper.close()
                    dispose(self._reading, self._writing)
                    raise
            except BaseException:
                self._leave()
                raise

    @classmethod
    def open(cls, folder: Path) -> Spool:
        """The spool in `folder`, made where it isn't there; within a process the same one for all. Close each.

        Raises
        ------
        OSError, LocalError
            The folder can't be made or written, or another program has its catalogue.
        """
        folder = Path(os.path.realpath(folder))
        with _opening:
            spool = _open.get(folder)
            if spool is not None:
                spool._users += 1
                return spool
            try:
                made = cls(folder)
            except Timeout as error:
                raise LocalError(
                    "The store of received images is being opened by another program.",
                    "Wait until that is done, then try again.",
                    code="locked",
                ) from error
            _open[folder] = made
            return made

    def close(self) -> None:
        """Leave it; the last one to leave closes it. To be called once by each who opened it."""
        with _opening:
            self._users -= 1
            if self._users:
                return
            del _open[self.folder]
            self._keeper.close()
            dispose(self._reading, self._writing)
            self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OSError):
            held_file.remove_tree(disk.extended(self._incoming))
        self._mark.release()
        disk.remove(self._mark.lock_file)

    # taking in ------------------------------------------------------------------------------------------

    def receive(self, sop_class: str, sop_uid: str, transfer_syntax: str) -> IncomingFile:
        """A new file for a data set that comes by C-STORE; its file meta information is written already."""
        return IncomingFile(self._part(), encode_meta(sop_class, sop_uid, transfer_syntax))

    def receive_file(self) -> IncomingFile:
        """A new file for a whole DICOM file (PS3.10), kept byte for byte."""
        return IncomingFile(self._part())

    def _part(self) -> Path:
        if not self._users:
            raise closed()
        return self._incoming / (secrets.token_hex(8) + PART_SUFFIX)

    def _name(self) -> Path:
        """A name for a file: on a shelf of this process's own, a new one for each thousand files."""
        with self._shelving:
            number = next(self._named)
            shelf = self.folder / "files" / f"{self._token}-{number // SHELF:x}"
            if shelf != self._shelf:
                disk.make_folder(shelf)
                self._shelf = shelf
        return shelf / f"{number:x}.dcm"

    def keep(self, incoming: IncomingFile, *, sop_class: str = "", sop_uid: str = "", sender: str = "") -> Arrival:
        """Make a file that has arrived a holding; durable when this returns. Abandon `incoming` afterwards, always.

        Parameters
        ----------
        sop_class, sop_uid : str
            What was announced; empty for anything.
        sender : str

        Raises
        ------
        UnusableInstanceError
            It isn't what was announced, or no usable data set.
        OSError, LocalError
            It could not be kept.
        """
        complete = incoming.complete(self._name(), sop_class=sop_class, sop_uid=sop_uid)
        for _ in range(3):
            record, ours = self._keeper.keep(complete, sender)
            if ours:
                incoming.let_go()
                return Arrival(Kept.STORED, record)
            try:
                return Arrival(self._compared(complete, record), record)
            except FileNotFoundError:
                continue  # what was there has just been deleted
        raise LocalError(
            "An image that is held here has lost its file.",
            "Delete this image from this computer, then have it sent again.",
            detail=record.name,
            code="file-lost",
        )

    def _compared(self, complete: Complete, record: InstanceRecord) -> Kept:
        path = self.path(record)
        if record.digest == complete.digest:
            if disk.size_of(path) != record.size:
                # Somebody took the file away, and here it is again.
                disk.make_folder(path.parent)
                disk.rename(complete.path, path)
                disk.sync_folder(path.parent)
            return Kept.DUPLICATE
        alike = (
            record.transfer_syntax == complete.meta.transfer_syntax
            and record.size - record.data_offset == complete.size - complete.meta.length
            and same_data(complete.path, complete.meta.length, path, record.data_offset)
        )
        return Kept.DUPLICATE if alike else Kept.CONFLICT

    # giving out -----------------------------------------------------------------------------------------

    def path(self, record: InstanceRecord) -> Path:
        """Where the file (PS3.10) of an instance lies. It may be deleted at any time."""
        return self.folder / record.name

    def open_file(self, record: InstanceRecord) -> BinaryIO:
        """The file of an instance, from its beginning; seek to `data_offset` for the data set alone."""
        return disk.open_to_read(self.path(record))

    def size_of(self, record: InstanceRecord) -> int | None:
        """Bytes of an instance's file as it lies there now; None when it doesn't."""
        return disk.size_of(self.path(record))

    def free(self) -> int:
        """Bytes that the disk has left."""
        return shutil.disk_usage(self.folder).free

    def capacity(self) -> int:
        """Bytes of the disk in all."""
        return shutil.disk_usage(self.folder).total

    # deleting -------------------------------------------------------------------------------------------

    def delete(self, wanted: Sequence[tuple[str, str | None]]) -> list[Removed]:
        """Delete instances, each by its SOP Instance UID and only if it has the digest named with it (None: any).

        What is deleted is so for good when this returns: a crash brings none of it back.
        """
        with self._sweeping:
            swept, self._swept = self._swept, []

        def remove(connection: Connection, _numbers: Numbers) -> list[tuple[Removed, str]]:
            self._keeper.forget()
            for start in range(0, len(swept), 500):
                connection.execute(delete(t.garbage).where(t.garbage.c.name.in_(swept[start : start + 500])))
            return remove_records(connection, wanted)

        found = self._keeper.call(remove)
        gone = [name for _, name in found if name and disk.remove(self.folder / name)]
        with self._sweeping:
            self._swept += gone
        return [removed for removed, _ in found]

    # following ------------------------------------------------------------------------------------------

    def settle(self, quiet: float) -> None:
        """Enter into the change log the series and studies to which nothing has come for `quiet` seconds."""
        if self.catalogue.unsettled_before(time.time() - quiet):
            self._keeper.call(lambda connection, numbers: settle_quiet(connection, numbers, quiet))

    def is_quiet(self, study_uid: str, series_uid: str = "", *, quiet: float) -> bool:
        """Whether nothing has come to it for `quiet` seconds; False when it is gone."""
        since = self.catalogue.quiet_since(study_uid, series_uid)
        return since is not None and since <= time.time() - quiet


def _opened(folder: Path, others: Collection[str]) -> tuple[Engine, Engine]:
    path = folder / CATALOGUE
    try:
        if path.exists():
            return open_database(path)
    except DamagedError as error:
        if others:
            raise LocalError(
                "The catalogue of the received images is damaged, and another program is using it.",
                "Close all windows and commands of DICOM Ferry, then start it again: it is made anew from the files.",
                detail=str(error),
                code="catalogue",
            ) from error
        log.warning("the catalogue of received images can't be used and is made anew: %s", error)
        set_aside(path)
    os.close(disk.create(path))
    return open_database(path)
