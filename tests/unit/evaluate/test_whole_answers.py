"""A metric over whole answers, from the pass over the test set to the report out of its scores."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from flywheel import scoring
from flywheel.errors import SettingsError
from flywheel.evaluate import Context, unpack_book
from flywheel.evaluate.measure import measure as measure_again
from flywheel.ledger.codec import from_json
from flywheel.metrics.names import name_metric
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.model import Model
from flywheel.records import Annotation, canonical
from flywheel.task import Baseline

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def boxed(side):
    """The side of a point as a box, of which left and right do not overlap."""
    return [{"label": "dot", "x": 50 * (side == "right"), "y": 0, "width": 9, "height": 9}]


@pytest.fixture
def task(points_task):
    def answers(output):
        found = points_task.answers(output)
        return [
            dataclasses.replace(
                one, value=[{**boxed(one.value)[0], "confidence": round(one.confidence, 6)}]
            )
            for one in found
        ]

    return dataclasses.replace(
        points_task,
        answers=answers,
        scores=scoring.detection(["dot"]),
        baselines={
            "nothing": Baseline(kind="scripted", fit=lambda *_: lambda samples: [[]] * len(samples))
        },
    )


@pytest.fixture
def boxes(rows):
    """(number, seed) -> rows whose labels are boxes."""

    def build(number, seed):
        plain = rows(number, seed)
        return dataclasses.replace(plain, answers=[boxed(side) for side in plain.answers])

    return build


@pytest.fixture
def evaluated(measure, task, boxes, rules, line_weights, challenge):
    """(**metric) -> evaluation and rules; a challenge with 60 fresh rows is running."""

    def run(**metric):
        named = rules(abstain={"failure": "correct < 1"}, **metric)
        named = dataclasses.replace(named, metric=name_metric(named.metric, task.scores))
        marks = {"fresh": np.arange(120) >= 60, "scale": np.ones(120), "order": np.full(120, 7)}
        data = {
            "test": dataclasses.replace(boxes(120, 2), marks=marks),
            "start_test": boxes(20, 3),
            "train": boxes(20, 4),
        }
        data["asked"] = data["test"]
        models = {
            name: Model(task, line_weights(1, slope), torch.device("cpu"))
            for name, slope in (("candidate", 0), ("champion", 1))
        }
        annotations = [
            Annotation(
                id=f"{person}{place}",
                sample_id=sample.id,
                annotator=person,
                answer=answer if place % 5 or person == "ann" else [],
                skipped=False,
                lead_time_seconds=1.0,
                updated_at=NOW,
            )
            for person in ("ann", "ben")
            for place, (sample, answer) in enumerate(
                zip(data["test"].samples, data["test"].answers, strict=True)
            )
        ]
        parts = {"annotations": annotations, "challenge": challenge, **data, **models}
        return measure(task=task, settings=named, **parts), named

    return run


def test_map_is_measured_for_every_entrant_with_an_interval_in_its_range(evaluated):
    report = evaluated(optimize="map", require=("f1 >= 0.5",))[0].report
    assert report.metric == "map"
    found = {entry.name: entry.metric for entry in report.entries if entry.metric}
    assert {"candidate", "champion", "nothing", "random person"} <= found.keys()
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found.values())
    assert found["candidate"].value == 1.0
    assert found["nothing"].value == 0.0
    assert 0 < found["nothing"].high < 0.1
    assert report.difference.low > 0
    assert sum(report.fresh.gains) > 0
    assert not report.fresh.is_bounded
    assert report.watched[0].formula == "f1"
    assert report.watched[0].candidate.value == 1.0


def test_the_stored_scores_hold_answers_and_labels_and_give_the_report_again(evaluated):
    evaluation, named = evaluated(optimize="map", ignore=("0.5 * map_50 + 0.5 * recall",))
    book, written = unpack_book(evaluation.scores, evaluation.report.scores_digest)
    table = book["test"].scores["candidate"]
    assert table[LABEL].tolist()[0] in (canonical(boxed("left")), canonical(boxed("right")))
    assert {ANSWER, LABEL} <= book["test"].scores["nothing"].keys()
    context = from_json(Context, written["context"])
    again = measure_again(book, context, named, evaluation.report.scores_digest, now=NOW)
    assert canonical(dataclasses.asdict(again) | {"created_at": ""}) == canonical(
        dataclasses.asdict(evaluation.report) | {"created_at": ""}
    )


def test_scores_that_could_be_measured_by_whole_answers_keep_them_for_later(evaluated, rules, task):
    evaluation, _ = evaluated(optimize="f1")
    book, written = unpack_book(evaluation.scores, evaluation.report.scores_digest)
    later = dataclasses.replace(rules(optimize="map"), directory=rules().directory)
    later = dataclasses.replace(later, metric=name_metric(later.metric, task.scores))
    context = from_json(Context, written["context"])
    report = measure_again(book, context, later, "", now=NOW)
    assert report.entries[0].metric.value == 1.0


def test_scores_without_answers_are_measured_by_them_from_the_next_night_on(
    measure, rules, points_task
):
    numbered = scoring.classification(["left", "right"])
    evaluation = measure(task=dataclasses.replace(points_task, scores=numbered))
    book, written = unpack_book(evaluation.scores, evaluation.report.scores_digest)
    assert ANSWER not in book["test"].scores["candidate"]
    context = from_json(Context, written["context"])
    whole = rules(optimize="flywheel.scoring:map_50")
    with pytest.raises(SettingsError, match="only single scores are stored here"):
        measure_again(book, context, whole, "", now=NOW)


def test_answers_that_are_classes_are_kept_where_scores_do_not_number_them(measure):
    evaluation = measure()
    book, _ = unpack_book(evaluation.scores, evaluation.report.scores_digest)
    assert set(book["test"].scores["candidate"][LABEL]) == {'"left"', '"right"'}
    assert ANSWER not in book["train"].scores["candidate"]
