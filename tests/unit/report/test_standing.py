"""Where a project stands, and the one thing to do next."""

from dataclasses import replace

from flywheel.ledger.judged import close_challenge, open_challenge, report_of_night
from flywheel.ledger.locks import hold
from flywheel.ledger.progress import RefusedCount
from flywheel.ledger.releases import current_release
from flywheel.ledger.requests import ask_again
from flywheel.loop.context import LOOP
from flywheel.records import FailureState, Verdict
from flywheel.report import status


def test_an_empty_project_is_told_to_run_its_first_night(loop):
    found = status(loop)
    assert found.last_night is None
    assert found.release is None
    assert found.to_do.startswith("no night has run yet: flywheel night ")


def test_the_last_night_stands_with_its_verdict_and_reason(shared):
    found = status(shared.loop)
    assert found.last_night.number == 4
    assert found.decision.verdict is Verdict.PROMOTE
    assert found.under_way is None
    assert found.release.number == 2


def test_failures_labeling_and_the_newest_version_are_counted(shared):
    found = status(shared.loop)
    assert found.failures[FailureState.FIXED] == 12
    others = ("waiting", "sent", "refused", "withdrawn")
    assert found.labeling == {"done": 24} | dict.fromkeys(others, 0)
    assert found.dataset.num_train == 6


def test_a_night_under_way_shows_its_steps_and_keeps_the_last_verdict(four_nights):
    four_nights.predict(b"\x99")
    four_nights.gather(5)
    found = status(four_nights.loop)
    assert found.under_way.number == 5
    assert found.finished_steps == ("deploy", "collect", "route")
    assert found.last_night.number == 4
    assert "goes on after its last step" in found.to_do
    assert any(one.startswith("unfinished    night 5; done: deploy") for one in found.lines())


def test_a_night_that_a_process_runs_is_under_way_until_that_process_dies(four_nights):
    four_nights.gather(5)
    with hold(four_nights.loop.ledger, LOOP, four_nights.loop.now):
        found = status(four_nights.loop)
        assert any(one.startswith("under way     night 5; done: deploy") for one in found.lines())
        assert found.to_do == "nothing: night 5 is under way"
    assert status(four_nights.loop).holder is None


def test_predictions_that_no_collection_has_read_are_counted(four_nights):
    four_nights.predict(b"\x99")
    log = status(four_nights.loop).log
    assert (log.num_predictions, log.num_uncollected) == (25, 1)


def test_what_waits_for_people_comes_with_the_page_to_go_to(story):
    _a_night_with_a_batch(story)
    said = status(story.loop).to_do
    assert said.startswith("1 labeling tasks were with annotators when last read")
    assert said.endswith("reads what came back: http://127.0.0.1:8780/projects/7/data")


def test_what_the_newest_report_suggests_stands_beside_what_waits(story):
    _a_night_with_a_batch(story)
    now = status(story.loop)
    assert now.to_improve.startswith("Label more failures: ")
    assert list(now.lines())[-1] == f"to improve    {now.to_improve}"


def test_what_waits_to_be_sent_comes_with_the_reason(story):
    note = "not sent, the batch waits in the ledger: Label Studio does not answer"
    _a_night_with_a_batch(story, sent=False, note=note)
    assert status(story.loop).to_do == f"1 labeling tasks wait to be sent: {note}"


def _a_night_with_a_batch(story, *, sent=True, note=""):
    story.whole_night(1, Verdict.PROMOTE)
    story.predict(b"\x01\x01")
    story.gather(2, sent=sent, note=note)
    story.judge(2, Verdict.REJECT)


def test_with_nothing_waiting_the_numbers_name_the_next_step(shared):
    now = status(shared.loop)
    assert now.to_do.startswith("Label more failures:")
    assert (now.to_improve, list(now.lines())[-1]) == ("", f"next          {now.to_do}")


def test_the_lines_hold_every_fact(shared):
    lines = "\n".join(status(shared.loop).lines())
    assert "serves        release 2, model " in lines
    assert "last night    night 4, PROMOTE: the candidate is measured on 40 samples" in lines
    assert "predictions   24 in the log, 0 not yet collected" in lines
    assert "suspects      0 seen, 0 queued, 12 labeled, 0 trained on, 12 fixed, 0 guarded" in lines


def test_the_budget_and_the_sealed_labels_are_lines_of_their_own(shared):
    lines = list(status(shared.loop).lines())
    no_challenge = "no challenge is open (3 of 10 used); 18 more labels of the probability share"
    assert f"budget        {no_challenge} open the next" in lines
    assert "test labels   12 that no decision has seen" in lines


def test_a_challenge_that_is_open_in_the_ledger_is_the_state_of_the_budget(four_nights):
    with four_nights.loop.ledger.begin() as connection:
        of_report = report_of_night(connection, 4).challenge
        serving = current_release(connection).checkpoint_digest
        challenge = replace(of_report, champion_digest=serving)
        open_challenge(connection, challenge, [], 3)
    assert status(four_nights.loop).budget.startswith("challenge 3 of 10 is open since night 3")
    with four_nights.loop.ledger.begin() as connection:
        close_challenge(connection, challenge, 3)
    assert status(four_nights.loop).budget.startswith("no challenge is open")


def test_a_challenge_of_a_model_that_no_longer_serves_is_not_open(four_nights):
    with four_nights.loop.ledger.begin() as connection:
        open_challenge(connection, report_of_night(connection, 4).challenge, [], 3)
    assert status(four_nights.loop).budget.startswith("no challenge is open")


def test_the_lines_of_an_empty_project_say_so_in_words(loop):
    lines = list(status(loop).lines())
    assert lines[0] == "serves        nothing is released yet"
    assert lines[1] == "last night    no night has finished yet"
    assert "dataset       no version yet" in lines
    assert "budget        no candidate has been evaluated yet" in lines
    assert "test labels   not counted yet" in lines


def test_annotations_that_are_no_answers_are_counted_where_one_looks(four_nights):
    found = status(four_nights.loop)
    assert not [line for line in found.lines() if line.startswith("refused")]
    four_nights.predict(b"\x99")
    four_nights.gather(5)
    [sample_id] = [choice.sample_id for choice in four_nights.batch.choices]
    four_nights.past.answer(sample_id, "ada", refused="two choices where one is allowed")
    with four_nights.loop.ledger.begin() as connection:
        ask_again(connection, [sample_id], four_nights.now())
    assert status(four_nights.loop).refused == (1, 1, 0)
    some = replace(found, refused=RefusedCount(num_refused=3, num_again=2, num_set_aside=1))
    [line] = [line for line in some.lines() if line.startswith("refused")]
    assert line == (
        "refused       3 annotations that are no answers, 2 asked again of other annotators; "
        "1 samples set aside"
    )
