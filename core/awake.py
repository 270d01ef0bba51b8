"""Keeps the computer from going to sleep by itself while images are on their way, and no longer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from core.model.events import EngineChanged, Event
from core.sleep_holds import Hold, take_hold

REASON = "Images are being transferred"
LINGER = 3.0  # seconds without work after which the computer may sleep again: shorter than between two images
_LOOK = 1.0  # seconds between two looks while something is on its way
_AT_LEAST = 60.0  # seconds between two looks otherwise

_log = logging.getLogger(__name__)


class Awake:
    """Follows an engine's events. Thread-safe; asks the system on a thread of its own, begun when first needed.

    Parameters
    ----------
    wanted : Callable[[], bool]
        What the setting says; asked again and again.
    take : Callable[[str], Hold | None] | None
        Instead of `take_hold`.
    linger : float
        Seconds.
    """

    def __init__(
        self,
        wanted: Callable[[], bool],
        take: Callable[[str], Hold | None] | None = None,
        *,
        linger: float = LINGER,
    ) -> None:
        self._wanted = wanted
        self._take = take or take_hold
        self._linger = linger
        self._cond = threading.Condition()
        self._busy = False
        self._until = 0.0  # `time.monotonic` up to which the work counts as not over
        self._tried = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def heard(self, event: Event) -> None:
        """Take in what the engine says; returns at once."""
        if not isinstance(event, EngineChanged):
            return
        busy = event.running and event.idle_since is None
        with self._cond:
            if busy == self._busy:
                return
            self._busy = busy
            self._until = time.monotonic() + self._linger
            self._tried = self._tried and not busy
            if busy and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._keep, name="awake", daemon=True)
                self._thread.start()
            self._cond.notify()

    def look(self) -> None:
        """The setting may have changed."""
        with self._cond:
            self._tried = False
            self._cond.notify()

    def close(self) -> None:
        """Let the computer sleep again."""
        with self._cond:
            self._closed = True
            self._cond.notify()
            thread = self._thread
        if thread is not None:
            thread.join(10.0)

    def _keep(self) -> None:
        hold: Hold | None = None
        try:
            while True:
                with self._cond:
                    if self._closed:
                        return
                    working = self._busy or time.monotonic() < self._until
                    first = working and not self._tried
                wanted = working and self._wanted()
                if wanted and hold is None and first:
                    hold = self._take(REASON)
                    self._tried = True
                    _log.info("kept awake: %s", hold.how if hold is not None else "not possible here")
                elif hold is not None and not wanted:
                    hold.release()
                    hold, self._tried = None, False
                    _log.info("may sleep again")
                with self._cond:
                    if not self._closed and working == (self._busy or time.monotonic() < self._until):
                        self._cond.wait(_LOOK if working else _AT_LEAST)
        finally:
            if hold is not None:
                hold.release()
