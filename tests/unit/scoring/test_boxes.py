"""Boxes: COCO's own code says what is right, and so does counting by hand."""

import contextlib
import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flywheel.errors import AnnotationError
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.scores import answer_columns
from flywheel.scoring import (
    box_ious,
    detection,
    map_50,
    map_75,
    match_boxes,
    mean_average_precision,
)

CUP = {"label": "cup", "x": 10, "y": 10, "width": 20, "height": 20}


def as_coco(boxes, number, names):
    sides = [boxes[side] for side in ("x", "y", "width", "height")]
    return {
        "image_id": number + 1,
        "category_id": names.index(boxes["label"]) + 1,
        "bbox": sides,
        "area": sides[2] * sides[3],
        "iscrowd": 0,
    }


def cocos(answers, labels):
    """mAP, AP50 and AP75 as pycocotools has them."""
    names = sorted({box["label"] for one in (*answers, *labels) for box in one})
    truth = [as_coco(box, place, names) for place, one in enumerate(labels) for box in one]
    found = [
        {**as_coco(box, place, names), "score": box.get("confidence", 1.0)}
        for place, one in enumerate(answers)
        for box in one
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": place + 1} for place in range(len(labels))],
            "categories": [{"id": place + 1, "name": name} for place, name in enumerate(names)],
            "annotations": [{**one, "id": place + 1} for place, one in enumerate(truth)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3].tolist()


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(5))
def test_map_is_that_of_pycocotools_ties_included(draw_boxes, seed, levels):
    answers, labels = draw_boxes(5 + 7 * seed, seed, levels)
    found = [metric(answers, labels) for metric in (mean_average_precision, map_50, map_75)]
    assert found == pytest.approx(cocos(answers, labels), abs=1e-12)


def test_a_hundred_boxes_of_a_class_count_and_recalls_are_compared_to_the_last_bit(draw_boxes):
    many = [{**CUP, "x": 7.0 * place, "confidence": 1 - place / 200} for place in range(130)]
    label = [{**CUP, "x": 7.0 * place} for place in range(0, 130, 3)][:20]
    assert map_50([many], [label]) == pytest.approx(cocos([many], [label])[1], abs=1e-12)
    # 7 of 20 is below the grid's 0.35 by a bit: COCO's code does not count it there.
    seven = [box if place < 7 else {**box, "x": 900} for place, box in enumerate(label)]
    assert map_50([seven], [label]) == pytest.approx(cocos([seven], [label])[1], abs=1e-12)


def test_labels_without_any_box_have_no_average_precision():
    assert math.isnan(mean_average_precision([[CUP], []], [[], []]))
    assert mean_average_precision([[], []], [[CUP], []]) == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), counts=st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_weight_is_as_many_copies_and_none_is_absence(draw_boxes, seed, counts):
    answers, labels = draw_boxes(12, seed)
    rows = list(itertools.chain(*([place] * count for place, count in enumerate(counts))))
    repeated = mean_average_precision([answers[row] for row in rows], [labels[row] for row in rows])
    weighted = mean_average_precision(answers, labels, np.array(counts, dtype=float))
    assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100))
def test_only_the_ratio_of_weights_counts(draw_boxes, seed, scale):
    answers, labels = draw_boxes(12, seed)
    weights = np.random.default_rng(seed).random(12) + 0.1
    once = mean_average_precision(answers, labels, weights)
    assert mean_average_precision(answers, labels, weights * scale) == pytest.approx(
        once, abs=1e-9, nan_ok=True
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_map_lies_in_its_range_and_the_label_is_the_best_answer(draw_boxes, seed):
    answers, labels = draw_boxes(8, seed)
    found = mean_average_precision(answers, labels)
    low, high = mean_average_precision.range
    assert math.isnan(found) or low <= found <= high
    assert math.isnan(found) or mean_average_precision(labels, labels) == 1.0


def test_what_is_prepared_once_gives_the_same_for_all_weights(draw_boxes, rng):
    answers, labels = draw_boxes(40, 1)
    weights = rng.integers(0, 3, (9, 40)).astype(float)
    for metric in (mean_average_precision, map_50, map_75):
        rows = [metric(answers, labels, row) for row in weights]
        np.testing.assert_allclose(metric.prepare(answers, labels)(weights), rows, rtol=1e-12)


def test_as_a_metric_ties_count_the_same_in_any_order_of_the_samples(draw_boxes, rng, tmp_path):
    statistic = compile_formula("flywheel.scoring:mean_average_precision", tmp_path)
    answers, labels = draw_boxes(30, 2, 1)
    table, order = answer_columns(answers, labels), rng.permutation(30)
    shuffled = {name: column[order] for name, column in table.items()}
    weights = np.ones((1, 30))
    assert statistic(table, weights) == pytest.approx(statistic(shuffled, weights), abs=1e-12)


def test_ious_known_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [0, 0, 0, 5]], dtype=float)
    others = np.array([[5, 0, 10, 10], [0, 0, 10, 10], [10, 0, 5, 5]], dtype=float)
    expected = [[1 / 3, 1, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(box_ious(boxes, others), expected)
    assert box_ious(boxes, others[:0]).shape == (3, 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), iou=st.sampled_from([0.3, 0.5, 0.75, 1.0]))
def test_matches_are_one_to_one_of_one_class_and_overlap_enough(draw_boxes, seed, iou):
    (answer,), (label,) = draw_boxes(1, seed)
    pairs = match_boxes(answer, label, iou)
    assert all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))
    for ours, theirs in pairs:
        sides = [
            [one[s] for s in ("x", "y", "width", "height")] for one in (answer[ours], label[theirs])
        ]
        assert answer[ours]["label"] == label[theirs]["label"]
        assert box_ious(*np.array(sides)[:, None])[0, 0] >= iou - 1e-9


def test_the_more_confident_box_takes_the_match():
    near, nearer = {**CUP, "x": 12, "confidence": 0.9}, {**CUP, "x": 11, "confidence": 0.8}
    assert match_boxes([nearer, near], [CUP]) == [(1, 0)]
    assert match_boxes([], [CUP]) == match_boxes([CUP], []) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cup", "'cup' is no list of boxes; give one"),
        ([3], "3 is no box; give a dict with label"),
        ([{**CUP, "label": 1}], "is no box"),
        ([{**CUP, "width": None}], "a box has the width None; give a finite number"),
        ([{**CUP, "x": True}], "a box has the x True"),
        ([{**CUP, "confidence": math.nan}], "a box has the confidence nan"),
        ([{**CUP, "height": -1}], "a box is 20 wide and -1 high; give sides of 0 or more"),
    ],
)
def test_what_is_no_list_of_boxes_is_refused(value, message):
    for answers in ([value], [[]]):
        with pytest.raises(AnnotationError, match=message):
            mean_average_precision(answers, [value])


def flat(answer, label):
    """(predicted, true) of every box: 1 1 a match, 1 0 one too many, 0 1 one that is missed."""
    free, pairs = dict(enumerate(label)), []
    for box in sorted(answer, key=lambda one: -one["confidence"]):
        same = {place: one for place, one in free.items() if one["label"] == box["label"]}
        sides = [
            [one[side] for side in ("x", "y", "width", "height")] for one in (box, *same.values())
        ]
        ious = dict(
            zip(
                same,
                mask.iou(sides[:1], sides[1:], [0] * len(same))[0] if same else [],
                strict=True,
            )
        )
        best = max(ious, key=ious.get, default=None)
        is_match = best is not None and ious[best] >= 0.5
        pairs.append((1, int(is_match)))
        if is_match:
            del free[best]
    return pairs + [(0, 1)] * len(free)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_the_short_names_of_detection_are_torchmetrics(draw_boxes, torchmetrics, name):
    answers, labels = draw_boxes(200, 3)
    kit = detection(["cup", "pan", "pot"])
    rows = [kit(answer, label) for answer, label in zip(answers, labels, strict=True)]
    table = {column: np.array([row[column] for row in rows]) for column in rows[0]}
    found = compile_formula(kit.metrics[name], None)(table, np.ones((1, len(rows))))[0]
    pairs = [pair for both in zip(answers, labels, strict=True) for pair in flat(*both)]
    oracle = {"f1": "binary_f1_score"}.get(name, f"binary_{name}")
    expected = getattr(torchmetrics.classification, oracle)(*torch.tensor(pairs).T)
    assert found == pytest.approx(float(expected), abs=1e-6)
