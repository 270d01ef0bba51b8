"""A bandwidth limit that several threads share."""

from __future__ import annotations

import threading
import time


class Throttle:
    """Lets bytes through at `rate` bytes a second (0: no limit), with a burst of at most half a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def delay(self, count: int) -> float:
        """Book `count` bytes; seconds to wait before sending them."""
        if not self.rate:
            return 0.0
        with self._lock:
            now = time.monotonic()
            start = max(self._free_at, now - 0.5)
            self._free_at = start + count / self.rate
            return max(0.0, start - now)
