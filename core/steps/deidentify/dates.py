"""Dates moved by days (PS3.15 E.3.6, modified dates): DA and DT as they are written, times stay."""

from __future__ import annotations

import datetime as dt
import re

_DA = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})\Z")
_DT = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?\Z")


def shifted(value: str, vr: str, days: int) -> str | None:
    """A value of VR DA or DT moved by `days`; None where it can't be told what date it is.

    A year or month alone moves as its middle does.
    """
    value = value.strip(" \0")
    if not value:
        return value
    return _shifted_da(value, days) if vr == "DA" else _shifted_dt(value, days)


def _shifted_da(value: str, days: int) -> str | None:
    found = _DA.match(value)
    if found is None:
        return None
    moved = _moved(int(found[1]), int(found[3]), int(found[4]), days)
    return None if moved is None else found[2].join((f"{moved.year:04}", f"{moved.month:02}", f"{moved.day:02}"))


def _shifted_dt(value: str, days: int) -> str | None:
    found = _DT.match(value)
    if found is None or (found[4] and not found[3]):
        return None
    year, month, day = found[1], found[2], found[3]
    moved = _moved(int(year), int(month or 7), int(day or 15 if month else 1), days)
    if moved is None:
        return None
    date = f"{moved.year:04}" + (f"{moved.month:02}" if month else "") + (f"{moved.day:02}" if day else "")
    return date + (found[4] or "") + (found[5] or "")


def _moved(year: int, month: int, day: int, days: int) -> dt.date | None:
    try:
        return dt.date(year, month, day) + dt.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
