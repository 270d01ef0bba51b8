"""Folders for the servers' data, in memory where there is plenty; those of a killed run are cleared away."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = "dicom-ferry-orthanc-"
_OWNER = "owner"
_locks: dict[Path, int] = {}
_swept = False


def scratch_root() -> Path | None:
    """The folder for the servers' data: memory where there is plenty of it, else the usual temporary one."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30:
        return memory
    return None


def make_scratch_folder() -> Path:
    """A new folder, which this process owns by a lock for as long as it lives."""
    global _swept
    root = scratch_root()
    if not _swept:
        sweep(root or Path(tempfile.gettempdir()))
        _swept = True
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    lock = os.open(folder / _OWNER, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    _locks[folder] = lock
    return folder


def remove_scratch_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock = _locks.pop(folder, None)
    if lock is not None:
        os.close(lock)


def sweep(root: Path) -> None:
    """Remove the folders whose owner was killed: memory would fill up with them."""
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            # A younger one may be about to be locked.
            if time.time() - folder.stat().st_mtime < 60:
                continue
            lock = os.open(folder / _OWNER, os.O_RDWR)
        except OSError:  # Another run has just removed it, or another user's it is.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
