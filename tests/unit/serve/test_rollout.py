"""A candidate on live traffic: callers notice nothing of the shadow, and a bad canary stops by itself."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, insert, select

from flywheel.collect import collect
from flywheel.ledger.failures import failures_in
from flywheel.ledger.releases import current_release
from flywheel.ledger.rollouts import Rollout, Stage, begin_rollout, last_rollout
from flywheel.ledger.segments import take_in
from flywheel.ledger.serving_tables import checkpoints, shadows
from flywheel.ledger.tables import predictions
from flywheel.ledger.windows import latest
from flywheel.model import Model
from flywheel.records import FailureState
from flywheel.serve.rollout import Live, broken_guardrail, waits_for

LIMITS = {"errors": 0.01, "deferred": 0.2, "slow": 0.1, "slow_ms": 5_000.0}
LIMITS |= {"differing": 0.5, "outcomes": 0.5}
CALLER = "X-Caller-Key"


def planned(digest, champion, *stages, seconds=0.0, min_requests=20, limits=LIMITS):
    now = datetime.now(UTC)
    return Rollout(
        number=0,
        digest=digest,
        threshold=0.25,
        champion_digest=champion,
        reason="decision 1",
        stages=tuple(Stage(kind=kind, share=share, seconds=seconds) for kind, share in stages),
        min_requests=min_requests,
        limits=limits,
        stage=0,
        stage_began_at=now,
        created_at=now,
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("flywheel.serve.rollout._TICK_SECONDS", 0.05)


@pytest.fixture
def champion(release):
    return release(0.0)


@pytest.fixture
def begin(ledger, champion):
    def begin(digest, *stages, **options):
        with ledger.begin() as connection:
            row = {"digest": digest, "record": {}, "created_at": datetime.now(UTC)}
            connection.execute(insert(checkpoints), row)
            return begin_rollout(connection, planned(digest, champion, *stages, **options))

    return begin


@pytest.fixture
def state(ledger):
    def read():
        with ledger.read() as connection:
            return last_rollout(connection)

    return read


def wait_until(is_so, seconds=30):
    give_up = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_callers_notice_nothing_of_the_shadow_and_both_answers_are_logged(
    serve, begin, weights, predict, ledger, state, champion
):
    begin(weights(0.5), ("shadow", 1.0), min_requests=1_000)
    server = serve()
    answers = [predict(server, float(number)).json() for number in range(20, 40)]
    assert {answer["model_digest"] for answer in answers} == {champion}
    assert [answer["answer"] for answer in answers] == [float(n) for n in range(20, 40)]
    wait_until(lambda: state().counts.get("requests", 0) == 20)
    with ledger.read() as connection:
        rows = connection.execute(
            select(shadows.c.answer, shadows.c.role, predictions.c.answer.label("champions")).join(
                predictions, predictions.c.id == shadows.c.prediction_id
            )
        ).all()
        assert connection.execute(select(func.count()).select_from(predictions)).scalar_one() == 20
    assert {row.answer - row.champions for row in rows} == {0.5}
    assert {row.role for row in rows} == {"shadow"}


def test_only_a_share_is_answered_in_the_shadow(serve, begin, weights, predict, state):
    begin(weights(-0.0), ("shadow", 0.3), min_requests=1_000)
    server = serve()
    for number in range(200):
        predict(server, float(number + 20))
    wait_until(lambda: state().counts.get("requests", 0) > 0)
    time.sleep(0.5)
    assert 30 <= state().counts["requests"] <= 90


def test_disagreement_in_the_shadow_is_a_failure_that_collect_finds(
    serve, begin, weights, predict, ledger, state
):
    begin(weights(0.5), ("shadow", 1.0), min_requests=1_000)
    server = serve()
    sample_id = predict(server, 20.0, 0.75).json()["sample_id"]
    wait_until(lambda: state().counts.get("requests", 0) == 1)
    for _ in range(2):  # the second time nothing is new
        collect(ledger, 0.5, 1, datetime.now(UTC))
    with ledger.read() as connection:
        (failure,) = failures_in(connection, FailureState.SEEN)
    assert failure.sample_id == sample_id
    assert [(one.name, one.strength) for one in failure.signals] == [("shadow_disagreement", 0.75)]


def test_disagreement_about_a_prediction_that_still_waits_is_not_passed_over(
    serve, begin, weights, predict, servers_ledger, ledger, state, monkeypatch
):
    monkeypatch.setattr("flywheel.serve.log._QUIET_SECONDS", 60.0)
    begin(weights(0.5), ("shadow", 1.0), min_requests=1_000)
    server = serve()
    with servers_ledger.read() as connection:
        upto = latest(connection, "shadows")
    predict(server, 20.0)
    wait_until(lambda: counted(servers_ledger, shadows) == 1)
    assert counted(servers_ledger, predictions) == 0
    now = datetime.now(UTC)
    assert collect(servers_ledger, 0.5, 1, now, shadows_upto=upto).num_failures == 0
    take_in(servers_ledger, ledger.folder)
    assert collect(servers_ledger, 0.5, 1, now).num_failures == 1


def counted(ledger, table):
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_candidate_that_fails_in_the_shadow_is_counted_and_stopped_only(
    serve, begin, weights, predict, state, monkeypatch, caplog, champion
):
    bad = weights(7.0)
    begin(bad, ("shadow", 1.0), min_requests=10_000)
    server = serve()
    break_model(monkeypatch, bad, SystemExit(3))
    statuses = {predict(server, float(number)).status_code for number in range(20, 80)}
    assert statuses == {200}
    wait_until(lambda: state().state == "aborted")
    assert "answers failed, above the limit of 1%" in state().note
    assert predict(server, 1.0).json()["model_digest"] == champion


def test_what_the_shadow_cannot_take_is_dropped_and_counted(
    serve, begin, weights, predict, state, monkeypatch
):
    digest = weights(-0.0)
    begin(digest, ("shadow", 1.0), min_requests=10_000)
    monkeypatch.setattr("flywheel.serve.rollout._asked", lambda *_: time.sleep(0.2) or (1.0, 0.9))
    monkeypatch.setattr("flywheel.serve.rollout._MOST_WAITING", 4)
    server = serve()
    began = time.monotonic()
    for number in range(20, 60):
        predict(server, float(number))
    assert time.monotonic() - began < 6.0  # 40 in the shadow would take 8 s
    wait_until(lambda: state().counts.get("dropped", 0) > 20)


def test_a_canary_answers_its_share_of_callers_and_each_is_answered_by_one_model(
    serve, begin, weights, predict, state, champion
):
    candidate = weights(0.5)
    begin(candidate, ("canary", 0.25), min_requests=10_000)
    server = serve()
    said = {}
    for _ in range(2):
        for number in range(160):
            answer = predict(server, 20.0, **{CALLER: f"caller {number}"}).json()
            said.setdefault(number, set()).add(answer["model_digest"])
    assert all(len(models) == 1 for models in said.values())
    mine = sum(models == {candidate} for models in said.values())
    assert 20 <= mine <= 60
    wait_until(lambda: state().counts.get("requests", 0) == 2 * mine)


def test_those_who_were_on_the_candidate_stay_there_as_shares_grow(begin, weights):
    rollout = begin(weights(0.5), ("canary", 0.05), ("canary", 0.25), ("canary", 1.0))
    shares = [
        {
            n
            for n in range(500)
            if Live(rollout=replace(rollout, stage=at), serving=None).takes(f"{n}")
        }
        for at in range(3)
    ]
    assert shares[0] < shares[1] < shares[2]
    assert len(shares[2]) == 500


def test_without_a_caller_s_key_a_group_is_answered_by_one_model_and_counted(
    serve, begin, weights, predict, state
):
    begin(weights(0.5), ("canary", 0.5), min_requests=10_000)
    server = serve()
    said = {}
    for number in range(60):
        header = {"X-Sample-Metadata": f'{{"session": {number % 12}}}'}
        answer = predict(server, float(number + 20), **header).json()
        said.setdefault(number % 12, set()).add(answer["model_digest"])
    assert all(len(models) == 1 for models in said.values())
    assert len(set.union(*said.values())) == 2
    wait_until(lambda: state().counts.get("no key", 0) == 60)


def test_what_the_candidate_cannot_answer_the_champion_does_and_the_canary_stops_by_itself(
    serve, begin, weights, predict, state, monkeypatch, champion, ledger
):
    bad = weights(7.0)
    begin(bad, ("canary", 1.0), min_requests=10_000)
    server = serve()
    break_model(monkeypatch, bad, RuntimeError("no answer"))
    for number in range(20, 80):
        answer = predict(server, float(number))
        assert (answer.status_code, answer.json()["answer"]) == (200, float(number))
    wait_until(lambda: state().state == "aborted")
    with ledger.read() as connection:
        assert current_release(connection).checkpoint_digest == champion
    assert server.get("/model").json()["digest"] == champion


def test_outcomes_of_the_candidate_s_answers_stop_it(
    serve, begin, weights, predict, state, servers_ledger
):
    begin(weights(0.5), ("canary", 1.0), min_requests=10_000)
    server = serve()
    ids = [predict(server, float(n + 20)).json()["request_id"] for n in range(60)]
    for request_id in ids:
        body = {"request_id": request_id, "kind": "outcome", "value": False}
        server.post("/feedback", json=body).raise_for_status()
    wait_until(lambda: state().state == "aborted")
    assert "had a bad outcome" in state().note


def test_a_candidate_that_passes_all_stages_is_released_with_its_threshold(
    serve, begin, weights, predict, state, ledger, champion
):
    candidate = weights(0.5)
    begin(candidate, ("shadow", 1.0), ("canary", 0.5), ("canary", 1.0), min_requests=15)
    server = serve()

    def promoted():
        for number in range(5):
            predict(server, float(number + 20), **{CALLER: f"{number}"})
        return state().state == "promoted"

    wait_until(promoted)
    with ledger.read() as connection:
        release = current_release(connection)
    assert (release.checkpoint_digest, release.threshold) == (candidate, 0.25)
    assert (release.number, release.previous_digest, release.reason) == (2, champion, "decision 1")
    served = server.get("/model").json()
    assert (served["digest"], served["threshold"], served["release"]) == (candidate, 0.25, 2)
    assert predict(server, 1.0).json()["answer"] == 1.5


def test_without_traffic_a_stage_never_passes(serve, begin, weights, state):
    begin(weights(0.5), ("canary", 0.5), min_requests=5)
    serve()
    wait_until(lambda: "5 more requests" in state().note)
    time.sleep(0.5)
    assert (state().state, state().stage) == ("running", 0)


def test_a_stage_goes_on_after_a_restart(
    release, begin, weights, predict, state, project, task, serve
):
    begin(weights(0.5), ("shadow", 1.0), ("canary", 1.0), min_requests=10)
    first = serve()
    for number in range(7):
        predict(first, float(number + 20))
    wait_until(lambda: state().counts.get("requests", 0) == 7)
    began = state().stage_began_at
    second = serve()
    assert state().stage_began_at == began
    for number in range(3):
        predict(second, float(number + 40))
    wait_until(lambda: state().stage == 1)


def test_a_release_made_otherwise_ends_the_rollout(serve, begin, weights, state, ledger, release):
    begin(weights(0.5), ("canary", 0.5))
    serve()
    other = weights(3.0)
    release(3.0, number=2)
    wait_until(lambda: state().state == "aborted")
    assert state().note == "the release changed meanwhile"
    assert other


def test_a_candidate_that_cannot_be_loaded_ends_its_rollout(serve, begin, blobs, state, predict):
    begin(blobs.put(b"no weights"), ("canary", 1.0))
    server = serve()
    assert state().state == "aborted"
    assert "cannot be loaded" in state().note
    assert predict(server, 1.0).status_code == 200


@pytest.mark.parametrize("name", ["errors", "deferred", "slow", "differing"])
def test_each_guardrail_stops_above_its_limit_and_not_below(name):
    rollout = planned("d" * 64, "c" * 64, ("canary", 1.0))
    limit = LIMITS[name]
    within = {"requests": 10_000, name: int(10_000 * limit)}
    assert broken_guardrail(replace(rollout, counts=within), (0, 0)) == ""
    above = {"requests": 10_000, name: int(10_000 * limit * 1.9)}
    assert "above the limit of" in broken_guardrail(replace(rollout, counts=above), (0, 0))


def test_a_stage_waits_for_time_and_for_requests():
    rollout = planned("d" * 64, "c" * 64, ("canary", 1.0), seconds=3600, min_requests=20)
    later = rollout.created_at.replace(year=rollout.created_at.year + 1)
    assert "more minutes" in waits_for(rollout, rollout.created_at)
    assert "20 more requests" in waits_for(rollout, later)
    assert waits_for(replace(rollout, counts={"requests": 20}), later) == ""


def break_model(monkeypatch, digest, error):
    """Let the model of a digest raise in place of answering."""
    answer = Model.answer

    def broken(self, inputs):
        if self.digest == digest:
            raise error
        return answer(self, inputs)

    monkeypatch.setattr(Model, "answer", broken)
