"""The route step: what is stored and sent, once however often it runs."""

import dataclasses

import pytest

from flywheel.errors import RefusedError
from flywheel.ledger.judged import open_challenge
from flywheel.ledger.nights import skips_of
from flywheel.ledger.releases import add_release, current_release
from flywheel.ledger.windows import recent_samples
from flywheel.loop import begin_night
from flywheel.loop.retrain import retrain
from flywheel.loop.routing import _ask, _rivals, route
from flywheel.settings.learning import Collect
from flywheel.testing import blank_challenge, draw_points, open_memory, side_of, toy_task


def sent(toy):
    return sorted(task.key for task in toy.backend.tasks.values())


def test_the_batch_is_stored_and_sent(open_after):
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        routed = route(night)
        assert routed.num_sent == len(sent(toy)) == routed.num_probability + routed.num_targeted > 5
        assert (routed.num_waiting, routed.note) == (0, "")
        assert routed.project_url == toy.backend.page(1)


def test_while_a_challenge_is_open_both_models_are_asked_and_the_draw_leans(open_after):
    with open_after("ingest") as toy, begin_night(toy.loop) as night:
        made, champion = retrain(night).candidate_digest, toy.server.digest()
        opened = blank_challenge(challenger_digest=made, champion_digest=champion)
        with toy.loop.ledger.begin() as connection:
            open_challenge(connection, opened, (), 0)
        pair = _rivals(toy.loop, champion)
        with toy.loop.ledger.read() as connection:
            ids = recent_samples(connection, 40)
        ours, theirs = (_ask(toy.loop, digest, ids) for digest in (made, champion))
        differs = [one.value != other.value for one, other in zip(ours, theirs, strict=True)]
        assert pair.differ(ids).tolist() == differs
        assert (pair.challengers, pair.champion_digest) == ((made,), champion)


def test_without_an_open_challenge_there_are_no_rivals(open_after):
    with open_after("collect") as toy:
        assert _rivals(toy.loop, toy.server.digest()) is None


def test_run_again_it_chooses_and_sends_nothing_new(open_after):
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        first, there = route(night), sent(toy)
        assert (route(night), sent(toy)) == (first, there)


def test_a_labeling_server_that_is_down_is_a_note_and_the_batch_waits(open_after):
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        toy.backend.is_down = True
        waits = route(night)
        assert waits.num_sent == len(sent(toy)) == 0
        assert waits.num_waiting == waits.num_probability + waits.num_targeted
        assert waits.project_url is None
        assert "waits in the ledger" in waits.note
        with toy.loop.ledger.read() as connection:
            assert {subject for subject, _ in skips_of(connection, night.number)} == {"route"}
        toy.backend.is_down = False
        later = route(night)
        assert (later.batch_id, later.num_sent) == (waits.batch_id, waits.num_waiting)
        assert later.num_waiting == 0
        assert later.note == ""


def test_a_labeling_server_that_goes_down_while_the_queue_is_reordered_is_a_note_too(open_after):
    with open_after("collect") as toy:
        with begin_night(toy.loop) as night:
            route(night)
            before = sent(toy)
        with toy.loop.ledger.begin() as connection:
            digest = current_release(connection).checkpoint_digest
            add_release(connection, digest, "another threshold", toy.loop.now(), 0.5)
        doubts_nothing = Collect(low_confidence=0.0)
        project = toy.loop.project.model_copy(update={"collect": doubts_nothing})
        with begin_night(dataclasses.replace(toy.loop, project=project)) as night:
            toy.backend.is_down = True
            assert "is down" in route(night).note
            toy.backend.is_down = False
            assert route(night).note == ""
        assert set(before) - set(sent(toy))  # what the model does not doubt any more is withdrawn


def test_a_refusal_is_a_note_too(open_after):
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        toy.backend.breaks_after["ensure"] = RefusedError("the token is wrong; set another")
        assert "the token is wrong" in route(night).note


def test_without_a_labeling_server_in_the_loop_that_of_the_settings_is_asked(
    open_after, free_tcp_port
):
    address = {"url": f"http://127.0.0.1:{free_tcp_port}", "samples_per_night": 30}
    with open_after("collect", labeling=address) as toy:
        with begin_night(dataclasses.replace(toy.loop, labeling=None)) as night:
            assert str(free_tcp_port) in route(night).note
        assert sent(toy) == []


def test_what_the_money_does_not_buy_is_not_asked(open_after):
    with open_after("collect", cost={"per_night": 1.0}) as toy, begin_night(toy.loop) as night:
        routed = route(night)
        assert routed.num_sent == 4  # of 30 s, at 30 an hour


@pytest.mark.parametrize("call", ["ensure", "half a push", "push"])
def test_cut_off_while_sending_it_comes_to_the_same_end(open_after, call):
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        whole, there = route(night), sent(toy)
    with open_after("collect") as toy, begin_night(toy.loop) as night:
        toy.backend.breaks_after[call] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            route(night)
        again = route(night)
        assert sent(toy) == there
        assert dataclasses.replace(again, batch_id="") == dataclasses.replace(whole, batch_id="")


def test_a_strategy_of_the_project_that_fails_is_skipped_for_the_built_in_one(open_after):
    own = {"strategy": "tests_own_strategy:broken"}
    with open_after("collect", select=own) as toy, begin_night(toy.loop) as night:
        module = toy.loop.project.directory / "tests_own_strategy.py"
        module.write_text("def broken(pool, size, rng):\n    return [0, 0]\n")
        assert route(night).num_targeted > 0
        with toy.loop.ledger.read() as connection:
            ((subject, why),) = skips_of(connection, night.number)
    assert subject == "route"
    assert "returned a row twice" in why
    assert "chosen by the strategy diverse instead" in why


def test_what_comes_back_in_dispute_is_asked_about_again_in_the_same_night(tmp_path):
    labeling = {"samples_per_night": 8, "annotations_per_sample": 2, "agreement": 2}
    train = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 20}
    other = {"left": "right", "right": "left"}
    with open_memory(toy_task(), tmp_path, train=train, labeling=labeling) as toy:
        toy.night()
        for seed, second in ((1, side_of), (2, lambda sample: other[side_of(sample)])):
            toy.serve(draw_points(40, seed=seed)[0])
            toy.night()
            toy.annotate(side_of, by="ann")
            num_asked = toy.annotate(second, by=f"ben {seed}")
        night = toy.night()
    assert night["route"].num_second == night["route"].pulled.num_disputed == num_asked > 0
    assert night["ingest"].num_annotations == 2 * num_asked
