from datetime import UTC, datetime

import pytest

from flywheel.decide.next_step import goes_back_to, next_step
from flywheel.records import Entry, Estimate, Report, Reuse, Watched
from flywheel.settings.judging import Gate, Metric

_PARTS = ("train", "start", "seen", "fresh")


def _number(value, half=0.01, num_samples=100):
    return Estimate(value=value, low=value - half, high=value + half, num_samples=num_samples)


def _entry(name, value, kind="", half=0.01, num_samples=100):
    metric = None if value is None else _number(value, half, num_samples)
    return Entry(name=name, kind=kind or name, metric=metric)


def _report(entries, parts, *, up, watched=(), candidate="a"):
    return Report(
        id="r",
        night=3,
        metric="correct",
        higher_is_better=up,
        metric_id="m",
        metric_settings={},
        candidate_digest=candidate,
        champion_digest="b",
        dataset_id="d",
        test_set_digest="t",
        challenge=None,
        entries=entries,
        start_entries=(),
        parts=parts,
        difference=None,
        slices=(),
        watched=watched,
        fresh=None,
        guarded=None,
        reuse=Reuse(num_test=9, num_sealed=0, mean_uses=1, num_challenges=0, most_challenges=9),
        production=None,
        abstention=None,
        latency_p95_ms=None,
        seed=0,
        scores_digest="s",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def step():
    """The next step from the model's values on train, start, seen and fresh, and baselines."""

    def run(*values, requirement=None, half=0.01, num_samples=100, up=True, **others):
        known = [value for value in values if value is not None]
        production = known[-1] if known else None
        entries = [_entry("candidate", production, half=half, num_samples=num_samples)]
        kinds = [kind for kind in ("human", "scripted") if kind in others]
        entries += [_entry(f"a {kind} line", others.pop(kind), kind, half) for kind in kinds]
        if requirement is not None:
            entries.append(_entry("requirement", requirement, half=0))
        parts = [_entry(*one, half=half) for one in zip(_PARTS, values, strict=False)]
        report = _report(tuple(entries), tuple(parts), up=up, **others)
        step = next_step(report, Metric(requirement=requirement, higher_is_better=up), Gate())
        assert goes_back_to(step)  # every step is one of the life cycle's back edges
        return step

    return run


@pytest.mark.parametrize(
    ("annotators", "first_words", "term"),
    [(0.14, "Add training data", "The variance"), (0.05, "Tune the model", "The avoidable bias")],
)
def test_the_same_model_beside_another_baseline_asks_for_another_step(
    step, annotators, first_words, term
):
    text = step(0.15, 0.20, 0.20, 0.20, human=annotators, up=False)
    assert text.startswith(first_words)
    assert term in text
    assert text.endswith(
        f"the tightest bound is the human baseline 'a human line' ({annotators:g})."
    )


@pytest.mark.parametrize(
    ("values", "first_words"),
    [
        ((0.80, 0.79, 0.78, 0.78), "Tune the model"),
        ((0.98, 0.85, 0.84, 0.84), "Add training data"),
        ((0.98, 0.96, 0.80, 0.79), "Label more failures"),
        ((0.98, 0.97, 0.96, 0.80), "Renew the test set"),
        ((0.98, None, 0.80, 0.79), "Label more failures"),
        ((None, None, 0.80, 0.79), "Label more failures"),
        ((None, 0.80, 0.79, 0.79), "Add training data"),
        ((0.98, 0.97, None, 0.80), "Label more failures"),
    ],
)
def test_the_largest_term_that_is_significant_names_the_step(step, values, first_words):
    assert step(*values, human=0.99).startswith(first_words)


def test_a_larger_term_that_is_not_significant_names_nothing():
    entries = (_entry("candidate", 0.7), _entry("expert", 0.99, "human"))
    parts = (
        _entry("train", 0.98),
        _entry("start", 0.90),
        _entry("seen", 0.70, half=0.3),
        _entry("fresh", 0.70, half=0.3),
    )
    text = next_step(_report(entries, parts, up=True), Metric(), Gate())
    assert text.startswith("Add training data")


def test_where_no_term_is_sure_test_labels_are(step):
    text = step(0.95, 0.93, 0.92, 0.92, human=0.96, half=0.05)
    assert text.startswith("Collect test labels")


def test_a_model_that_reaches_people_needs_better_labels(step):
    text = step(0.95, 0.95, 0.95, 0.95, human=0.93)
    assert text.startswith("Get better labels, or revisit metric.requirement or the metric")
    assert "'a human line' (0.93), the tightest bound" in text


def test_an_irreducible_error_above_all_other_terms_needs_better_labels(step):
    text = step(0.79, 0.79, 0.79, 0.79, human=0.80)
    assert text.startswith("Get better labels")
    assert "the irreducible error is larger than any other part" in text


def test_what_simple_rules_reach_is_no_limit(step):
    assert step(0.8, 0.8, 0.8, 0.8, scripted=0.3).startswith("Set metric.requirement")
    assert step(0.98, 0.97, 0.8, 0.8, scripted=0.3).startswith("Label more failures")


def test_without_any_number_to_compare_with_a_requirement_is_asked_for(step):
    assert step(0.98, 0.94, 0.70, 0.70).startswith("Set metric.requirement")


@pytest.mark.parametrize(
    ("values", "requirement", "first_words"),
    [
        ((0.99, 0.98, 0.97, 0.97), 0.95, "Ask for more"),
        ((0.99, 0.98, 0.945, 0.945), 0.95, "Collect test labels"),
        ((0.85, 0.85, 0.80, 0.80), 0.86, "Label more failures"),
        ((0.85, 0.85, 0.80, 0.80), 0.95, "Tune the model"),
        ((), 0.95, "Collect test labels: too few samples"),
    ],
)
def test_a_requirement_is_the_aim_where_no_person_bounds_the_error(
    step, values, requirement, first_words
):
    assert step(*values, requirement=requirement).startswith(first_words)


def test_for_errors_the_directions_turn_around(step):
    down = {"up": False, "requirement": 1.0}
    assert step(0.4, 0.5, 0.5, 0.5, **down).startswith("Ask for more")
    assert step(1.0, 1.1, 4.0, 4.0, **down).startswith("Label more failures")
    assert step(3.9, 3.9, 4.0, 4.0, **down).startswith("Tune the model")


def test_too_few_test_samples_say_how_many_are_needed(step):
    text = step(0.9, 0.9, 0.9, 0.9, requirement=0.95, num_samples=12)
    assert "12 samples of the probability share are labeled, 30 are needed" in text


@pytest.mark.parametrize(("bound", "first_words"), [(50.0, "Work on latency"), (90.0, "Ask for")])
def test_a_reached_requirement_does_not_hide_a_condition_that_is_missed(step, bound, first_words):
    slow = Watched(
        formula="latency_ms.p95",
        bound=bound,
        is_upper=True,
        candidate=_number(80.0, 5.0),
        champion=None,
        difference=None,
    )
    text = step(0.99, 0.98, 0.97, 0.97, requirement=0.95, watched=(slow,))
    assert text.startswith(first_words)


def test_without_a_candidate_the_champion_is_spoken_of():
    entries = (_entry("champion", 0.7), _entry("expert", 0.99, "human"))
    parts = (_entry("train", 0.98), _entry("start", 0.97), _entry("seen", 0.70))
    text = next_step(_report(entries, parts, up=True, candidate=None), Metric(), Gate())
    assert "The distribution shift of the champion" in text


@pytest.mark.parametrize(
    ("step", "part"),
    [
        ("Set metric.requirement: ...", "planning and set-up"),
        ("Tune the model: ...", "training and debugging"),
        ("Label more failures: ...", "data collection and labeling"),
    ],
)
def test_a_step_goes_back_to_a_part_of_the_life_cycle(step, part):
    assert goes_back_to(step) == part


def test_what_is_no_step_goes_back_to_nothing():
    with pytest.raises(ValueError, match="is no next step"):
        goes_back_to("Have a break")
