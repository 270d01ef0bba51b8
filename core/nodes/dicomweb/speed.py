"""How fast images come in one of the ways in which they can be fetched."""

from __future__ import annotations

from time import monotonic

_ENOUGH = 16  # images, from which on their speed says something
_OF_LATE = 64 << 20  # bytes, of which the older count half as much


class Speed:
    """Bytes a second, of the time in which at least one image was on its way. Not thread-safe."""

    def __init__(self) -> None:
        self._under_way = 0
        self._since = 0.0
        self._bytes = 0
        self._seconds = 0.0
        self._images = 0

    def begin(self) -> None:
        """Something is fetched from now on."""
        if not self._under_way:
            self._since = monotonic()
        self._under_way += 1

    def came(self, size: int) -> None:
        """An image of so many bytes is here."""
        self._images += 1
        self._bytes += size
        if self._bytes > _OF_LATE:
            self._now()
            self._bytes //= 2
            self._seconds /= 2

    def end(self) -> None:
        """What was begun is over."""
        self._now()
        self._under_way -= 1

    def forget(self) -> None:
        self._now()
        self._bytes = self._images = 0
        self._seconds = 0.0

    @property
    def rate(self) -> float | None:
        """None while too little was fetched to tell."""
        self._now()
        return self._bytes / self._seconds if self._images >= _ENOUGH and self._seconds else None

    def _now(self) -> None:
        if self._under_way:
            now = monotonic()
            self._seconds += now - self._since
            self._since = now
