import dataclasses

import numpy as np
import pytest

from flywheel.errors import TaskError
from flywheel.evaluate import Rows
from flywheel.evaluate.scoring import score_answers, score_entrants, score_models


def test_every_entrant_is_scored_on_the_same_rows_in_order(points_task, rows, line_model):
    labeled = rows(300, 1)
    tables = score_entrants(
        points_task,
        labeled,
        {"candidate": line_model(1, 0), "champion": line_model(-1, 0)},
        {"left always": lambda samples: ["left"] * len(samples)},
    )
    assert tables["candidate"]["correct"].tolist() == [1.0] * 300
    assert tables["champion"]["error_cm"].tolist() == [2.5] * 300
    assert tables["left always"]["correct"].tolist() == [
        float(a == "left") for a in labeled.answers
    ]


def test_inputs_are_decoded_once_for_all_models(points_task, rows, line_model):
    decoded = []

    def inputs(samples):
        decoded.extend(samples)
        return points_task.inputs(samples)

    task = dataclasses.replace(points_task, inputs=inputs)
    score_entrants(task, rows(300, 1), {"a": line_model(1, 0), "b": line_model(1, 1)}, {})
    assert len(decoded) == 300


def test_pieces_scored_elsewhere_give_the_same_tables_in_order(points_task, rows, line_model):
    labeled, models = rows(5_000, 1), {"a": line_model(1, 0), "b": line_model(-1, 0)}
    by_id = {one.id: one for one in labeled.samples}
    sizes = []

    def spread(pieces):
        sizes.extend(len(piece.labels) for piece in pieces)
        assert pieces[0].digests == {name: model.digest for name, model in models.items()}
        for piece in pieces:
            part = Rows(samples=[by_id[key] for key in piece.sample_ids], answers=piece.labels)
            yield score_models(points_task, part, models)

    predictors = {"left always": lambda samples: ["left"] * len(samples)}
    here = score_entrants(points_task, labeled, models, predictors)
    there = score_entrants(points_task, labeled, models, predictors, spread)
    assert sizes == [2_048, 2_048, 904]
    assert {name: {k: v.tolist() for k, v in table.items()} for name, table in here.items()} == {
        name: {k: v.tolist() for k, v in table.items()} for name, table in there.items()
    }


def test_pieces_with_other_scores_are_refused(points_task, rows, line_model):
    def spread(pieces):
        return [{"a": {f"score {number}": np.ones(1)}} for number, _ in enumerate(pieces)]

    with pytest.raises(TaskError, match=r"a has the scores \['score 1'\] on some samples"):
        score_entrants(points_task, rows(3_000, 1), {"a": line_model(1, 0)}, {}, spread)


def test_no_rows_give_no_scores(points_task, line_model):
    assert (
        score_entrants(points_task, Rows(samples=[], answers=[]), {"a": line_model(1, 0)}, {}) == {}
    )


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda *_: {"correct": float("nan")}, "the score 'correct' of the answer 'left' is nan"),
        (lambda answer, label: {label: 1.0}, "returns the same names for every sample"),
    ],
)
def test_scores_that_cannot_be_are_refused_by_sample(points_task, rows, scores, message):
    task, labeled = dataclasses.replace(points_task, scores=scores), rows(20, 1)
    with pytest.raises(TaskError, match=message):
        score_answers(task, labeled, ["left"] * 20, "candidate")


def test_an_answer_for_each_sample_is_demanded(points_task, rows):
    with pytest.raises(TaskError, match="lazy gave 3 answers for 20 samples"):
        score_answers(points_task, rows(20, 1), ["left"] * 3, "lazy")


def test_a_model_is_scored_with_its_confidence_too(points_task, rows, line_model):
    labeled = rows(30, 1)
    table = score_entrants(points_task, labeled, {"candidate": line_model(1, 0)}, {})["candidate"]
    answers = line_model(1, 0).answer_samples(labeled.samples)
    assert table["confidence"].tolist() == [answer.confidence for answer in answers]


def test_a_score_may_not_take_the_confidences_name(points_task, rows, line_model):
    task = dataclasses.replace(points_task, scores=lambda *_: {"confidence": 1.0})
    with pytest.raises(TaskError, match="give the task's score another name"):
        score_entrants(task, rows(20, 1), {"candidate": line_model(1, 0)}, {})
