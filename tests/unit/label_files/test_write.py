"""A dataset version as a folder that other programs read."""

import io
import json
from hashlib import sha256

import pytest
import yaml
from PIL import Image

from flywheel.errors import UserError
from flywheel.label_files import export_rows
from flywheel.records import FAILED, DatasetRow, Sample, Split


def picture(number, size=(40, 20)):
    data = io.BytesIO()
    Image.new("RGB", size, (number, 0, 0)).save(data, "PNG")
    return Sample.of(data.getvalue(), "image/png", {"camera": number})


def box(label, x=4.0, y=2.0, width=8.0, height=10.0):
    return {"label": label, "x": x, "y": y, "width": width, "height": height}


def row(sample, answer, split=Split.TRAIN, origin="start"):
    return DatasetRow(sample_id=sample.id, split=split, origin=origin, answer=answer, weight=1.0)


@pytest.fixture
def boxed():
    samples = [picture(1), picture(2), picture(3)]
    answers = [[box("cat"), box("ant", x=0.0)], [], [box("cat")]]
    splits = [Split.TRAIN, Split.TRAIN, Split.TEST]
    return samples, [row(*each) for each in zip(samples, answers, splits, strict=True)]


def read_lines(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_a_row_of_json_lines_holds_all_that_is_known(tmp_path):
    sample = picture(1)
    given = DatasetRow(
        sample_id=sample.id, split=Split.TEST, origin="probability", answer={"a": 1}, weight=2.5
    )
    export_rows([sample], [given], tmp_path / "out", groups={sample.id: "scene"})
    (line,) = read_lines(tmp_path / "out")
    assert (tmp_path / "out" / line.pop("file")).read_bytes() == sample.payload
    assert line == {
        "id": sample.id,
        "media_type": "image/png",
        "metadata": {"camera": 1},
        "answer": {"a": 1},
        "split": "test",
        "origin": "probability",
        "weight": 2.5,
        "group": "scene",
    }


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [("text/plain; charset=utf-8", ".txt"), ("image/jpeg", ".jpg"), ("made/up", ".bin")],
)
def test_a_file_has_the_suffix_of_its_media_type(media_type, suffix, tmp_path):
    sample = Sample.of(b"x", media_type)
    export_rows([sample], [row(sample, "a")], tmp_path)
    assert read_lines(tmp_path)[0]["file"] == f"files/{sample.id}{suffix}"


@pytest.mark.parametrize("layout", ["jsonl", "coco", "yolo"])
def test_equal_rows_give_equal_folders(layout, boxed, tmp_path):
    def digests(folder):
        export_rows(*boxed, folder, layout=layout)
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): sha256(path.read_bytes()).digest() for path in files}

    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_coco_has_every_picture_and_its_boxes(boxed, tmp_path):
    export_rows(*boxed, tmp_path, layout="coco")
    train = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    assert [one["name"] for one in train["categories"]] == ["ant", "cat"]
    assert [(one["width"], one["height"]) for one in train["images"]] == [(40, 20)] * 2
    assert [(one["image_id"], one["category_id"], one["bbox"]) for one in train["annotations"]] == [
        (1, 2, [4.0, 2.0, 8.0, 10.0]),
        (1, 1, [0.0, 2.0, 8.0, 10.0]),
    ]
    for image in train["images"]:
        assert (tmp_path / "images" / image["file_name"]).exists()


def test_yolo_measures_boxes_by_the_picture(boxed, tmp_path):
    samples, _ = boxed
    export_rows(*boxed, tmp_path, layout="yolo")
    settings = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert settings["names"] == {0: "ant", 1: "cat"}
    assert (settings["train"], settings["val"]) == ("images/train", "images/test")
    lines = (tmp_path / "labels" / "train" / f"{samples[0].id}.txt").read_text().splitlines()
    assert lines == ["1 0.2 0.35 0.2 0.5", "0 0.1 0.35 0.2 0.5"]
    assert (tmp_path / "labels" / "train" / f"{samples[1].id}.txt").read_text() == ""


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_a_layout_of_boxes_refuses_other_answers(layout, tmp_path):
    sample = picture(1)
    with pytest.raises(UserError, match="is no list of boxes"):
        export_rows([sample], [row(sample, "cat")], tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()


def test_answers_that_failed_are_no_boxes_to_learn(boxed, tmp_path):
    samples, rows = boxed
    bad = picture(4)
    rows = [*rows, row(bad, [box("dog")], origin=FAILED)]
    done = export_rows([*samples, bad], rows, tmp_path / "coco", layout="coco")
    assert (done.num_train, done.num_test, done.num_left_out) == (2, 1, 1)
    assert b"dog" not in (tmp_path / "coco/annotations/instances_train.json").read_bytes()
    assert export_rows([*samples, bad], rows, tmp_path / "lines").num_left_out == 0


def test_a_folder_that_holds_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        export_rows([], [], tmp_path)


def test_a_folder_is_whole_once_it_has_its_rows(tmp_path):
    one, other = picture(1), picture(2)
    with pytest.raises(ValueError, match="in the order of the rows"):
        export_rows([other, one], [row(one, "a"), row(other, "a")], tmp_path)
    assert not (tmp_path / "rows.jsonl").exists()
