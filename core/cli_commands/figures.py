"""Times and sizes as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """ "4.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, one: str, more: str = "") -> str:
    """ "1 image", "1,200 images", "3 studies"."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def megabytes(count: float) -> str:
    """Bytes in the unit that reads best (decimal)."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} bytes"
