"""An export of Label Studio: annotations are labels, predictions are none, files lie beside it."""

import base64
import json

import pytest

from flywheel.errors import UserError
from flywheel.label_files import Columns, FileRow, LeftOut, open_labels

PNG = b"\x89PNG\r\n\x1a\n..."


def region(name):
    return {
        "id": "r",
        "from_name": "label",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": [name]},
    }


def annotation(name="cat", by=1, **fields):
    return {"id": 5, "completed_by": by, "was_cancelled": False, "result": [region(name)]} | fields


@pytest.fixture
def export(tmp_path):
    def write(*tasks, **columns):
        path = tmp_path / "project.json"
        path.write_text(json.dumps(list(tasks)))
        return list(open_labels(path, columns=Columns(**columns)).rows())

    return write


def task(*annotations, number=1, predictions=(), **data):
    return {
        "id": number,
        "data": data or {"text": "hello"},
        "annotations": list(annotations),
        "predictions": list(predictions),
    }


def test_each_annotator_counts_once_with_the_newest(export):
    first = annotation("cat", by=1, updated_at="2026-01-01T00:00:00Z")
    (row,) = export(
        task(annotation("dog", by=1, updated_at="2026-01-02T00:00:00Z"), first, annotation(by=2))
    )
    assert [result[0]["value"]["choices"] for result in row.results] == [["cat"], ["dog"]]
    assert (row.sample.payload, row.sample.media_type) == (b"hello", "text/plain")


def test_ground_truth_counts_alone(export):
    (row,) = export(task(annotation("cat"), annotation("dog", by=2, ground_truth=True)))
    assert [result[0]["value"]["choices"] for result in row.results] == [["dog"]]


def test_predictions_are_never_mixed_with_labels(export):
    rows = export(task(annotation("cat"), predictions=[{"result": [region("dog")]}]))
    assert [type(row) for row in rows] == [LeftOut, FileRow]
    assert rows[0].reason == "a prediction is no label"
    rows = export(task(predictions=[{"result": [region("dog")]}]))
    assert [row.reason for row in rows] == ["a prediction is no label", "it has no annotation"]


def test_a_skip_is_no_label(export):
    rows = export(task(annotation(was_cancelled=True)))
    assert [row.reason for row in rows] == ["an annotator skipped it", "it has no annotation"]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/data/upload/3/0a1b2c3d-cat.png", "0a1b2c3d-cat.png"),
        ("/data/upload/3/0a1b2c3d-cat.png", "cat.png"),
        ("/data/upload/3/0a1b2c3d-cat.png", "upload/3/0a1b2c3d-cat.png"),
        ("/data/upload/3/0a1b2c3d-big%20cat.png", "images/0a1b2c3d-big cat.png"),
        ("/data/local-files/?d=set/cat.png", "set/cat.png"),
        ("http://server.test/data/upload/3/0a1b2c3d-cat.png", "images/0a1b2c3d-cat.png"),
        ("s3://bucket/set/cat.png", "cat.png"),
        ("cat.png", "cat.png"),
    ],
)
def test_a_file_is_found_beside_the_export(export, tmp_path, address, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(PNG)
    (row,) = export(task(annotation(), image=address, camera=3))
    assert (row.sample.payload, row.sample.media_type) == (PNG, "image/png")
    assert row.sample.metadata == {"camera": 3}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/data/upload/3/gone.png", "its file is missing"),
        ("http://server.test/gone.png", "its file is at an address and not beside the export"),
    ],
)
def test_no_address_is_fetched(export, address, reason):
    assert [row.reason for row in export(task(annotation(), image=address))] == [reason]


def test_a_file_outside_the_folder_is_refused(export):
    with pytest.raises(UserError, match="leads out of"):
        export(task(annotation(), image="/data/local-files/?d=../../secret.png"))


def test_bytes_in_the_data_are_the_sample(export):
    (row,) = export(
        task(annotation(), image="data:image/png;base64," + base64.b64encode(PNG).decode())
    )
    assert (row.sample.payload, row.sample.media_type) == (PNG, "image/png")
    with pytest.raises(UserError, match="base64 is damaged"):
        export(task(annotation(), image="data:image/png;base64,@@"))


def test_the_sample_is_what_the_config_shows(tmp_path):
    path = tmp_path / "project.json"
    path.write_text(json.dumps([task(annotation(), question="why?", text="because", other=[1])]))
    assert next(open_labels(path, names=("question",)).rows()).sample.payload == b"why?"
    assert next(open_labels(path).rows()).sample.payload == b"because"
    path.write_text(json.dumps([task(annotation(), one=1, other="x")]))
    assert json.loads(next(open_labels(path).rows()).sample.payload) == {"one": 1, "other": "x"}


def test_group_and_split_are_data(export):
    (row,) = export(task(annotation(), text="a", scene=7, part="test"), group="scene", split="part")
    assert (row.group, row.part) == ("7", "test")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            [{"id": 1, "text": "a", "annotation_id": 3, "choice": "cat"}],
            "it is Label Studio's JSON-MIN",
        ),
        (
            [{"id": 1, "data": {"text": "a"}, "annotations": 3}],
            "task 1, field annotations: it is 3",
        ),
        ([{"id": 1, "data": {"text": "a"}, "annotations": [3]}], "annotations[0]: it is no object"),
        ([task({"id": 9})], "annotation 9, field result: it is missing"),
        (
            [task(annotation(result=["a"]))],
            "annotation 5, field result: a region of it is no object",
        ),
        ([task(annotation()), {"id": 2, "annotations": []}], "task [1], field data: it is missing"),
    ],
)
def test_what_is_no_export_is_one_line(tmp_path, content, said):
    path = tmp_path / "project.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        list(open_labels(path).rows())
    assert said in str(error.value)


def test_data_that_are_named_wrongly_are_listed(export):
    with pytest.raises(UserError, match="no data are named 'img', but text"):
        export(task(annotation()), input="img")
