"""The pool holds what the model that serves thinks of every candidate."""

import numpy as np
import pytest

from flywheel.collect import collect
from flywheel.records import Answer, FeedbackKind, Split
from flywheel.select import Serving
from flywheel.select.pool import read_pool
from flywheel.select.strategies import STRATEGIES


@pytest.fixture
def read(ledger, production):
    def run(serving=None, seed=0):
        collect(ledger, 0.7, 0, production.now)
        with ledger.read() as connection:
            return read_pool(connection, 100, np.random.default_rng(seed), list, serving)

    return run


def test_failures_count_by_the_rank_of_their_doubt(production, read):
    production.predict(0.1, 0.001, 0.0001, 0.05, split=Split.TRAIN)
    suspects, pool = read()
    order = [suspect.failure.strength for suspect in suspects]
    assert sorted(pool.strength) == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert np.argsort(order).tolist() == np.argsort(pool.strength).tolist()


def test_a_sure_answer_that_the_world_contradicts_is_strong(production, read):
    sure, *_ = production.predict(0.99, 0.2, 0.3, 0.4, split=Split.TRAIN)
    production.feedback(sure, FeedbackKind.OUTCOME, False)
    suspects, pool = read()
    (row,) = [row for row, one in enumerate(suspects) if one.sample_id == sure.sample_id]
    assert pool.strength[row] == pytest.approx(0.995)


def test_production_that_may_train_is_a_candidate_without_a_strength(production, read):
    train = production.predict(0.95, 0.99, split=Split.TRAIN)
    production.predict(0.95, 0.2, split=Split.TEST)
    suspects, pool = read()
    assert {one.sample_id for one in suspects} == {one.sample_id for one in train}
    assert pool.strength.tolist() == [0, 0]
    assert len(pool.recent) == len(pool.weight) == 4


def test_what_another_model_answered_is_asked_again(production, read):
    production.predict(0.1, 0.2, 0.6, split=Split.TRAIN)
    asked = []

    def ask(ids):
        asked.extend(ids)
        place = np.ones(2, dtype=np.float32)
        return [
            Answer(value="cat", confidence=0.9 - 0.1 * row, embedding=place)
            for row in range(len(ids))
        ]

    suspects, pool = read(Serving(digest="e" * 64, ask=ask))
    assert sorted(asked) == sorted(one.sample_id for one in suspects)
    again = dict(zip((one.sample_id for one in suspects), pool.strength, strict=True))
    assert [again[key] for key in asked] == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    asked.clear()
    read(Serving(digest="d" * 64, ask=ask))
    assert asked == []


@pytest.mark.parametrize("place", [[], [0.0, 0.0], [np.nan, 1.0]])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_model_that_answers_no_numbers_still_gets_a_batch(production, read, place, name):
    """Its doubt counts as the greatest, and its embeddings as having no direction."""
    production.predict(*[0.5] * 30, split=Split.TRAIN)

    def ask(ids):
        embedding = np.array(place, dtype=np.float32)
        return [Answer(value="cat", confidence=np.nan, embedding=embedding) for _ in ids]

    suspects, pool = read(Serving(digest="e" * 64, ask=ask))
    assert pool.doubt.tolist() == [1.0] * 30
    assert not pool.embeddings.any()
    chosen = STRATEGIES[name](pool, 10, np.random.default_rng(0))
    assert len(set(chosen)) == 10
    assert set(chosen) <= set(range(len(suspects)))


def test_an_empty_ledger_has_an_empty_pool(read):
    suspects, pool = read()
    assert (suspects, len(pool.embeddings), len(pool.recent)) == ([], 0, 0)
