import pytest

from flywheel.errors import SettingsError
from flywheel.metrics.names import metric_id
from flywheel.settings.judging import Metric

SOURCE = "def cost(scores, weights):\n    return {number}\n\ndef other():\n    return {other}\n"


@pytest.fixture
def identity(tmp_path):
    """The id of a metric beside a task of which two functions return these numbers."""

    def run(number=1, other=1, **settings):
        folder = tmp_path / f"{number}-{other}"
        folder.mkdir(exist_ok=True)
        (folder / "own_costs.py").write_text(SOURCE.format(number=number, other=other))
        return metric_id(Metric(**settings), folder)

    return run


@pytest.mark.parametrize(
    "settings",
    [
        {"optimize": "correct.p90"},
        {"higher_is_better": False},
        {"requirement": 0.5},
        {"require": ("a < 1",)},
        {"ignore": ("a",)},
    ],
)
def test_every_setting_makes_another_metric(identity, settings):
    assert identity(**settings) == identity(**settings)
    assert identity(**settings) != identity()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimize": "own_costs:cost + correct"},
        {"require": ("own_costs:cost < 1",)},
        {"ignore": ("own_costs:cost",)},
    ],
)
def test_an_edited_function_makes_another_metric(identity, settings):
    assert identity(number=1, **settings) != identity(number=2, **settings)
    assert identity(other=1, **settings) == identity(other=2, **settings)


def test_the_id_does_not_depend_on_where_the_project_is():
    assert metric_id(Metric(), None) == metric_id(Metric(require=()), None)
    assert len(metric_id(Metric(), None)) == 64


def test_a_function_without_source_cannot_be_versioned(tmp_path):
    with pytest.raises(SettingsError, match="math:fsum has no Python source"):
        metric_id(Metric(optimize="math:fsum"), tmp_path)


def test_a_function_needs_a_project():
    with pytest.raises(SettingsError, match="own_costs:cost belongs to a project"):
        metric_id(Metric(optimize="own_costs:cost"), None)
