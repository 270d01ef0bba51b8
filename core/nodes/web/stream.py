"""A DICOM file on its way from a web server, held against how such a file has to begin (PS3.10 section 7.1)."""

from __future__ import annotations

from collections.abc import Callable

from core.model.errors import FerryError
from core.nodes.base import ByteStream

MAGIC_END = 132  # 128 bytes of preamble and "DICM"
SHOWN = 4096


class CheckedStream:
    """The bytes of `source`; the first reading looks at them.

    Parameters
    ----------
    source : ByteStream
    not_dicom : Callable[[bytes], FerryError]
        The error for what begins in another way.

    Attributes
    ----------
    length : int | None
        Bytes, where the server says so in advance.
    """

    def __init__(self, source: ByteStream, not_dicom: Callable[[bytes], FerryError]) -> None:
        self.length = source.length
        self._source = source
        self._not_dicom = not_dicom
        self._rest = b""  # looked at, and not given yet
        self._begun = False

    def readinto(self, view: memoryview, /) -> int:
        if not self._begun:
            return self._begin(view)
        if self._rest:
            count = min(len(self._rest), len(view))
            view[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        return self._source.readinto(view)

    def _begin(self, view: memoryview) -> int:
        """The first bytes: straight into `view` where that has room for what must be looked at."""
        if not view:
            return 0
        self._begun = True
        room = view if len(view) >= MAGIC_END else memoryview(bytearray(MAGIC_END))
        filled = 0
        while filled < MAGIC_END and (count := self._source.readinto(room[filled:])):
            filled += count
        if filled < MAGIC_END or bytes(room[128:MAGIC_END]) != b"DICM":
            raise self._not_dicom(bytes(room[: min(filled, SHOWN)]))
        if room is view:
            return filled
        view[:] = room[: len(view)]
        self._rest = bytes(room[len(view) :])
        return len(view)
