"""The format of a file is found by its name and content; folders of classes are read as they lie."""

import json
import os

import pytest

from flywheel.errors import UserError
from flywheel.label_files import LeftOut, open_labels, splits_of
from flywheel.records import Split

COCO = {"images": [], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", "text,label\na,b\n", "csv"),
        ("a.TSV", "text\tlabel\na\tb\n", "csv"),
        ("a.jsonl", '{"text": "a", "label": "b"}', "jsonl"),
        ("a.ndjson", '{"text": "a", "label": "b"}', "jsonl"),
        ("a.json", json.dumps(COCO), "coco"),
        ("a.json", json.dumps([{"data": {"text": "a"}, "annotations": []}]), "label-studio"),
        ("a.json", json.dumps([{"text": "a", "label": "b"}]), "jsonl"),
    ],
)
def test_a_file_is_known_by_its_name_and_content(tmp_path, name, content, found):
    (tmp_path / name).write_text(content)
    assert open_labels(tmp_path / name).format == found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["cat/1.png", "dog/1.png"], "folder"),
        (["images/1.png", "labels/1.txt", "classes.txt"], "yolo"),
        (["annotations/instances.json"], "coco"),
        (["train/_annotations.coco.json"], "coco"),
    ],
)
def test_a_folder_is_known_by_what_lies_in_it(tmp_path, files, found):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(COCO) if name.endswith("json") else "x")
    assert open_labels(tmp_path).format == found


@pytest.mark.parametrize("name", ["labels.txt", "labels.xlsx", "labels"])
def test_an_unknown_format_names_the_known_ones(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match="with --as for import-labels: coco, yolo"):
        open_labels(tmp_path / name)


def test_what_is_not_there_or_of_another_kind_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        open_labels(tmp_path / "gone.csv")
    with pytest.raises(UserError, match="it is a folder"):
        open_labels(tmp_path, "csv")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UserError, match="it is no folder"):
        open_labels(tmp_path / "a.csv", "folder")


def files_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return list(open_labels(folder, "folder").rows())


def test_the_name_of_a_folder_is_the_answer(tmp_path):
    rows = files_of(tmp_path, "cat/1.png", "dog/a.wav", "cat/.hidden.png", ".git/x.png")
    assert [(row.answer, row.sample.media_type, row.part) for row in rows] == [
        ("cat", "image/png", "train"),
        ("dog", "audio/wav", "train"),
    ]


def test_folders_of_splits_hold_folders_of_classes(tmp_path):
    rows = files_of(tmp_path, "train/cat/1.png", "test/cat/2.png", "Validation/dog/3.png")
    assert sorted((row.answer, row.part) for row in rows) == [
        ("cat", "test"),
        ("cat", "train"),
        ("dog", "val"),
    ]


def test_a_class_may_be_named_as_a_split_is(tmp_path):
    rows = files_of(tmp_path, "train/1.png", "bus/2.png")
    assert sorted((row.answer, row.part) for row in rows) == [("bus", "train"), ("train", "train")]


def test_what_is_no_sample_is_left_out(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    data = tmp_path / "data"
    (data / "cat").mkdir(parents=True)
    (data / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    rows = files_of(data, "cat/sub/1.png", "cat/notes.doc")
    assert all(isinstance(row, LeftOut) for row in rows)
    assert [row.reason.split(",")[0] for row in rows] == [
        "it is a link to a place outside the folder",
        "its name has no suffix of a file that can be a sample",
        "it is a folder inside the folder of a class",
    ]


def test_a_pipe_in_the_folder_of_a_class_is_not_waited_for(tmp_path):
    (tmp_path / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "cat" / "nowhere.png")
    rows = files_of(tmp_path, "cat/1.png")
    assert [type(row).__name__ for row in rows] == ["FileRow", "LeftOut", "LeftOut"]


def test_a_validation_part_is_held_out_where_nothing_else_is():
    assert splits_of({"train", "val"})["val"] is Split.TEST
    assert splits_of({"train", "val", "test"})["val"] is Split.TRAIN
