from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect._vendor.croniter import croniter
from prefect._vendor.croniter.croniter import CroniterBadDateError
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServerSchedule

from flywheel.cron import cron_fault, time_after, time_before

GOOD = (
    "0 2 * * *",
    "*/15 8-18 * * mon-fri",
    "59 23 31 12 7",
    "0 0,12 1 JAN,jul *",
    "5 8-18/2 * * 0",
    "0 2 * * 1,3,5",
)
NUMBERS = st.integers(0, 70).map(str)
ITEMS = st.one_of(
    st.just("*"),
    NUMBERS,
    st.tuples(NUMBERS, NUMBERS).map("-".join),
    NUMBERS.map("*/{}".format),
    st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda n: f"{n[0]}-{n[1]}/{n[2]}"),
    st.sampled_from(["mon", "jan", "xyz", "sun-sat", "?", "L", "", "-1", "1.5", "²"]),
)
FIELDS = st.lists(ITEMS, min_size=1, max_size=2).map(",".join)


@pytest.mark.parametrize("cron", GOOD)
def test_what_people_write_is_a_cron_line(cron):
    assert cron_fault(cron) is None


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("61 2 * * *", "its minute '61' is not within 0..59"),
        ("0 24 * * *", "its hour '24' is not within 0..23"),
        ("0 2 0 * *", "its day '0' is not within 1..31"),
        ("0 2 * 13 *", "its month '13' is not within 1..12"),
        ("0 2 * * mo", "its weekday 'mo' is not within 0..7"),
        ("0 18-8 * * *", "its hour '18-8'"),
        ("0 2-2 * * *", "its hour '2-2'"),
        ("*/0 2 * * *", "its minute '*/0'"),
        ("0 2 * *", "five fields"),
        ("0 0 2 * * *", "five fields"),
        ("", "five fields"),
    ],
)
def test_what_never_comes_is_told_with_its_field_and_range(cron, told):
    """The minute 61 passed the settings and ended in Prefect's traceback."""
    assert told in str(cron_fault(cron))


@settings(max_examples=200, deadline=None)
@given(st.tuples(FIELDS, FIELDS, FIELDS, FIELDS, FIELDS).map(" ".join))
def test_prefect_takes_every_line_that_passes(cron):
    if cron_fault(cron) is None:
        assert CronSchedule(cron=cron).cron == cron


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("cron", GOOD)
def test_the_times_are_those_at_which_prefect_makes_runs(cron):
    moment = at("2026-02-27 13:37:11")
    known = croniter(cron, moment)
    for _ in range(5):
        later = time_after(cron, "UTC", moment)
        assert later == known.get_next(datetime)
        assert time_before(cron, "UTC", later + timedelta(seconds=1)) == later
        moment = later


@pytest.mark.parametrize(
    ("moment", "before", "after"),
    [
        ("2026-03-28 23:00", "2026-03-28 01:30", "2026-03-29 00:30"),  # 02:30 is left out
        ("2026-10-25 00:10", "2026-10-24 00:30", "2026-10-25 00:30"),  # 02:10, for the first time
        ("2026-10-25 01:10", "2026-10-25 00:30", "2026-10-26 01:30"),  # and for the second
    ],
)
def test_a_time_is_past_or_to_come_also_where_the_clock_is_put(moment, before, after):
    line = "30 2 * * *", "Europe/Berlin", at(moment)
    assert (time_before(*line), time_after(*line)) == (at(before), at(after))


def test_a_day_that_never_comes_has_no_time():
    line = "0 2 31 2 *", "UTC", at("2026-01-01 00:00")
    assert (time_before(*line), time_after(*line)) == (None, None)


@settings(max_examples=100, deadline=None)
@given(st.tuples(FIELDS, FIELDS, FIELDS, FIELDS, FIELDS).map(" ".join))
def test_every_line_that_passes_has_times_or_never_comes(cron):
    if cron_fault(cron) is None:
        later = time_after(cron, "America/New_York", at("2026-01-01 00:00"))
        assert later is None or later > at("2026-01-01 00:00")


def prefects(cron, zone, start, number=40):
    schedule = ServerSchedule(cron=cron, timezone=zone)
    found = schedule._get_dates_generator(n=number, start=start)
    return sorted({datetime.fromtimestamp(date.timestamp(), UTC) for date in found})


def changes_of_clock(zone):
    """The hours in which the clock of a zone is put, of two years."""
    hour, zone = at("2026-01-01 00:00"), ZoneInfo(zone)
    for _ in range(2 * 366 * 24):
        later = hour + timedelta(hours=1)
        if hour.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            yield hour
        hour = later


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll")
CLOCKS = [(zone, moment) for zone in ZONES for moment in changes_of_clock(zone)]
LINES = (
    "30 2 * * *",
    "0 2 * * *",
    "15 1 * * 0",
    "*/20 1,2,3 * * *",
    "30 * * * *",
    "59 23 31 * sun",
)


@pytest.mark.parametrize("zone", ZONES)
def test_the_clock_is_prefects_at_every_change_of_it(zone):
    """Prefect made the run of 02:30 at 01:30, ours expected 03:00: it was refused as superseded."""
    for moment in (moment for name, moment in CLOCKS if name == zone):
        for line in LINES:
            start = moment - timedelta(days=1, hours=3)
            known = prefects(line, zone, start)[:20]
            found = [time_after(line, zone, start - timedelta(seconds=1))]
            while len(found) < len(known):
                found.append(time_after(line, zone, found[-1]))
            assert found == known
            backwards = time_before(line, zone, known[-1] + timedelta(seconds=1))
            assert backwards == known[-1]


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(FIELDS, FIELDS, FIELDS, FIELDS, FIELDS).map(" ".join),
    st.sampled_from(CLOCKS),
    st.integers(-4000, 1000),
)
def test_the_next_time_of_any_line_is_prefects(line, clock, minutes):
    zone, change = clock
    start = change + timedelta(minutes=minutes, seconds=1)
    if cron_fault(line) is not None:
        return
    try:
        known = [time for time in prefects(line, zone, start, 3) if time > start]
    except CroniterBadDateError:
        known = []
    assert time_after(line, zone, start) == (known[0] if known else None)


def test_the_run_of_a_skipped_hour_is_expected_when_prefect_makes_it():
    line = "30 2 * * *", "Europe/Berlin"
    run = at("2027-03-28 00:30")
    assert time_after(*line, at("2027-03-27 12:00")) == run
    assert time_after(*line, run) == at("2027-03-29 00:30")
