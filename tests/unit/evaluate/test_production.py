import dataclasses

import numpy as np
import pytest

from flywheel.evaluate.production import Population, Returned, production_estimate
from flywheel.metrics.compiled import compile_formula
from flywheel.select.sampling import inclusion_probabilities, poisson_sample

CORRECT = compile_formula("correct", None)
N, WANTED, HARD = 600, 80, 40


def returned(shares, probabilities, confidences=None, **fields):
    """Labels of one batch of 1,000 predictions, of mean confidence 0.8 by default."""
    shares = np.asarray(shares, dtype=float)
    number = len(shares)
    given = {
        "ids": tuple(f"s{index}" for index in range(number)),
        "scores": {"correct": shares},
        "confidences": np.full(number, 0.8) if confidences is None else np.asarray(confidences),
        "probabilities": np.broadcast_to(np.asarray(probabilities, dtype=float), (number,)),
        "clusters": np.arange(number),
        "batches": np.zeros(number, dtype=np.int64),
        "populations": (Population(size=1_000, mean_confidence=0.8, night=3),),
    }
    return Returned(**given | fields)


def judge(labels, formula=CORRECT):
    return production_estimate(formula, labels, np.random.default_rng(0))


def a_night(rng, signal=1.0, hard=HARD):
    """One night: a population, its probability share, and as many of the surest failures."""
    truth = rng.beta(4, 1, N)
    shares = (rng.random(N) < truth).astype(float)
    confidences = np.clip(signal * truth + (1 - signal) * rng.random(N), 0, 1)
    drawn, chances = poisson_sample(
        inclusion_probabilities(1 - confidences, WANTED), 2 * WANTED, rng
    )
    left = np.setdiff1d(np.flatnonzero(shares == 0), drawn)
    targeted = left[np.argsort(confidences[left])][:hard]
    rows = np.r_[drawn, targeted]
    labels = returned(
        shares[rows],
        np.r_[chances[drawn], np.full(len(targeted), np.nan)],
        confidences[rows],
        ids=tuple(map(str, rows)),
        populations=(Population(size=N, mean_confidence=float(confidences.mean()), night=0),),
    )
    return labels, 0.8  # the mean of Beta(4, 1): production as it goes on


@pytest.fixture(scope="module")
def lives():
    """(estimate, truth) of 250 nights whose confidences are good."""
    rng = np.random.default_rng(11)
    nights = [a_night(rng) for _ in range(250)]
    return [(production_estimate(CORRECT, labels, rng), truth) for labels, truth in nights]


def bias(lives, name):
    errors = np.array([getattr(found, name).value - truth for found, truth in lives])
    return errors.mean(), errors.std() / np.sqrt(len(errors))


def coverage(lives, name):
    pairs = [(getattr(found, name), truth) for found, truth in lives]
    return np.mean([one.low <= truth <= one.high for one, truth in pairs])


@pytest.mark.parametrize("name", ["estimate", "assisted"])
def test_it_is_unbiased_although_the_unsure_are_drawn_more_often(lives, name):
    error, standard = bias(lives, name)
    assert abs(error) < 4 * standard + 0.002


def test_averaging_the_hard_cases_is_far_off(lives):
    assert bias(lives, "naive")[0] < -0.25
    assert coverage(lives, "naive") == 0


@pytest.mark.parametrize("name", ["estimate", "assisted"])
def test_its_interval_covers_the_truth_about_as_often_as_it_says(lives, name):
    """Nominal 0.95; 0.91 is three standard errors below."""
    assert coverage(lives, name) >= 0.91


def test_good_confidences_tighten_the_assisted_interval(lives):
    widths = np.array(
        [[one.high - one.low for one in (found.estimate, found.assisted)] for found, _ in lives]
    )
    plain, assisted = widths.mean(axis=0)
    assert assisted < 0.95 * plain


def test_confidences_that_say_nothing_cost_next_to_nothing():
    rng = np.random.default_rng(3)
    found = [production_estimate(CORRECT, a_night(rng, signal=0.0)[0], rng) for _ in range(40)]
    plain, assisted = (
        np.mean([getattr(one, name).high - getattr(one, name).low for one in found])
        for name in ("estimate", "assisted")
    )
    assert assisted == pytest.approx(plain, rel=0.05)


def test_the_estimate_is_hajek_s_mean():
    shares, chances = [1, 1, 0, 1, 0, 1], [0.5, 0.25, 0.1, 1.0, 0.2, 0.4]
    expected = np.average(shares, weights=1 / np.array(chances))
    assert judge(returned(shares, chances)).estimate.value == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [np.arange(12), np.repeat(np.arange(6), 2)])
@pytest.mark.parametrize("confidences", [np.full(12, 0.8), np.arange(12, 0, -1) / 20])
def test_with_nothing_to_gain_from_confidences_assisted_is_hajek(confidences, clusters):
    """All alike, or against the facts: lam is 0."""
    shares, chances = [0] * 3 + [1] * 9, np.linspace(0.1, 0.9, 12)
    found = judge(returned(shares, chances, confidences, clusters=clusters))
    for name in ("value", "low", "high"):
        plain, assisted = getattr(found.estimate, name), getattr(found.assisted, name)
        assert assisted == pytest.approx(plain)


def test_assisted_is_the_formula_written_out():
    """lam mean_N(f) + Hajek(y - lam f), with lam from weighted least squares of y on f."""
    rng = np.random.default_rng(5)
    confidences = rng.random(60)
    shares, chances = (rng.random(60) < confidences).astype(float), rng.uniform(0.1, 0.9, 60)
    slope = np.polyfit(confidences, shares, 1, w=np.sqrt(1 / chances))[0]
    rest = np.average(shares - slope * confidences, weights=1 / chances)
    assert 0 < slope < 1
    found = judge(returned(shares, chances, confidences)).assisted
    assert found.value == pytest.approx(slope * 0.8 + rest)


def test_assisted_agrees_with_ppi_py():
    import ppi_py  # noqa: PLC0415 - a quarter of a second, for which all who collect would wait

    """Equal weights and the same lam, where both compute the same."""
    rng = np.random.default_rng(5)
    everyone = rng.random((5_000, 1))
    confidences = everyone[:500, 0]
    shares = (rng.random(500) < confidences).astype(float)
    slope = float(np.cov(shares, confidences, bias=True)[0, 1] / confidences.var())
    populations = (Population(size=5_000, mean_confidence=float(everyone.mean()), night=0),)
    found = judge(returned(shares, 0.1, confidences, populations=populations)).assisted
    expected = ppi_py.ppi_mean_pointestimate(shares[:, None], everyone[:500], everyone, lam=slope)
    assert found.value == pytest.approx(float(np.squeeze(expected)))


def test_naive_weighs_every_label_alike_the_targeted_ones_too():
    labels = returned([1, 1, 1, 1, 0, 0, 0], [0.5, 0.1, 0.2, 0.5, 0.4, np.nan, np.nan])
    assert judge(labels).naive.value == pytest.approx(4 / 7)
    assert judge(labels).estimate.num_samples == 5


def test_batches_count_by_their_populations_and_not_by_the_labels_that_are_back():
    """The large one has all right but few labels back."""
    populations = (
        Population(size=900, mean_confidence=0.8, night=1),
        Population(size=100, mean_confidence=0.8, night=2),
    )
    batches = np.repeat([0, 1], [5, 50])
    labels = returned([1] * 5 + [0] * 50, 0.5, batches=batches, populations=populations)
    found = judge(labels)
    assert found.estimate.value == pytest.approx(0.9)
    assert (found.num_population, found.first_night, found.last_night) == (1_000, 1, 2)


def test_a_batch_with_few_labels_is_joined_with_its_neighbour():
    """Alone, one label would speak for 900 predictions."""
    populations = (
        Population(size=100, mean_confidence=0.8, night=1),
        Population(size=900, mean_confidence=0.8, night=2),
    )
    batches = np.repeat([0, 1], [9, 1])
    labels = returned([1] * 9 + [0], 0.5, batches=batches, populations=populations)
    assert judge(labels).estimate.value == pytest.approx(0.9)


def test_batches_without_labels_are_not_spoken_for():
    populations = tuple(
        Population(size=100 * (night + 1), mean_confidence=0.8, night=night) for night in range(3)
    )
    batches = np.full(8, 1)
    found = judge(returned([1, 0] * 4, 0.5, batches=batches, populations=populations))
    assert (found.num_population, found.first_night, found.last_night) == (200, 1, 1)


def test_without_the_population_s_mean_confidence_there_is_no_assisted_line():
    populations = (Population(size=1_000, mean_confidence=None, night=0),)
    found = judge(returned([1, 0, 1, 1, 1, 1], 0.5, populations=populations))
    assert found.assisted is None
    assert found.estimate.num_samples == 6


@pytest.mark.parametrize("formula", ["correct.median", "error_cm"])
def test_only_means_of_shares_are_assisted(formula):
    labels = returned([1, 0, 1, 1, 1, 1], 0.5)
    scores = {"correct": labels.scores["correct"], "error_cm": np.array([0.5] * 5 + [0.7])}
    found = judge(dataclasses.replace(labels, scores=scores), compile_formula(formula, None))
    assert found.assisted is None
    assert found.estimate.low <= found.estimate.value <= found.estimate.high


def test_another_statistic_is_weighted_too():
    """Half of production has error 9, although few of its labels do."""
    errors = np.array([1.0] * 30 + [9.0] * 10)
    chances = np.r_[np.full(30, 0.9), np.full(10, 0.1)]
    labels = returned(errors, chances, scores={"error_cm": errors})
    found = judge(labels, compile_formula("error_cm.median", None))
    assert (found.estimate.value, found.naive.value) == (9.0, 1.0)


def test_samples_of_one_scene_widen_both_intervals():
    shares, scenes = np.repeat([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0], 5), np.repeat(range(8), 5)
    confidences = np.linspace(0.2, 0.9, 40)
    alone = judge(returned(shares, 0.5, confidences))
    grouped = judge(returned(shares, 0.5, confidences, clusters=scenes))
    for name in ("estimate", "assisted"):
        one, other = getattr(alone, name), getattr(grouped, name)
        assert other.high - other.low > 1.5 * (one.high - one.low)


@pytest.mark.parametrize("number", [0, 4])
def test_few_labels_of_the_probability_share_give_none(number):
    chances = np.r_[np.full(number, 0.5), np.full(20, np.nan)]
    assert judge(returned([1] * (number + 20), chances)) is None


@pytest.mark.parametrize("share", [0, 1])
def test_faultless_labels_keep_a_width(share):
    found = judge(returned([share] * 20, 0.5, np.linspace(0.5, 1, 20)))
    for one in (found.estimate, found.assisted):
        assert one.value == share
        assert one.high - one.low > 0.1


def test_the_same_labels_and_seed_give_the_same_estimate():
    labels, _ = a_night(np.random.default_rng(2))
    assert judge(labels) == judge(labels)
