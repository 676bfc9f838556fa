import numpy as np
import pytest
from sqlalchemy import func, select

from flywheel.collect import collect
from flywheel.ledger.batches import origins
from flywheel.ledger.failures import count_failures, failures_in
from flywheel.ledger.outbox import Asked, enqueue, withdraw
from flywheel.ledger.requests import answers_asked, ask_more
from flywheel.ledger.tables import batches, choices, labeling_tasks, samples
from flywheel.records import FailureState, Purpose, Sample, Share, Split
from flywheel.select import select_batch
from flywheel.select import stage as select_stage
from flywheel.settings.labeling import LabelingSettings


@pytest.fixture
def choose(ledger, production):
    """Collect and select; a night, a budget, a seed and more settings may be given."""

    def run(
        night=0, budget=10, seed=0, share=0.5, most_answers=None, rivals=None, *, fills=True, **more
    ):
        collect(ledger, 0.7, night, production.now)
        settings = LabelingSettings(samples_per_night=budget, probability_share=share, **more)
        return select_batch(
            *(ledger, settings),
            seed=seed,
            night=night,
            now=production.now,
            most_answers=most_answers,
            drawn_from=Split.TEST,
            fills=fills,
            rivals=rivals,
        )

    return run


@pytest.fixture
def traffic(production):
    """40 samples of each split, of any confidence."""
    rng = np.random.default_rng(0)

    def arrive(number=40):
        production.predict(*rng.random(number), split=Split.TRAIN)
        production.predict(*rng.random(number), split=Split.TEST)

    return arrive


def stored(ledger, *columns):
    with ledger.read() as connection:
        return connection.execute(select(*columns)).all()


def num_chosen(connection, night):
    """How many samples were chosen at the expense of a night."""
    of_night = select(batches.c.id).where(batches.c.night == night)
    query = select(func.count()).select_from(choices).where(choices.c.batch_id.in_(of_night))
    return connection.execute(query).scalar_one()


def drawn(batch):
    return [choice for choice in batch.choices if choice.share is Share.PROBABILITY]


def test_targeted_samples_are_from_groups_that_train_and_drawn_ones_from_those_that_test(
    ledger, traffic, choose
):
    traffic()
    choose()
    query = select(choices.c.share, samples.c.split).join(samples).distinct()
    with ledger.read() as connection:
        pairs = set(map(tuple, connection.execute(query)))
    assert pairs == {("probability", "test"), ("targeted", "train")}


def test_a_batch_fills_its_budget_and_says_why_each_sample_is_in_it(traffic, choose):
    traffic()
    batch = choose(budget=10)
    assert len(batch.choices) == 10
    assert all(choice.reason for choice in batch.choices)
    assert batch.population == 40


def test_where_suspects_run_out_the_rest_of_the_budget_goes_to_what_is_most_in_doubt(
    production, choose
):
    suspects = production.predict(0.1, 0.2, 0.3, split=Split.TRAIN)
    doubted = production.predict(*[0.75] * 7, split=Split.TRAIN)
    production.predict(*[1.0] * 60, split=Split.TRAIN)
    batch = choose(budget=10)
    assert {one.sample_id for one in batch.choices[:3]} == {one.sample_id for one in suspects}
    assert {one.sample_id for one in batch.choices[3:]} == {one.sample_id for one in doubted}
    assert {(one.reason, one.priority) for one in batch.choices[3:]} == {
        ("no signal, doubt 0.25; no suspect was worth more", 0.25)
    }


def test_between_nights_suspects_alone_are_chosen(production, choose):
    production.predict(0.1, *[0.75] * 20, split=Split.TRAIN)
    assert len(choose(budget=10, fills=False).choices) == 1
    assert len(choose(budget=10).choices) == 9


def test_only_drawn_samples_have_an_inclusion_probability(traffic, choose):
    traffic()
    for choice in choose().choices:
        known = choice.inclusion_probability is not None
        assert known == (choice.share is Share.PROBABILITY)
        assert not known or 0 < choice.inclusion_probability <= 1


def test_every_chosen_sample_has_a_labeling_task_and_its_failure_is_queued(ledger, traffic, choose):
    traffic()
    chosen = {choice.sample_id for choice in choose().choices}
    assert {row[0] for row in stored(ledger, labeling_tasks.c.sample_id)} == chosen
    with ledger.read() as connection:
        queued = {found.sample_id for found in failures_in(connection, FailureState.QUEUED)}
    assert queued
    assert queued <= chosen


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("budget", [1, 3])
def test_the_budget_holds_even_when_more_are_drawn_than_expected(
    ledger, traffic, choose, seed, budget
):
    """A Poisson draw has no fixed size; it once went over a small budget."""
    traffic()
    choose(budget=budget, seed=seed, share=0.9)
    with ledger.read() as connection:
        assert num_chosen(connection, 0) <= budget


def test_the_budget_of_a_night_is_spent_once_however_often_it_runs(ledger, traffic, choose):
    for _ in range(4):
        traffic(5)
        choose(night=3, budget=7)
    with ledger.read() as connection:
        assert num_chosen(connection, 3) == 7
        assert num_chosen(connection, 4) == 0


def test_what_comes_after_the_budget_is_spent_gets_its_chance_in_the_next_night(
    ledger, traffic, choose
):
    """It was passed over, so no label ever spoke for those hours."""
    traffic()
    choose(night=0, budget=4)
    traffic(30)
    assert choose(night=0, budget=4).choices == ()
    assert choose(night=0, budget=4).choices == ()
    assert choose(night=1, budget=20).population == 30
    assert len(stored(ledger, batches.c.id)) == 2


def test_no_sample_is_chosen_twice_in_any_night(production, traffic, choose):
    traffic()
    chosen = [choice.sample_id for night in range(6) for choice in choose(night=night).choices]
    assert len(chosen) == len(set(chosen)) >= 20


def test_choosing_again_without_anything_new_chooses_nothing(ledger, production, choose):
    production.predict(0.1, 0.2, split=Split.TRAIN)
    first = choose()
    assert len(first.choices) == 2
    assert choose().choices == ()
    assert len(stored(ledger, batches.c.id)) == 1


def test_an_empty_ledger_gives_an_empty_batch(choose):
    batch = choose()
    assert (batch.choices, batch.population) == ((), 0)


def test_a_run_that_dies_before_its_commit_leaves_nothing_and_the_next_one_chooses(
    ledger, traffic, choose, monkeypatch
):
    traffic()
    with monkeypatch.context() as patch:
        patch.setattr(select_stage, "move_watermark", _die)
        with pytest.raises(KeyboardInterrupt):
            choose()
    assert (
        stored(ledger, choices) == stored(ledger, labeling_tasks) == stored(ledger, batches) == []
    )
    with ledger.read() as connection:
        assert count_failures(connection)[FailureState.QUEUED] == 0
    assert choose().population == 40


def _die(*_arguments):
    raise KeyboardInterrupt


def test_what_is_stored_is_what_is_returned(ledger, traffic, choose):
    traffic()
    batch = choose()
    with ledger.read() as connection:
        found = origins(connection)
    assert found == {
        choice.sample_id: (choice.share, choice.inclusion_probability) for choice in batch.choices
    }


def test_the_order_of_drawn_samples_says_nothing_of_their_difficulty(production, choose):
    """Spearman's correlation of 400 priorities with their chances: 4 standard errors."""
    production.predict(*np.random.default_rng(0).random(900), split=Split.TEST)
    picks = drawn(choose(budget=800, share=0.5))
    ranks = [
        np.argsort(np.argsort([getattr(choice, name) for choice in picks]))
        for name in ("priority", "inclusion_probability")
    ]
    assert len(picks) > 300
    assert abs(np.corrcoef(*ranks)[0, 1]) < 4 / np.sqrt(len(picks))


def test_confidences_beyond_1_by_rounding_are_drawn_like_certain_ones(production, choose):
    """They made negative chances."""
    production.predict(*[1.0000001] * 50, split=Split.TEST)
    chances = [choice.inclusion_probability for choice in drawn(choose(budget=20))]
    assert chances == pytest.approx([0.2] * len(chances), rel=0.05)


def test_a_sample_that_is_asked_many_times_competes_once(production, choose):
    sample = Sample.of(b"again", "text/plain")
    production.predict(0.4, 0.1, 0.2, sample=sample, split=Split.TEST)
    production.predict(0.4, split=Split.TEST)
    assert choose().population == 2


def test_a_batch_says_what_its_population_was_like(ledger, production, choose):
    confidences = np.random.default_rng(1).random(60)
    production.predict(*confidences, split=Split.TEST)
    batch = choose(budget=20)
    assert batch.mean_confidence == pytest.approx(confidences.mean())
    assert 0 < batch.least_probability < min(c.inclusion_probability for c in drawn(batch))
    kept = stored(ledger, batches.c.mean_confidence, batches.c.least_probability)
    assert kept == [(batch.mean_confidence, batch.least_probability)]


@pytest.fixture
def rivals():
    """(share, asked) -> two models that differ on that share of the samples; who was asked about what."""

    def build(share, asked=None):
        def differ(ids):
            (asked if asked is not None else []).extend(ids)
            return np.array([int(name[:8], 16) < share * 16**8 for name in ids])

        return select_stage.Rivals(challengers=("c" * 64,), champion_digest="b" * 64, differ=differ)

    return build


def test_while_a_challenge_is_open_the_draw_leans_towards_disagreement(
    ledger, production, choose, rivals
):
    production.predict(*np.linspace(0.1, 0.9, 200), split=Split.TEST)
    pair = rivals(0.1)
    batch = choose(budget=40, rivals=pair)
    differs = pair.differ([choice.sample_id for choice in drawn(batch)])
    chances = np.array([choice.inclusion_probability for choice in drawn(batch)])
    assert differs.mean() > 0.3
    np.testing.assert_allclose(chances[differs], batch.least_differing, rtol=0.02)
    np.testing.assert_allclose(chances[~differs], 0.3 * 20 / 200, rtol=0.02)
    names = ("challengers", "champion_digest", "least_differing", "least_probability")
    kept = stored(ledger, *(batches.c[name] for name in names))
    assert kept == [(["c" * 64], "b" * 64, batch.least_differing, batch.least_probability)]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_there_is_nothing_to_lean_towards_the_draw_is_the_usual_one(
    production, choose, rivals, share
):
    production.predict(*np.linspace(0.1, 0.9, 50), split=Split.TEST)
    batch = choose(budget=20, rivals=rivals(share))
    assert (batch.challengers, batch.least_differing) == ((), None)
    assert batch.least_probability < 10 / 50


def test_of_many_samples_some_are_asked_about_and_only_they_are_drawn(
    production, choose, rivals, monkeypatch
):
    monkeypatch.setattr(select_stage, "_MOST_ASKED", 50)
    production.predict(*np.linspace(0.1, 0.9, 200), split=Split.TEST)
    asked = []
    batch = choose(budget=20, rivals=rivals(0.3, asked))
    assert len(asked) == 50
    assert {choice.sample_id for choice in drawn(batch)} <= set(asked)
    assert batch.least_probability == pytest.approx(0.25 * 3 / 50, rel=0.02)
    assert batch.population == 200


def test_the_least_probability_is_that_of_the_surest_prediction_when_there_is_room(
    production, choose
):
    """0.8 n / N and nothing for its certainty; the budget of 40 leaves room for 20 expected."""
    production.predict(*[1.0] + [0.5] * 99, split=Split.TEST)
    assert choose(budget=40).least_probability == pytest.approx(0.8 * 20 / 100, rel=0.01)


def test_a_batch_without_a_population_has_neither(production, choose):
    production.predict(0.1, split=Split.TRAIN)
    batch = choose()
    assert (batch.mean_confidence, batch.least_probability) == (None, None)


def spent(ledger, night=0):
    with ledger.read() as connection:
        return answers_asked(connection, night)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("each", "hard"), [(1, 3), (2, 5), (3, None), (3, 1), (4, 9)])
def test_a_nights_answers_hold_however_many_people_each_sample_takes(
    ledger, traffic, choose, seed, each, hard
):
    traffic()
    num_annotators = {"annotations_per_sample": each, "annotations_per_hard_sample": hard}
    batch = choose(budget=8, seed=seed, hard_strength=0.5, **num_annotators)
    assert sum(choice.num_annotators for choice in batch.choices) == spent(ledger) <= 8 * each
    if hard != 1:  # the pool of targeted samples is as large as if all were usual ones
        assert spent(ledger) > 8 * each - max(each, hard or 0)


def test_as_many_people_are_asked_as_the_settings_say(ledger, traffic, choose):
    traffic()
    batch = choose(budget=6, annotations_per_sample=3)
    assert {choice.num_annotators for choice in batch.choices} == {3}
    assert {row[0] for row in stored(ledger, labeling_tasks.c.num_annotators)} == {3}
    assert len(batch.choices) == 6


def test_hard_samples_are_asked_of_more_people_and_drawn_ones_never(traffic, choose):
    """Asking about a drawn sample differently would make its label another than its share's."""
    traffic()
    batch = choose(budget=30, hard_strength=0.8, annotations_per_hard_sample=2)
    by_share = {share: {} for share in Share}
    for choice in batch.choices:
        by_share[choice.share].setdefault(choice.num_annotators, []).append(choice.priority)
    assert set(by_share[Share.PROBABILITY]) == {1}
    assert set(by_share[Share.TARGETED]) == {1, 2}
    assert max(by_share[Share.TARGETED][1]) < 0.8 <= min(by_share[Share.TARGETED][2])


def test_answers_that_were_asked_for_besides_are_paid_from_the_same_budget(
    ledger, production, traffic, choose
):
    traffic()
    first = choose(budget=4, annotations_per_sample=2)
    ids = [choice.sample_id for choice in first.choices]
    traffic(5)
    gold = [Asked(sample_id=ids[0], purpose=Purpose.GOLD, num_annotators=3, priority=0.5)]
    with ledger.begin() as connection:
        enqueue(connection, gold, 1, production.now)
        ask_more(connection, ids[:2], Purpose.CHOICE, "disputed", 1, production.now)
    batch = choose(night=1, budget=4, annotations_per_sample=2)
    assert len(batch.choices) == 1
    assert spent(ledger, 1) == 7


def test_money_that_is_spent_chooses_nothing_and_the_next_night_looks_at_it_all(
    ledger, traffic, choose
):
    """No sample may have a chance that depends on what is left of the budget."""
    traffic()
    assert choose(most_answers=0) == choose(most_answers=0)
    assert stored(ledger, batches.c.id) == []
    batch = choose(night=1)
    assert (batch.population, len(batch.choices)) == (40, 10)


@pytest.mark.parametrize("most", [1, 3, 7, 10, 99])
def test_no_more_is_asked_than_the_money_allows(ledger, traffic, choose, most):
    traffic()
    choose(most_answers=most)
    assert spent(ledger) == min(most, 10)


@pytest.mark.parametrize("most", [1, 2])
def test_money_for_less_than_one_sample_leaves_it_for_later(traffic, choose, most):
    traffic()
    assert choose(annotations_per_sample=3, most_answers=most).choices == ()
    assert choose(night=1, annotations_per_sample=3).population == 40


def test_what_is_withdrawn_frees_its_answers_for_another(ledger, production, traffic, choose):
    traffic()
    chosen = [choice.sample_id for choice in choose(budget=5).choices]
    with ledger.begin() as connection:
        withdraw(connection, chosen[:2], "no longer", production.now)
    traffic(5)
    assert len(choose(budget=5).choices) == 2


def test_of_very_many_an_even_part_is_drawn_from_and_the_chances_say_so(
    production, choose, monkeypatch
):
    monkeypatch.setattr(select_stage, "_MOST_DRAWN_FROM", 10)
    production.predict(*[0.5] * 100, split=Split.TEST)
    found = choose(budget=20, share=0.2)
    assert found.population == 100
    assert found.least_probability == pytest.approx(0.04)
    assert found.choices
    chances = [one.inclusion_probability for one in found.choices]
    assert chances == pytest.approx([0.04] * len(chances))
