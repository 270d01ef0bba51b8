"""How long a server asks us to wait: the header ``Retry-After``, in seconds or as a date (RFC 9110 section 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 86400.0
"""Seconds: nobody means more than a day, and a mistyped date must not park a study for years."""


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds from now, 0 to `LONGEST`; None where the answer has no such header, or one that can't be read.

    Parameters
    ----------
    headers
        Of the answer, names in small letters. A date is taken relative to the answer's own ``Date``, so that a
        clock that is wrong on either side does no harm.
    now : datetime | None
        Time of this computer, with zone, for answers without ``Date``.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), LONGEST)
    until = _date(value)
    if until is None:
        return None
    since = _date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(max((until - since).total_seconds(), 0.0), LONGEST)


def _date(value: str) -> datetime | None:
    """One of the three forms of an HTTP date; None for anything else."""
    try:
        found = parsedate_to_datetime(value.strip())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
