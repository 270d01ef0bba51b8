"""Waiting for a condition instead of sleeping for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which something is taken to hang. No test takes longer for it: a machine that is ten times slower
#: than another passes the same tests.
PATIENCE = 120.0


def wait_for(
    condition: Callable[[], T],
    *,
    timeout: float = PATIENCE,
    what: str = "the condition",
    interval: float = 0.02,
) -> T:
    """Call ``condition`` until it returns something true, and return that.

    Parameters
    ----------
    timeout
        Seconds after which an ``AssertionError`` says what was waited for.
    interval
        Seconds between two looks.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what} (last answer: {value!r})")
        time.sleep(interval)
