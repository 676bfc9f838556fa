"""A/A: candidates that are no better, judged night after night on one growing test set."""

import numpy as np
import pytest
from scipy import stats

from flywheel.decide import share_of_alpha
from flywheel.evaluate.stats import Scored, paired_difference
from flywheel.records import Verdict

_ALPHA, _NIGHTS = 0.05, 15


@pytest.fixture
def promotes(judge):
    """(candidate's scores, champion's, weights, number of the candidate) -> is it promoted?"""

    def ask(candidate, champion, weights, number):
        ids, alpha = tuple(map(str, range(len(weights)))), share_of_alpha(_ALPHA, number)
        pair = [Scored(ids=ids, values=one, weights=weights) for one in (candidate, champion)]
        difference = paired_difference(*pair, np.random.default_rng(number), tail=alpha)
        return judge(difference=difference, alpha=alpha).verdict is Verdict.PROMOTE

    return ask


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_over_a_life_no_better_candidates_are_promoted_within_alpha(promotes, spread):
    rng, lives = np.random.default_rng(11), 100
    fooled = sum(_is_fooled(promotes, rng, spread) for _ in range(lives))
    assert stats.binom.sf(fooled - 1, lives, _ALPHA) > 0.01, f"{fooled} of {lives} lives"


def _is_fooled(promotes, rng, spread):
    """One life: the champion and its test set stay, 15 candidates as good as it come."""
    weights = rng.lognormal(0, spread, 150)
    champion = (rng.random(150) < 0.85).astype(float)
    for number in range(1, _NIGHTS + 1):
        redrawn = rng.random(150) < 0.2
        candidate = np.where(redrawn, (rng.random(150) < 0.85).astype(float), champion)
        if promotes(candidate, champion, weights, number):
            return True
    return False


def test_a_truly_better_candidate_is_promoted_soon(promotes):
    rng, found = np.random.default_rng(12), 0
    for _ in range(40):
        champion = (rng.random(200) < 0.7).astype(float)
        candidate = np.maximum(champion, (rng.random(200) < 0.4).astype(float))
        found += promotes(candidate, champion, np.ones(200), 3)
    assert found >= 36
