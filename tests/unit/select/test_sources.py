"""A source of feedback gets a part of the night, and more of it the more often it was right."""

import numpy as np
import pytest

from flywheel.collect import collect
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.predictions import claims_checked
from flywheel.records import ANNOTATORS, FeedbackKind, Label, Share, Split, same_json
from flywheel.select import select_batch
from flywheel.select.pool import Record, pooled
from flywheel.settings.labeling import LabelingSettings


@pytest.fixture
def claim(production, ledger):
    """(number, source, confidence) -> predictions that a source calls wrong; some are checked."""

    def run(number, source="", confidence=0.9, right=0, wrong=0):
        made = production.predict(*[confidence] * number, split=Split.TRAIN)
        for prediction in made:
            production.feedback(prediction, FeedbackKind.OUTCOME, False, source=source)
        says = ["another answer"] * right + [made[0].answer] * wrong
        rows = [
            Label(
                sample_id=prediction.sample_id,
                answer=answer,
                reliability=1.0,
                num_annotations=1,
                source=ANNOTATORS,
            )
            for prediction, answer in zip(made, says, strict=False)
        ]
        with ledger.begin() as connection:
            add_labels(connection, rows, production.now)
        return {prediction.sample_id for prediction in made}

    return run


@pytest.fixture
def chosen(ledger, production):
    """The samples of a night's targeted share, of 20 answers."""

    def run():
        collect(ledger, 0.7, 0, production.now)
        settings = LabelingSettings(samples_per_night=20, probability_share=0.5)
        batch = select_batch(
            ledger, settings, seed=0, night=0, now=production.now, drawn_from=Split.TEST
        )
        return {one.sample_id for one in batch.choices if one.share is Share.TARGETED}

    return run


def test_a_source_without_a_record_gets_a_quarter_of_the_targeted_share(production, claim, chosen):
    claimed = claim(200)
    production.predict(*[0.3] * 15, split=Split.TRAIN)
    taken = chosen()
    assert (len(taken), len(taken & claimed)) == (20, 5)


def test_new_names_are_no_new_sources(production, claim, chosen):
    claimed = set.union(*(claim(10, f"client {number}") for number in range(20)))
    production.predict(*[0.3] * 15, split=Split.TRAIN)
    assert len(chosen() & claimed) == 5


def test_a_source_that_was_right_gets_more_and_one_that_was_wrong_gets_less(
    production, claim, chosen
):
    honest = claim(100, "camera 2", right=16)
    liar = claim(100, "client", wrong=16)
    production.predict(*[0.3] * 2, split=Split.TRAIN)
    taken = chosen()
    assert (len(taken & honest), len(taken & liar)) == (17, 1)


def test_claims_do_not_hide_what_the_model_itself_doubts(claim, chosen):
    assert len(chosen_of := claim(30, confidence=0.3)) == 30
    assert len(chosen() & chosen_of) == 20  # as low confidence, beyond the source's part


def test_thousands_of_claims_do_not_crowd_out_the_others(production, claim, chosen):
    claimed = claim(2_100)
    doubted = {one.sample_id for one in production.predict(*[0.3] * 15, split=Split.TRAIN)}
    taken = chosen()
    assert (len(taken & claimed), len(taken & doubted)) == (5, 15)


def test_a_correction_is_checked_against_the_label_too(production, ledger, claim):
    (prediction,) = production.predict(0.9, split=Split.TRAIN)
    production.feedback(prediction, FeedbackKind.CORRECTION, prediction.answer, source="a")
    claim(6, "b", right=2, wrong=3)
    with ledger.read() as connection:
        assert claims_checked(connection, same_json) == {"b": (2, 5)}


def test_sources_with_few_checked_claims_share_one_record():
    found = pooled({"a": (5, 5), "b": (1, 4), "c": (0, 3)})
    assert found == {"a": Record(5, 5), "sources without a record": Record(1, 7)}
    assert np.isclose(found["a"].trust, 6 / 9)


def test_a_night_that_runs_again_believes_no_more_of_a_source(ledger, production):
    """After a kill the same night chooses with what is left, and a quarter of that was new again."""
    for prediction in production.predict(*[0.95] * 60, split=Split.TRAIN):
        production.feedback(prediction, FeedbackKind.OUTCOME, False)
    collect(ledger, 0.7, 0, production.now)
    settings = LabelingSettings(samples_per_night=20)
    runs = [
        select_batch(
            *(ledger, settings),
            seed=0,
            night=0,
            now=production.now,
            most_answers=most,
            drawn_from=Split.TEST,
        )
        for most in (10, 5, 20, 20)
    ]
    believed = [sum("contradiction" in one.reason for one in run.choices) for run in runs]
    assert [len(run.choices) for run in runs] == [10, 5, 5, 0]
    assert believed == [2, 0, 0, 0]
