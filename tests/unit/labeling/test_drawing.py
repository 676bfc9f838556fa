"""Answer and label over the sample's picture, in two colours."""

import io

import numpy as np
import pytest
from PIL import Image

from flywheel.errors import AnnotationError
from flywheel.labeling import boxes, choice, image, keypoints, polygons
from flywheel.pictures import open_picture
from flywheel.records import Sample

ORANGE, GREEN = (255, 140, 0), (0, 220, 90)
LABELS = ["nut", "Mutter ß Ψ"]


def picture(width=200, height=100, mode="L", colour=128):
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG")
    return Sample.of(buffer.getvalue(), "image/png")


KITS = {
    "boxes": (boxes, {"x": 10, "y": 5, "width": 50, "height": 60}),
    "keypoints": (keypoints, {"x": 10, "y": 5}),
    "polygons": (polygons, {"points": [[10, 5], [60, 5], [60, 65]]}),
}


def colours(drawn):
    return set(map(tuple, np.asarray(open_picture(drawn)).reshape(-1, 3).tolist()))


@pytest.mark.parametrize("kit", KITS)
def test_answer_and_label_are_seen_even_where_they_are_the_same(kit):
    make, place = KITS[kit]
    draw, mark = make(image(), LABELS).drawing, [{"label": LABELS[1], **place}]
    seen = [
        {ORANGE, GREEN} & colours(draw(picture(), answer, label))
        for answer, label in ((mark, mark), (mark, None), (None, mark), ([], []))
    ]
    assert seen == [{ORANGE, GREEN}, {ORANGE}, {GREEN}, set()]


@pytest.mark.parametrize(
    ("size", "drawn"), [((200, 100), (400, 200)), ((20, 10), (480, 240)), ((3200, 100), (1600, 50))]
)
def test_small_pictures_are_enlarged_and_large_ones_reduced(size, drawn):
    draw = boxes(image(), LABELS).drawing
    assert open_picture(draw(picture(*size), [], None)).size == drawn


@pytest.mark.parametrize(
    ("mode", "colour", "level"), [("I;16", 128 * 257, 128), ("LA", (0, 0), 255), ("P", 0, 0)]
)
def test_pictures_of_every_kind_keep_their_levels(mode, colour, level):
    drawn = boxes(image(), LABELS).drawing(picture(mode=mode, colour=colour), [], None)
    assert colours(drawn) == {(level,) * 3}


def test_what_is_no_list_of_marks_is_named():
    draw = boxes(image(), LABELS).drawing
    with pytest.raises(AnnotationError, match="'nut' is no list of marks, so it is not drawn"):
        draw(picture(), "nut", None)


def test_marks_far_outside_of_the_picture_and_very_many_are_drawn():
    draw = boxes(image(), LABELS).drawing
    far = {"label": "nut", "x": -1e9, "y": 1e9, "width": 1e9, "height": 1e-9}
    assert draw(picture(), [far] * 500, None)


def test_a_class_needs_no_drawing():
    assert choice(image(), LABELS).drawing is None
