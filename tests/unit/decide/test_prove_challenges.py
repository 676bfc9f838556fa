"""The proof of challenges side by side and leaning draws in short, at a size that a unit test can pay."""

import numpy as np
import pytest
from proofs import prove_challenges as proof
from scipy import stats

_LIVES = 40


@pytest.mark.parametrize("case", proof.NULLS, ids=lambda case: case.name)
def test_no_candidate_without_a_gain_is_promoted_more_often_than_alpha(case):
    fooled = int((proof.live(case, _LIVES, seed=1) <= 90).sum())
    assert stats.binom.sf(fooled - 1, _LIVES, proof.GATE.alpha) > 0.01


def test_a_leaning_draw_takes_half_of_the_nights():
    before, after = (
        np.median(proof.live(proof.Case("", 0.05, 0.1, leans=leans), _LIVES, seed=2))
        for leans in (False, True)
    )
    assert after <= before / 2


def test_without_the_scales_of_an_uneven_draw_candidates_would_fool_the_gate(monkeypatch):
    case = next(case for case in proof.NULLS if case.elsewhere)
    monkeypatch.setattr(proof, "_ratios", np.ones_like)
    assert (proof.live(case, _LIVES, seed=1) <= 90).mean() > 3 * proof.GATE.alpha
