"""What time it is: asked here by all that waits for a time or records one, so that hours can pass in a test's seconds.

Time-outs of single calls and of threads that end are not asked here: they are this computer's own seconds, always.
"""

from __future__ import annotations

import time as system
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime


class Clock:
    """This computer's own two clocks, in seconds.

    They tell different things: `time` is what people call the time, and jumps when somebody (or a time server) sets
    it; `monotonic` never goes back, and on some systems stands still while the computer sleeps.
    """

    def time(self) -> float:
        """Seconds since 1970 (UTC)."""
        return system.time()

    def monotonic(self) -> float:
        """Seconds since some moment; only differences mean something."""
        return system.monotonic()


_present = Clock()


def time() -> float:
    """Seconds since 1970 (UTC), by this computer's clock, which may be set."""
    return _present.time()


def monotonic() -> float:
    """Seconds that never go back."""
    return _present.monotonic()


def now() -> datetime:
    """The time of this computer, with its zone."""
    return moment(time())


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a time of this computer's zone."""
    return datetime.fromtimestamp(seconds).astimezone()


@contextmanager
def using(clock: Clock) -> Iterator[None]:
    """Meanwhile, another clock for the whole process."""
    global _present
    before, _present = _present, clock
    try:
        yield
    finally:
        _present = before
