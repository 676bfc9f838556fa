"""One pass, one book, one report: laws of the whole measurement."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

from flywheel.errors import FlywheelError, SettingsError
from flywheel.evaluate import Context, Rows, unpack_book
from flywheel.evaluate.measure import measure as measure_again
from flywheel.ledger.codec import from_json
from flywheel.records import Annotation, canonical, content_id
from flywheel.settings.judging import Published

_NOBODY = Rows(samples=[], answers=[])


def _values(entries):
    return {entry.name: entry.metric and entry.metric.value for entry in entries}


def _stored(evaluation):
    return unpack_book(evaluation.scores, evaluation.report.scores_digest)[0]


@pytest.fixture
def fresh_rows(rows):
    """120 test rows of which the last 50 are fresh, 30 of them opened tonight."""
    plain = rows(120, 2, np.linspace(1, 4, 120))
    marks = {
        "fresh": np.arange(120) >= 70,
        "scale": np.full(120, 0.5),
        "order": np.where(np.arange(120) >= 90, 7, 6),
    }
    return dataclasses.replace(plain, marks=marks)


def test_everyone_is_measured_on_the_one_frozen_test_set(measure, rules):
    report = measure(settings=rules(requirement=0.9)).report
    kinds = {entry.name: entry.kind for entry in report.entries}
    assert kinds["majority"] == "scripted"
    assert kinds["nearest"] == "simple ML"
    assert kinds["requirement"] == "requirement"
    assert list(kinds.values()).count("human") == 5
    sizes = {e.metric.num_samples for e in report.entries if e.metric and e.kind != "requirement"}
    assert sizes == {120}
    assert {entry.metric.num_samples for entry in report.start_entries} == {60}


def test_the_numbers_are_the_weighted_means_of_the_stored_scores(measure):
    evaluation = measure()
    test, report = _stored(evaluation)["test"], evaluation.report
    for entry in report.entries[:4]:
        values = test.scores[entry.name]["correct"]
        assert entry.metric.value == pytest.approx(np.average(values, weights=test.weights))
    gain = test.scores["candidate"]["correct"] - test.scores["champion"]["correct"]
    assert report.difference.value == pytest.approx(np.average(gain, weights=test.weights))
    assert report.scores_digest == content_id(evaluation.scores)


def test_better_is_positive_in_either_direction(measure, rules):
    up = measure().report
    down = measure(settings=rules(optimize="error_cm", higher_is_better=False)).report
    assert up.difference.low > 0
    assert down.difference.low > 0
    assert down.difference.value == pytest.approx(2.5 * up.difference.value)
    assert down.slices[0].difference.value > 0


def test_the_same_arguments_give_the_same_bytes_but_for_the_latency(measure):
    first, second = (_stored(measure()) for _ in range(2))
    for name in ("test", "start", "train"):
        for entrant, table in first[name].scores.items():
            for score, values in table.items():
                assert np.array_equal(values, second[name].scores[entrant][score])


def test_a_report_comes_out_again_from_its_scores_alone(measure, rules):
    evaluation = measure()
    book, written = unpack_book(evaluation.scores, evaluation.report.scores_digest)
    again = measure_again(
        book,
        from_json(Context, written["context"]),
        rules(),
        evaluation.report.scores_digest,
        now=evaluation.report.created_at,
    )
    assert again == evaluation.report


def test_the_id_is_the_hash_of_all_but_the_time(measure):
    report = measure().report
    content = dataclasses.asdict(report)
    for name in ("id", "created_at", "people_slices", "unmeasured"):  # the last two are empty here
        del content[name]
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


def test_without_a_candidate_the_champion_is_still_measured(measure, challenge):
    report = measure(candidate=None, challenge=challenge).report
    assert _values(report.entries)["champion"] is not None
    assert (report.candidate_digest, report.difference, report.challenge) == (None,) * 3


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
    assert part.candidate.value == 1.0


def test_only_the_challenges_own_labels_are_fresh(measure, fresh_rows, challenge):
    report = measure(test=fresh_rows, challenge=challenge).report
    assert len(report.fresh.gains) == len(report.fresh.scales) == 50
    assert report.fresh.num_new == 30
    assert report.fresh.is_bounded
    assert set(report.fresh.gains) <= {-1.0, 0.0, 1.0}
    parts = {entry.name: entry.metric.num_samples for entry in report.parts}
    assert parts == {"train": 50, "start": 60, "seen": 70, "fresh": 50}


def test_without_a_challenge_nothing_is_fresh(measure, fresh_rows):
    assert measure(test=fresh_rows).report.fresh is None


def test_a_score_with_a_unit_is_not_bounded_by_chance(measure, rules, fresh_rows, challenge):
    settings = rules(optimize="error_cm", higher_is_better=False)
    fresh = measure(test=fresh_rows, challenge=challenge, settings=settings).report.fresh
    assert not fresh.is_bounded
    assert set(fresh.gains) <= {-2.5, 0.0, 2.5}


def test_the_gains_of_any_other_formula_point_the_same_way(measure, rules, fresh_rows, challenge):
    settings = rules(optimize="error_cm.below(1)")
    other = measure(test=fresh_rows, challenge=challenge, settings=settings).report.fresh
    mean = measure(test=fresh_rows, challenge=challenge).report.fresh
    assert np.sign(other.gains).tolist() == np.sign(mean.gains).tolist()


def test_a_requirement_is_measured_beside_the_metric(measure, rules):
    settings = rules(require=("latency_ms.p95 < 1000", "error_cm.p90 < 1"))
    latency, error = measure(settings=settings).report.watched
    assert (latency.formula, latency.is_upper, latency.bound) == ("latency_ms.p95", True, 1000)
    assert 0 < latency.candidate.value < 1000
    assert (error.candidate.value, error.champion.value) == (0.0, 2.5)


def test_what_is_ignored_is_reported_as_candidate_minus_champion(measure, rules):
    settings = rules(ignore=("error_cm.mean", "correct.above(0.5)"))
    error, share = measure(settings=settings).report.watched
    assert error.difference.value == pytest.approx(error.candidate.value - error.champion.value)
    assert share.difference.value > 0


def test_people_are_measured_on_disputed_samples_too(measure, rows):
    """On what was labeled they would agree by the very rule that made the label."""
    asked = dataclasses.replace(rows(10, 5), answers=[None] * 10)
    annotations = [
        Annotation(
            id=f"{name}-{person}",
            sample_id=name,
            annotator=person,
            answer=answer,
            skipped=False,
            lead_time_seconds=1.0,
            updated_at=datetime(2030, 1, 1, tzinfo=UTC),
        )
        for index, name in enumerate(asked.ids)
        for person, answer in (("ada", "upper"), ("ben", "upper" if index < 5 else "lower"))
    ]
    report = measure(asked=asked, annotations=annotations).report
    [person] = [entry for entry in report.entries if entry.name == "random person"]
    assert (person.metric.value, person.metric.num_samples) == (0.5, 10)


def test_a_requirement_without_a_unit_is_refused(measure, rules, points_task):
    task = dataclasses.replace(points_task, scores=lambda a, b: {"size": 7.0, "correct": 1.0})
    with pytest.raises(SettingsError, match="size"):
        measure(task=task, settings=rules(require=("size.p90 < 1",)))


def test_published_results_stand_in_the_table_and_say_whether_they_are_fair(measure):
    unfair = Published(
        name="paper",
        value=0.99,
        source="https://example.org",
        same_data=False,
        same_split=True,
        same_metric=True,
        same_input=True,
        same_compute=True,
    )
    [entry] = [e for e in measure(published=(unfair,)).report.entries if e.kind == "published"]
    assert (entry.name, entry.metric.value, entry.is_fair) == ("paper", 0.99, False)


def test_guarded_failures_are_counted_for_both(measure, rows):
    guarded = measure(guarded=rows(40, 9)).report.guarded
    assert (guarded.num_cases, guarded.num_kept, guarded.num_lost) == (40, 40, 0)
    assert guarded.num_kept_by_champion < 40


def test_the_threshold_keeps_what_the_product_allows(measure, rules):
    settings = rules(abstain={"max_failure_rate": 0.2})
    abstention = measure(settings=settings).report.abstention
    assert abstention.threshold is not None
    assert all(0 <= point.coverage <= 1 for point in abstention.curve)


def test_a_sample_that_trains_and_tests_is_refused(measure, rows):
    with pytest.raises(FlywheelError, match="50 samples of the start test are also training rows"):
        measure(start_test=rows(50, 4))


def test_a_metric_that_the_task_does_not_score_is_refused(measure, rules):
    with pytest.raises(SettingsError, match=r"did you mean 'error_cm'"):
        measure(settings=rules(optimize="error_mm"))


def test_samples_of_one_group_are_one_cluster(measure, rows):
    grouped = dataclasses.replace(
        rows(120, 2), groups=[f"scene {index // 4}" for index in range(120)]
    )
    alone, together = measure(test=rows(120, 2)).report, measure(test=grouped).report
    assert together.difference.value == alone.difference.value
    assert together.difference != alone.difference


def test_a_metric_on_the_confidence_is_measured_for_models_alone(measure, rules):
    settings = rules(optimize="confidence.average_precision(correct)")
    entries = {entry.name: entry for entry in measure(settings=settings).report.entries}
    assert entries["candidate"].metric is not None
    assert entries["nearest"].metric is None
    assert entries["nearest"].note == "only models have a confidence and a latency"


def test_a_function_of_the_tasks_own_may_read_any_score(measure, rules, tmp_path, challenge):
    text = "import numpy as np\ndef share(scores, weights):\n"
    text += "    return float(np.average(scores['correct'], weights=weights))\n"
    (tmp_path / "own_metric.py").write_text(text)
    own = measure(settings=rules(optimize="own_metric:share"), challenge=challenge).report
    plain = measure().report
    assert own.entries[0].metric.value == pytest.approx(plain.entries[0].metric.value)
