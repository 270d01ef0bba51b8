"""Small images that were read and wait for others, to go to the destination with one request."""

from __future__ import annotations

from core.ledger.rows import Delivery
from core.nodes.base import BatchLimits

ONE_BY_ONE = BatchLimits(1, 0)
_FEW = 4


class Held:
    """What one worker has read so far.

    Attributes
    ----------
    doubtful : list[Delivery]
        Sent with others, and not known to be stored: to be carried alone.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.doubtful: list[Delivery] = []
        self._limits = limits
        self._images: list[tuple[Delivery, bytes | memoryview]] = []
        self._size = 0

    def takes_read(self, length: int) -> bool:
        """Whether an image that was opened by itself gains by waiting for others: it costs a copy of it."""
        return length * _FEW <= self._limits.size

    def takes(self, length: int) -> bool:
        """Whether an image of so many bytes is small enough to be sent with others."""
        return length <= self._limits.size

    def is_full_with(self, length: int) -> bool:
        return self._size + length > self._limits.size

    @property
    def is_full(self) -> bool:
        return len(self._images) >= self._limits.count or self._size >= self._limits.size

    def add(self, delivery: Delivery, body: bytes | memoryview) -> None:
        self._images.append((delivery, body))
        self._size += len(body)

    def take(self) -> list[tuple[Delivery, bytes | memoryview]]:
        images, self._images, self._size = self._images, [], 0
        return images
