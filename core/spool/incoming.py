"""One file while it arrives: written under a temporary name, its digest taken and its head kept on the way."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.spool import disk
from core.spool.attributes import HEAD, Attributes, UnusableInstanceError, is_uid, read_attributes

PART_SUFFIX = ".part"
META_ROOM = 4096


@dataclass(frozen=True, slots=True)
class FileMeta:
    """File meta information (PS3.10 section 7.1); `length` is where the data set begins in the file."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    length: int


@dataclass(frozen=True, slots=True)
class Complete:
    """A file that is whole and on the disk, under its own name.

    Attributes
    ----------
    path : Path
    size : int
    digest : str
        MD5, lower-case hexadecimal.
    meta : FileMeta
    attributes : Attributes
    """

    path: Path
    size: int
    digest: str
    meta: FileMeta
    attributes: Attributes


class IncomingFile:
    """Takes the bytes of one instance as they come. Used by one thread; `OSError`s pass as they are.

    Parameters
    ----------
    path : Path
        A temporary name; must not be taken.
    meta : bytes
        Preamble and file meta information to write before the data set; empty for a whole file (PS3.10), which
        brings its own.
    """

    def __init__(self, path: Path, meta: bytes = b"") -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.md5(usedforsecurity=False)
        self._head = bytearray()
        self._ours = True
        self._fd: int | None = disk.create(path)
        if meta:
            self.write(memoryview(meta))

    def write(self, view: memoryview) -> None:
        """Add bytes."""
        assert self._fd is not None, "written to after its end"
        room = HEAD + META_ROOM - len(self._head)
        if room > 0:
            self._head += view[:room]
        self._hash.update(view)
        self.size += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def complete(self, path: Path, *, sop_class: str = "", sop_uid: str = "") -> Complete:
        """Look whether it is what it claims to be, and put it on the disk.

        Parameters
        ----------
        path : Path
            The name that it gets, in a folder that is there.
        sop_class, sop_uid : str
            What was announced; empty for anything.

        Raises
        ------
        UnusableInstanceError
            It isn't; the file is to be abandoned.
        """
        assert self._fd is not None, "completed twice"
        head = bytes(self._head)
        meta = parse_meta(head)
        whole = self.size <= len(head)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            attributes = read_attributes(
                head[meta.length :], meta.transfer_syntax, whole=whole, file=file, offset=meta.length
            )
        _agree("SOP Instance UID", attributes.sop_uid, sop_uid)
        _agree("SOP Class UID", attributes.sop_class, sop_class)
        descriptor, self._fd = self._fd, None
        old, self.path = self.path, path  # whichever it is when this fails, one of the two is removed
        try:
            disk.settle_as(descriptor, old, path)
        except BaseException:
            disk.remove(old)
            raise
        return Complete(path, self.size, self._hash.hexdigest(), meta, attributes)

    def let_go(self) -> None:
        """It stays where it is: nothing is left to remove."""
        self._ours = False

    def abandon(self) -> None:
        """Remove it, complete or not, unless it was let go; may be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._ours:
            self._ours = False
            disk.remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()


def _agree(what: str, held: str, announced: str) -> None:
    """The data set decides what an image is; file meta information that says otherwise is met in practice."""
    if announced and announced != held:
        raise UnusableInstanceError(
            f"An image has another {what} in its data set than it was announced with.",
            "Nothing was stored; have the device that sent it checked.",
            detail=f"{what} differs",
            code="uid-differs",
        )


def encode_meta(sop_class: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information for a data set received by C-STORE (PS3.10 section 7.1).

    Nothing in it depends on the sender or the time: the same data set always makes the same file.
    """
    group = b"".join(
        (
            struct.pack("<HH2s2xI", 2, 0x0001, b"OB", 2) + b"\0\1",
            _uid(0x0002, sop_class),
            _uid(0x0003, sop_uid),
            _uid(0x0010, transfer_syntax),
            _uid(0x0012, IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


def _uid(element: int, value: str) -> bytes:
    return _text(element, b"UI", value, b"\0")


def _text(element: int, vr: bytes, value: str, pad: bytes) -> bytes:
    encoded = value.encode("ascii")
    encoded += pad * (len(encoded) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(encoded)) + encoded


def parse_meta(head: bytes) -> FileMeta:
    """Read the file meta information at the beginning of a file.

    Raises
    ------
    UnusableInstanceError
        There is none, or it names no transfer syntax.
    """
    if head[128:132] != b"DICM":
        raise _not_part10("preamble and DICM are missing")
    at = 132
    found: dict[int, str] = {}
    while at + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, at)
        if group != 2:
            break
        at += 8
        if vr in (b"OB", b"OW", b"UN", b"UT"):
            if at + 4 > len(head):
                break
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        if at + length > len(head):
            raise _not_part10("the file meta information is cut short or absurdly long")
        if vr == b"UI":
            found[element] = head[at : at + length].decode("latin-1").strip("\0 ")
        at += length
    syntax = found.get(0x0010, "")
    if not is_uid(syntax):
        raise _not_part10("the file meta information has no transfer syntax")
    return FileMeta(found.get(0x0002, ""), found.get(0x0003, ""), syntax, at)


def _not_part10(why: str) -> UnusableInstanceError:
    return UnusableInstanceError(
        "What arrived is not a DICOM file.", "Nothing was stored; check the source.", detail=why, code="unreadable"
    )


def same_data(left: Path, left_offset: int, right: Path, right_offset: int) -> bool:
    """Whether two files hold the same data set, whatever their file meta information says."""
    with disk.open_to_read(left) as one, disk.open_to_read(right) as two:
        one.seek(left_offset)
        two.seek(right_offset)
        while True:
            mine, theirs = one.read(disk.CHUNK), two.read(disk.CHUNK)
            if mine != theirs:
                return False
            if not mine:
                return True
