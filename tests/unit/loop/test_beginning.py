"""Which night a run begins or continues: a slot has one, and a heap of old ones has none."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from flywheel.cli.starter import write_starter
from flywheel.errors import BusyError, SupersededError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import last_night
from flywheel.ledger.tables import locks
from flywheel.loop import Beginning, Slot, begin_night, open_loop

MONDAY = datetime(2026, 3, 2, 2, tzinfo=UTC)  # the cron of the project is 0 2 * * *
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def turn(story):
    """Runs a night of the schedule; whether it ends, and its number."""

    def run(slot, late=MINUTE, *, is_killed=False, now=None):
        story.change(now=lambda: now or slot + late)
        meant = Slot(at=slot, begun_at=slot + late)
        with begin_night(story.loop, beginning=Beginning(slot=slot and meant)) as night:
            if not is_killed:
                night.finish()
        return night.number

    return run


def by_hand(story, now, *, is_killed=False, **wanted):
    story.change(now=lambda: now)
    with begin_night(story.loop, beginning=Beginning(**wanted)) as night:
        if not is_killed:
            night.finish()
    return night.number


def test_each_slot_has_one_night(turn):
    assert turn(MONDAY) == 1
    with pytest.raises(
        SupersededError, match="2026-03-02 02:00 UTC has had its night: night 1, finished"
    ):
        turn(MONDAY, 2 * MINUTE)
    assert turn(MONDAY + DAY) == 2


def test_a_night_that_was_killed_is_continued_by_a_run_of_its_slot(turn):
    assert turn(MONDAY, is_killed=True) == 1
    assert turn(MONDAY, 5 * MINUTE) == 1


def test_a_night_that_was_killed_is_continued_by_the_next_slot_which_has_had_it_then(turn, story):
    turn(MONDAY, is_killed=True)
    assert turn(MONDAY + DAY) == 1
    with pytest.raises(SupersededError):
        turn(MONDAY + DAY, 5 * MINUTE)
    with story.loop.ledger.read() as connection:
        assert last_night(connection).slot == MONDAY + DAY


def test_of_a_heap_of_late_runs_only_the_last_one_turns_the_loop(turn):
    resumed = MONDAY + 7 * DAY + timedelta(hours=3)
    for day in range(7):
        slot = MONDAY + day * DAY
        with pytest.raises(SupersededError, match=r"run of the slot .* was already due"):
            turn(slot, resumed - slot)
    assert turn(MONDAY + 7 * DAY, timedelta(hours=3)) == 1


@pytest.mark.parametrize(
    ("begun", "finished", "has_had_it"),
    [(-2.0, -1.0, False), (-1.0, 1.0, True), (0.5, 1.0, True)],
)
def test_a_night_by_hand_that_was_under_way_at_the_slots_time_serves_it(
    turn, story, begun, finished, has_had_it
):
    story.change(now=lambda: MONDAY + timedelta(hours=begun))
    with begin_night(story.loop) as night:
        story.change(now=lambda: MONDAY + timedelta(hours=finished))
        object.__setattr__(night, "loop", story.loop)
        night.finish()
    if has_had_it:
        with pytest.raises(SupersededError):
            turn(MONDAY, timedelta(hours=2))
    else:
        assert turn(MONDAY, timedelta(hours=2)) == 2


def test_by_hand_there_is_always_a_night(turn, story):
    turn(MONDAY)
    assert [by_hand(story, MONDAY + MINUTE) for _ in range(2)] == [2, 3]


def test_a_clock_that_is_days_off_leaves_no_night_out_and_makes_none_twice(turn):
    """The slot and its delay are of the schedule's clock."""
    assert turn(MONDAY, now=MONDAY + 400 * DAY) == 1
    assert turn(MONDAY + DAY) == 2
    assert turn(MONDAY + 2 * DAY, now=MONDAY - 400 * DAY) == 3
    for slot in (MONDAY, MONDAY + DAY, MONDAY + 2 * DAY):
        with pytest.raises(SupersededError):
            turn(slot)


def test_a_day_that_never_comes_again_supersedes_nothing(turn, letters, story):
    letters.change(schedule={"cron": "0 2 31 2 *"})
    story.change(project=letters.project)
    assert turn(MONDAY, 900 * DAY) == 1


def test_an_early_night_is_marked_and_has_no_slot(story):
    by_hand(story, MONDAY, is_early=True)
    with story.loop.ledger.read() as connection:
        night = last_night(connection)
    assert (night.is_early, night.slot) == (True, None)


def test_a_night_that_was_taken_over_stores_nothing_more(story):
    with begin_night(story.loop) as night:
        with story.loop.ledger.begin() as connection:
            connection.execute(locks.update().values(holder="elsewhere:17:99.00"))
        with pytest.raises(BusyError, match=r"the loop is no longer held by .* elsewhere:17:99.00"):
            night.finish()
    with story.loop.ledger.read() as connection:
        assert last_night(connection).finished_at is None
        assert connection.execute(select(locks.c.holder)).scalar() == "elsewhere:17:99.00"


def test_a_ledger_that_is_away_when_a_night_begins_is_waited_for(tmp_path, monkeypatch):
    write_starter(tmp_path / "here")
    really, looks = Ledger.open, []

    def away(url, **options):
        looks.append(url)
        if len(looks) < 3:
            raise UnavailableError("the ledger does not open")
        return really(url)

    monkeypatch.setattr("flywheel.ledger.Ledger.open", away)
    monkeypatch.setattr("flywheel.loop.context._LOOK_SECONDS", 0.01)
    with pytest.raises(UnavailableError), open_loop(tmp_path / "here"):
        pass
    with open_loop(tmp_path / "here", patience_seconds=60.0):
        assert len(looks) == 3


def test_a_late_run_of_a_skipped_hour_is_the_night_of_its_slot(turn, story):
    """Prefect made the run of 02:30 at 01:30, and half an hour later it was refused as superseded."""
    schedule = story.loop.project.schedule.model_copy(
        update={"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    )
    story.change(project=story.loop.project.model_copy(update={"schedule": schedule}))
    slot = datetime(2027, 3, 28, 0, 30, tzinfo=UTC)
    assert turn(slot, 30 * MINUTE, is_killed=True) == 1
    with pytest.raises(SupersededError, match="2027-03-29 00:30 UTC was already due"):
        turn(slot, DAY)
