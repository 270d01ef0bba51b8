"""What is put right when a spool is opened: leftovers of a crash, and a catalogue that has to be made anew."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, delete, insert, select

from core.model import held_file
from core.spool import disk
from core.spool import schema as t
from core.spool.attributes import HEAD, UnusableInstanceError, read_attributes
from core.spool.incoming import META_ROOM, Complete, parse_meta
from core.spool.keeper import Keeper, Numbers
from core.spool.whole import is_whole

log = logging.getLogger(__name__)

ASIDE = "aside"
"""Files that are no usable images lie here, for a person to look at: nothing is thrown away."""


def sweep_incoming(incoming: Path) -> tuple[set[str], set[str]]:
    """Remove the temporary files of processes that are gone.

    Returns
    -------
    set[str]
        The tokens of those; their marks stay until `forget_dead`.
    set[str]
        The tokens of the others, which are alive.
    """
    dead: set[str] = set()
    alive: set[str] = set()
    # On Windows a lock that is released takes its file along: a folder without a mark is of the dead as well.
    tokens = {mark.stem for mark in incoming.glob("*.lock")} | {
        left.name for left in incoming.iterdir() if left.is_dir()
    }
    for token in sorted(tokens):
        mark, left = incoming / f"{token}.lock", incoming / token
        lock = FileLock(mark, mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            alive.add(token)
            continue
        count = len(list(left.iterdir())) if left.is_dir() else 0
        with contextlib.suppress(OSError):  # litter: the next start tries again
            held_file.remove_tree(disk.extended(left))
        lock.release()
        mark.touch(mode=0o600)
        dead.add(token)
        if count:
            log.info("removed %d files that were not complete when the program ended", count)
    return dead, alive


def forget_dead(incoming: Path, tokens: Collection[str]) -> None:
    """What these processes left is put right."""
    for token in tokens:
        disk.remove(incoming / f"{token}.lock")


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


def rebuild(folder: Path, tokens: Collection[str], keeper: Keeper) -> None:
    """Record every file that lies in the spool.

    Parameters
    ----------
    tokens
        Of the processes that are gone: what they wrote last may have got its name and not all of its content.
    """
    count = 0
    for path in _files(folder):
        count += _adopt(folder, path, keeper, doubtful=_token_of(path.parent) in tokens)
    keeper.call(lambda connection, _numbers: connection.execute(insert(t.state), {"name": "filled", "value": 1}))
    if count:
        log.warning("the catalogue of received images was made anew: %d images", count)


def remove_orphans(folder: Path, tokens: Collection[str], keeper: Keeper) -> None:
    """Remove the files that had got their names, but not their records, when their process ended.

    Nobody was told that they are held, and whether they are whole can't be told.

    Parameters
    ----------
    tokens
        Of the processes that are gone: each has shelves of its own.
    """
    files = folder / "files"
    count = 0
    for shelf in sorted(files.iterdir()) if tokens else ():
        if _token_of(shelf) not in tokens:
            continue
        known = _names(keeper, f"files/{shelf.name}/")
        for path in shelf.iterdir():
            if path.relative_to(folder).as_posix() not in known:
                disk.remove(path)
                count += 1
    if count:
        log.info("removed %d files that had no record when the program ended", count)


def _names(keeper: Keeper, beginning: str) -> set[str]:
    def known(connection: Connection, _numbers: Numbers) -> set[str]:
        recorded = select(t.instances.c.name).where(t.instances.c.name.startswith(beginning, autoescape=True))
        return set(connection.execute(recorded).scalars()) | set(connection.execute(select(t.garbage.c.name)).scalars())

    return keeper.call(known)


def clear_shelves(folder: Path, alive: Collection[str]) -> None:
    """Remove folders that have become empty, but none of a process that may be about to use it."""
    for shelf in (folder / "files").iterdir():
        if _token_of(shelf) not in alive:
            with contextlib.suppress(OSError):  # not empty
                shelf.rmdir()


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
    for shelf in sorted(files.iterdir()):
        if shelf.is_dir():
            yield from sorted(shelf.iterdir())


def _token_of(shelf: Path) -> str:
    return shelf.name.partition("-")[0]


def _adopt(folder: Path, path: Path, keeper: Keeper, *, doubtful: bool) -> bool:
    """Record a file where it lies; one that can't be used, or whose image is held already, goes aside."""
    try:
        complete = examine(path)
        if doubtful:
            _require_whole(complete)
        record, ours = keeper.keep(complete, "", received=path.stat().st_mtime)
        if ours or folder / record.name == path:
            return ours
        why = "its image is held in another file"
    except UnusableInstanceError as error:
        why = str(error)
    disk.make_folder(folder / ASIDE)
    disk.rename(path, folder / ASIDE / path.name)
    log.warning("a file among the received images was put aside (%s): %s", why, path.name)
    return False


def _require_whole(complete: Complete) -> None:
    with disk.open_to_read(complete.path) as file:
        if not is_whole(file, complete.meta.length, complete.size, complete.meta.transfer_syntax):
            raise UnusableInstanceError(
                "A file breaks off in the middle.", "Nobody was told that it is held.", code="unreadable"
            )


def examine(path: Path) -> Complete:
    """Look at a file as if it had just arrived."""
    digest = hashlib.md5(usedforsecurity=False)
    with disk.open_to_read(path) as file:
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
