"""Which answers of marks agree, and what stands for several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.labeling import boxes, free_text, image, keypoints, number, polygons, spans, text
from flywheel.labeling.marks import box_ious, polygon_ious
from flywheel.labeling.passages import span_overlaps

BOXES = boxes(image(), ["a", "b"])
SPANS = spans(text(), ["a", "b"])


def box(x, y=0, width=10, height=10, label="a"):
    return {"label": label, "x": x, "y": y, "width": width, "height": height}


def square(x, y=0, side=10.0):
    return {
        "label": "a",
        "points": [[x, y], [x + side, y], [x + side, y + side], [x, y + side]],
    }


def span(start, end, label="a"):
    return {"start": start, "end": end, "label": label}


ROW = [box(20 * place) for place in range(10)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], [], True),
        ([box(0)], [], False),
        ([box(0)], [box(3)], True),  # IoU 7 / 13
        ([box(0)], [box(4)], False),  # IoU 6 / 14
        ([box(0)], [box(0, label="b")], False),
        ([box(0)], [box(0), box(0)], False),  # one to one: 2 of 3
        (ROW, ROW[::-1], True),
        (ROW, ROW[:7], True),  # 14 of 17
        (ROW, ROW[:6], False),  # 12 of 16
        (ROW, [*ROW, *(box(500 + 20 * place) for place in range(5))], True),  # 20 of 25
        (ROW, [*ROW, *(box(500 + 20 * place) for place in range(6))], False),
    ],
)
def test_boxes_agree_when_four_fifths_of_both_are_matched(one, other, expected):
    assert BOXES.agree(one, other) is expected


def test_as_many_as_possible_are_matched_even_if_the_likest_pair_is_lost():
    one, other = [box(0), box(4)], [box(1), box(-2)]
    assert BOXES.agree(one, other)  # 0 is likest to 1, but then 4 is alone


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), min_size=1),
    st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), min_size=1),
)
def test_overlap_of_boxes_is_that_of_their_pixels_and_polygons_say_nearly_the_same(ones, others):
    def pixels(corner):
        x, y, width, height = corner
        grid = np.zeros((40, 40), dtype=bool)
        grid[y : y + height, x : x + width] = True
        return grid

    found = box_ious([box(*one) for one in ones], [box(*other) for other in others])
    for row, one in enumerate(ones):
        for column, other in enumerate(others):
            both, any_of = pixels(one) & pixels(other), pixels(one) | pixels(other)
            assert found[row, column] == pytest.approx(both.sum() / any_of.sum())


def test_overlap_of_polygons_is_near_that_of_boxes_with_their_corners():
    found = polygon_ious([square(0), square(0)], [square(2), square(20)])
    assert found[0, 0] == pytest.approx(8 / 12, abs=0.02)
    assert found[1, 1] == 0.0


def test_overlap_of_spans_counts_characters():
    assert span_overlaps([span(0, 4), span(9, 10)], [span(2, 6)]).tolist() == [[2 / 6], [0.0]]


def test_boxes_that_half_or_more_drew_stay_in_their_mean_place():
    merged = BOXES.merge([[box(0), box(50)], [box(2), box(100)], [box(1), box(51), box(200)]])
    assert merged == [box(1.0), box(50.5)]
    assert BOXES.merge([[box(0)], [box(0), box(50)]]) == [box(0), box(50)]  # one of two is half


def test_keys_that_a_box_need_not_have_do_not_matter_and_are_not_kept():
    assert BOXES.agree([box(0) | {"score": 0.3}], [box(1)])
    assert BOXES.merge([[box(0) | {"score": 0.3}], [box(2)]]) == [box(1.0)]


def test_keypoints_agree_within_their_distance_and_meet_in_the_middle():
    labeling = keypoints(image(), ["a"], within_pixels=5)
    one, near, far = ([{"label": "a", "x": x, "y": 4}] for x in (0, 5, 5.1))
    assert labeling.agree(one, near)
    assert not labeling.agree(one, far)
    assert labeling.merge([one, near]) == [{"label": "a", "x": 2.5, "y": 4}]


def test_the_polygon_that_is_most_like_the_others_stands_for_them():
    labeling = polygons(image(), ["a"])
    assert labeling.merge([[square(0)], [square(3)], [square(2)]]) == [square(2)]


@pytest.mark.parametrize(
    ("given_spans", "expected"),
    [
        ([(0, 10), (0, 10), (2, 8)], (0, 10)),
        ([(0, 10), (2, 12)], (2, 10)),  # of two, what both have
        ([(0, 10), (1, 11), (2, 12)], (1, 11)),
    ],
)
def test_a_span_keeps_the_characters_that_more_than_half_have(given_spans, expected):
    assert SPANS.merge([[span(*one)] for one in given_spans]) == [span(*expected)]


def test_spans_that_touch_stay_two():
    answer = [span(0, 4), span(4, 9)]
    assert SPANS.merge([answer, [span(0, 4), span(4, 10)], answer]) == answer


def test_of_numbers_the_median_and_of_texts_the_most_common_stands_for_all():
    assert number(text(), within=5).merge([1, 9, 2]) == 2
    labeling = free_text(text())
    assert labeling.merge(["b  c", "b c", "b c"]) == "b c"
    assert labeling.agree("caf\u00e9", "cafe\u0301 ")
    assert not labeling.agree("Rom", "rom")
