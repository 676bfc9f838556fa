"""The proof of the crowd in short: a consensus below the majority's, or honest people named, fail."""

import numpy as np
import pytest
from proofs import prove_crowd as proof


def outcome(name):
    case = next(one for one in proof.cases() if one.name == name)
    found = proof.simulate(case, per=4, lives=2, seed=7, compares=False)
    return found, len(case.honest)


@pytest.mark.parametrize(
    ("name", "gain"),
    [
        ("honest, 3 classes", 0.0),
        ("honest, hard, points", 0.0),
        ("4 of 12 guess, 10 classes", 0.05),
        ("4 of 12 one answer, points", 0.05),
        ("4 of 12 copy, 3 classes", 0.02),
        ("honest, uneven", 0.005),
    ],
)
def test_the_consensus_is_no_worse_than_the_majoritys_and_better_among_spammers(name, gain):
    assert outcome(name)[0].gain()[0] >= gain


@pytest.mark.parametrize("name", ["honest, 10 classes", "honest, points"])
def test_intervals_of_honest_annotators_hold_their_reliability(name):
    assert outcome(name)[0].holds.mean() > 0.85


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("4 of 12 guess, 3 classes", "guesses"),
        ("4 of 12 one answer, 10 classes", "guesses"),
        ("4 of 12 copy, points", "shares mistakes"),
    ],
)
def test_who_does_harm_is_caught_and_honest_annotators_are_not(name, way):
    found, honest = outcome(name)
    assert found.caught[way][:, honest:].mean() > 0.85
    assert np.mean([flags[:, :honest].mean() for flags in found.caught.values()]) < 0.05
