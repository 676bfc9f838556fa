"""Formulas of [metric] against the scores of a task, before a night is spent."""

from dataclasses import replace

import pytest

from flywheel import scoring
from flywheel.checks import check_metric
from flywheel.errors import SettingsError
from flywheel.project import Project
from flywheel.testing import toy_task


def checked(tmp_path, kit=None, **metric):
    task = toy_task() if kit is None else replace(toy_task(), scores=kit)
    identity = {"name": "checked", "task": "checked:task"}
    check_metric(Project(directory=tmp_path, project=identity, metric=metric), task)


def test_short_names_and_whole_answers_are_known_where_the_scores_have_them(tmp_path):
    sides = scoring.classification(["left", "right"])
    checked(tmp_path, sides, optimize="f1", require=["0.5 * recall + 0.5 * precision > 0.9"])
    checked(tmp_path, optimize="flywheel.scoring:map_50", ignore=["latency_ms.p95"])


@pytest.mark.parametrize("place", ["optimize", "require", "ignore"])
def test_a_name_that_the_scores_lack_is_refused_with_those_that_they_have(tmp_path, place):
    sides = scoring.classification(["left", "right"])
    metric = {"optimize": {"optimize": "rmse"}, "require": {"require": ["rmse < 3"]}}
    with pytest.raises(SettingsError) as caught:
        checked(tmp_path, sides, **metric.get(place, {"ignore": ["rmse"]}))
    message = str(caught.value)
    assert "'rmse': no score is called 'rmse'" in message
    assert "known: actual, confidence, correct, predicted" in message
    assert message.endswith("By name there are accuracy, f1, map, precision, recall")
    assert len(message.splitlines()) == 1


def test_scores_of_ones_own_have_no_short_names(tmp_path):
    with pytest.raises(SettingsError, match=r"the scores of flywheel.scoring bring f1, where it"):
        checked(tmp_path, optimize="f1")
