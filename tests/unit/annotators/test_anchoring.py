import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotators import Compared, biased_annotators, measure_anchoring


def annotations(person, shown, blind, *, slices=(), prefix=""):
    """(agreeing, all) annotations that saw the model's answer, and that did not."""
    return [
        Compared(
            sample=f"{prefix}{person}{arm}{number}",
            person=person,
            is_blind=arm == "blind",
            agrees=number < agreeing,
            slices=slices,
        )
        for arm, (agreeing, total) in (("shown", shown), ("blind", blind))
        for number in range(total)
    ]


def test_the_interval_is_newcombes():
    """Newcombe 1998, table II: 56/70 less 48/80 and 9/10 less 3/10, method 10."""
    first = measure_anchoring(annotations("ann", (56, 70), (48, 80))).overall
    assert (first.low, first.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    second = measure_anchoring(annotations("ann", (9, 10), (3, 10))).overall
    assert (second.low, second.high) == pytest.approx((0.1705, 0.8090), abs=1e-4)


def test_a_part_that_was_answered_one_way_only_is_missing():
    compared = annotations("ann", (3, 4), (0, 0)) + annotations("bob", (1, 2), (1, 2))
    found = measure_anchoring(compared)
    assert found.annotators.keys() == {"bob"}
    assert (found.overall.num_shown, found.overall.num_blind) == (6, 2)
    assert measure_anchoring([]).overall is None
    assert measure_anchoring([]).annotators == measure_anchoring([]).slices == {}


def test_slices_are_measured_one_by_one():
    compared = annotations("ann", (9, 10), (2, 10), slices=("dark",))
    compared += annotations("ann", (5, 10), (5, 10), slices=("dark", "wet"), prefix="wet")
    found = measure_anchoring(compared).slices
    assert found["wet"].difference == 0
    assert found["dark"].difference == pytest.approx(0.35)


def test_annotators_on_the_same_sample_are_no_independent_witnesses():
    alone = [
        Compared(sample=f"{n}", person="ann", is_blind=n % 2 == 0, agrees=n % 3 > 0)
        for n in range(60)
    ]
    copies = [
        Compared(sample=one.sample, person=f"p{n}", is_blind=one.is_blind, agrees=one.agrees)
        for one in alone
        for n in range(5)
    ]
    one, five = (measure_anchoring(given).overall for given in (alone, copies))
    assert five.difference == one.difference
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.05)


def test_who_takes_over_the_models_answer_is_named_and_others_are_not():
    compared = annotations("ann", (97, 100), (40, 50)) + annotations("bob", (99, 100), (20, 50))
    assert biased_annotators(compared, 0.1).keys() == {"bob"}


def test_the_more_annotators_are_looked_at_the_more_it_takes_to_be_named():
    edge = annotations("ann", (85, 100), (27, 50))
    assert biased_annotators(edge, 0.1).keys() == {"ann"}
    others = [one for n in range(40) for one in annotations(f"p{n}", (80, 100), (40, 50))]
    assert biased_annotators(edge + others, 0.1) == {}


def test_whoever_is_named_makes_it_easier_for_the_next():
    """Holm, not Bonferroni."""
    clear = [one for n in range(3) for one in annotations(f"p{n}", (100, 100), (0, 50))]
    edge = annotations("edge", (85, 100), (27, 50))
    assert "edge" in biased_annotators(clear + edge, 0.1)


def test_nobody_is_biased_among_nobody():
    assert biased_annotators([], 0.1) == {}


def test_honest_annotators_are_hardly_ever_named():
    rng, named = np.random.default_rng(0), 0
    for _ in range(40):
        compared = [
            one
            for n in range(10)
            for one in annotations(
                f"p{n}", (rng.binomial(60, 0.8), 60), (rng.binomial(15, 0.8), 15)
            )
        ]
        named += bool(biased_annotators(compared, 0.0))
    assert named <= 4


@given(*[st.tuples(st.integers(0, 9), st.integers(0, 9)) for _ in range(2)])
def test_the_difference_is_within_its_interval(shown, blind):
    arms = [(arm[0], sum(arm)) for arm in (shown, blind)]
    found = measure_anchoring(annotations("ann", *arms)).overall
    if found is not None:
        assert -1 <= found.low <= found.difference <= found.high <= 1
