import dataclasses

import pytest

from flywheel.errors import SettingsError, TaskError
from flywheel.evaluate.baselines import fit_baselines, published_entries, requirement_entry
from flywheel.evaluate.book import Rows
from flywheel.project import load_project
from flywheel.settings.judging import Metric, Published
from flywheel.task import Baseline

_SAME = ("data", "split", "metric", "input", "compute")


def _published(*other, **changes):
    same = {f"same_{name}": name not in other for name in _SAME}
    return Published(**({"name": "PoseCNN", "value": 0.75, "source": "Table 2"} | same | changes))


def test_baselines_learn_from_the_training_rows(points_task, rows):
    train, test = rows(50, 4), rows(80, 5)
    predictors, faults = fit_baselines(points_task.baselines, train)
    said = predictors["nearest"](test.samples)
    assert sum(a == b for a, b in zip(said, test.answers, strict=True)) > 70
    assert faults == {}


def test_a_baseline_that_cannot_be_fitted_says_why(rows):
    def refuse(*_):
        raise ValueError("needs two classes")

    baselines = {"logistic": Baseline(kind="simple ML", fit=refuse)}
    predictors, faults = fit_baselines(baselines, rows(5, 1))
    assert predictors == {}
    assert faults == {"logistic": "not fitted on 5 training rows: needs two classes"}


def test_without_training_rows_no_baseline_is_fitted(points_task):
    predictors, faults = fit_baselines(points_task.baselines, Rows(samples=[], answers=[]))
    assert predictors == {}
    assert set(faults) == {"majority", "nearest"}


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("x", "magic", "of kind 'magic'"), ("champion", "scripted", "is called 'champion'")],
)
def test_baselines_that_a_report_cannot_show_are_refused(points_task, rows, name, kind, message):
    odd = dataclasses.replace(points_task.baselines["majority"], kind=kind)
    with pytest.raises(TaskError, match=message):
        fit_baselines({name: odd}, rows(5, 1))


def test_the_requirement_is_a_line_of_the_table():
    entry = requirement_entry(Metric(requirement=0.9))
    assert (entry.kind, entry.metric.value) == ("requirement", 0.9)
    assert requirement_entry(Metric()) is None


def test_a_published_result_that_is_the_same_in_all_five_is_fair():
    (entry,) = published_entries([_published()])
    assert (entry.name, entry.kind, entry.note) == ("PoseCNN", "published", "Table 2")
    assert entry.is_fair
    assert (entry.metric.low, entry.metric.value, entry.metric.high) == (0.75, 0.75, 0.75)
    assert entry.metric.num_samples == 0


@pytest.mark.parametrize("other", [*((name,) for name in _SAME), _SAME])
def test_one_that_differs_in_anything_is_shown_and_marked(other):
    (entry,) = published_entries([_published(*other)])
    assert not entry.is_fair
    assert entry.note == f"Table 2; unfair, shown only: other {', '.join(other)}"


def test_a_published_interval_is_kept():
    (entry,) = published_entries([_published(low=0.7, high=0.8)])
    assert (entry.metric.low, entry.metric.high) == (0.7, 0.8)


_TOML = """
[[published]]
name = "x"
value = 0.9
source = "a paper"
same_data = true
same_split = true
same_metric = true
same_input = true
same_compute = false
"""


@pytest.fixture
def load(tmp_path):
    def run(text):
        start = '[project]\nname = "toy"\ntask = "a:b"\n'
        (tmp_path / "flywheel.toml").write_text(start + text)
        return load_project(tmp_path).published

    return run


def test_published_results_are_tables_of_the_settings(load):
    one, other = load(_TOML + _TOML.replace('"x"', '"y"'))
    assert (one.name, other.name, one.value, one.same_compute) == ("x", "y", 0.9, False)
    assert load("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_TOML.replace("same_data = true\n", ""), r"same_data' is missing; .* \[\[published\]\]"),
        (_TOML.replace("same_data = true", "same_data = 1"), r"same_data = 1: .* valid boolean"),
        (_TOML + "low = 0.95\n", r"'x' has the value 0.9 outside of its interval 0.95 to 0.9"),
        (_TOML + "lw = 0.95\n", r"unknown key 'published.0.lw'; did you mean 'low'"),
        (_TOML + _TOML, r"'x' is the name of two lines of a report's table; give"),
        (_TOML.replace('"x"', '"champion"'), r"'champion' is the name of two lines"),
        (_TOML.replace("[[published]]", "[published]"), r"should be a list, such as \[\[publi"),
    ],
)
def test_a_published_result_that_cannot_be_is_refused(load, text, message):
    with pytest.raises(SettingsError, match=message):
        load(text)
