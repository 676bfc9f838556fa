"""Where labeling tasks go, under which key, and who is asked blind: fixed before anything is sent."""

import dataclasses

import pytest

from flywheel.annotate.queue import EVERYWHERE, key_of, plan_part, title_of
from flywheel.errors import PayloadError
from flywheel.ledger.campaigns import all_campaigns
from flywheel.ledger.outbox import waiting
from flywheel.records import Purpose, Sample


@pytest.fixture
def plan_now(letters, now):
    """Plan all that waits."""

    def run(blinded=frozenset(), task=letters.task):
        with letters.ledger.begin() as connection:
            rows = waiting(connection)
            by_id = {one.id: one for one in letters.samples([row.sample_id for row in rows])}
            part = [(row, by_id[row.sample_id]) for row in rows]
            return plan_part(connection, part, task, letters.project, frozenset(blinded), now)

    return run


@pytest.fixture
def campaigns(letters):
    def read():
        with letters.ledger.read() as connection:
            return all_campaigns(connection)

    return read


def many(number):
    return [b"sample %d" % index for index in range(number)]


def test_a_campaign_takes_so_many_labeling_tasks_and_then_a_new_one_begins(
    letters, plan_now, campaigns
):
    letters.change(labeling={"campaign_samples": 10})
    letters.choose(*many(14))
    plan_now()
    letters.choose(*many(33)[14:])
    plan_now()
    assert [one.num_labeling_tasks for one in campaigns()] == [10, 10, 10, 3]
    assert [one.state for one in campaigns()] == ["full", "full", "full", "open"]


def test_campaigns_are_counted_in_their_titles(letters, plan_now, campaigns):
    letters.change(labeling={"campaign_samples": 10})
    letters.choose(*many(21))
    letters.ask(letters.choose(b"x"), Purpose.REVIEW)
    plan_now()
    name = f"flywheel: {letters.project.project.name}"
    titles = {one.title for one in campaigns()}
    assert titles == {name, f"{name} 2", f"{name} 3", f"{name} experts"}


def test_experts_have_a_campaign_of_their_own(letters, plan_now, campaigns):
    ids = letters.choose(*many(3))
    for purpose in (Purpose.REVIEW, Purpose.GOLD):
        letters.ask(ids, purpose)
    planned = plan_now()
    audience = {one.id: one.audience for one in campaigns()}
    assert {(row.purpose, audience[row.campaign]) for row in planned} == {
        (Purpose.CHOICE, "everyone"),
        (Purpose.GOLD, "everyone"),
        (Purpose.REVIEW, "experts"),
    }


def test_what_is_planned_keeps_its_place_and_its_key(letters, plan_now):
    letters.choose(*many(3))
    first = plan_now()
    letters.change(labeling={"campaign_samples": 10}, quality={"blind_share": 1.0})
    letters.choose(*many(30)[3:])
    again = {row.sample_id: row for row in plan_now()}
    assert [again[row.sample_id] for row in first] == first


def test_a_key_is_always_the_same_and_of_nothing_else(letters, plan_now):
    ids = letters.choose(*many(40))
    letters.ask(ids, Purpose.GOLD)
    letters.ask(ids, Purpose.REVIEW)
    planned = plan_now()
    assert len({row.key for row in planned}) == 120
    assert [key_of(letters.project, row.campaign, row) for row in planned] == [
        row.key for row in planned
    ]
    (row, *_) = planned
    assert key_of(letters.project, row.campaign + 1, row) != row.key


def test_no_title_is_longer_than_label_studio_takes_and_none_is_that_of_another():
    """The names of two projects could differ in their last letter only."""
    names = ["a" * 38, "a" * 39, "a" * 40, "a" * 39 + "b"]
    titles = [
        title_of(name, audience, number)
        for name in names
        for audience in ("everyone", "experts")
        for number in (1, 2, 10, 11, 12345)
    ]
    assert max(map(len, titles)) <= 50
    assert len(set(titles)) == len(titles)
    assert title_of("digits", "experts", 2) == "flywheel: digits experts 2"


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_as_large_a_share_is_asked_blind_as_the_settings_say(letters, plan_now, share):
    """Four standard errors of a draw of 1000."""
    letters.change(quality={"blind_share": share})
    letters.choose(*many(1000))
    blind = sum(not row.shown for row in plan_now()) / 1000
    assert abs(blind - share) <= 4 * (share * (1 - share) / 1000) ** 0.5


def test_gold_samples_are_always_blind(letters, plan_now):
    letters.ask(letters.choose(*many(50)), Purpose.GOLD)
    shown = {(row.purpose, row.shown) for row in plan_now()}
    assert shown == {(Purpose.CHOICE, True), (Purpose.GOLD, False)}


@pytest.fixture
def sliced(letters):
    """A task with a slice that is every other sample, and one whose samples must be readable."""

    def readable(sample: Sample) -> bool:
        if not sample.payload:
            raise PayloadError("0 bytes are no letter; send one")
        return False

    slices = {"even": lambda sample: sample.payload[-1] % 2 == 0, "readable": readable}
    return dataclasses.replace(letters.task, slices=slices)


def test_in_a_blinded_slice_no_annotator_is_shown_the_models_answer(letters, plan_now, sliced):
    ids = letters.choose(b"1", b"2", b"3", b"4")
    planned = plan_now(blinded={"even", "of another task"}, task=sliced)
    shown = {row.sample_id: row.shown for row in planned}
    assert [shown[key] for key in ids] == [True, False, True, False]


def test_where_everything_is_blinded_no_annotator_is_shown_anything(letters, plan_now, sliced):
    letters.choose(*many(20))
    assert not any(row.shown for row in plan_now(blinded={EVERYWHERE}, task=sliced))


def test_a_sample_that_cannot_be_read_stops_no_annotator_from_being_asked(
    letters, send_now, sliced, lose
):
    """Its slices were looked at all the same, and the error went through."""
    gone, good = letters.choose(b"x1", b"x3")
    lose(gone)
    result = send_now(task=sliced, blinded=frozenset({"even", "readable"}))
    assert (result.num_sent, result.num_refused) == (1, 1)
    assert letters.rows()[good].shown is True
