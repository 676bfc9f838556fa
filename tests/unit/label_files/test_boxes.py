"""COCO and YOLO: boxes in pixels, and a picture with a box that cannot be read is left out whole."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flywheel.errors import UserError
from flywheel.label_files import FileRow, LeftOut, export_rows, open_labels
from flywheel.records import DatasetRow, Sample, Split


def png(size=(40, 20), color=0):
    data = io.BytesIO()
    Image.new("L", size, color).save(data, "PNG")
    return data.getvalue()


def box(label, x, y, width, height):
    return {"label": label, "x": x, "y": y, "width": width, "height": height}


def usable(rows):
    return [row for row in rows if isinstance(row, FileRow)]


def reasons(rows):
    return [row.reason for row in rows if isinstance(row, LeftOut)]


@pytest.fixture
def coco(tmp_path):
    """Write a file of COCO with the pictures that it names; its rows."""

    def run(name="instances.json", **changes):
        content = {
            "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
            "annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 7, "name": "cat"}],
        } | changes
        (tmp_path / "images").mkdir(exist_ok=True)
        for number, file in enumerate(("a.png", "b.png")):
            (tmp_path / "images" / file).write_bytes(png(color=number))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))
        return list(open_labels(path, "coco").rows())

    return run


def annotation(**fields):
    given_fields = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]} | fields
    return {key: value for key, value in given_fields.items() if value is not None}


def test_a_picture_without_boxes_is_an_answer_too(coco):
    first, second = coco()
    assert first.answer == [box("cat", 1, 2, 3, 4)]
    assert second.answer == []
    assert first.sample.media_type == "image/png"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": None}, "field images: it is missing"),
        ({"categories": None}, "field categories: it is missing"),
        ({"images": [{"file_name": "a.png"}]}, "images[0], field id: it is missing"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "images[1]: the id 1 comes twice"),
        ({"images": [{"id": 1}]}, "image 1, field file_name: it is missing"),
        (
            {"images": [{"id": 1, "file_name": "../../a.png"}]},
            "field file_name: ../../a.png leads out",
        ),
        ({"categories": [{"name": "cat"}]}, "categories[0], field id: it is missing"),
        (
            {"annotations": [annotation(image_id=None)]},
            "annotations[0], field image_id: it is missing",
        ),
        ({"annotations": [annotation(category_id=None)]}, "annotations[0], field category_id"),
        ({"annotations": [{"image_id": 1, "caption": "a cat"}]}, "it holds captions, not boxes"),
    ],
)
def test_ids_that_are_missing_and_captions_are_one_line(coco, changes, said):
    with pytest.raises(UserError) as error:
        coco(**changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"category_id": 8}, "a box of it has a category that is not in the file"),
        ({"bbox": None, "segmentation": []}, "a box of it has neither bbox nor segmentation"),
        ({"bbox": None, "segmentation": [[]]}, "a box of it has neither bbox nor segmentation"),
        ({"bbox": None}, "a box of it has neither bbox nor segmentation"),
        ({"bbox": [1, 2, "3", 4]}, "a box of it has neither bbox nor segmentation"),
        ({"bbox": [1, 2, 0, 4]}, "a box of it has no size"),
    ],
)
def test_a_picture_with_an_unreadable_box_is_left_out_whole(coco, fields, reason):
    rows = coco(annotations=[annotation(), annotation(**fields)])
    assert reasons(rows) == [reason]
    assert len(usable(rows)) == 1


def test_a_polygon_spans_a_box_and_a_bbox_needs_none(coco):
    polygon = annotation(bbox=None, segmentation=[[1, 2, 5, 2, 5, 9]])
    first, _ = coco(annotations=[polygon, annotation(segmentation=[])])
    assert first.answer == [box("cat", 1, 2, 4, 7), box("cat", 1, 2, 3, 4)]


def test_a_crowd_is_left_out_alone(coco):
    rows = coco(annotations=[annotation(), annotation(iscrowd=1, segmentation={"counts": [1]})])
    assert reasons(rows) == ["it is a crowd, no box of one thing"]
    assert usable(rows)[0].answer == [box("cat", 1, 2, 3, 4)]


def test_strays_and_missing_pictures_are_counted(coco):
    rows = coco(
        images=[{"id": 1, "file_name": "a.png"}, {"id": 3, "file_name": "gone.png"}],
        annotations=[annotation(), annotation(image_id=9)],
    )
    assert reasons(rows) == [
        "an annotation is of a picture that is not in the file",
        "its picture is missing",
    ]


def test_predictions_in_cocos_form_are_no_labels(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(
        json.dumps([{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}])
    )
    with pytest.raises(UserError, match="predictions are no labels"):
        list(open_labels(path).rows())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("annotations/instances_val2017.json", "val"),
        ("annotations/test.json", "test"),
        ("a.json", "train"),
    ],
)
def test_a_files_name_says_its_split(coco, name, part):
    assert {row.part for row in coco(name=name)} == {part}


@pytest.fixture
def yolo(tmp_path):
    """Write a folder of YOLO with one picture; its rows."""

    def run(line="0 0.5 0.5 0.2 0.4", settings="train: images/train\nnames: [cat, dog]\n"):
        for folder in ("images/train", "labels/train"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images/train/a.png").write_bytes(png())
        if line is not None:
            (tmp_path / "labels/train/a.txt").write_text(line)
        (tmp_path / "data.yaml").write_text(settings)
        return list(open_labels(tmp_path, "yolo").rows())

    return run


def test_a_box_of_yolo_is_measured_in_pixels(yolo):
    (row,) = yolo("1 0.5 0.5 0.2 0.4\n\n0 0.25 0.25 0.75 0.25 0.75 0.75\n")
    assert row.answer == [box("dog", 16.0, 6.0, 8.0, 8.0), box("cat", 10.0, 5.0, 20.0, 10.0)]


@pytest.mark.parametrize("line", ["", "\n", None])
def test_a_picture_without_lines_has_no_boxes(yolo, line):
    assert [row.answer for row in yolo(line)] == [[]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2", "a.txt line 1: it has 4 numbers"),
        ("0 0.5 0.5 0.2 0.4 0.9", "as a prediction with a confidence"),
        ("0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4", "a.txt line 2: no class 2 in 2 names"),
        ("cat 0.5 0.5 0.2 0.4", "a.txt line 1: cat 0.5 0.5 0.2 0.4 is no row of numbers"),
        ("0 20 10 8 8", "20 10 8 8 is no box in its picture"),
        ("0 nan 0.5 0.2 0.4", "is no box in its picture"),
        ("0 0.5 0.5 0 0.4", "is no box in its picture"),
    ],
)
def test_a_broken_line_of_yolo_is_named(yolo, line, said):
    with pytest.raises(UserError) as error:
        yolo(line)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: images/train\n", "field names: it is missing"),
        ("names: [cat]\n", "it names no folder"),
        ("names: [cat]\ntrain: ../../elsewhere\n", "field train: no elsewhere below"),
        ("names: [cat\n", "no YAML"),
        ("- 1\n", "field names"),
    ],
)
def test_broken_settings_of_yolo_are_one_line(yolo, text, said):
    with pytest.raises(UserError) as error:
        yolo(settings=text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", ["../images/train", "./images/train", "images"])
def test_paths_of_another_machine_are_found_again(yolo, entry):
    text = f"path: /somewhere/else\ntrain: {entry}\nval: {entry}\nnames: {{0: cat, 1: dog}}\n"
    assert [row.part for row in yolo(settings=text)] == ["train"]


def test_a_photo_on_its_side_is_measured_as_shown(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "images/a.jpg", exif=exif)
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "classes.txt").write_text("cat\n")
    (row,) = open_labels(tmp_path).rows()
    assert row.answer == [box("cat", 0, 0, 20, 40)]


SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))
SHARES = st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.01, 0.1)] * 2)
PICTURES = st.tuples(
    SIZES, st.lists(st.tuples(st.sampled_from(["ä", "b c", "0"]), SHARES), max_size=3)
)


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("layout", ["coco", "yolo"])
@given(pictures=st.lists(PICTURES, min_size=1, max_size=3), test=st.booleans())
def test_boxes_that_are_exported_are_imported_again(layout, pictures, test, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round") / "out"
    samples = [Sample.of(png(size, n), "image/png") for n, (size, _) in enumerate(pictures)]
    answers = [
        [
            box(label, x * wide, y * high, width * wide, height * high)
            for label, (x, y, width, height) in boxes
        ]
        for (wide, high), boxes in pictures
    ]
    splits = [Split.TEST if test and not n else Split.TRAIN for n in range(len(samples))]
    rows = [
        DatasetRow(sample_id=sample.id, split=split, origin="start", answer=answer, weight=1.0)
        for sample, split, answer in zip(samples, splits, answers, strict=True)
    ]
    export_rows(samples, rows, folder, layout=layout)
    file = open_labels(folder)
    assert file.format == layout
    found = {row.sample.id: row for row in file.rows()}
    assert set(found) == {sample.id for sample in samples}
    for row in rows:
        read = found[row.sample_id]
        assert (read.part in ("test", "val")) == (row.split is Split.TEST)
        assert [one["label"] for one in read.answer] == [one["label"] for one in row.answer]
        for one, other in zip(read.answer, row.answer, strict=True):
            for name in ("x", "y", "width", "height"):
                assert one[name] == pytest.approx(other[name], abs=1e-9)
