import pytest

from flywheel.ledger.batches import Drawn, draw_scales, draws_since, labeled_choices
from flywheel.records import Sample, Share, Split
from flywheel.testing import choice_of


@pytest.fixture
def choose(production):
    """Put predictions into a batch of a night; (probability of each, None: targeted)."""

    def run(name, night, chosen, mean_confidence=0.75):
        changes = {"mean_confidence": mean_confidence, "least_probability": 0.1}
        choices = [choice_of(*pair) for pair in chosen]
        production.batch(choices, id=name, night=night, population=7, **changes)

    return run


@pytest.fixture
def answer(production):
    """The consensus on a prediction's sample; None withdraws it."""

    def run(prediction, value, source="annotators"):
        production.label([prediction.sample_id], 1.0, answer=value, source=source)

    return run


@pytest.fixture
def labeled(ledger):
    def read(since=0):
        with ledger.read() as connection:
            return labeled_choices(connection, since)

    return read


@pytest.mark.parametrize(
    ("pair", "min_gain", "scales"),
    [
        (("c", "b"), 0.0, [1.0, 8.0]),
        (("c", "b"), 0.2, [0.75, 6.0]),
        (("c", "other"), 0.0, [0.125, 1.0]),
        (None, 0.0, [0.125, 1.0]),
    ],
)
def test_scales_of_a_draw_that_leant_are_for_its_own_pair(
    ledger, production, pair, min_gain, scales
):
    """The two differ on the first sample, drawn with 0.8, and agree on the second, drawn with 0.1."""
    made = production.predict(0.5, 0.5, split=Split.TEST)
    chosen = [choice_of(one, chance) for one, chance in zip(made, (0.8, 0.1), strict=True)]
    leant = {"challengers": ("a", "c"), "champion_digest": "b", "least_differing": 0.8}
    production.batch(chosen, population=7, least_probability=0.1, **leant)
    with ledger.read() as connection:
        found = draw_scales(connection, pair, min_gain)
    assert [found[one.sample_id] for one in made] == pytest.approx(scales)


def test_a_labeled_choice_has_what_was_logged_and_what_annotators_say(
    production, choose, answer, labeled
):
    (first,) = production.predict(0.25, split=Split.TEST, group="scene 3")
    choose("b", 2, [(first, 0.5)])
    answer(first, "dog")
    (found,) = labeled()
    assert (found.answer, found.label, found.confidence) == ("cat", "dog", 0.25)
    assert (found.group, found.batch_id, found.latency_ms) == ("scene 3", "b", 1.0)
    assert (found.share, found.inclusion_probability) == (Share.PROBABILITY, 0.5)


def test_the_prediction_that_chose_a_sample_counts_and_no_later_one(
    production, choose, answer, labeled
):
    sample = Sample.of(b"again", "text/plain")
    first, _ = production.predict(0.25, 0.9, sample=sample)
    choose("b", 0, [(first, 0.5)])
    answer(first, "dog")
    assert [one.confidence for one in labeled()] == [0.25]


def test_targeted_samples_come_without_a_probability(production, choose, answer, labeled):
    (first,) = production.predict(0.25)
    choose("b", 0, [(first, None)])
    answer(first, "dog")
    assert [(one.share, one.inclusion_probability) for one in labeled()] == [(Share.TARGETED, None)]


def test_what_a_sensor_says_is_no_label_of_production(production, choose, answer, labeled):
    (first,) = production.predict(0.25)
    choose("b", 0, [(first, 0.5)])
    answer(first, "dog", "sensor")
    assert labeled() == []


def test_only_the_newest_label_counts_and_a_withdrawn_one_is_out(
    production, choose, answer, labeled
):
    first, second, third = production.predict(0.1, 0.2, 0.3)
    choose("b", 0, [(first, 0.5), (second, 0.5), (third, 0.5)])
    for prediction, value in [(first, "dog"), (first, "cat"), (second, "cat"), (second, None)]:
        answer(prediction, value)
    assert [(one.sample_id, one.label) for one in labeled()] == [(first.sample_id, "cat")]


def test_only_batches_of_the_asked_nights_are_read(ledger, production, choose, answer, labeled):
    first, second = production.predict(0.1, 0.2)
    choose("a", 3, [(first, 0.5)], mean_confidence=None)
    choose("b", 4, [(second, 0.5)])
    answer(first, "cat")
    answer(second, "cat")
    assert [one.batch_id for one in labeled(4)] == ["b"]
    with ledger.read() as connection:
        found = draws_since(connection, 3)
    assert found == [
        Drawn(batch_id="a", night=3, population=7, mean_confidence=None),
        Drawn(batch_id="b", night=4, population=7, mean_confidence=0.75),
    ]


def test_samples_come_in_the_order_of_their_ids(production, choose, answer, labeled):
    predictions = production.predict(*[0.5] * 9)
    choose("b", 0, [(one, 0.5) for one in predictions])
    for one in reversed(predictions):
        answer(one, "cat")
    ids = [one.sample_id for one in labeled()]
    assert ids == sorted(one.sample_id for one in predictions)
