"""Gains on fresh labels, for statistics that are no mean: what a sample moves, from an honest base."""

import numpy as np
import pytest

from flywheel.decide import e_values
from flywheel.evaluate.book import Part
from flywheel.evaluate.measure import fresh_outcomes
from flywheel.metrics.compiled import compile_formula

MEDIAN = compile_formula("error_deg.median", None)


def part(candidate, champion, nights=None, seen=0):
    """Errors of both models on fresh labels; the first so many were seen before."""
    number = len(candidate)
    return Part(
        ids=tuple(f"s{index:04d}" for index in range(number)),
        weights=np.ones(number),
        clusters=np.arange(number),
        marks={
            "fresh": np.arange(number) >= seen,
            "scale": np.ones(number),
            "order": np.ones(number, dtype=int) if nights is None else np.asarray(nights),
        },
        scores={
            "candidate": {"error_deg": np.asarray(candidate, dtype=float)},
            "champion": {"error_deg": np.asarray(champion, dtype=float)},
        },
    )


def outcomes(test, start=None):
    book = {"test": test} if start is None else {"test": test, "start": start}
    return fresh_outcomes(book, MEDIAN, higher_is_better=False)


def evidence(rng, gain, nights=3, labels=40):
    """The largest e-value over the nights of a challenge whose errors are skewed."""
    sizes = np.exp(rng.normal(size=(2, nights * labels))) * 8
    order = np.repeat(np.arange(nights), labels)
    best = 1.0
    for night in range(nights):
        now = order <= night
        test = part(sizes[0, now] * (1 - gain), sizes[1, now], order[now])
        best = max(best, e_values(outcomes(test), 0.0)[-1])
    return best


def test_the_first_challenge_sees_a_gain_although_the_start_data_is_easy():
    """All of production lies above the median of the start data, which once was the base."""
    rng = np.random.default_rng(0)
    champion = np.exp(rng.normal(size=120)) * 10
    start = part(np.full(50, 2.0), np.full(50, 2.0))
    gains = np.array(outcomes(part(champion * 0.6, champion), start).gains)
    assert (gains > 0).mean() > 0.1
    assert (gains < 0).mean() < 0.02


def test_swapping_the_models_turns_every_gain_round():
    rng = np.random.default_rng(1)
    one, other = np.exp(rng.normal(size=(2, 80)))
    there, back = outcomes(part(one, other)).gains, outcomes(part(other, one)).gains
    assert there == pytest.approx([-gain for gain in back])


def test_labels_of_later_nights_do_not_change_the_gains_of_earlier_ones():
    rng = np.random.default_rng(2)
    one, other = np.exp(rng.normal(size=(2, 80)))
    nights = np.repeat([3, 4], 40)
    first = outcomes(part(one[:40], other[:40], nights[:40])).gains
    assert outcomes(part(one, other, nights)).gains[:40] == first


def test_where_enough_was_seen_before_that_is_the_base():
    rng = np.random.default_rng(3)
    one, other = np.exp(rng.normal(size=(2, 80)))
    seen = part(one, other, seen=40)
    moved = part(np.r_[one[:40], one[40:]], np.r_[other[:40] * 5, other[40:]], seen=40)
    assert len(outcomes(seen).gains) == 40
    assert outcomes(seen).gains != outcomes(moved).gains


def test_equal_models_are_rarely_taken_for_better_ones_and_better_ones_are_found():
    """400 challenges of three nights at an alpha of 0.05; and errors that are 40 % smaller."""
    rng = np.random.default_rng(4)
    false = np.mean([evidence(rng, 0.0) >= 20 for _ in range(400)])
    true = np.mean([evidence(rng, 0.4) >= 20 for _ in range(60)])
    assert false <= 0.05
    assert true > 0.5
