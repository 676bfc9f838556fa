"""Which rule makes the best label of annotators who miss a tenth of the boxes and add a twentieth.

Each draws every true box with edges that are off by 5 % of its side. A label is made of the largest
group of answers that agree, if two or more do, as `flywheel.annotate.labels` does it. The numbers
in flywheel/labeling/README.md are of this simulation, with 300 pictures for each line.
"""

from functools import partial

import numpy as np
import pytest

from flywheel.annotators.opinions import largest_groups
from flywheel.labeling import boxes, image, spans, text
from flywheel.labeling.marks import box_ious
from flywheel.labeling.matching import Matching
from flywheel.labeling.passages import span_overlaps

NUM_PICTURES = 60
SIDE = 1_000.0


def matching_of(labeling):
    """The rules that a kit's agree belongs to."""
    return labeling.agree.__wrapped__.__self__


def things(number, rng):
    """True boxes, and those that annotators see where nothing is."""
    size = rng.uniform(40.0, 200.0, (number, 2))
    place = rng.uniform(0.0, SIDE - size)
    return [
        {"label": "a", "x": x, "y": y, "width": width, "height": height}
        for (x, y), (width, height) in zip(place.tolist(), size.tolist(), strict=True)
    ]


def drawn(true, rng, misses=0.1, adds=0.05):
    """An annotator's answer."""
    found = []
    for box in true:
        if rng.random() >= misses:
            off = rng.normal(0.0, 0.05, 4)
            left, right = (
                box["x"] + box["width"] * (end + o) for end, o in ((0, off[0]), (1, off[1]))
            )
            top, low = (
                box["y"] + box["height"] * (end + o) for end, o in ((0, off[2]), (1, off[3]))
            )
            found.append(
                {"label": "a", "x": left, "y": top, "width": right - left, "height": low - top}
            )
    return found + things(rng.poisson(adds * len(true)), rng)


def f1(matching, one, other):
    number = len(one) + len(other)
    return 2.0 * len(matching.match(one, other)) / number if number else 1.0


def kept(matching, answers, least):
    """What a share of the answers or more have."""
    groups = matching.groups(answers)
    return [matching.mean(group) for group in groups if len(group) >= least * len(answers)]


MERGES = {
    "one answer": lambda matching, answers: answers[0],
    "all have": partial(kept, least=1.0),
    "more than half have": partial(kept, least=0.51),
    "half or more have": lambda matching, answers: matching.merge(answers),
}


def simulate(share, num_boxes, num_annotators, num_pictures=NUM_PICTURES):
    """Share of pictures that get a label, and its mean F1 with the truth by rule of merging."""
    matching = matching_of(boxes(image(), ["a"], share=share))
    rng, scores = np.random.default_rng(0), {name: [] for name in MERGES}
    for _ in range(num_pictures):
        true = things(num_boxes, rng)
        answers = [drawn(true, rng) for _ in range(num_annotators)]
        group = largest_groups(answers, matching.agree)[0]
        if len(group) >= 2:
            for name, merge in MERGES.items():
                scores[name].append(f1(matching, merge(matching, group), true))
    labeled = len(scores["one answer"]) / num_pictures
    return labeled, {name: np.mean(some) if some else np.nan for name, some in scores.items()}


def test_where_all_boxes_must_match_most_crowded_pictures_get_no_label():
    labeled, _ = simulate(1.0, num_boxes=10, num_annotators=3)
    assert labeled < 0.35
    labeled, _ = simulate(0.8, num_boxes=10, num_annotators=3)
    assert labeled > 0.9


@pytest.mark.parametrize("num_annotators", [2, 3, 5])
def test_what_half_or_more_drew_is_the_best_label(num_annotators):
    _, scores = simulate(0.8, num_boxes=10, num_annotators=num_annotators)
    best = scores["half or more have"]
    assert best > 0.94
    assert best >= scores["more than half have"] - 0.005
    assert best > max(scores["one answer"], scores["all have"]) + 0.01


def agreeing(share, **careless):
    """Share of an annotator's answers that agree with the truth, as on gold questions."""
    matching = matching_of(boxes(image(), ["a"], share=share))
    rng, found = np.random.default_rng(1), []
    for _ in range(NUM_PICTURES):
        true = things(10, rng)
        found.append(matching.agree(drawn(true, rng, **careless), true))
    return np.mean(found)


def test_gold_questions_still_find_who_is_careless():
    """With a share of 0.5 an annotator who misses half of the boxes would pass for a good one."""
    assert agreeing(0.8) > 0.9
    assert agreeing(0.8, misses=0.5) < 0.3
    assert agreeing(0.5, misses=0.5) > 0.7
    assert agreeing(1.0) < 0.4


def test_the_mean_of_boxes_lies_nearer_to_the_truth_than_one_of_them():
    matching, rng = matching_of(boxes(image(), ["a"])), np.random.default_rng(2)
    true = things(200, rng)
    answers = [drawn([one], rng, misses=0.0, adds=0.0) for one in true]
    more = [drawn([one], rng, misses=0.0, adds=0.0) for one in true]
    merged = [matching.mean([*one, *other]) for one, other in zip(answers, more, strict=True)]
    single = np.diag(box_ious([one for [one] in answers], true)).mean()
    assert np.diag(box_ious(merged, true)).mean() > single + 0.02


def marked(true, rng):
    """An annotator's spans: one of five ends is off by a word, one of ten is missed."""
    found = []
    for one in true:
        if rng.random() >= 0.1:
            start, end = (
                one["start"] - 4 * (rng.random() < 0.2),
                one["end"] + 5 * (rng.random() < 0.2),
            )
            found.append({"start": start, "end": end, "label": "a"})
    return found


def test_merged_spans_have_more_true_ends_than_those_of_one_annotator():
    matching = matching_of(spans(text(), ["a"]))
    rng, single, merged = np.random.default_rng(3), [], []
    for _ in range(NUM_PICTURES):
        starts = 10 + 60 * np.arange(8)
        true = [
            {"start": int(at), "end": int(at + rng.integers(8, 25)), "label": "a"} for at in starts
        ]
        answers = [marked(true, rng) for _ in range(3)]
        single.append(np.mean([one in true for one in answers[0]]))
        merged.append(np.mean([one in true for one in matching.merge(answers)]))
    assert np.mean(single) < 0.7
    assert np.mean(merged) > 0.75


def test_the_rules_are_those_of_the_kits():
    assert matching_of(boxes(image(), ["a"])).likeness is box_ious
    assert matching_of(spans(text(), ["a"])).likeness is span_overlaps
    assert isinstance(matching_of(boxes(image(), ["a"])), Matching)
