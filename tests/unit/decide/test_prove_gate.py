"""The proof of the gate in short: a gate that promotes too easily, or never, fails here."""

import importlib.util
import sys
from pathlib import Path

import pytest
from scipy import stats

_PATH = Path(__file__).parents[2] / "proofs" / "prove_gate.py"
_LIVES = 15


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("prove_gate", _PATH)
    module = importlib.util.module_from_spec(spec)
    # a dataclass looks its module up while it is made
    sys.modules["prove_gate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["prove_gate"]


@pytest.mark.parametrize("name", ["equal, even draw", "equal skewed errors"])
def test_over_a_life_no_better_candidates_are_promoted_within_alpha(proof, name):
    case = next(case for case in proof.NULLS if case.name == name)
    ends = proof.measure(case, _LIVES, seed=1)
    assert stats.binom.sf(len(ends.gate) - 1, _LIVES, proof.GATE.alpha) > 0.01
    assert len(ends.fixed) > 0.9 * _LIVES  # such a rule is fooled, so the proof can fail


def test_a_gain_of_ten_points_is_promoted_within_a_month(proof):
    even = next(case for case in proof.GAINS if case.name.startswith("10 points") and case.is_even)
    nights = proof.measure(even, 12, seed=2).gate
    assert len([night for night in nights if night <= 30]) >= 10
