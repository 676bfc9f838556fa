"""The retrain step: when it trains, when the candidate waits, and why."""

import dataclasses

import pytest

from flywheel.ledger import judged
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.datasets import latest_version
from flywheel.ledger.failures import failures_in
from flywheel.ledger.judged import open_challenge
from flywheel.ledger.predictions import first_answers
from flywheel.ledger.releases import (
    add_release,
    current_release,
    latest_checkpoint,
    release_history,
)
from flywheel.loop import begin_night, steps
from flywheel.loop import retrain as module
from flywheel.loop.release import mark_fixed
from flywheel.loop.retrain import challengers, retrain
from flywheel.records import Approval, Consent, FailureState, Verdict
from flywheel.testing import LedgerBuilder, blank_decision, blank_report


def newest(toy):
    with toy.loop.ledger.read() as connection:
        return latest_checkpoint(connection)


def released(toy):
    with toy.loop.ledger.read() as connection:
        return current_release(connection).checkpoint_digest


def decided(toy, **changes):
    """A decision of night 1 on the newest checkpoint."""
    report = blank_report(night=1, candidate_digest=newest(toy).digest)
    decision = blank_decision(night=1, report_id=report.id, **changes)
    LedgerBuilder(toy.loop.ledger).store(report, decision)


def test_new_rows_make_a_candidate(open_after):
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        before = released(toy)
        made = retrain(night)
        stored = newest(toy)
        assert made.candidate_digest == stored.digest != before == stored.parent_digest
        assert toy.loop.blobs.get(stored.digest)
        assert (made.device, made.losses) == ("cpu", stored.losses)
        with toy.loop.ledger.read() as connection:
            rows = latest_version(connection).num_train
            assert made.note == stored.recipe
            assert f"0 steps on {rows} rows (24 start, " in made.note
            assert len(failures_in(connection, FailureState.TRAINED_ON)) > 0


def test_run_again_in_the_night_nothing_is_trained(open_after):
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        first = retrain(night)
        watched = dataclasses.replace(night, progress=lambda *_: pytest.fail("it trains again"))
        assert retrain(watched) == first


@pytest.mark.parametrize("key", ["processes", "num_workers"])
def test_who_trains_with_other_processes_has_trainers_of_its_own(open_after, monkeypatch, key):
    started = []

    def fake(trainers, settings, data, **rest):
        started.append((len(trainers.devices), settings.num_workers))
        return here(toy.loop.task, settings, data, **rest)

    here = module.train
    monkeypatch.setattr(module, "train_distributed", fake)
    with (
        open_after("ingest", train={"device": "cpu", key: 2}) as toy,
        begin_night(toy.loop) as night,
    ):
        assert retrain(night).candidate_digest == newest(toy).digest
    assert started == [(2, 0) if key == "processes" else (1, 2)]


def test_only_a_suspect_whose_answer_was_wrong_is_fixed(open_after):
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        digest = retrain(night).candidate_digest
        number = mark_fixed(toy.loop, night.number, digest)
        with toy.loop.ledger.read() as connection:
            fixed, learned = (
                [one.sample_id for one in failures_in(connection, state)]
                for state in (FailureState.FIXED, FailureState.TRAINED_ON)
            )
            said = first_answers(connection, fixed + learned)
            labels = {key: one.answer for key, one in newest_labels(connection, list(said)).items()}
    assert [name for name in fixed if said[name] == labels[name]] == []
    assert [name for name in learned if said[name] == labels[name]] != []
    assert number == len(fixed) > 0


def test_killed_while_it_trains_it_comes_to_the_same_weights(open_after):
    def kill(*_):
        raise KeyboardInterrupt

    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        before = newest(toy)
        with pytest.raises(KeyboardInterrupt):
            retrain(dataclasses.replace(night, progress=kill))
        assert newest(toy) == before
        again = retrain(night).candidate_digest
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        assert retrain(night).candidate_digest == again


def test_without_new_rows_what_serves_is_not_judged_again(open_after):
    with open_after("route") as toy, begin_night(toy.loop) as night:
        made = retrain(night)
        assert made.candidate_digest is None
        assert made.note == "no new training labels since the released model was trained"


def candidate_of_an_earlier_night(toy):
    """Night 1 trained it, and night 2 has nothing new to train on."""
    with begin_night(toy.loop) as night:
        made = night.do(steps.RETRAIN)
        night.finish()
    return made.candidate_digest


def test_a_candidate_without_a_verdict_is_judged_again(open_after):
    with open_after("ingest") as toy:
        digest = candidate_of_an_earlier_night(toy)
        with begin_night(toy.loop) as night:
            made = retrain(night)
        assert made.candidate_digest == digest
        assert made.note == f"no new training labels; candidate {digest[:12]} is judged again"
        assert made.device is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"verdict": Verdict.REJECT}, "was rejected"),
        ({"verdict": Verdict.HOLD, "closes_challenge": True}, "was given up"),
    ],
)
def test_a_candidate_that_was_judged_is_over(open_after, changes, why):
    with open_after("ingest") as toy:
        digest = candidate_of_an_earlier_night(toy)
        decided(toy, **changes)
        with begin_night(toy.loop) as night:
            made = retrain(night)
        assert made.candidate_digest is None
        assert made.note == f"no new training labels since candidate {digest[:12]} {why}"


def test_a_model_that_was_rolled_back_is_over(open_after):
    with open_after("ingest") as toy:
        old, digest = released(toy), candidate_of_an_earlier_night(toy)
        with toy.loop.ledger.begin() as connection:
            add_release(connection, digest, "by hand", toy.loop.now())
            add_release(connection, old, "roll-back", toy.loop.now())
            assert len(release_history(connection)) == 3
        with begin_night(toy.loop) as night:
            assert retrain(night).note.endswith(f"{digest[:12]} was rolled back")


@pytest.mark.parametrize(
    ("answer", "why"),
    [(None, "waits for approval"), (Consent.DECLINE, "was declined by ann")],
)
def test_a_candidate_that_a_person_has_in_hand_is_over(open_after, answer, why):
    with open_after("ingest") as toy:
        candidate_of_an_earlier_night(toy)
        decided(toy, verdict=Verdict.PROMOTE)
        now = toy.loop.now()
        asked = Approval(
            decision_id="e" * 64, night=1, asked_at=now, deadline=now, at_deadline=Consent.DECLINE
        )
        with toy.loop.ledger.begin() as connection:
            judged.ask(connection, asked)
            if answer is not None:
                said = {"answered_by": "ann", "reason": "no", "answered_at": now}
                judged.answer(connection, dataclasses.replace(asked, answer=answer, **said))
        with begin_night(toy.loop) as night:
            made = retrain(night)
        assert made.candidate_digest is None
        assert why in made.note


def test_training_goes_on_while_a_challenge_is_open(open_after, stale_challenge):
    with open_after("ingest") as toy:
        challenge = dataclasses.replace(stale_challenge, champion_digest=released(toy))
        with toy.loop.ledger.begin() as connection:
            open_challenge(connection, challenge, (), 0)
        assert challengers(toy.loop) == ("c" * 64,)
        digest = candidate_of_an_earlier_night(toy)
        assert digest == newest(toy).digest not in ("c" * 64, released(toy))
        with begin_night(toy.loop) as night:
            made = retrain(night)
        assert made.candidate_digest == digest
        waits = f"candidate {digest[:12]} waits until the challenge of cccccccccccc ends"
        assert made.note == f"no new training labels; {waits}"


def test_a_challenge_to_another_champion_holds_nothing_up(open_after, stale_challenge):
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        with toy.loop.ledger.begin() as connection:
            open_challenge(connection, stale_challenge, (), 0)
        assert challengers(toy.loop) == ()
        assert retrain(night).candidate_digest == newest(toy).digest
