"""The proof of the gate in short: a gate that promotes too easily, or never, fails here."""

import pytest
from proofs import prove_gate as proof
from scipy import stats

_LIVES = 15


@pytest.mark.parametrize("name", ["equal, even draw", "equal skewed errors"])
def test_over_a_life_no_better_candidates_are_promoted_within_alpha(name):
    case = next(case for case in proof.NULLS if case.name == name)
    ends = proof.measure(case, _LIVES, seed=1)
    assert stats.binom.sf(len(ends.gate) - 1, _LIVES, proof.GATE.alpha) > 0.01
    assert len(ends.fixed) > 0.9 * _LIVES  # such a rule is fooled, so the proof can fail


def test_a_gain_of_ten_points_is_promoted_within_a_month():
    even = next(case for case in proof.GAINS if case.name.startswith("10 points") and case.is_even)
    nights = proof.measure(even, 12, seed=2).gate
    assert len([night for night in nights if night <= 30]) >= 10
