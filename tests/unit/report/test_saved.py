"""Labels saved against random ones: from the probability share, and only where there is enough."""

import dataclasses

import numpy as np
import pytest

from flywheel.ledger.batches import Drawn, LabeledChoice
from flywheel.records import Share
from flywheel.report.overview import facts as module
from flywheel.report.overview.facts import labels_saved
from flywheel.settings.judging import Abstain


def choice(number, share, *, is_wrong, batch="b"):
    return LabeledChoice(
        sample_id=f"{batch} {share} {number}",
        batch_id=batch,
        group=f"{batch} {share} {number}",
        answer="red",
        confidence=0.5,
        latency_ms=1.0,
        label="blue" if is_wrong else "red",
        share=share,
        inclusion_probability=0.5 if share is Share.PROBABILITY else None,
    )


def batch(name, targeted, random):
    """Labels of one night: how many of each share, and how many of them failures."""
    return [
        choice(number, share, is_wrong=number < wrong, batch=name)
        for share, (count, wrong) in (
            (Share.TARGETED, targeted),
            (Share.PROBABILITY, random),
        )
        for number in range(count)
    ]


@pytest.fixture
def found(loop, monkeypatch):
    """What comes of labels that are back."""

    def read(*labeled):
        rows = [one for group in labeled for one in group]
        names = sorted({one.batch_id for one in rows})
        draws = [
            Drawn(batch_id=name, night=night, population=100, mean_confidence=None)
            for night, name in enumerate(names)
        ]
        monkeypatch.setattr(module, "labeled_choices", lambda *_: rows)
        monkeypatch.setattr(module, "draws_since", lambda *_: draws)
        return labels_saved(loop)

    return read


def test_the_numbers_follow_from_the_failure_rate_of_random_labels(found):
    saved = found(batch("a", (40, 30), (100, 10)))
    assert (saved.num_labels, saved.num_found) == (40, 30)
    assert saved.at_random.value == pytest.approx(4.0)
    assert saved.saved == pytest.approx(30 / 0.1 - 40)
    assert saved.low < saved.saved < saved.high


def test_targeting_that_finds_no_more_than_chance_saves_nothing_for_sure(found):
    saved = found(batch("a", (40, 4), (100, 10)))
    assert saved.saved == pytest.approx(0.0)
    assert saved.low < 0 < saved.high


def test_without_a_random_failure_only_a_lower_end_is_known(found):
    saved = found(batch("a", (40, 30), (100, 0)))
    assert (saved.saved, saved.high) == (None, None)
    assert saved.low > 500


def test_each_batch_weighs_by_its_targeted_labels(found):
    """An easy night with many random labels does not make the hard one look easy."""
    saved = found(batch("a", (10, 2), (90, 0)), batch("b", (30, 20), (10, 5)))
    assert saved.at_random.value == pytest.approx(30 * 0.5)


def test_batches_without_random_labels_count_on_neither_side(found):
    saved = found(batch("a", (40, 30), (100, 10)), batch("b", (50, 50), (0, 0)))
    assert (saved.num_labels, saved.num_found) == (40, 30)


@pytest.mark.parametrize("labels", [[(9, 9), (50, 5)], [(40, 9), (4, 1)], [(0, 0), (0, 0)]])
def test_below_enough_labels_nothing_is_said(found, labels):
    assert found(batch("a", *labels)) is None


def test_a_failure_rate_that_is_asked_for_asks_nothing_of_no_labels(loop):
    asked = loop.project.model_copy(update={"abstain": Abstain(max_failure_rate=0.1)})
    assert labels_saved(dataclasses.replace(loop, project=asked)) is None


def test_a_metric_that_tells_no_failure_leaves_it_to_agreement(found, loop):
    project = loop.project.model_copy(
        update={"metric": loop.project.metric.model_copy(update={"optimize": "error_cm"})}
    )
    other = dataclasses.replace(
        loop,
        project=project,
        task=dataclasses.replace(loop.task, scores=lambda *_: {"error_cm": 1.0}),
    )
    rows = batch("a", (40, 30), (100, 10))
    assert np.count_nonzero(module._failures(other, rows)) == 40
