"""A series on its way, image after image, as the answer to one request (PS3.18 section 10.4)."""

from __future__ import annotations

import threading
import time

from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.base import series_path
from core.wire.abort import Abort
from core.wire.dimse.file_meta import NotAFileError, split_head
from core.wire.http import Response
from core.wire.multipart import MultipartReader, Part, media_type

LARGEST = 1 << 20
"""Bytes of an image that ends the fetching of its series: the others are then fetched one by one."""
_FIRST = 64 << 10  # bytes of room for an image that doesn't tell its length
_REUSED = 64 << 10  # bytes of an image from which on fresh memory costs more than finding used memory
_STEP = 64 << 10
_KEPT = 32  # blocks

Series = tuple[str, str]
"""Study and Series Instance UID."""


class NotOfferedError(Exception):
    """The service does not give series whole."""


class TooLargeError(Exception):
    """An image of the series is too large to wait in memory."""


class Blocks:
    """Memory for images that is used again and again: the system takes long to give half a megabyte. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """At least so many bytes; what stands in them is left over from another image."""
        wanted = -(-size // _STEP) * _STEP
        with self._lock:
            for at, block in enumerate(self._free):
                if wanted <= len(block) <= 2 * wanted:
                    return self._free.pop(at)
        return bytearray(wanted)

    def give(self, block: bytearray) -> None:
        with self._lock:
            self._free.append(block)
            if len(self._free) > _KEPT:
                self._free.pop(0)

    def clear(self) -> None:
        with self._lock:
            self._free.clear()


class Image:
    """A whole file in memory; `give_back` it once nobody reads `body` any more."""

    __slots__ = ("_block", "_blocks", "body", "series", "uid")

    def __init__(self, uid: str, series: Series, body: memoryview, block: bytearray | None, blocks: Blocks) -> None:
        self.uid = uid
        self.series = series
        self.body = body
        self._block = block
        self._blocks = blocks

    def give_back(self) -> None:
        """May be called twice."""
        block, self._block = self._block, None
        if block is not None:
            self._blocks.give(block)


class SeriesStream:
    """A series on its way.

    Attributes
    ----------
    busy : bool
        A thread reads it.
    since : float
        `time.monotonic` of the moment when nobody read it any more.
    passed : set[str]
        SOP Instance UIDs of the images that have come.
    strangers : int
        Images that came and that nobody was known to want.
    """

    def __init__(self, key: Series, blocks: Blocks | None = None) -> None:
        self.key = key
        self.busy = False
        self.since = time.monotonic()
        self.passed: set[str] = set()
        self.strangers = 0
        self._blocks = blocks or Blocks()
        self._reader: MultipartReader | None = None
        self._response: Response | None = None

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    def open(self, access: DicomwebAccess, accept: str, abort: Abort | None) -> None:
        """Ask for it.

        Raises
        ------
        NotOfferedError, AnswerError, TransportError
        """
        path = series_path(*self.key)
        response = self._response = access.request("GET", path, accept=accept, abort=abort)
        kind, _ = media_type(response.headers.get("content-type", ""))
        if response.status not in (200, 206) or not kind.startswith("multipart/"):
            raise NotOfferedError(f"{response.status} {kind}")
        self._reader = MultipartReader(response, response.headers["content-type"], access.pool.where)

    def next(self) -> Image | None:
        """The next image; None after the last one.

        Raises
        ------
        TooLargeError, TransportError
        """
        assert self._reader is not None
        while (part := self._reader.next()) is not None:
            image = self._image(part)
            if image is not None:
                self.passed.add(image.uid)
                return image
        self._reader.drain()
        return None

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _image(self, part: Part) -> Image | None:
        if part.length is None or part.length < _REUSED:
            block, body = None, memoryview(_whole(part))
        elif part.length > LARGEST:
            raise TooLargeError
        else:
            block = self._blocks.take(part.length)
            body = memoryview(block)[: part.length]
            filled = 0
            while filled < part.length:
                filled += part.readinto(body[filled:])  # raises at a cut
        try:
            uid = split_head(body).sop_uid if bytes(body[128:132]) == b"DICM" else ""
        except NotAFileError:
            uid = ""
        image = Image(uid, self.key, body, block, self._blocks)
        if uid:
            return image
        image.give_back()
        return None


def _whole(part: Part) -> bytes:
    whole = bytearray(part.length if part.length is not None else _FIRST)
    filled = 0
    while True:
        if filled == len(whole):
            if part.length is not None:
                return bytes(whole)
            if filled >= LARGEST:
                raise TooLargeError
            whole.extend(bytes(filled))
        with memoryview(whole) as view:
            count = part.readinto(view[filled:])
        if not count:
            return bytes(whole[:filled])
        filled += count
