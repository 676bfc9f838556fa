import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.errors import TaskError
from flywheel.evaluate import Rows
from flywheel.evaluate.baseline import annotator_scores, fit_baselines, requirement_entry
from flywheel.project import Metric
from flywheel.records import Annotation
from flywheel.task import Baseline

_NIGHT = datetime(2030, 1, 1, tzinfo=UTC)


def _said(sample_id, *answers, people="abcdef", hours=0):
    return [
        Annotation(
            id=f"{sample_id}-{person}-{hours}",
            sample_id=sample_id,
            annotator=person,
            answer=answer,
            skipped=answer is None,
            lead_time_seconds=1.0,
            updated_at=_NIGHT + timedelta(hours=hours),
        )
        for person, answer in zip(people, answers, strict=False)
    ]


def _correct(points_task, rows, annotations):
    agreed, table = annotator_scores(points_task, rows, annotations)
    return agreed, table.get("correct", [])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("left", "left"), 1.0),
        (("left", "right"), 0.0),
        (("left", "left", "left", "right"), 3 / 4),  # the fourth alone is against the others
        (("left", "left", "right"), 1 / 3),  # 1/2, 1/2 for a tie of the others, and 0
        (("left", None, "left"), 1.0),
    ],
)
def test_each_person_is_scored_against_the_consensus_of_the_others(
    points_task, rows, answers, expected
):
    labeled = rows(3, 1)
    _, scores = _correct(points_task, labeled, _said(labeled.ids[1], *answers))
    assert scores == pytest.approx([expected])


def test_only_rows_with_two_people_count_and_keep_their_weights(points_task, rows):
    labeled = rows(4, 1, [1.0, 2.0, 3.0, 4.0])
    one, two = labeled.ids[1], labeled.ids[3]
    said = [*_said(one, "left"), *_said(two, "left", "left"), *_said("elsewhere", "left", "left")]
    agreed, scores = _correct(points_task, labeled, said)
    assert agreed.ids == (two,)
    assert agreed.weight_array().tolist() == [4.0]
    assert list(scores) == [1.0]


def test_a_person_who_answers_twice_is_one_person(points_task, rows):
    labeled = rows(2, 1)
    twice = _said(labeled.ids[0], "left") + _said(labeled.ids[0], "right", hours=1)
    assert _correct(points_task, labeled, twice)[0].ids == ()
    other = _said(labeled.ids[0], "right", people="z")
    assert list(_correct(points_task, labeled, twice + other)[1]) == [1.0]


def test_without_annotations_there_is_no_number_for_people(points_task, rows):
    agreed, table = annotator_scores(points_task, rows(9, 1), [])
    assert (agreed.ids, table) == ((), {})


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
