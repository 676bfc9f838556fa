import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.collect.stage import signals_of
from flywheel.records import FeedbackKind

CONFIDENCE = st.floats(-0.001, 1.001)
FEEDBACK = st.one_of(
    st.none(),
    st.tuples(st.just(FeedbackKind.OUTCOME.value), st.booleans()),
    st.tuples(st.just(FeedbackKind.CORRECTION.value), st.sampled_from(["cat", "dog", None])),
    st.tuples(st.just(FeedbackKind.RATING.value), st.floats(0, 1)),
)


def names(*arguments):
    return [signal.name for signal in signals_of(*arguments)]


@given(CONFIDENCE, FEEDBACK, st.floats(0, 1))
def test_every_strength_is_in_0_to_1(confidence, feedback, threshold):
    signals = signals_of("cat", confidence, feedback, threshold)
    assert all(0 <= signal.strength <= 1 for signal in signals)
    assert len({signal.name for signal in signals}) == len(signals)


def test_a_confidence_exactly_at_the_threshold_is_not_low():
    assert names("cat", 0.7, None, 0.7) == []
    assert names("cat", 0.69, None, 0.7) == ["low_confidence"]


def test_a_threshold_of_0_suspects_no_prediction():
    assert names("cat", 0.0, None, 0.0) == []


@pytest.mark.parametrize(
    ("kind", "value", "name", "strength"),
    [
        ("outcome", False, "outcome_contradiction", 0.95),
        ("correction", "dog", "correction", 0.95),
        ("rating", 0.2, "low_rating", 0.8),
    ],
)
def test_what_contradicts_a_confident_answer_is_strong(kind, value, name, strength):
    (signal,) = signals_of("cat", 0.9, (kind, value), 0.7)
    assert (signal.name, signal.strength) == (name, pytest.approx(strength))


@pytest.mark.parametrize(
    ("kind", "value"), [("outcome", True), ("correction", "cat"), ("rating", 0.5)]
)
def test_what_agrees_with_the_answer_is_no_signal(kind, value):
    assert names("cat", 0.9, (kind, value), 0.7) == []


def test_a_correction_that_says_1_for_1_point_0_agrees():
    """Both texts mean one number; they were compared as texts."""
    assert names({"x": 1.0, "y": [2.0]}, 0.9, ("correction", {"y": [2], "x": 1}), 0.7) == []


def test_the_task_says_which_corrections_agree():
    near = lambda one, other: abs(one - other) < 0.5  # noqa: E731
    assert names(3.0, 0.9, ("correction", 3.2), 0.7, near) == []
    assert names(3.0, 0.9, ("correction", 4.0), 0.7, near) == ["correction"]


def test_a_correction_that_is_no_answer_of_the_task_contradicts():
    near = lambda one, other: abs(one - other) < 0.5  # noqa: E731
    assert names(3.0, 0.9, ("correction", {"x": None}), 0.7, near) == ["correction"]


def test_a_confidence_above_1_by_rounding_counts_as_1():
    """The strength was above 1, and that of the failure with it."""
    (signal,) = signals_of("cat", 1.0000001, ("outcome", False), 0.7)
    assert signal.strength == 1.0
