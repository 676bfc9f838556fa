"""What a row means, and why one is rejected: equal faults have equal reasons."""

import base64
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.intake import Reading
from flywheel.intake.rows import RejectedError, read_feedback, read_prediction
from flywheel.ledger.samples import prediction_id

NOW = datetime(2026, 3, 1, tzinfo=UTC)
READING = Reading(now=NOW)
ROW = {"id": "r1", "time": "2026-02-01T10:00:00Z", "input": "hello", "answer": "left"}


def read(row=ROW, reading=READING, **changes):
    return read_prediction({**row, **changes}, reading)


@pytest.mark.parametrize(
    ("changes", "payload", "media_type"),
    [
        ({}, b"hello", "text/plain"),
        ({"input": {"b": 1, "a": 2}}, b'{"a":2,"b":1}', "application/json"),
        ({"input": None, "base64": base64.b64encode(b"\x00x").decode()}, b"\x00x", ""),
        ({"media_type": "text/html"}, b"hello", "text/html"),
    ],
)
def test_a_payload_comes_inline(changes, payload, media_type):
    found = read(**changes)
    assert (found.payload, found.media_type) == (payload, media_type)


@pytest.mark.parametrize("name", ["path", "url"])
def test_a_payload_is_elsewhere(name):
    found = read(input=None, **{name: "a/b.png"})
    assert (found.payload, found.where) == (None, "a/b.png")


@pytest.mark.parametrize(
    ("given", "zone"),
    [
        ("2026-02-01T10:00:00Z", None),
        ("2026-02-01T11:00:00+01:00", None),
        ("2026-02-01 11:00:00", "Europe/Berlin"),
        (1769940000, None),
        (1769940000.0, None),
        (1769940000000, None),
        (datetime(2026, 2, 1, 11), "Europe/Berlin"),  # noqa: DTZ001
        (datetime(2026, 2, 1, 10, tzinfo=UTC), None),
    ],
)
def test_a_time_is_a_moment(given, zone):
    found = read(reading=Reading(now=NOW, zone=zone), time=given)
    assert found.created_at == datetime(2026, 2, 1, 10, tzinfo=UTC)


REJECTED = [
    ({"time": "2026-02-01T10:00:00"}, "no time zone; give --timezone"),
    ({"time": "2026-09-01T10:00:00Z"}, "lies in the future"),
    ({"time": "yesterday"}, "time is no time"),
    ({"time": None}, "time is missing"),
    ({"time": 1e30}, "outside the calendar"),
    ({"id": None}, "id is missing"),
    ({"id": "x" * 201}, "1 to 200 characters"),
    ({"id": "a\0b"}, "id is missing, or no text"),
    ({"answer": None}, "answer is missing"),
    ({"answer": float("nan")}, "NaN"),
    ({"answer": "a\0"}, "NUL"),
    ({"path": "x.png"}, "it has input and path"),
    ({"input": None}, "it has none of input, base64, path, url"),
    ({"input": None, "base64": "%%%"}, "base64 is no base64"),
    ({"confidence": 1.2}, "confidence is no number in 0..1"),
    ({"confidence": True}, "confidence is no number"),
    ({"confidence": float("nan")}, "confidence is no number"),
    ({"latency_ms": -1}, "latency_ms is no number"),
    ({"latency_ms": 10**400}, "latency_ms is no number"),
    ({"confidence": 10**400}, "confidence is no number"),
    ({"embedding": [1, "x"]}, "embedding is no list"),
    ({"embedding": [[1.0]]}, "embedding is no list"),
    ({"embedding": []}, "embedding is no list"),
    ({"model": "m" * 65}, "model is no text of at most 64"),
    ({"metadata": [1]}, "metadata is no JSON object"),
    ({"score": 1}, "unknown column 'score'"),
    ({"media_type": 3}, "media_type is no text"),
]


@pytest.mark.parametrize(("changes", "why"), REJECTED)
def test_what_cannot_be_is_rejected_with_its_reason(changes, why):
    with pytest.raises(RejectedError, match=why):
        read(**changes)


def test_columns_are_mapped_and_passed_over():
    reading = Reading(
        now=NOW, columns={"request": "id", "scene": "metadata.scene"}, ignored={"host"}
    )
    row = {**{k: v for k, v in ROW.items() if k != "id"}, "request": 7, "scene": "a", "host": "h1"}
    found = read_prediction(row, reading)
    assert (found.id, found.metadata) == ("7", {"scene": "a"})


def test_a_cell_of_a_table_of_texts_is_what_it_must_be():
    cells = {"confidence": "0.5", "embedding": "[1, 2]", "answer": '{"x": 1}', "model": ""}
    found = read(reading=Reading(now=NOW, are_texts=True), **cells)
    assert (found.confidence, found.answer, found.model) == (0.5, {"x": 1}, "unknown")
    assert np.array_equal(found.embedding, [1, 2])


@pytest.mark.parametrize(("are_numbers", "answer"), [(False, "7"), (True, 7)])
def test_an_answer_that_looks_like_a_number_is_one_where_answers_are(are_numbers, answer):
    reading = Reading(now=NOW, are_texts=True, are_numbers=are_numbers)
    assert read(reading=reading, answer="7").answer == answer


def test_a_long_request_id_has_a_name_that_fits_the_ledger():
    long = "0c9a6b4e-5f0d-4a55-9ad3-1f4f9b1c2d3e"
    assert read(id=long).id == prediction_id(long)
    assert (len(prediction_id(long)), prediction_id("r1")) == (32, "r1")


@pytest.mark.parametrize(
    ("kind", "value", "texts", "found"),
    [
        ("outcome", True, False, True),
        ("outcome", "0", True, False),
        ("rating", "0.25", True, 0.25),
        ("correction", "right", True, "right"),
        ("correction", ["a"], False, ["a"]),
    ],
)
def test_feedback_is_read(kind, value, texts, found):
    row = {"id": "r1", "time": 1769940000, "kind": kind, "value": value}
    assert read_feedback(row, Reading(now=NOW, are_texts=texts)).value == found


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "praise"}, "kind is none of outcome"),
        ({"value": "yes"}, "neither true nor false"),
        ({"kind": "rating", "value": 2}, "no number in 0..1"),
        ({"kind": "rating", "value": None}, "rating is missing"),
        ({"kind": "correction", "value": None}, "value of a correction"),
        ({"source": "a\nb"}, "source is no text"),
        ({"answer": "x"}, "unknown column 'answer'"),
    ],
)
def test_feedback_that_cannot_be_is_rejected(changes, why):
    row = {"id": "r1", "time": 1769940000, "kind": "outcome", "value": True}
    with pytest.raises(RejectedError, match=why):
        read_feedback({**row, **changes}, READING)
