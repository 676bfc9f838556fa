"""Ready-made scores: their columns, and what their short names come to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from flywheel import scoring
from flywheel.errors import AnnotationError, TaskError
from flywheel.evaluate.scoring import score_one
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.names import has_unit
from flywheel.testing import toy_task

CUP = {"label": "cup", "x": 10, "y": 10, "width": 20, "height": 20}
SPAN = {"start": 0, "end": 4, "label": "name"}
LETTERS = ["a", "b", "c", "d"]
ANSWERS = {
    "classification": (scoring.classification(LETTERS), st.sampled_from(LETTERS)),
    "multi_label": (scoring.multi_label(LETTERS), st.lists(st.sampled_from(LETTERS), max_size=4)),
    "detection": (
        scoring.detection(LETTERS),
        st.lists(
            st.fixed_dictionaries(
                {
                    "label": st.sampled_from(LETTERS[:2]),
                    "x": st.integers(0, 12),
                    "y": st.just(0),
                    "width": st.integers(1, 9),
                    "height": st.just(5),
                }
            ),
            max_size=4,
        ),
    ),
    "spans": (
        scoring.spans(LETTERS),
        st.lists(
            st.builds(
                lambda start, length, label: {
                    "start": start,
                    "end": start + length,
                    "label": label,
                },
                st.integers(0, 5),
                st.integers(1, 3),
                st.sampled_from(LETTERS),
            ),
            max_size=4,
        ),
    ),
    "regression": (scoring.regression("cm"), st.floats(-1e6, 1e6)),
    "ranking": (
        scoring.ranking(3),
        st.one_of(
            st.lists(st.sampled_from(LETTERS), unique=True),
            st.dictionaries(st.sampled_from(LETTERS), st.floats(0, 5)),
        ),
    ),
}


def value(kit, name, pairs):
    """What a short name comes to over answers and labels."""
    rows = [kit(answer, label) for answer, label in pairs]
    table = {column: np.array([row[column] for row in rows]) for column in rows[0]}
    return compile_formula(kit.metrics[name], None)(table, np.ones((1, len(rows))))[0]


@pytest.mark.parametrize("kind", ANSWERS)
@given(data=st.data())
def test_no_answer_scores_better_than_the_label(kind, data):
    kit, drawn = ANSWERS[kind]
    answer, label = data.draw(drawn), data.draw(drawn)
    best, found = kit(label, label), kit(answer, label)
    assert best.keys() == found.keys()
    for name in best.keys() - {"predicted", "actual"}:
        lower_is_better = name.startswith(("error", "num_extra", "num_missed"))
        assert found[name] >= best[name] if lower_is_better else found[name] <= best[name]
        assert math.isfinite(found[name])
        assert has_unit(name) or 0 <= found[name] <= 1


@pytest.mark.parametrize(
    ("kit", "wrong", "message"),
    [
        (scoring.classification(LETTERS), "e", "'e' is no class of this task; give one of"),
        (scoring.multi_label(LETTERS), "a", "'a' is no list of labels; give one"),
        (scoring.multi_label(LETTERS), ["e"], "'e' is no class"),
        (scoring.detection(["cup"]), [{**CUP, "label": "pan"}], "a box has the label 'pan'; give"),
        (scoring.spans(["name"]), [{**SPAN, "label": []}], "is no span; give a dict with start"),
        (scoring.spans(["name"]), [{**SPAN, "end": 0}], "a span goes from 0 to 0; give whole"),
        (scoring.spans(["name"]), [{**SPAN, "start": 0.0}], "a span goes from 0.0 to 4"),
        (scoring.regression(), "3", "'3' is no finite number; give one"),
        (scoring.regression(), math.inf, "inf is no finite number"),
        (scoring.ranking(), "a", "'a' is no ranking; give a list of ids"),
        (scoring.ranking(), {"a": "b"}, "'b' is no finite number"),
    ],
)
def test_what_is_no_answer_of_the_kind_is_refused(kit, wrong, message):
    with pytest.raises(AnnotationError, match=message):
        kit(wrong, wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scoring.classification(["a"]), "are not two or more different ones"),
        (lambda: scoring.detection(["a"], iou=0), "iou is 0; give a number above 0"),
        (lambda: scoring.ranking(0), "k is 0; give the number of items that count"),
    ],
)
def test_what_cannot_be_scored_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_of_two_classes_the_second_is_the_positive_one_unless_another_is_named():
    pairs = [("no", "yes"), ("yes", "yes"), ("no", "no"), ("no", "no")]
    assert value(scoring.classification(["no", "yes"]), "recall", pairs) == 0.5
    assert value(scoring.classification(["no", "yes"], positive="no"), "recall", pairs) == 1.0
    assert value(scoring.classification(["no", "yes", "maybe"]), "recall", pairs) == 0.75


def test_multi_label_f1_is_torchmetrics_micro_average(torchmetrics):
    rng = np.random.default_rng(0)
    answers, labels = rng.random((2, 50, 4)) < 0.4
    pairs = [
        [[LETTERS[place] for place in np.flatnonzero(row)] for row in both]
        for both in zip(answers, labels, strict=True)
    ]
    expected = torchmetrics.classification.multilabel_f1_score(
        torch.tensor(answers.astype(int)), torch.tensor(labels.astype(int)), 4, average="micro"
    )
    found = value(scoring.multi_label(LETTERS), "f1", pairs)
    assert found == pytest.approx(float(expected), abs=1e-6)


def test_counts_of_boxes_and_spans_known_by_hand():
    boxes = scoring.detection(["cup", "pan"])
    pairs = [([{**CUP, "x": 11}, {**CUP, "label": "pan"}], [CUP]), ([], [CUP]), ([], [])]
    assert [value(boxes, name, pairs) for name in ("precision", "recall", "f1")] == [0.5] * 3
    assert value(boxes, "accuracy", pairs) == pytest.approx(1 / 3)
    text = scoring.spans(["name", "city"])
    pairs = [([SPAN, SPAN, {**SPAN, "end": 5}], [SPAN, {**SPAN, "label": "city"}])]
    assert value(text, "precision", pairs) == pytest.approx(1 / 3)
    assert value(text, "recall", pairs) == 0.5


def test_errors_of_numbers_known_by_hand():
    kit = scoring.regression("cm")
    pairs = [(1.0, 1), (2, 5), (7, 3)]
    assert kit(2, 5) == {"error_cm": 3.0}
    assert value(kit, "mae", pairs) == pytest.approx(7 / 3)
    assert value(kit, "rmse", pairs) == pytest.approx((25 / 3) ** 0.5)
    assert scoring.regression()(2, 5) == {"error": 3.0}


@pytest.mark.parametrize("seed", range(8))
def test_ranks_are_measured_as_by_scikit_learn_and_torchmetrics(seed, torchmetrics):
    retrieval = torchmetrics.retrieval
    rng = np.random.default_rng(seed)
    scores, gains = rng.random(12), rng.integers(0, 3, 12) * (rng.random(12) < 0.5)
    items = [f"item {number}" for number in range(12)]
    asked = dict(zip(items, scores.tolist(), strict=True))
    graded = scoring.ranking(5)(asked, dict(zip(items, gains.tolist(), strict=True)))
    assert graded["ndcg"] == pytest.approx(ndcg_score([gains], [scores], k=5))
    plain = scoring.ranking(None)(asked, [items[place] for place in np.flatnonzero(gains)])
    given = torch.tensor(scores), torch.tensor(gains > 0)
    oracles = {
        "reciprocal_rank": retrieval.retrieval_reciprocal_rank,
        "average_precision": retrieval.retrieval_average_precision,
    }
    for name, oracle in oracles.items():
        assert plain[name] == pytest.approx(float(oracle(*given)), abs=1e-6)
    for name, oracle in (
        ("precision", retrieval.retrieval_precision),
        ("recall", retrieval.retrieval_recall),
    ):
        assert graded[name] == pytest.approx(float(oracle(*given, top_k=5)), abs=1e-6)


def test_where_nothing_is_relevant_every_ranking_scores_0():
    assert set(scoring.ranking()(["a"], []).values()) == {0.0}


def test_a_number_of_hundreds_of_digits_is_named_and_ends_nothing():
    with pytest.raises(AnnotationError, match="is no finite number"):
        scoring.regression().score(10**400, 1.0)
    with pytest.raises(TaskError, match="which is not a finite number"):
        score_one(replace(toy_task(), scores=lambda *_: {"size": 10**400}), "a", "left", "left")
