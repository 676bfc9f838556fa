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


def test_a_sensors_row_weighs_as_much_as_it_is_trusted():
    weights = row_weights(["start", "sensor", "sensor"], 0.3, [1.0, 0.5, 0.25])
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 0.5, 0.25])
    assert weights.mean() == pytest.approx(1)


@given(other=st.integers(1, 50), sensors=st.integers(1, 50), targeted=st.integers(1, 200))
def test_targeted_rows_hold_no_more_than_the_hard_share_of_what_sensors_leave(
    other, sensors, targeted
):
    origins = ["targeted"] * targeted + ["start"] * other + ["sensor"] * sensors
    reliabilities = [1.0] * (targeted + other) + [0.2] * sensors
    weights = row_weights(origins, 0.3, reliabilities)
    assert weights[:targeted].sum() / weights.sum() <= 0.3 + 1e-9
    assert weights[-1] == pytest.approx(0.2 * weights[targeted])


def test_only_the_weights_of_sensors_count():
    origins = ["start"] * 3 + ["targeted"]
    assert row_weights(origins, 0.3, [5.0] * 4).tolist() == row_weights(origins, 0.3).tolist()


def test_a_weight_is_for_every_sample_or_for_none(training_data):
    with pytest.raises(ValueError, match="60 samples have 1 weights; pass one weight"):
        training_data(weights=[1.0])


def test_nothing_but_targeted_rows_is_refused_with_the_next_step():
    with pytest.raises(UserError, match=r"all 7 .*hard_share = 0.3 .*add start data"):
        row_weights(["targeted"] * 7, 0.3)


def test_every_sample_needs_an_answer(training_data):
    with pytest.raises(ValueError, match="60 samples have 1 answers"):
        training_data(answers=["left"])
