"""How full a disk may be: as typed by a person, and judged."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.model.errors import ConfigurationError

_LIMIT = re.compile(r"(\d+(?:[.,]\d+)?)\s*(%|percent|gb|tb)", re.IGNORECASE)
_UNITS = {"gb": 1_000_000_000, "tb": 1_000_000_000_000}


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """A part of the whole in percent, or a number of bytes; the other one is None."""

    percent: float | None = None
    bytes: int | None = None

    def reached(self, used: int, capacity: int | None) -> bool:
        """Whether a disk with so many bytes in use is too full; never by percent where its size is unknown."""
        if self.bytes is not None:
            return used >= self.bytes
        return self.percent is not None and bool(capacity) and used * 100 >= self.percent * (capacity or 0)


def parse_disk_limit(text: str) -> DiskLimit | None:
    """A limit such as "90 %", "500 GB" or "2 TB"; None for an empty text.

    Raises
    ------
    ConfigurationError
    """
    if not text.strip():
        return None
    found = _LIMIT.fullmatch(text.strip())
    number = float(found[1].replace(",", ".")) if found else 0.0
    if not found or number <= 0 or (found[2].lower() in ("%", "percent") and number > 100):
        raise ConfigurationError(
            f"“{text}” is no limit for a disk.",
            "Give a part of it or a size, such as 90 % or 500 GB.",
            code="disk-limit",
        )
    if found[2].lower() in ("%", "percent"):
        return DiskLimit(percent=number)
    return DiskLimit(bytes=int(number * _UNITS[found[2].lower()]))
