"""Lines of the log that strangers can cause: at most one of a kind in a minute, the others counted."""

from __future__ import annotations

import logging
import threading
import time

SECONDS = 60.0
_MOST_KINDS = 1000


class LogLimit:
    """Logs through `log`; thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._since: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, line: str, *values: object) -> None:
        """One line, unless one of this kind was written less than a minute ago."""
        now = time.monotonic()
        with self._lock:
            last, held_back = self._since.get(kind, (-SECONDS, 0))
            if now - last < SECONDS:
                self._since[kind] = last, held_back + 1
                return
            if len(self._since) >= _MOST_KINDS:
                self._since = {k: v for k, v in self._since.items() if now - v[0] < SECONDS}
            if len(self._since) < _MOST_KINDS:
                self._since[kind] = now, 0
        more = f" ({held_back} more like this in the last minutes)" if held_back else ""
        self._log.warning(line + more, *values)
