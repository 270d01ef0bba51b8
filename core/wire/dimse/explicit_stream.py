"""A data set in Implicit VR Little Endian, written as Explicit VR Little Endian while it streams: for large images."""

from __future__ import annotations

from collections import deque

from core.wire.dimse.fragments import ByteStream
from core.wire.dimse.transcode import NotConvertibleError, Pieces, large_value, next_element

_BLOCK = 256 << 10  # bytes read at a time
_LARGE = 1 << 20  # bytes from which on a value passes through without being held
_MOST = 64 << 20  # bytes of a sequence, which has to be held


class ExplicitStream:
    """The same elements with the same values; only one sequence, or a megabyte, is in memory at any time.

    What can't be converted is found out when this is made, as far as it stands before the first large value.

    Parameters
    ----------
    stream : ByteStream
        The data set alone, from its first byte.

    Attributes
    ----------
    length : int | None
        Bytes that it gives, where that can be told: where the last of its values is the only large one.

    Raises
    ------
    NotConvertibleError
        Here, and by `readinto` for what stands behind a large value.
    TransportError, LocalError
        Those of the stream.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._piece = bytearray(_BLOCK)
        self._out: deque[memoryview] = deque()
        self._passing = 0  # bytes of a large value that are still to come from the stream
        self._signed = False
        self._ended = False
        before, taken = 0, 0
        while not self._ended and not self._passing:
            taken += self._next()
        before = sum(len(piece) for piece in self._out)
        whole = stream.length is not None and taken == stream.length
        self.length: int | None = before + self._passing if whole else None

    def readinto(self, view: memoryview, /) -> int:
        while not self._out and not self._passing and not self._ended:
            self._next()
        if self._out:
            piece = self._out.popleft()
            count = min(len(piece), len(view))
            view[:count] = piece[:count]
            if count < len(piece):
                self._out.appendleft(piece[count:])
            return count
        if not self._passing:
            return 0
        count = self._stream.readinto(view[: self._passing])
        if not count and view:
            raise NotConvertibleError("it ends in the middle of an element")
        self._passing -= count
        return count

    def _next(self) -> int:
        """Convert the next element; how many bytes it has, 0 at the end."""
        while len(self._buffer) < 8:
            if not self._more():
                if self._buffer:
                    raise NotConvertibleError("it ends in the middle of an element")
                self._ended = True
                return 0
        found = large_value(memoryview(bytes(self._buffer[:8])), _LARGE)
        if found is not None:
            header, length = found
            self._say([header, bytes(self._buffer[8 : 8 + length])])
            here = min(length, len(self._buffer) - 8)
            del self._buffer[: 8 + here]
            self._passing = length - here
            return 8 + length
        while True:
            element = next_element(memoryview(bytes(self._buffer)), signed=self._signed)
            if element is not None:
                pieces, size, self._signed = element
                self._say(pieces)
                del self._buffer[:size]
                return size
            if len(self._buffer) > _MOST:
                raise NotConvertibleError("one of its sequences is too large to be re-encoded here")
            if not self._more():
                raise NotConvertibleError("it ends in the middle of an element")

    def _say(self, pieces: Pieces) -> None:
        self._out.extend(memoryview(piece) for piece in pieces if len(piece))

    def _more(self) -> bool:
        """Read on; False at the end of the stream."""
        with memoryview(self._piece) as view:
            count = self._stream.readinto(view)
        self._buffer += self._piece[:count]
        return bool(count)
