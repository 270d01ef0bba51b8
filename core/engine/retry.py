"""When to try again: the job's delays, jittered; what gives up and what goes on."""

from __future__ import annotations

import random
from collections.abc import Sequence

from core.model.outcome import Failure, FailureClass

HOURLY = 3600.0
NEVER_AGAIN = frozenset({FailureClass.PERMANENT, FailureClass.GONE, FailureClass.SPLIT})
WHOLE_NODE = frozenset({FailureClass.DOWN, FailureClass.PERSON})


def delay_after(attempt: int, delays: Sequence[float], *, jitter: float = 0.1) -> float:
    """Seconds to wait after the `attempt`-th try (1 is the first); the last delay repeats."""
    base = delays[min(max(attempt, 1), len(delays)) - 1]
    return base * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311 - spreads retries, no secret


def next_attempt(
    failure: Failure, attempt: int, max_attempts: int, delays: Sequence[float], now: float, *, follow: bool
) -> float | None:
    """Time of the next attempt after a failure, None when there is none.

    A failure with delays of its own is tried again so many times and after these, whatever the job says.
    A following job goes on hourly once its attempts are used up.
    """
    if failure.cls in NEVER_AGAIN:
        return None
    if attempt >= (len(failure.delays) + 1 if failure.delays else max_attempts):
        return now + HOURLY if follow else None
    return now + max(delay_after(attempt, failure.delays or delays), failure.retry_after or 0.0)


def patience(max_attempts: int, delays: Sequence[float]) -> float:
    """Seconds for which a node may be down before a job that doesn't follow gives it up."""
    return sum(delays[min(n, len(delays) - 1)] for n in range(max_attempts - 1))
