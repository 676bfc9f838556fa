import pytest

from flywheel.decide.spend import share_of_alpha


def test_all_shares_together_are_alpha_and_never_more():
    total = sum(share_of_alpha(0.05, number) for number in range(1, 100_001))
    assert total < 0.05
    assert total == pytest.approx(0.05, rel=1e-4)


def test_the_first_candidate_gets_most():
    assert share_of_alpha(0.05, 1) == pytest.approx(0.0304, abs=1e-4)
    assert share_of_alpha(0.05, 2) == pytest.approx(share_of_alpha(0.05, 1) / 4)


@pytest.mark.parametrize(("alpha", "number"), [(0.05, 0), (0.05, -1), (0.0, 1), (1.0, 1)])
def test_what_cannot_be_spent_is_refused(alpha, number):
    with pytest.raises(ValueError, match=r"counted from 1|between 0 and 1"):
        share_of_alpha(alpha, number)
