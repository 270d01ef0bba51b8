"""A ZIP file as a place of files: read in place, and added to without risking what it holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from filelock import FileLock, Timeout

from core.model import held_file
from core.model.errors import LocalError, NotSupportedError
from core.nodes.folder import disk
from core.nodes.folder.place import Entry, Trouble
from core.nodes.local.faults import local_error, told
from core.wire.abort import Abort

LARGEST_MEMBER = 16 << 30
"""A member that claims (and thus may give) more bytes than this is refused: a bomb, or a mistake."""

_END = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3L2H")


class Archive:
    """Members of one ZIP file.

    New members go behind everything that is there, the old list of members included, and a new list is
    written by `settle`. So a crash at any moment leaves a file whose older list is still whole; what came
    after it is found again by `_recover`, member by member, each by its checksum.
    """

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        # Lies beside the file while it is being added to: only then is a broken end ours to mend.
        self._mark = disk.extended(path.parent / f".{path.name}.ferry-adding")
        self._lock_out = FileLock(self._mark, thread_local=False)
        self.stages_in = path.parent
        self._node = node
        self._lock = threading.RLock()
        self._reader: zipfile.ZipFile | None = None
        self._reader_of: tuple[int, int, int] | None = None
        self._writer: zipfile.ZipFile | None = None
        self._seen = False

    def check(self, *, create: bool = False) -> bool:
        with self._lock:
            if self._writer is not None and os.path.exists(disk.extended(self._path)):  # noqa: PTH110
                return True  # being added to; looking closer would have to write its list first
        seen = self._seen  # before the look: another thread may make it between the two
        try:
            os.stat(disk.extended(self._path))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError) as error:
            if create and not seen and os.path.isdir(disk.extended(self.stages_in)):  # noqa: PTH112
                return False
            raise told("folder-missing", self._node, detail="the ZIP file is not there") from error
        except OSError as error:
            raise local_error(error, self._node) from error
        self._open()
        return True

    def prepare(self) -> None:
        """The file is made with its first member."""

    def entries(self, abort: Abort | None) -> Iterator[Entry | Trouble]:
        archive = self._open()
        for info in {i.filename: i for i in archive.infolist()}.values() if archive else ():
            if abort is not None:
                abort.check()
            name = info.filename
            if info.is_dir() or disk.is_part(name):
                continue
            if info.flag_bits & 1:
                yield Trouble("a member of the ZIP file is encrypted")
            elif info.file_size > LARGEST_MEMBER:
                yield Trouble("a member of the ZIP file is absurdly large")
            else:
                # A bad checksum alone could be met by chance; with the place in the file it is this very member.
                yield Entry(name, info.file_size, (info.CRC << 31) ^ info.header_offset)

    def entry(self, ref: str) -> Entry | None:
        archive = self._open()
        try:
            info = archive.getinfo(ref) if archive else None
        except KeyError:
            return None
        return Entry(ref, info.file_size, (info.CRC << 31) ^ info.header_offset) if info else None

    def open(self, ref: str) -> BinaryIO:
        archive = self._open()
        try:
            info = archive.getinfo(ref) if archive else None
        except KeyError:
            info = None
        if archive is None or info is None:
            raise FileNotFoundError(2, "No such member")
        if info.file_size > LARGEST_MEMBER:
            raise LocalError(
                f"A member of the ZIP file “{self._node}” claims to be larger than {LARGEST_MEMBER >> 30} GiB.",
                "Unpack it by hand if this is really so.",
                code="too-large",
            )
        try:
            return cast(BinaryIO, _Member(archive.open(info), self._node))
        except RuntimeError as error:
            raise LocalError(
                f"A member of the ZIP file “{self._node}” is encrypted.", "Unpack it first.", code="zip-encrypted"
            ) from error
        except (zipfile.BadZipFile, NotImplementedError, zlib.error) as error:
            raise damaged(self._node, error) from error

    def adopt(self, part: str, ref: str) -> None:
        with self._lock:
            writer = self._write()
            if ref in writer.NameToInfo:
                raise FileExistsError(17, "File exists")
            before = writer.start_dir
            try:
                writer.write(part, ref, compress_type=zipfile.ZIP_DEFLATED, compresslevel=1)
                assert writer.fp is not None
                writer.fp.flush()
                os.fsync(writer.fp.fileno())
            except BaseException:
                # The half member (disk full) must not get into the list; what came before it must.
                half = writer.NameToInfo.pop(ref, None)
                if half is not None:
                    writer.filelist.remove(half)
                writer.start_dir = before
                with contextlib.suppress(OSError, ValueError):
                    self.settle()
                raise

    def is_link(self, ref: str) -> bool:
        return False

    def remove(self, ref: str) -> None:
        raise NotSupportedError(
            f"Nothing can be deleted from the ZIP file “{self._node}”.", "Use a folder for moving.", code="capability"
        )

    def settle(self) -> None:
        with self._lock:
            if self._writer is None:
                return
            writer, self._writer = self._writer, None
            try:
                writer.close()
                with open(disk.extended(self._path), "r+b") as file:  # noqa: PTH123
                    os.fsync(file.fileno())
            except BaseException:
                self._lock_out.release()
                Path(self._mark).touch()  # the end is to be mended before anything else is done with it
                raise
            self._unlock()

    def free(self) -> int:
        return shutil.disk_usage(disk.extended(self.stages_in)).free

    def close(self) -> None:
        with self._lock:
            self.settle()
            if self._reader is not None:
                self._reader.close()
                self._reader = self._reader_of = None

    # reading --------------------------------------------------------------------------------------------

    def _open(self) -> zipfile.ZipFile | None:
        """The file as it is now; None while there is none. Members being added are settled first."""
        with self._lock:
            self.settle()
            path = disk.extended(self._path)
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                if self._seen:
                    raise told("folder-missing", self._node, detail="the ZIP file is not there any more") from None
                return None
            mark = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._reader is None or mark != self._reader_of:
                # The old one is left to those who still read from it, and closed with the last of them.
                self._reader, self._reader_of = None, None
                self._mend()
                try:
                    self._reader = zipfile.ZipFile(path)
                except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
                    if os.path.exists(self._mark):  # noqa: PTH110
                        raise told("locked", self._node, detail="it is being added to") from error
                    raise damaged(self._node, error) from error
                status = os.stat(path)  # noqa: PTH116
                self._reader_of = (status.st_ino, status.st_size, status.st_mtime_ns)
            self._seen = True
            return self._reader

    # writing --------------------------------------------------------------------------------------------

    def _write(self) -> zipfile.ZipFile:
        if self._writer is None:
            self._open()  # recovers first what a crash left
            path = disk.extended(self._path)
            try:
                self._lock_out.acquire(blocking=False)
            except Timeout as error:
                raise told("locked", self._node, detail="another node or program is adding to it") from error
            disk.sync_folder(disk.extended(self.stages_in))
            self._writer = zipfile.ZipFile(path, "a", allowZip64=True)
            # Behind the present list of members instead of over it: until the new list is written, this one stays.
            self._writer.start_dir = os.stat(path).st_size  # noqa: PTH116
            self._seen = True
        return self._writer

    # recovering -----------------------------------------------------------------------------------------

    def _mend(self) -> None:
        """Bring the file back to a whole one after a crash in mid-adding: beside the old one, then in its place."""
        if not os.path.exists(self._mark):  # noqa: PTH110
            return
        try:
            self._lock_out.acquire(blocking=False)
        except Timeout:
            return  # nobody crashed: another node is adding to it right now
        try:
            path = disk.extended(self._path)
            with open(path, "rb") as file:  # noqa: PTH123
                end = _last_whole_end(file)
                whole = end is None or end == os.stat(path).st_size  # noqa: PTH116
                part = "" if whole else self._mended_copy(file, end or 0)
            if part:
                held_file.replace(part, path)
        finally:
            self._unlock()

    def _mended_copy(self, file: BinaryIO, end: int) -> str:
        part, fresh = disk.create_part(self.stages_in)
        try:
            with fresh:
                file.seek(0)
                _copy(file, fresh, end)
                fresh.flush()
                with zipfile.ZipFile(fresh, "a", allowZip64=True) as archive:
                    archive.start_dir = end
                    _add_members_behind(file, end, archive)
                disk.settle(fresh)
        except BaseException:
            held_file.unlink(part, missing_ok=True)
            raise
        return part

    def _unlock(self) -> None:
        self._lock_out.release()
        held_file.unlink(self._mark, missing_ok=True)
        disk.sync_folder(disk.extended(self.stages_in))


class _Member:
    """A member being read: damage gets out as a `LocalError`."""

    def __init__(self, file: object, node: str) -> None:
        self._file = cast(zipfile.ZipExtFile, file)
        self._node = node
        self.tell = self._file.tell

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise damaged(self._node, error) from error

    def readinto(self, view: memoryview) -> int:
        try:
            return self._file.readinto(view)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise damaged(self._node, error) from error

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise damaged(self._node, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def damaged(node: str, error: Exception) -> LocalError:
    return LocalError(
        f"The ZIP file “{node}” is damaged.",
        "Get another copy of it, or unpack what can be unpacked into a folder.",
        detail=type(error).__name__,
        code="zip-damaged",
    )


def _last_whole_end(file: BinaryIO) -> int | None:
    """Where the last complete list of members ends: its end record names a list that lies right before it."""
    file.seek(0, os.SEEK_END)
    top = file.tell()
    block = 1 << 20
    while top > 0:
        bottom = max(0, top - block)
        file.seek(bottom)
        # 21 bytes more, so that a record across the border is seen whole in one of the blocks.
        chunk = file.read(top - bottom + 21)
        at = chunk.rfind(_END)
        while at >= 0:
            where = bottom + at
            file.seek(where)
            record = file.read(22)
            if len(record) == 22:
                _, disk_number, _, _, count, size, offset, comment = struct.unpack("<4s4H2LH", record)
                plain = disk_number == 0 and comment == 0 and offset + size == where
                # ZIP64 puts its own end record and locator (76 bytes) between the list and this record.
                large = offset == 0xFFFFFFFF or size == 0xFFFFFFFF or count == 0xFFFF
                if plain or (large and _zip64_fits(file, where)):
                    return where + 22
            at = chunk.rfind(_END, 0, at)
        top = bottom
    # Nothing was ever listed: a crash before the first `settle`.
    file.seek(0)
    return 0 if file.read(4) == b"PK\x03\x04" else None


def _zip64_fits(file: BinaryIO, where: int) -> bool:
    if where < 76:
        return False
    file.seek(where - 76)
    record = file.read(76)
    if record[:4] != b"PK\x06\x06" or record[56:60] != b"PK\x06\x07":
        return False
    size, offset = struct.unpack("<QQ", record[40:56])
    return bool(size + offset == where - 76)


def _add_members_behind(file: BinaryIO, at: int, archive: zipfile.ZipFile) -> None:
    """Add the complete members that follow position `at`, each checked by its length and CRC."""
    while True:
        file.seek(at)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            return
        _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(head)
        name_bytes, extra = file.read(name_length), file.read(extra_length)
        if packed == 0xFFFFFFFF or size == 0xFFFFFFFF:
            if len(extra) < 20 or extra[:2] != b"\x01\x00":
                return
            size, packed = struct.unpack("<QQ", extra[4:20])
        body = at + _LOCAL.size + name_length + extra_length
        name = name_bytes.decode("utf-8" if flags & 0x800 else "cp437")
        with tempfile.TemporaryFile() as whole:
            if method != zipfile.ZIP_DEFLATED or not _inflate(file, body, packed, size, crc, whole):
                return
            whole.seek(0)
            if name not in archive.NameToInfo:
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.file_size = size
                with archive.open(info, "w", force_zip64=size > 1 << 31) as member:
                    shutil.copyfileobj(whole, member, disk.CHUNK)
        at = body + packed


def _inflate(file: BinaryIO, at: int, packed: int, size: int, crc: int, to: object) -> bool:
    out = cast(BinaryIO, to)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    check = written = 0
    file.seek(at)
    left = packed
    while left:
        chunk = file.read(min(left, disk.CHUNK))
        if not chunk:
            return False
        left -= len(chunk)
        try:
            plain = inflate.decompress(chunk)
        except zlib.error:
            return False
        written += len(plain)
        if written > size:
            return False
        check = zlib.crc32(plain, check)
        out.write(plain)
    return inflate.eof and written == size and check == crc


def _copy(source: BinaryIO, to: BinaryIO, count: int) -> None:
    while count:
        chunk = source.read(min(count, disk.CHUNK))
        if not chunk:
            raise EOFError
        to.write(chunk)
        count -= len(chunk)
