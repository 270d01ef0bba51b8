"""An image's bytes on their way through this computer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from core.model.errors import FerryError
from core.nodes.base import ByteStream


class SourceTrouble(Exception):  # noqa: N818 - carries an error, is none of its own
    """Wraps an error of the source that surfaces while the destination is reading from it."""

    def __init__(self, error: FerryError) -> None:
        super().__init__(str(error))
        self.error = error


class Carried:
    """The source's bytes on their way: marks the source's errors, hashes and throttles where wanted.

    `on_end` is told the digest once all was read, where it is hashed.
    """

    def __init__(
        self,
        stream: ByteStream,
        hasher: hashlib._Hash | None,
        pace: Callable[[int], None],
        on_end: Callable[[str], None] = lambda _digest: None,
    ) -> None:
        self.length = stream.length
        self._stream = stream
        self._hasher = hasher
        self._pace = pace
        self._on_end = on_end
        self._count = 0

    def readinto(self, view: memoryview, /) -> int:
        try:
            count = self._stream.readinto(view)
        except FerryError as error:
            raise SourceTrouble(error) from error
        hasher = self._hasher
        if hasher is not None:
            hasher.update(view[:count])
            self._count += count
            if self._count == self.length or (not count and len(view)):
                self._hasher = None
                self._on_end(hasher.hexdigest())
        if count:
            self._pace(count)
        return count


def md5(data: bytes | memoryview = b"") -> hashlib._Hash:
    """Orthanc's digest; it guards against accidents, not attackers."""
    return hashlib.md5(data, usedforsecurity=False)
