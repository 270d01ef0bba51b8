"""What lets a standing job go on for years: clocks that jump are noticed, and jobs that could not start come back."""

from __future__ import annotations

from core.engine.retry import HOURLY
from core.model import clock

JUMP_SECONDS = 5.0  # by which the two clocks of a computer may drift apart between two looks
DELAYS = (10.0, 30.0, 60.0, 300.0, 900.0, HOURLY)


class Jumps:
    """Compares the clock on the wall with the one that never goes back."""

    def __init__(self) -> None:
        self._apart = clock.time() - clock.monotonic()

    def look(self) -> float:
        """Seconds by which the wall clock has jumped since the last look; 0 for none.

        More than 0 where it was set ahead or, on most systems, where the computer has slept meanwhile.
        """
        apart = clock.time() - clock.monotonic()
        jump = apart - self._apart
        self._apart = apart
        return jump if abs(jump) > JUMP_SECONDS else 0.0


class Comebacks:
    """When jobs that follow, and could not be started, are started again: growing delays, then hourly for ever."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._tried: dict[int, int] = {}

    def plan(self, job_id: int) -> None:
        """It could not be started, or broke."""
        tried = self._tried[job_id] = self._tried.get(job_id, 0) + 1
        self._due[job_id] = clock.monotonic() + DELAYS[min(tried, len(DELAYS)) - 1]

    def forget(self, job_id: int) -> None:
        """It runs, or a person has stopped it."""
        self._due.pop(job_id, None)
        self._tried.pop(job_id, None)

    def due(self) -> list[int]:
        """Those whose time has come; each is named once."""
        now = clock.monotonic()
        found = [job_id for job_id, at in list(self._due.items()) if at <= now]  # others plan meanwhile
        for job_id in found:
            self._due.pop(job_id, None)
        return found
