"""How values are compared, by their value representation: names, dates, times, numbers, ages, texts."""

from __future__ import annotations

import calendar
import fnmatch
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from core.model.rules.tags import NUMBER_VRS, TEMPORAL_VRS

Order = Callable[[str], int | None]
"""Below, at or above 0 as a value comes before, equals or comes after what was wanted; None where it can't be told."""
Test = Callable[[str], bool]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z", re.ASCII)
_AGE = re.compile(r"([0-9]{1,3})([DWMY])\Z", re.ASCII)
_DAYS = {"D": Decimal(1), "W": Decimal(7), "M": Decimal("30.4375"), "Y": Decimal("365.25")}
_DATE = re.compile(r"([0-9]{4})(?:[-.]?([0-9]{2})(?:[-.]?([0-9]{2}))?)?\Z", re.ASCII)
_TIME = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?\Z", re.ASCII)
_CLOCK = r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?"
_MOMENT = re.compile(
    rf"([0-9]{{4}})(?:-?([0-9]{{2}})(?:-?([0-9]{{2}})(?:[T ]?{_CLOCK})?)?)?\s*([+-][0-9]{{2}}:?[0-9]{{2}})?\Z", re.ASCII
)
_LONGEST_SPAN = 36_500  # days and more; a century is enough for any archive
UNITS = ("days", "weeks", "months", "years")


def plain(text: str) -> str:
    """A text as it is compared: without blanks around it, composed (NFC), without regard to case."""
    if text.isascii():
        return text.strip(" \0").lower()
    text = text.replace("\N{NO-BREAK SPACE}", " ").strip(" \0")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


# equality and patterns ------------------------------------------------------------------------------------


def equal_to(vr: str, wanted: str) -> Test:
    """Whether a value is the one wanted."""
    if vr == "PN":
        return _name_test(wanted, _same_as)
    order = order_to(vr, wanted)
    text = plain(wanted)
    if vr == "":  # of a private tag nobody knows whether 007 is a number
        return _same_as(wanted)

    def test(value: str) -> bool:
        found = order(value)
        return found == 0 if found is not None else plain(value) == text

    return test


def _same_as(wanted: str) -> Test:
    text = plain(wanted)
    return lambda value: plain(value) == text


def one_of(vr: str, wanted: Sequence[str]) -> Test:
    """Whether a value is one of those wanted, however many these are."""
    if vr == "PN" or vr == "AS" or vr in TEMPORAL_VRS or vr in NUMBER_VRS:
        tests = [equal_to(vr, w) for w in wanted]
        return lambda value: any(test(value) for test in tests)
    texts = frozenset(plain(w) for w in wanted)
    return lambda value: plain(value) in texts


def like(vr: str, wanted: str) -> Test:
    """Whether a value fits a pattern: ``*`` stands for any characters, ``?`` for one (PS3.4 C.2.2.2.4)."""
    return _name_test(wanted, _pattern) if vr == "PN" else _pattern(wanted)


def _pattern(wanted: str) -> Test:
    pattern = plain(wanted).replace("[", "[[]")
    return lambda value: fnmatch.fnmatchcase(plain(value), pattern)


def _name_test(wanted: str, one: Callable[[str], Test]) -> Test:
    """A person's name (PS3.5 6.2): the component groups that are wanted, or any group where one alone is wanted.

    Carets with nothing behind them mean nothing. "FAMILY, Given" is taken for "FAMILY^Given" as well: that is how
    names are shown.
    """
    groups = [_tidy(group) for group in wanted.split("=")]
    if len(groups) > 1:
        tests = [one(group) if group else None for group in groups]

        def all_groups(value: str) -> bool:
            have = [_tidy(group) for group in value.split("=")]
            have += [""] * (len(tests) - len(have))
            return all(test is None or test(group) for test, group in zip(tests, have, strict=False))

        return all_groups
    if not groups[0]:
        return lambda value: not _tidy(value)
    forms = {groups[0]}
    if "^" not in groups[0] and "," in groups[0]:
        forms.add(_tidy(groups[0].replace(",", "^", 1)))
    singles = [one(form) for form in forms]

    def any_group(value: str) -> bool:
        have = [group for group in (_tidy(g) for g in value.split("=")) if group] or [""]
        return any(test(group) for test in singles for group in have)

    return any_group


def _tidy(name: str) -> str:
    """Without delimiters that have nothing behind them, and blanks around components."""
    return "^".join(part.strip() for part in name.strip("\0").rstrip("^= ").split("^"))


# order ----------------------------------------------------------------------------------------------------


def order_to(vr: str, wanted: str) -> Order:
    """How values lie to what is wanted. Dates and times are compared as far as `wanted` goes."""
    if vr in ("DA", "TM"):
        return _temporal_order(wanted, _day if vr == "DA" else _time)
    if vr == "DT":
        return _moment_order(wanted)
    if vr in NUMBER_VRS:
        return _by_key(wanted, as_number)
    if vr == "AS":
        return _by_key(wanted, as_age)
    text, number = plain(wanted), as_number(wanted) if vr == "" else None

    def order(value: str) -> int | None:
        found = as_number(value) if number is not None else None
        if found is not None and number is not None:
            return (found > number) - (found < number)
        other = plain(value)
        return (other > text) - (other < text)

    return order


def as_number(text: str) -> Decimal | None:
    """The number of IS, DS and their kin; None for what is none."""
    text = text.strip()
    if not _NUMBER.match(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def as_age(text: str) -> Decimal | None:
    """An age ("045Y", PS3.5 6.2 AS) in days."""
    match = _AGE.match(text.strip().upper())
    return None if match is None else int(match[1]) * _DAYS[match[2]]


def _by_key(wanted: str, read: Callable[[str], Decimal | None]) -> Order:
    want = read(wanted)

    def order(value: str) -> int | None:
        found = read(value)
        return None if found is None or want is None else (found > want) - (found < want)

    return order


def _temporal_order(wanted: str, read: Callable[[str], tuple[str, str] | None]) -> Order:
    want = read(wanted)

    def order(value: str) -> int | None:
        found = read(value)
        if found is None or want is None:
            return None
        return -1 if found[0] < want[0] else (1 if found[0] > want[1] else 0)

    return order


def _day(text: str) -> tuple[str, str] | None:
    """First and last day that a date stands for, as texts that compare like days."""
    match = _DATE.match(text.strip())
    digits = "".join(part or "" for part in match.groups()) if match else ""
    return (digits.ljust(8, "0"), digits.ljust(8, "9")) if digits else None


def _time(text: str) -> tuple[str, str] | None:
    """First and last moment of the day that a time stands for; colons don't count ("9:30" is 0930)."""
    text = text.strip()
    if ":" in text:
        text = "".join(part.zfill(2) if part else "x" for part in text.split(":"))
    match = _TIME.match(text)
    digits = "".join(part or "" for part in match.groups()) if match else ""
    if not match or match[1] > "23" or (match[2] or "") > "59" or (match[3] or "") > "60":
        return None
    return digits.ljust(12, "0"), digits.ljust(12, "9")


def _moment_order(wanted: str) -> Order:
    want = _moment(wanted)

    def order(value: str) -> int | None:
        found = _moment(value)
        if found is None or want is None:
            return None
        first, last, start = want[0], want[1], found[0]
        if want[2] is not None and found[2] is not None:
            shift = want[2] - found[2]
            try:
                start += shift  # the moment by the clock of what is wanted
            except OverflowError:
                return None
        return -1 if start < first else (1 if start > last else 0)

    return order


def _moment(text: str) -> tuple[datetime, datetime, timedelta | None] | None:
    """First and last moment of a DT value (PS3.5 6.2), by its own clock, and that clock's offset from UTC if told."""
    match = _MOMENT.match(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (None if part is None else int(part) for part in match.groups()[:6])
    fraction, zone = match[7], match[8]
    try:
        first = datetime(
            year or 0,
            month or 1,
            day or 1,
            hour or 0,
            minute or 0,
            min(second or 0, 59),
            int((fraction or "").ljust(6, "0")),
        )
        last_day = day or calendar.monthrange(year or 1, month or 12)[1]
        micro = int((fraction or "").ljust(6, "9"))
        last = datetime(
            year or 0, month or 12, last_day, _or(hour, 23), _or(minute, 59), min(_or(second, 59), 59), micro
        )
    except ValueError:
        return None
    return first, last, None if zone is None else _offset(zone)


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def _offset(zone: str) -> timedelta:
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


# days ago -------------------------------------------------------------------------------------------------


def days_ago(today: date, count: int, unit: str) -> date:
    """The day that lies so many days, weeks, months or years before `today`; the first of all days at the earliest."""
    try:
        if unit in ("days", "weeks"):
            return today - timedelta(days=count * (7 if unit == "weeks" else 1))
        months = today.year * 12 + today.month - 1 - count * (12 if unit == "years" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(today.day, calendar.monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        return date.min


def day_of(vr: str, value: str) -> date | None:
    """The day of a date (DA) or of a date with its time (DT), by the clock that it was written by."""
    text = value.strip()
    match = _DATE.match(text) if vr == "DA" else _MOMENT.match(text)
    if match is None or not match[2] or not match[3]:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


# what can be wanted ---------------------------------------------------------------------------------------


def unusable(vr: str, wanted: str) -> str:
    """Why nothing can be compared with this, as the rest of a sentence after the value; empty where it can be.

    A date of seven digits would match at random, or never.
    """
    if not wanted.strip():
        return ""
    if vr == "DA" and not _is_day(wanted):
        return "is not a date; write 20240315, 2024-03-15, 202403 or 2024"
    if vr == "TM" and _time(wanted) is None:
        return "is not a time; write 0930, 09:30 or 093000"
    if vr == "DT" and _moment(wanted) is None:
        return "is not a date with a time; write 20240315, 202403150930 or 2024-03-15 09:30"
    if vr in NUMBER_VRS and as_number(wanted) is None:
        return "is not a number"
    if vr == "AS" and as_age(wanted) is None:
        return "is not an age; write 45Y, 18M, 6W or 3D (years, months, weeks, days)"
    return ""


def _is_day(text: str) -> bool:
    match = _DATE.match(text.strip())
    if match is None or "." in text:  # 2024.03 is as much a number as a month
        return False
    try:
        date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return False
    return True


def span(count: str, unit: str) -> tuple[int, str] | None:
    """ "7", "day" as (7, "days"); None where it is no span of time."""
    unit = unit.casefold()
    unit = unit if unit.endswith("s") else unit + "s"
    if not (count.isascii() and count.isdigit() and len(count) <= 5) or unit not in UNITS:
        return None
    return (int(count), unit) if 1 <= int(count) <= _LONGEST_SPAN else None
