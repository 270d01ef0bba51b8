"""When a job may run: windows of days and hours, over midnight and the week's end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.model.errors import ConfigurationError

MINUTES_A_DAY = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Open from `start` for `length` minutes on each of `days` (0 is Monday); may reach into the next day.

    `start` is in minutes after midnight.
    """

    days: frozenset[int]
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Open whenever any window is; without windows always."""

    windows: tuple[Window, ...] = ()

    def is_open(self, now: datetime) -> bool:
        """Whether work may go on at `now` (local wall-clock time of the schedule's zone)."""
        if not self.windows:
            return True
        minute = now.hour * 60 + now.minute
        for w in self.windows:
            for back in (0, 1):  # a window that began yesterday may still be open
                if (
                    now.weekday() - back
                ) % 7 in w.days and w.start <= minute + back * MINUTES_A_DAY < w.start + w.length:
                    return True
        return False

    def next_change(self, now: datetime) -> datetime | None:
        """The next minute at which `is_open` changes; None if it never does."""
        state = self.is_open(now)
        at = now.replace(second=0, microsecond=0)
        marks = sorted({(w.start + extra) % MINUTES_A_DAY for w in self.windows for extra in (0, w.length)})
        for day in range(9):
            base = (at + timedelta(days=day)).replace(hour=0, minute=0)
            for mark in marks:
                moment = base + timedelta(minutes=mark)
                if moment > now and self.is_open(moment) != state:
                    return moment
        return None


_WINDOW = re.compile(
    r"(?:(?P<from>[a-z]{3})(?:-(?P<to>[a-z]{3}))?|daily)?\s*"
    r"(?:(?P<h1>\d{1,2})(?::(?P<m1>\d\d))?\s*-\s*(?P<h2>\d{1,2})(?::(?P<m2>\d\d))?)?\Z"
)
_NIGHT = re.compile(r"night-and-weekend(?:\s+(\d{1,2})\s*-\s*(\d{1,2}))?\Z")


def parse_schedule(text: str) -> Schedule:
    """Read "night-and-weekend", "night-and-weekend 19-6" or "mon-fri 19:00-06:00; sat-sun; daily 12-13".

    Night and weekend: Monday to Friday before the end hour and from the start hour on, Saturday and
    Sunday all day; 19 and 6 unless given.

    Raises
    ------
    ConfigurationError
    """
    text = text.strip().lower().replace("–", "-")
    if not text:
        return Schedule()
    night = _NIGHT.match(text)
    if night:
        start, end = int(night.group(1) or 19), int(night.group(2) or 6)
        if not (0 <= end < start <= 24):
            raise _bad(text)
        workdays, weekend = frozenset(range(5)), frozenset({5, 6})
        return Schedule(
            (
                Window(workdays, 0, end * 60),
                Window(workdays, start * 60, MINUTES_A_DAY - start * 60),
                Window(weekend, 0, MINUTES_A_DAY),
            )
        )
    windows = tuple(_window(part.strip(), text) for part in text.split(";") if part.strip())
    if not windows:  # ";" alone must not come to mean "always"
        raise _bad(text)
    return Schedule(windows)


def _window(part: str, text: str) -> Window:
    match = _WINDOW.match(part)
    if not match:
        raise _bad(text)
    g = match.groupdict()
    if g["from"]:
        if g["from"] not in DAYS or (g["to"] or g["from"]) not in DAYS:
            raise _bad(text)
        first, last = DAYS.index(g["from"]), DAYS.index(g["to"] or g["from"])
        days = frozenset((first + i) % 7 for i in range((last - first) % 7 + 1))
    else:
        days = frozenset(range(7))
    if g["h1"] is None:
        return Window(days, 0, MINUTES_A_DAY)
    start = int(g["h1"]) * 60 + int(g["m1"] or 0)
    end = int(g["h2"]) * 60 + int(g["m2"] or 0)
    if start >= MINUTES_A_DAY or end > MINUTES_A_DAY or int(g["m1"] or 0) > 59 or int(g["m2"] or 0) > 59:
        raise _bad(text)
    return Window(days, start, (end - start) % MINUTES_A_DAY or MINUTES_A_DAY)


def _bad(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"The times “{text}” can't be read.",
        'Write for example "night-and-weekend 19-6" or "mon-fri 19:00-06:00; sat-sun".',
        code="schedule",
    )
