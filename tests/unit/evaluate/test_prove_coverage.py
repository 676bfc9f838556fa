"""The proof of coverage, in a form that takes seconds."""

import pytest
from proofs import prove_coverage as proof


@pytest.mark.parametrize(
    "name",
    [
        "rate 0.9, uneven",
        "rate 0.8, clusters",
        "rate 0.7 against 0.8, paired",
        "mean, exponential",
        "mean, clusters",
        "median, paired",
        "F1, paired",
    ],
)
def test_intervals_cover_what_they_say(name):
    case = next(one for one in proof.cases() if one.name == name)
    found = proof.coverage(case, case.sizes[-1], 0.025, lives=60, seed=3)
    assert found.num_lives == 60
    assert found.interval[1] >= 0.95, found


def test_an_interval_that_is_too_narrow_is_found_out():
    case = next(one for one in proof.cases() if one.name == "mean, exponential")
    found = proof.coverage(case, 30, tail=0.2, lives=60, seed=3)
    assert found.interval[1] < 0.95
