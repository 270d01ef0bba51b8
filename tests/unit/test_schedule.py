"""When a job may run: nights and weekends, weekly plans, over midnight and the week's end."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.errors import ConfigurationError
from core.model.schedule import DAYS, Schedule, parse_schedule

#: A busy machine is no failure.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MONDAY = datetime(2024, 3, 4)


def at(day: str, clock: str) -> datetime:
    hour, minute = clock.split(":")
    return MONDAY + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


def test_night_and_weekend_is_before_the_end_hour_and_from_the_start_hour_on_and_all_weekend():
    plan = parse_schedule("night-and-weekend")
    assert plan == parse_schedule("night-and-weekend 19-6") == parse_schedule("  Night-and-Weekend  19 – 6 ")
    for day in DAYS:
        for hour in range(24):
            wanted = day in ("sat", "sun") or hour < 6 or hour >= 19
            assert plan.is_open(at(day, f"{hour}:00")) is wanted, (day, hour)
            assert plan.is_open(at(day, f"{hour}:59")) is wanted, (day, hour)


@pytest.mark.parametrize(
    ("text", "open_at", "closed_at"),
    [
        ("mon-fri 19:00-06:00", ["mon 19:00", "tue 5:59", "sat 5:59"], ["mon 5:00", "sat 6:00", "sun 20:00"]),
        ("sat-sun", ["sat 0:00", "sun 23:59"], ["fri 23:59", "mon 0:00"]),
        ("fri-mon 8-10", ["fri 8:00", "sat 9:59", "sun 8:00", "mon 9:00"], ["tue 8:00", "thu 9:00", "fri 10:00"]),
        ("sun 22:30-01:15", ["sun 22:30", "mon 1:14"], ["sun 22:29", "mon 1:15", "sat 23:00"]),
        ("daily 12-13", ["mon 12:00", "sun 12:59"], ["mon 13:00", "wed 11:59"]),
        ("12-13", ["mon 12:00", "sun 12:59"], ["mon 13:00"]),
        ("mon 0-24", ["mon 0:00", "mon 23:59"], ["tue 0:00", "sun 23:59"]),
        ("mon 20-24", ["mon 20:00", "mon 23:59"], ["tue 0:00", "mon 19:59"]),
        ("mon", ["mon 12:00"], ["tue 12:00"]),
        ("mon 6-8; mon 18-20; wed 1-2", ["mon 7:00", "mon 19:00", "wed 1:30"], ["mon 12:00", "wed 7:00"]),
        ("", ["mon 0:00", "thu 12:00"], []),
    ],
)  # fmt: skip
def test_weekly_plans(text, open_at, closed_at):
    plan = parse_schedule(text)
    for moment in open_at:
        assert plan.is_open(at(*moment.split())), moment
    for moment in closed_at:
        assert not plan.is_open(at(*moment.split())), moment


@pytest.mark.parametrize(
    "text",
    [";", " ; ;", "now", "mon-", "xyz 8-9", "mon-xyz", "mon 25-26", "mon 8", "mon 8:60-9", "mon 24-6", "8-9-10",
     "night-and-weekend 6-19", "night-and-weekend 7-7", "night-and-weekend 25-6", "mon 8-9, tue", "-", "mon 12-24:30"],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_an_example(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_schedule(text)
    assert "night-and-weekend" in caught.value.next_step


def test_the_next_change():
    plan = parse_schedule("mon-fri 19:00-06:00")
    assert plan.next_change(at("mon", "12:00")) == at("mon", "19:00")
    assert plan.next_change(at("mon", "19:00")) == at("tue", "6:00")
    assert plan.next_change(at("sat", "6:00")) == MONDAY + timedelta(days=7, hours=19)
    assert plan.next_change(at("mon", "18:59") + timedelta(seconds=59)) == at("mon", "19:00")
    assert parse_schedule("").next_change(MONDAY) is None
    assert parse_schedule("daily").next_change(MONDAY) is None
    assert parse_schedule("daily 0-12; daily 12-24").next_change(MONDAY) is None


clocks = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: f"{t[0]}:{t[1]:02}")
windows = st.builds(
    lambda first, last, start, end: f"{first}-{last} {start}-{end}",
    st.sampled_from(DAYS),
    st.sampled_from(DAYS),
    clocks,
    clocks,
)
plans = st.lists(windows, min_size=1, max_size=3).map("; ".join).map(parse_schedule)
minutes = st.integers(0, 14 * 24 * 60).map(lambda m: MONDAY + timedelta(minutes=m))


@calm
@given(plans, minutes)
def test_nothing_changes_before_the_next_change_and_it_does_change_then(plan: Schedule, now: datetime):
    change = plan.next_change(now)
    state = plan.is_open(now)
    week = [now + timedelta(minutes=m) for m in range(0, 7 * 24 * 60 + 1, 7)]
    if change is None:
        assert all(plan.is_open(moment) is state for moment in week)
    else:
        assert now < change <= now + timedelta(days=7, minutes=1)
        assert plan.is_open(change) is not state
        assert all(plan.is_open(moment) is state for moment in week if moment < change)


@calm
@given(plans, minutes)
def test_a_plan_is_the_same_every_week(plan: Schedule, now: datetime):
    assert plan.is_open(now) is plan.is_open(now + timedelta(days=7))


@pytest.mark.skipif(not available_timezones(), reason="this system has no data of time zones")
def test_wall_clock_of_any_zone():
    plan = parse_schedule("night-and-weekend")
    zone = ZoneInfo("Europe/Berlin")
    assert plan.is_open(datetime(2024, 3, 29, 19, 0, tzinfo=zone))
    # The night in which the clocks are put forward: the hour of the wall decides.
    assert plan.next_change(datetime(2024, 3, 31, 12, 0, tzinfo=zone)) == datetime(2024, 4, 1, 6, 0, tzinfo=zone)
