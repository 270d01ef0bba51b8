"""How long a server asks us to wait, in seconds and as a date of any form, and what can't be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.wire.retry_after import LONGEST, retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sat, 21 Nov 2026 12:02:00 GMT", 120.0),
        ("Saturday, 21-Nov-26 12:02:00 GMT", 120.0),
        ("Sat Nov 21 12:02:00 2026", 120.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("99999999999999999999", LONGEST),
        ("Sat, 21 Nov 2099 12:00:00 GMT", LONGEST),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("Sat, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_seconds_and_dates(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, now=NOW) == seconds


def test_a_date_is_taken_by_the_clock_of_the_server() -> None:
    headers = {"retry-after": "Mon, 01 Jan 2018 00:05:00 GMT", "date": "Mon, 01 Jan 2018 00:00:00 GMT"}
    assert retry_after(headers, now=NOW) == 300.0


def test_no_header_is_no_wish() -> None:
    assert retry_after({}) is None
