import pytest

from flywheel.decide import next_step
from flywheel.project import Gate, Metric


@pytest.fixture
def step(report, entry):
    """The next step from what is measured in production and on the start data."""

    def run(
        production, start, *, requirement=None, half=0.01, num_samples=100, extra=(), **changes
    ):
        fields = {
            "entries": (
                entry("candidate", production, half=half, num_samples=num_samples),
                *extra,
            ),
            "start_entries": (entry("candidate", start),),
        }
        settings = Metric(
            requirement=requirement, higher_is_better=changes.get("higher_is_better", True)
        )
        return next_step(report(**(fields | changes)), settings, Gate())

    return run


@pytest.mark.parametrize(
    ("production", "start", "requirement", "first_words"),
    [
        (0.97, 0.98, 0.95, "Ask for more"),
        (0.945, 0.98, 0.95, "Collect test labels"),
        (0.70, 0.94, 0.95, "Label more failures"),
        (0.70, 0.72, 0.95, "Tune the model"),
        (0.70, None, 0.95, "Label more failures"),
        (None, 0.94, 0.95, "Collect test labels: 0 samples"),
        (0.70, 0.94, None, "Set metric.requirement"),
    ],
)
def test_the_numbers_name_the_step(step, production, start, requirement, first_words):
    assert step(production, start, requirement=requirement).startswith(first_words)


def test_the_same_model_beside_another_baseline_asks_for_another_step(step):
    assert step(0.80, 0.85, requirement=0.86).startswith("Label more failures")
    assert step(0.80, 0.85, requirement=0.95).startswith("Tune the model")


def test_without_a_requirement_people_are_the_target_and_then_simple_ml(step, entry):
    people, simple = entry("annotators", 0.99, kind="human"), entry("knn", 0.6, kind="simple ML")
    assert "the annotators (0.99)" in step(0.8, 0.95, extra=(simple, people))
    assert "simple ML (0.6)" in step(0.8, 0.95, extra=(simple,))


def test_for_errors_the_directions_turn_around(step):
    down = {"higher_is_better": False}
    assert step(0.5, 4.0, requirement=1.0, **down).startswith("Ask for more")
    assert step(4.0, 1.1, requirement=1.0, **down).startswith("Label more failures")
    assert step(4.0, 3.9, requirement=1.0, **down).startswith("Tune the model")


def test_too_few_test_samples_say_how_many_are_needed(step):
    text = step(0.9, 0.9, requirement=0.95, num_samples=12)
    assert "12 samples of the probability share are labeled, 30 are needed" in text
