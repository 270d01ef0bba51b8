"""Images that were fetched and wait to be read: small ones in memory, large ones in files that nobody else sees."""

from __future__ import annotations

import errno
import tempfile
import threading
from pathlib import Path
from typing import IO

from core.model.errors import LocalError
from core.nodes.base import ByteStream
from core.wire.dimse.part10 import file_head

SMALL = 1 << 20  # bytes up to which an image may stay in memory
_MEMORY = 64 << 20  # bytes in memory at a time; what comes on top goes to files
_PIECE = 1 << 18


class Held:
    """One DICOM file (PS3.10) on this computer; `ByteStream`.

    Attributes
    ----------
    sop_uid : str
    length : int
    """

    length: int | None

    def __init__(self, sop_uid: str, length: int, content: memoryview | IO[bytes], node: str) -> None:
        self.sop_uid = sop_uid
        self.length = length
        self._content: memoryview | IO[bytes] | None = content
        self._node = node
        self._at = 0

    @property
    def in_memory(self) -> bool:
        return isinstance(self._content, memoryview)

    def readinto(self, view: memoryview, /) -> int:
        content = self._content
        if content is None or not view:
            return 0
        if isinstance(content, memoryview):
            part = content[self._at : self._at + len(view)]
            view[: len(part)] = part
            self._at += len(part)
            return len(part)
        try:
            count = content.readinto(view)  # type: ignore[attr-defined]
        except OSError as error:
            raise local_error(self._node, error) from error
        return int(count or 0)

    def rewind(self) -> None:
        """Before it is read: from the start."""
        self._at = 0
        if self._content is not None and not isinstance(self._content, memoryview):
            self._content.seek(0)

    def drop(self) -> None:
        """Give back memory or disk; may be called twice."""
        content, self._content = self._content, None
        if content is not None and not isinstance(content, memoryview):
            content.close()


class Shelf:
    """Holds what has arrived until it is taken. Thread-safe.

    Parameters
    ----------
    node : str
        For sentences.
    folder : Path | None
        Where files lie, on whose disk there has to be room; None for the system's temporary folder. They have no
        names (on Windows: vanish when closed), so that nothing is left over whatever happens to this process.
    """

    def __init__(self, node: str, folder: Path | None) -> None:
        self._node = node
        self._folder = folder
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._memory = 0

    def receive(self, sop_class: str, sop_uid: str, transfer_syntax: str, data: ByteStream) -> Held:
        """Read a data set that comes over an association, in constant memory.

        Raises
        ------
        LocalError
            No room on the disk; the rest of the data is unread then.
        TransportError
            It was cut off.
        """
        return self._taken_in(sop_uid, file_head(sop_class, sop_uid, transfer_syntax), data)

    def _taken_in(self, sop_uid: str, head: bytes, data: ByteStream | IO[bytes]) -> Held:
        kept = bytearray(head)
        view = memoryview(bytearray(_PIECE))
        while len(kept) <= SMALL:
            count = data.readinto(view)  # type: ignore[union-attr]
            if not count:
                break
            kept += view[:count]
        else:
            return self._to_file(sop_uid, kept, data)
        with self._lock:
            fits = self._memory + len(kept) <= _MEMORY
            if fits:
                self._memory += len(kept)
        if fits:
            return Held(sop_uid, len(kept), memoryview(kept), self._node)
        return self._to_file(sop_uid, kept, data)

    def copy(self, sop_uid: str, source: Path) -> Held:
        """Take in a DICOM file that arrived here otherwise, by a C-MOVE, before it is gone again."""
        try:
            with source.open("rb", buffering=0) as file:
                return self._taken_in(sop_uid, b"", file)
        except OSError as error:
            raise local_error(self._node, error) from error

    def _to_file(self, sop_uid: str, begun: bytearray, data: ByteStream | IO[bytes]) -> Held:
        try:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file: IO[bytes] = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - `Held` closes it
        except OSError as error:
            raise local_error(self._node, error) from error
        try:
            length = _write(file, begun)
            view = memoryview(bytearray(_PIECE))
            while count := data.readinto(view):  # type: ignore[union-attr]
                length += _write(file, view[:count])
        except OSError as error:
            file.close()
            raise local_error(self._node, error) from error
        except BaseException:
            file.close()
            raise
        return Held(sop_uid, length, file, self._node)

    def put(self, held: Held) -> None:
        """Keep it until it is taken; a second copy of the same takes the first one's place."""
        with self._lock:
            before = self._held.get(held.sop_uid)
            self._held[held.sop_uid] = held
        if before is not None:
            self.drop(before)

    def take(self, sop_uid: str) -> Held | None:
        """It belongs to who takes it, and has to be dropped in the end."""
        with self._lock:
            held = self._held.pop(sop_uid, None)
        if held is not None:
            held.rewind()
        return held

    def drop(self, held: Held) -> None:
        if held.in_memory:
            with self._lock:
                self._memory -= held.length or 0
        held.drop()

    def clear(self) -> None:
        with self._lock:
            waiting = list(self._held.values())
            self._held.clear()
        for held in waiting:
            self.drop(held)

    def __contains__(self, sop_uid: str) -> bool:
        with self._lock:
            return sop_uid in self._held

    def __len__(self) -> int:
        with self._lock:
            return len(self._held)


def _write(file: IO[bytes], data: bytes | bytearray | memoryview) -> int:
    """All of it: an unbuffered file may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]
    return len(data)


def local_error(node: str, error: OSError) -> LocalError:
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return LocalError(
        f"This computer has no room for the images fetched from {node}."
        if full
        else f"This computer can't keep the images fetched from {node} on their way.",
        "Free space on the disk of the program's folder; it is tried again by itself."
        if full
        else "See the details, and check the rights on the program's folder.",
        detail=str(error),
        code="disk-full" if full else "other",
    )
