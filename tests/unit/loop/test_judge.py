"""The steps that judge: what a challenge opens is stored once, with its report or not at all."""

from contextlib import contextmanager

import pytest

from flywheel.ledger.failures import failures_in, move_failures
from flywheel.ledger.judged import (
    all_openings,
    get_report,
    last_challenge,
    open_challenge,
    open_challenges,
)
from flywheel.loop import begin_night
from flywheel.loop.judge import decide, evaluate
from flywheel.loop.retrain import retrain
from flywheel.records import FailureState, Verdict


@pytest.fixture
def trained(open_after):
    """(settings) -> night 1 with a candidate."""

    @contextmanager
    def run(**sections):
        with open_after("ingest", **sections) as toy, begin_night(toy.loop) as night:
            yield toy, night, retrain(night).candidate_digest

    return run


def report_of(toy, evaluated):
    with toy.loop.ledger.read() as connection:
        return get_report(connection, evaluated.report_id)


def openings(toy):
    with toy.loop.ledger.read() as connection:
        return all_openings(connection)


def challenge_of(toy):
    with toy.loop.ledger.read() as connection:
        return last_challenge(connection)


def still_open(toy):
    with toy.loop.ledger.read() as connection:
        return open_challenges(connection)


def test_enough_sealed_labels_open_a_challenge(trained):
    with trained() as (toy, night, candidate):
        champion = toy.server.digest()
        report = report_of(toy, evaluate(night, candidate))
        assert (report.candidate_digest, report.champion_digest) == (candidate, champion)
        assert challenge_of(toy) == report.challenge
        assert report.challenge.challenger_digest == candidate
        assert {one.night for one in openings(toy).values()} == {night.number}
        assert report.reuse.num_test == len(openings(toy)) == len(report.fresh.gains) >= 5
        assert report.reuse.num_sealed == 0
        assert toy.loop.blobs.get(report.scores_digest)


def test_who_alone_gave_the_fresh_labels_stands_in_the_report(trained):
    """Only a night of twelve noticed that the gate was not told."""
    with trained() as (toy, night, candidate):
        report = report_of(toy, evaluate(night, candidate))
        (one,) = report.unmeasured
        assert (one.annotator, len(one.labels)) == ("ann", len(report.fresh.gains))


def test_run_again_it_opens_nothing_more(trained):
    with trained() as (toy, night, candidate):
        first = report_of(toy, evaluate(night, candidate))
        opened = openings(toy)
        second = report_of(toy, evaluate(night, candidate))
        assert openings(toy) == opened
        assert second.challenge == first.challenge
        assert (second.fresh.gains, second.entries) == (first.fresh.gains, first.entries)


def test_too_few_sealed_labels_stay_sealed(trained):
    with trained(gate={"min_fresh_samples": 300}) as (toy, night, candidate):
        report = report_of(toy, evaluate(night, candidate))
        assert report.challenge is None
        assert "too few to open a challenge" in report.no_challenge
        assert openings(toy) == {}
        assert challenge_of(toy) is None
        assert report.reuse.num_sealed > 5
        decided = decide(night, report.id)
        assert decided.verdict is Verdict.NO_VERDICT


def test_without_a_candidate_only_the_champion_is_measured(trained):
    with trained() as (toy, night, _):
        report = report_of(toy, evaluate(night, None))
        assert (report.candidate_digest, report.challenge) == (None, None)
        assert "no challenger" in report.no_challenge
        assert openings(toy) == {}


def test_a_challenge_to_a_champion_that_is_gone_is_closed(trained, stale_challenge):
    with trained() as (toy, night, candidate):
        with toy.loop.ledger.begin() as connection:
            open_challenge(connection, stale_challenge, (), 0)
        report = report_of(toy, evaluate(night, candidate))
        challenge = challenge_of(toy)
        assert (challenge, challenge.number) == (report.challenge, 2)
        assert challenge.challenger_digest == candidate


def test_fixed_failures_become_guarded_once_they_were_measured(trained):
    with trained() as (toy, night, candidate):
        with toy.loop.ledger.begin() as connection:
            learned = [one.sample_id for one in failures_in(connection, FailureState.TRAINED_ON)]
            move_failures(connection, learned, FailureState.FIXED, 1, toy.loop.now())
        report = report_of(toy, evaluate(night, candidate))
        assert report.guarded.num_cases == len(learned) > 0
        with toy.loop.ledger.read() as connection:
            assert failures_in(connection, FailureState.FIXED) == []
            guarded = failures_in(connection, FailureState.GUARDED)
        assert {one.sample_id for one in guarded} == set(learned)


def test_a_decision_is_the_same_when_it_is_made_again(trained):
    with trained() as (_, night, candidate):
        report_id = evaluate(night, candidate).report_id
        assert decide(night, report_id) == decide(night, report_id)


def test_a_decision_that_gives_a_challenge_up_closes_it(trained):
    with trained(gate={"min_fresh_samples": 5, "challenge_samples": 10}) as (toy, night, candidate):
        report_id = evaluate(night, candidate).report_id
        assert still_open(toy) == (challenge_of(toy),)
        first = decide(night, report_id)
        assert still_open(toy) == ()
        assert decide(night, report_id) == first
