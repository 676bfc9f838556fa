import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import UserError
from flywheel.train.data import row_weights


@given(
    other=st.integers(1, 200),
    targeted=st.integers(0, 200),
    share=st.floats(0, 1),
)
def test_targeted_rows_never_hold_more_than_the_hard_share(other, targeted, share):
    weights = row_weights(["targeted"] * targeted + ["start"] * other, share)
    held = weights[:targeted].sum() / weights.sum()
    assert held <= max(share, 0) + 1e-9
    assert weights.mean() == pytest.approx(1)


def test_too_many_targeted_rows_fill_exactly_the_hard_share():
    weights = row_weights(["targeted"] * 90 + ["start"] * 5 + ["probability"] * 5, 0.3)
    assert weights[:90].sum() / weights.sum() == pytest.approx(0.3)


def test_targeted_rows_below_the_share_weigh_as_much_as_all_others():
    assert set(row_weights(["targeted"] * 2 + ["start"] * 98, 0.3)) == {1.0}


def test_nothing_but_targeted_rows_is_refused_with_the_next_step():
    with pytest.raises(UserError, match=r"all 7 .*hard_share = 0.3 .*add start data"):
        row_weights(["targeted"] * 7, 0.3)


def test_every_sample_needs_an_answer(training_data):
    with pytest.raises(ValueError, match="60 samples, 1 answers"):
        training_data(answers=["left"])
