"""What is put right when a spool is opened: leftovers of a crash, and a catalogue that has to be made anew."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, delete, insert, select

from core.spool import disk
from core.spool import schema as t
from core.spool.attributes import HEAD, UnusableInstanceError, read_attributes
from core.spool.incoming import META_ROOM, Complete, parse_meta
from core.spool.keeper import BATCH, NUMBERS_EACH, SHELF_BITS, Keeper, Numbers

log = logging.getLogger(__name__)

ASIDE = "aside"
"""Files that are no usable images lie here, for a person to look at: nothing is thrown away."""


def sweep_incoming(incoming: Path) -> int:
    """Remove the temporary files of processes that are gone; how many others are alive."""
    alive = 0
    for mark in sorted(incoming.glob("*.lock")):
        lock = FileLock(mark, mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            alive += 1
            continue
        left = incoming / mark.stem
        count = len(list(left.iterdir())) if left.is_dir() else 0
        shutil.rmtree(disk.extended(left), ignore_errors=True)
        lock.release()
        disk.remove(mark)
        if count:
            log.info("removed %d files that were not complete when the program ended", count)
    return alive


def set_aside(path: Path) -> None:
    """Put a catalogue that can't be used out of the way, with what belongs to it."""
    number = 0
    while (target := path.with_name(f"{path.name}.damaged{number or ''}")).exists():
        number += 1
    for ending in ("", "-wal", "-shm"):
        old = path.with_name(path.name + ending)
        if old.exists():
            disk.rename(old, target.with_name(target.name + ending))
    disk.sync_folder(path.parent)


def rebuild(folder: Path, keeper: Keeper) -> None:
    """Record every file that lies in the spool."""
    count = 0
    for path in _files(folder):
        count += _adopt(folder, path, keeper)
    keeper.call(lambda connection, _numbers: connection.execute(insert(t.state), {"name": "filled", "value": 1}))
    if count:
        log.warning("the catalogue of received images was made anew: %d images", count)


def adopt_orphans(folder: Path, keeper: Keeper) -> None:
    """Record the files that had got their names, but not their records, when the program ended.

    They can only lie where the next numbers lead: a batch takes no more than some hundred.
    """

    def orphans(connection: Connection, numbers: Numbers) -> list[Path]:
        # Inside a writing transaction: what another process is about to record is recorded, or not yet named.
        last = numbers.first + BATCH * NUMBERS_EACH
        shelves = {numbers.first >> SHELF_BITS, last >> SHELF_BITS}
        found = []
        for shelf in sorted(shelves):
            name = f"files/{shelf:x}"
            if not os.path.isdir(disk.extended(folder / name)):  # noqa: PTH112 - the extended form
                continue
            known = set(
                connection.execute(select(t.instances.c.name).where(t.instances.c.name.like(name + "/%"))).scalars()
            )
            known |= set(connection.execute(select(t.garbage.c.name)).scalars())
            for entry in sorted(os.listdir(disk.extended(folder / name))):  # noqa: PTH208
                if f"{name}/{entry}" not in known:
                    found.append(folder / name / entry)
        return found

    for path in keeper.call(orphans):
        if _adopt(folder, path, keeper):
            log.info("an image that was complete when the program ended is recorded now")


def clear_garbage(folder: Path, keeper: Keeper) -> None:
    """Remove the files of instances that were deleted."""

    def known(connection: Connection, _numbers: Numbers) -> list[str]:
        return list(connection.execute(select(t.garbage.c.name)).scalars())

    names = keeper.call(known)
    gone = [name for name in names if disk.remove(folder / name)]
    if gone:
        keeper.call(
            lambda connection, _numbers: [
                connection.execute(delete(t.garbage).where(t.garbage.c.name == name)) for name in gone
            ]
        )


def _files(folder: Path) -> Iterator[Path]:
    files = folder / "files"
    for shelf in sorted(files.iterdir(), key=_number):
        if shelf.is_dir():
            yield from sorted(shelf.iterdir(), key=_number)


def _number(path: Path) -> tuple[int, str]:
    try:
        return int(path.stem, 16), path.name
    except ValueError:
        return 0, path.name


def _adopt(folder: Path, path: Path, keeper: Keeper) -> bool:
    """Record a file where it lies; one that can't be used, or whose image is held already, goes aside."""
    try:
        complete = examine(path)
        name = path.relative_to(folder).as_posix()
        record, ours = keeper.keep(complete, "", name=name, received=path.stat().st_mtime)
        if ours or record.name == name:
            return ours
        why = "its image is held in another file"
    except UnusableInstanceError as error:
        why = str(error)
    disk.make_folder(folder / ASIDE)
    disk.rename(path, folder / ASIDE / path.name)
    log.warning("a file among the received images was put aside (%s): %s", why, path.name)
    return False


def examine(path: Path) -> Complete:
    """Look at a file as if it had just arrived."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(disk.extended(path), "rb") as file:  # noqa: PTH123
        head = file.read(HEAD + META_ROOM)
        digest.update(head)
        size = len(head)
        while chunk := file.read(disk.CHUNK):
            digest.update(chunk)
            size += len(chunk)
        meta = parse_meta(head)
        attributes = read_attributes(
            head[meta.length :], meta.transfer_syntax, whole=size <= len(head), file=file, offset=meta.length
        )
    return Complete(path, size, digest.hexdigest(), meta, attributes)
