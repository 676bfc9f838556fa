import dataclasses
import json
import pkgutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.ledger.codec import from_json, to_json
from flywheel.records import (
    Abstention,
    Annotation,
    Challenge,
    Checkpoint,
    Choice,
    Decision,
    Entry,
    Estimate,
    FreshOutcomes,
    ProductionEstimate,
    Report,
    Reuse,
    RiskPoint,
    Share,
    SliceComparison,
    Verdict,
    Watched,
)

_CORPUS = Path(__file__).with_name("codec_corpus.jsonl")
_TIMES = st.datetimes(timezones=st.just(UTC))
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | _NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_ESTIMATES = st.builds(Estimate, value=_NUMBERS, low=_NUMBERS, high=_NUMBERS)
_OPTIONAL = st.none() | _ESTIMATES
_ENTRIES = st.lists(st.builds(Entry, metric=_OPTIONAL), max_size=3).map(tuple)
_TUPLES = st.lists(_NUMBERS, max_size=4).map(tuple)
_POINTS = st.builds(
    RiskPoint,
    threshold=_NUMBERS,
    coverage=_NUMBERS,
    failure_rate=_NUMBERS,
    failure_bound=_NUMBERS,
)
_REPORTS = st.builds(
    Report,
    entries=_ENTRIES,
    start_entries=_ENTRIES,
    difference=_OPTIONAL,
    start_difference=_OPTIONAL,
    slices=st.lists(
        st.builds(SliceComparison, difference=_OPTIONAL, candidate=_OPTIONAL, champion=_OPTIONAL),
        max_size=2,
    ).map(tuple),
    watched=st.lists(
        st.builds(
            Watched,
            bound=st.none() | _NUMBERS,
            candidate=_OPTIONAL,
            champion=_OPTIONAL,
            difference=_OPTIONAL,
        ),
        max_size=2,
    ).map(tuple),
    parts=_ENTRIES,
    metric_settings=st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
    challenge=st.none() | st.builds(Challenge, alpha=_NUMBERS),
    fresh=st.none() | st.builds(FreshOutcomes, gains=_TUPLES, scales=_TUPLES),
    reuse=st.builds(Reuse, mean_uses=_NUMBERS),
    production=st.none()
    | st.builds(ProductionEstimate, estimate=_ESTIMATES, assisted=_OPTIONAL, naive=_OPTIONAL),
    abstention=st.none()
    | st.builds(
        Abstention,
        curve=st.lists(_POINTS, max_size=2).map(tuple),
        max_failure_rate=st.none() | _NUMBERS,
        confidence=_NUMBERS,
        threshold=st.none() | _NUMBERS,
    ),
    latency_p95_ms=st.none() | _NUMBERS,
    created_at=_TIMES,
)
_CHECKPOINTS = st.builds(
    Checkpoint,
    settings=st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
    losses=st.lists(_NUMBERS, max_size=4).map(tuple),
    train_seconds=_NUMBERS,
    created_at=_TIMES,
)


def _there_and_back(record):
    return from_json(type(record), json.loads(json.dumps(to_json(record))))


@given(_REPORTS)
def test_a_report_comes_back_as_it_was(report):
    assert _there_and_back(report) == report


@given(_CHECKPOINTS)
def test_a_checkpoint_comes_back_as_it_was(checkpoint):
    assert _there_and_back(checkpoint) == checkpoint


@given(st.builds(Choice, inclusion_probability=st.none() | _NUMBERS, priority=_NUMBERS))
def test_enums_come_back_as_enums(choice):
    assert isinstance(_there_and_back(choice).share, Share)
    assert _there_and_back(choice) == choice


@given(
    st.builds(Annotation, answer=_JSON, lead_time_seconds=st.none() | _NUMBERS, updated_at=_TIMES)
)
def test_answers_pass_untouched(annotation):
    assert _there_and_back(annotation) == annotation


def test_whole_numbers_come_back_as_the_floats_that_they_are():
    read = from_json(Estimate, {"value": 1, "low": 0, "high": 2, "num_samples": 9})
    assert type(read.value) is float
    assert type(read.num_samples) is int


def test_a_record_from_before_a_field_was_added_gets_its_default():
    stored = {"name": "n", "kind": "k", "metric": None}
    assert from_json(Entry, stored) == Entry(name="n", kind="k", metric=None, note="")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_cannot_say_is_refused(number):
    with pytest.raises(ValueError, match="store None where there is no number"):
        to_json(Estimate(value=number, low=0, high=0, num_samples=5))


def test_a_value_of_an_unknown_kind_is_refused():
    with pytest.raises(TypeError, match="is a bytes"):
        to_json({"weights": b""})


def _decision():
    return to_json(
        Decision(
            id="i",
            night=1,
            report_id="r",
            verdict=Verdict.HOLD,
            reasons=("a",),
            e_value=None,
            needed_e_value=60.0,
            closes_challenge=False,
            gate_settings={},
            created_at=datetime(2030, 1, 1, tzinfo=UTC),
        )
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "MAYBE"}, r"Decision.verdict is 'MAYBE', but .* 'PROMOTE', 'HOLD'"),
        ({"reasons": "a"}, "Decision.reasons is 'a', but .* array"),
        ({"reasons": [1]}, r"Decision.reasons\[0\] is 1, but .* string"),
        ({"night": "1"}, "Decision.night is '1', but .* integer"),
        ({"night": True}, "Decision.night is True, but .* integer"),
        ({"night": 1.0}, "Decision.night is 1.0, but .* integer"),
        ({"e_value": "1"}, "Decision.e_value is '1', but .* number"),
        ({"e_value": False}, "Decision.e_value is False, but .* number"),
        ({"created_at": 5}, "Decision.created_at is 5, but .* datetime"),
        ({"mood": "good"}, "Decision.mood is no field"),
        ({"id": None}, "Decision.id is None, but .* string"),
    ],
)
def test_json_that_does_not_fit_is_refused_by_field(change, message):
    with pytest.raises(ValueError, match=message + ".*another version of flywheel"):
        from_json(Decision, _decision() | change)


def test_a_missing_field_is_refused_by_name():
    stored = _decision()
    del stored["verdict"]
    with pytest.raises(ValueError, match=r"Decision.verdict is missing"):
        from_json(Decision, stored)


@pytest.mark.parametrize("line", _CORPUS.read_text(encoding="utf-8").splitlines())
def test_what_older_versions_stored_is_written_as_the_same_text(line):
    """Written by the codec before pydantic: every kind with all fields, and with the fewest."""
    stored = json.loads(line)
    kind = pkgutil.resolve_name(stored["kind"])
    assert json.dumps(to_json(from_json(kind, json.loads(stored["text"])))) == stored["text"]


def test_defaults_made_by_a_function_count_as_defaults():
    @dataclasses.dataclass(frozen=True)
    class Noted:
        notes: dict[str, int] = dataclasses.field(default_factory=dict)

    assert from_json(Noted, {}) == Noted()
    assert from_json(Noted, {"notes": {"a": 1}}) == Noted({"a": 1})
