"""The stored scores: what comes out is what went in, and nothing that was changed."""

import io
import itertools
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from flywheel.errors import UserError
from flywheel.evaluate.book import Part, pack_book, unpack_book
from flywheel.metrics.scores import answer_columns
from flywheel.records import content_id


@pytest.fixture
def book():
    part = Part(
        ids=("a", "b", "c"),
        weights=np.array([1.0, 2.0, 4.0]),
        clusters=np.array([0, 1, 1]),
        marks={"slice/phone": np.array([True, False, True])},
        scores={"candidate": {"correct": np.array([1.0, 0.0, 1.0])}},
    )
    return {"test": part, "start": part}


def _same(left, right):
    return left.ids == right.ids and all(
        np.array_equal(one, other)
        for one, other in (
            (left.weights, right.weights),
            (left.clusters, right.clusters),
            (left.marks["slice/phone"], right.marks["slice/phone"]),
            (left.scores["candidate"]["correct"], right.scores["candidate"]["correct"]),
        )
    )


def test_a_book_comes_back_with_its_context(book):
    packed = pack_book(book, {"night": 4})
    unpacked, context = unpack_book(packed, content_id(packed))
    assert context == {"night": 4}
    assert list(unpacked) == ["test", "start"]
    assert all(_same(unpacked[name], book[name]) for name in book)


def test_the_same_book_gives_the_same_bytes(book):
    assert pack_book(book, {"a": 1, "b": 2}) == pack_book(book, {"b": 2, "a": 1})


def test_whole_answers_come_back_byte_for_byte_and_each_text_is_stored_once(book):
    texts = answer_columns(["é\n|", [1.0, {"b": None}], ""], ["\u2028", [], ""])
    scores = {"candidate": {**book["test"].scores["candidate"], **texts}, "champion": texts}
    whole = replace(book["test"], scores=scores)
    packed = pack_book({"test": whole, "start": book["start"]}, {})
    unpacked, _ = unpack_book(packed, content_id(packed))
    for entrant, name in itertools.product(scores, texts):
        assert unpacked["test"].scores[entrant][name].tolist() == texts[name].tolist()
    assert list(unpacked["start"].scores["candidate"]) == ["correct"]
    with zipfile.ZipFile(io.BytesIO(packed)) as files:
        assert files.read("test|texts.npy").count(b"null") == 1


def test_a_part_without_rows_comes_back_without_rows(book):
    empty = book["test"].where(np.zeros(3, dtype=bool))
    packed = pack_book({"test": empty}, {})
    unpacked, _ = unpack_book(packed, content_id(packed))
    assert unpacked["test"].ids == ()
    assert len(unpacked["test"].scores["candidate"]["correct"]) == 0


def test_changed_scores_are_refused(book):
    digest = content_id(pack_book(book, {}))
    book["test"].scores["candidate"]["correct"][1] = 1.0
    with pytest.raises(UserError, match=f"made from {digest[:12]}: the file was changed"):
        unpack_book(pack_book(book, {}), digest)


def test_the_rows_of_a_part_stay_together(book):
    chosen = book["test"].where(np.array([False, True, True]))
    assert chosen.ids == ("b", "c")
    assert chosen.weights.tolist() == [2.0, 4.0]
    assert chosen.marks["slice/phone"].tolist() == [False, True]
    assert chosen.scores["candidate"]["correct"].tolist() == [0.0, 1.0]


def test_scores_of_an_older_version_have_no_context():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"test/ids": np.array(["a"])})
    packed = buffer.getvalue()
    assert unpack_book(packed, content_id(packed)) == ({}, None)


def test_a_book_opens_without_pickle(book):
    with zipfile.ZipFile(io.BytesIO(pack_book(book, {"night": 1}))) as files:
        names = set(files.namelist())
    assert "test|score|candidate|correct.npy" in names
    assert "context.npy" in names
