from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import create_mock_engine, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.dialects import insert_new, keep_commit_order
from flywheel.ledger.predictions import (
    Logged,
    append_feedback,
    append_predictions,
    feedback_id,
    get_prediction,
)
from flywheel.ledger.tables import feedback, predictions, samples
from flywheel.records import Feedback, FeedbackKind, Prediction, Sample, Split

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def logged(number, payload=b"payload"):
    sample = Sample.of(payload, "a/b", {"n": number})
    prediction = Prediction(
        id=f"p{number}",
        sample_id=sample.id,
        answer={"n": number},
        confidence=0.5,
        embedding=np.array([number, 1e-3], dtype=np.float64),
        latency_ms=1.5,
        model_digest="d" * 64,
        created_at=NOW + timedelta(seconds=number),
    )
    return Logged(sample=sample, group="g", split=Split.TEST, prediction=prediction)


def said(number, value=True):
    kind = FeedbackKind.OUTCOME
    return Feedback(
        id=feedback_id(f"p{number}", kind, value),
        prediction_id=f"p{number}",
        kind=kind,
        value=value,
        created_at=NOW,
    )


def fill(ledger, count):
    with ledger.begin() as connection:
        append_predictions(connection, [logged(n) for n in range(count)])


def test_a_prediction_comes_back_as_it_was_with_its_embedding_as_float32(ledger):
    fill(ledger, 2)
    with ledger.read() as connection:
        back = get_prediction(connection, "p1")
    put = logged(1).prediction
    for name in ("sample_id", "answer", "confidence", "latency_ms", "model_digest", "created_at"):
        assert getattr(back, name) == getattr(put, name)
    assert back.embedding.dtype == np.float32
    np.testing.assert_array_equal(back.embedding, put.embedding.astype(np.float32))


def test_embeddings_are_little_endian_float32_on_the_disk(ledger):
    fill(ledger, 2)
    with ledger.read() as connection:
        query = select(predictions.c.embedding).where(predictions.c.id == "p1")
        data = connection.execute(query).scalar_one()
    assert data == np.array([1, 1e-3], dtype="<f4").tobytes()


def test_a_sample_is_stored_once_and_as_it_first_came(ledger):
    fill(ledger, 3)
    fill_later = [logged(7)]
    with ledger.begin() as connection:
        append_predictions(connection, fill_later)
        row = connection.execute(select(samples)).one()
    assert (row.metadata, row.group, row.split) == ({"n": row.metadata["n"]}, "g", "test")
    assert row.created_at == NOW


def test_an_unknown_prediction_is_an_error_that_names_it(ledger):
    with ledger.read() as connection, pytest.raises(UnknownIdError, match="'nobody'"):
        get_prediction(connection, "nobody")


def test_feedback_is_stored_once_and_read_in_order(ledger):
    fill(ledger, 2)
    with ledger.begin() as connection:
        append_feedback(connection, [said(0), said(1), said(0)])
        append_feedback(connection, [said(1), said(0, value=False)])
        rows = connection.execute(select(feedback).order_by(feedback.c.seq)).all()
    stored = [(row.id, row.prediction_id, row.kind, row.value, row.created_at) for row in rows]
    entries = [said(0), said(1), said(0, value=False)]
    assert stored == [
        (one.id, one.prediction_id, one.kind.value, one.value, one.created_at) for one in entries
    ]


def test_nothing_to_add_is_no_fault(ledger):
    with ledger.begin() as connection:
        append_predictions(connection, [])
        append_feedback(connection, [])
        assert not connection.execute(select(predictions)).all()


def test_on_postgresql_writers_queue_up_and_known_rows_are_passed_over():
    sent = []
    engine = create_mock_engine(
        "postgresql+psycopg://",
        lambda sql, *_: sent.append(str(sql.compile(dialect=engine.dialect))),
    )
    keep_commit_order(engine, predictions)
    engine.execute(insert_new(samples))
    assert "pg_advisory_xact_lock" in sent[0]
    assert sent[1].endswith("ON CONFLICT DO NOTHING")


def test_an_insert_that_passes_over_known_rows_is_compiled_once(ledger):
    """Each prediction took two of them, and compiling took longer than inserting."""
    row = {"id": "a", "media_type": "text/plain", "metadata": {}, "group": "a", "split": "train"}
    compiled = {}
    with ledger.begin() as connection:
        remembering = connection.execution_options(compiled_cache=compiled)
        for _ in range(2):
            remembering.execute(insert_new(samples), row | {"created_at": NOW})
        assert connection.execute(select(samples.c.id)).scalars().all() == ["a"]
    assert sum("INSERT" in str(one) for one in compiled.values()) == 1
