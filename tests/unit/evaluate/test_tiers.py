"""People, tier by tier and slice by slice; and reports from before that was measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.evaluate import Rules, measure, unpack_book
from flywheel.evaluate.book import Context
from flywheel.ledger.codec import from_json, to_json
from flywheel.records import Annotation, Report, canonical, content_id
from flywheel.settings.judging import Abstain, Metric
from flywheel.settings.labeling import AnnotatorSettings

_NOW = datetime(2030, 1, 1, tzinfo=UTC)
_EXPERTS = AnnotatorSettings(deep_experts=("eve",))


def said(rows, upper_right):
    """Two random people who are right on a share of the upper samples, and an expert who always is."""
    for index, (sample, label) in enumerate(zip(rows.samples, rows.answers, strict=True)):
        is_upper = np.frombuffer(sample.payload, dtype="<f4")[1] > 0
        wrong = "left" if label == "right" else "right"
        ada = label if not is_upper or index % 10 < 10 * upper_right else wrong
        for person, answer in (("ada", ada), ("ben", label), ("eve", label)):
            yield Annotation(
                id=f"{index} {person}",
                sample_id=sample.id,
                annotator=person,
                answer=answer,
                skipped=False,
                lead_time_seconds=1.0,
                updated_at=_NOW,
            )


@pytest.fixture
def evaluated(measure_all, rows):
    """(upper_right) -> an evaluation with 200 samples that three people answered."""
    asked = rows(200, 8)
    return lambda upper_right=0.8: measure_all(
        asked=asked, annotations=tuple(said(asked, upper_right)), annotators=_EXPERTS
    )


@pytest.fixture
def measure_all(measure):
    """The fixture `measure` of this folder, whose name is the function's here."""
    return measure


@pytest.fixture
def again(tmp_path):
    """(scores) -> the report that follows from them."""

    def derive(scores, book=None):
        digest = content_id(scores)
        stored, written = unpack_book(scores, digest)
        context = from_json(Context, written["context"])
        rules = Rules(metric=Metric(), abstain=Abstain(), directory=tmp_path)
        return measure(book(stored) if book else stored, context, rules, digest, now=_NOW)

    return derive


def test_each_tier_has_its_number_on_each_slice(evaluated):
    report = evaluated(0.8).report
    found = {one.tier: one for one in report.people_slices}
    assert {one.name for one in report.people_slices} == {"upper"}
    assert set(found) == {"random person", "deep expert"}
    person = found["random person"]
    assert person.metric.low <= person.metric.value <= person.metric.high
    assert 60 < person.num_samples < 140
    whole = next(entry for entry in report.entries if entry.name == "random person")
    assert person.metric.value < whole.metric.value < 1.0


def test_a_slice_with_too_few_answers_has_no_number(measure_all, rows):
    asked = rows(6, 8)
    report = measure_all(
        asked=asked, annotations=tuple(said(asked, 1.0)), annotators=_EXPERTS
    ).report
    person = next(one for one in report.people_slices if one.tier == "random person")
    assert person.metric is None
    assert person.num_samples < 5


def test_the_same_scores_give_the_same_report(evaluated, again):
    evaluation = evaluated()
    assert canonical(to_json(again(evaluation.scores))) == canonical(to_json(evaluation.report))


def test_scores_from_before_slices_were_marked_give_the_report_of_then(evaluated, again):
    """To the id, which is the hash of what was measured then."""

    def unmarked(book):
        return {
            name: replace(part, marks={}) if name.startswith("people/") else part
            for name, part in book.items()
        }

    report = again(evaluated().scores, unmarked)
    assert report.people_slices == ()
    content = to_json(report)
    for name in ("id", "created_at", "people_slices", "unmeasured"):
        del content[name]
    assert report.id == content_id(canonical(content).encode())


def test_a_report_that_was_stored_without_them_can_be_read(evaluated):
    stored = to_json(evaluated().report)
    del stored["people_slices"]
    assert from_json(Report, stored).people_slices == ()
