import dataclasses
import time

import numpy as np
import pytest

from flywheel.errors import FlywheelError, SettingsError
from flywheel.evaluate import Rows
from flywheel.evaluate.archive import unpack_scores
from flywheel.project import Metric
from flywheel.records import canonical, content_id

_NOBODY = Rows(samples=[], answers=[])


def _values(entries):
    return {entry.name: entry.metric and entry.metric.value for entry in entries}


def test_everyone_is_measured_on_the_one_frozen_test_set(measure):
    report = measure(metric=Metric(requirement=0.9)).report
    kinds = {entry.name: entry.kind for entry in report.entries}
    assert kinds == {
        "candidate": "candidate",
        "champion": "champion",
        "majority": "scripted",
        "nearest": "simple ML",
        "annotators": "human",
        "requirement": "requirement",
    }
    sizes = {e.metric.num_samples for e in report.entries if e.metric and e.kind != "requirement"}
    assert sizes == {120}
    assert {entry.metric.num_samples for entry in report.start_entries} == {60}


def test_the_numbers_are_the_weighted_means_of_the_stored_scores(measure):
    evaluation = measure()
    stored, report = unpack_scores(evaluation.scores), evaluation.report
    weights = stored["test/weights"]
    for entry in report.entries[:4]:
        values = stored[f"test/{entry.name}/correct"]
        assert entry.metric.value == pytest.approx(np.average(values, weights=weights))
    gain = stored["test/candidate/correct"] - stored["test/champion/correct"]
    assert report.difference.value == pytest.approx(np.average(gain, weights=weights))
    assert report.scores_digest == content_id(evaluation.scores)


def test_better_is_positive_in_either_direction(measure):
    up = measure().report
    down = measure(metric=Metric(optimize="error_cm", higher_is_better=False)).report
    assert up.difference.low > 0
    assert down.difference.low > 0
    assert down.difference.value == pytest.approx(2.5 * up.difference.value)
    assert down.slices[0].difference.value > 0


def test_a_smaller_alpha_gives_a_wider_interval(measure):
    wide, narrow = measure(alpha=0.001).report.difference, measure(alpha=0.05).report.difference
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_the_same_arguments_give_the_same_bytes_but_for_the_latency(measure):
    first, second = measure(), measure()
    assert first.scores == second.scores
    same = dataclasses.replace(second.report, id="", latency_p95_ms=1.0)
    assert dataclasses.replace(first.report, id="", latency_p95_ms=1.0) == same


def test_the_id_is_the_hash_of_all_but_the_time(measure):
    report = measure().report
    content = dataclasses.asdict(report)
    del content["id"], content["created_at"]
    assert report.id == content_id(canonical(content).encode())


def test_candidate_and_champion_are_never_the_same_weights(measure, line_model):
    report = measure(candidate=line_model(1, 1), champion=line_model(1, 1)).report
    assert report.candidate_digest is None
    assert report.difference is None
    notes = [entry.note for entry in report.entries if entry.name == "champion"]
    assert notes == ["training gave the champion's own weights: nothing new"]


def test_digests_of_the_two_differ(measure):
    report = measure().report
    assert report.candidate_digest != report.champion_digest
    assert None not in (report.candidate_digest, report.champion_digest)


def test_without_a_candidate_the_champion_is_still_measured(measure):
    report = measure(candidate=None).report
    assert _values(report.entries)["champion"] is not None
    assert (report.candidate_digest, report.difference, report.latency_p95_ms) == (None,) * 3


def test_before_the_first_release_there_is_no_difference(measure):
    report = measure(champion=None).report
    assert _values(report.entries)["candidate"] == 1.0
    assert (report.champion_digest, report.difference) == (None, None)
    assert report.latency_p95_ms > 0


def test_an_empty_test_set_gives_no_number_and_says_so(measure):
    report = measure(test=_NOBODY).report
    assert set(_values(report.entries).values()) == {None}
    assert {entry.note for entry in report.entries[:4]} == {"0 samples, 5 are needed"}
    assert (report.difference, report.slices[0].num_samples) == (None, 0)
    assert report.start_difference is not None


def test_a_slice_is_compared_on_its_own_samples(measure, rows):
    part = measure().report.slices[0]
    upper = sum(np.frombuffer(s.payload, "<f4")[1] > 0 for s in rows(120, 2).samples)
    assert (part.name, part.num_samples) == ("upper", upper)
    assert part.difference.num_samples == upper


def test_a_sample_that_trains_and_tests_is_refused(measure, rows):
    with pytest.raises(FlywheelError, match="50 samples of the start test are training rows too"):
        measure(start_test=rows(50, 4))


def test_a_metric_that_the_task_does_not_score_is_refused(measure):
    with pytest.raises(SettingsError, match=r"did you mean 'error_cm'"):
        measure(metric=Metric(optimize="error_mm"))


def test_the_stored_scores_open_without_pickle(measure):
    stored = unpack_scores(measure().scores)
    assert stored["test/ids"].dtype.kind == "U"
    assert set(stored) >= {"start/weights", "start/nearest/error_cm", "annotated/ids"}


def test_300_test_rows_take_two_seconds_at_most(measure, rows):
    start = time.perf_counter()
    measure(test=rows(300, 8), metric=Metric(optimize="error_cm", higher_is_better=False))
    assert time.perf_counter() - start < 4  # twice the budget, for a busy machine
