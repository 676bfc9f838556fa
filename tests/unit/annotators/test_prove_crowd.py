"""The proof of the crowd in short: a consensus below the majority's, or honest people named, fail."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_PATH = Path(__file__).parents[2] / "proofs" / "prove_crowd.py"


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("prove_crowd", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def outcome(proof, name):
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
def test_the_consensus_is_no_worse_than_the_majoritys_and_better_among_spammers(proof, name, gain):
    assert outcome(proof, name)[0].gain()[0] >= gain


@pytest.mark.parametrize("name", ["honest, 10 classes", "honest, points"])
def test_intervals_of_honest_annotators_hold_their_reliability(proof, name):
    assert outcome(proof, name)[0].holds.mean() > 0.85


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("4 of 12 guess, 3 classes", "guesses"),
        ("4 of 12 one answer, 10 classes", "guesses"),
        ("4 of 12 copy, points", "shares mistakes"),
    ],
)
def test_who_does_harm_is_caught_and_honest_annotators_are_not(proof, name, way):
    found, honest = outcome(proof, name)
    assert found.caught[way][:, honest:].mean() > 0.85
    assert np.mean([flags[:, :honest].mean() for flags in found.caught.values()]) < 0.05
