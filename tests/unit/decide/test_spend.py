import pytest

from flywheel.decide.challenge import share_of_alpha


@pytest.mark.parametrize("challenges", [1, 2, 10, 365])
def test_the_shares_of_a_generation_sum_to_alpha(challenges):
    shares = [share_of_alpha(0.05, number, challenges) for number in range(1, challenges + 1)]
    assert sum(shares) == pytest.approx(0.05)


def test_the_first_of_ten_challenges_gets_a_third():
    # the tenth harmonic number is 7381 / 2520
    assert share_of_alpha(0.05, 1, 10) == pytest.approx(0.05 * 2520 / 7381)
    assert share_of_alpha(0.05, 4, 10) == pytest.approx(share_of_alpha(0.05, 1, 10) / 4)


@pytest.mark.parametrize(
    ("alpha", "number", "message"),
    [
        (0.0, 1, r"alpha = 0\.0; .*gate\.alpha"),
        (1.0, 1, r"alpha = 1\.0; .*gate\.alpha"),
        (0.05, 0, r"number = 0; .*1 to 10"),
        (0.05, 11, r"number = 11; .*raise gate\.challenges"),
    ],
)
def test_impossible_shares_are_refused(alpha, number, message):
    with pytest.raises(ValueError, match=message):
        share_of_alpha(alpha, number, 10)
