import dataclasses
from contextlib import closing

import pytest

from flywheel.errors import BusyError, RefusedError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.requests import ask_more
from flywheel.records import Media, Purpose, Webhook
from flywheel.testing import LedgerBuilder

LOST = UnavailableError("the answer got lost")


def states(letters):
    return {state for state, _, _ in letters.tasks().values()}


def test_the_hardest_sample_goes_first(letters, studio, send_now):
    ids = letters.choose(b"x1", b"x2", b"x3")
    send_now()
    assert [item.sample_id for item in studio.items] == ids


def test_every_waiting_sample_is_sent_and_marked_with_its_labeling_task(letters, studio, send_now):
    ids = letters.choose(b"x1", b"x2")
    assert send_now().num_sent == 2
    assert letters.tasks() == {key: ("sent", studio.find(key), "") for key in ids}


def test_sending_twice_sends_once(letters, studio, send_now):
    letters.choose(b"x1", b"x2")
    first, second = send_now(), send_now()
    assert (first.num_sent, second.num_sent) == (2, 0)
    assert len(studio.tasks) == 2


def test_another_project_of_the_same_name_sends_nothing_into_ours(
    letters, tmp_path, studio, send_now
):
    """Both were "my-project": "20 sent" twice, and 20 there."""
    letters.choose(b"x1")
    send_now()
    (tmp_path / "other").mkdir()
    with closing(Ledger.open(f"sqlite:///{tmp_path}/other/ledger.db")) as ledger:
        other = dataclasses.replace(letters, past=LedgerBuilder(ledger), ledger=ledger)
        other.choose(b"x2")
        with pytest.raises(RefusedError, match=r"Write another \[project\] name"):
            send_now(ledger=ledger)
    assert [item.sample_id for item in studio.items] == [*letters.tasks()]


def test_an_item_says_what_annotators_and_the_queue_need(letters, studio, send_now):
    (sample_id,) = letters.choose(b"x1", answer="b")
    send_now()
    (item,) = studio.items
    assert letters.task.labeling.answer(item.result, None) == "b"
    assert item.shown == {
        "reason": "low_confidence 0.70",
        "confidence": 0.6,
        "model": "0123456789ab",
    }
    assert (item.priority, item.num_annotators) == (1.0, 1)
    assert item.data == {"image": f"/1/{sample_id}-image.png"}


def test_what_was_sent_is_kept_word_for_word(letters, studio, send_now):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    row = letters.rows()[sample_id]
    assert row.data == studio.tasks[row.external_id].data
    assert (row.place, row.shown) == (studio.tasks[row.external_id].priority, True)


def test_a_blind_item_holds_nothing_of_the_model(letters, studio, send_now):
    letters.change(quality={"blind_share": 1.0})
    (sample_id,) = letters.choose(b"x1", answer="b")
    send_now()
    (item,) = studio.items
    assert (item.result, item.shown) == ([], {})
    assert letters.rows()[sample_id].shown is False


def test_a_gold_labeling_task_looks_like_any_other_blind_one(letters, studio, send_now):
    letters.change(quality={"blind_share": 1.0})
    ids = letters.choose(b"x1")
    letters.ask(ids, Purpose.GOLD)
    send_now()
    names = [set(task.data) for task in studio.tasks.values()]
    assert names == [{"image", "sample_id", "key"}] * 2


def test_an_answer_of_the_model_that_cannot_be_drawn_does_not_matter_to_the_blind(
    letters, send_now
):
    letters.change(quality={"blind_share": 1.0})
    letters.choose(b"x1", answer="no letter")
    assert send_now().num_sent == 1


def test_a_sample_without_a_picture_is_set_aside_and_the_rest_goes_on(letters, studio, send_now):
    good, bad = letters.choose(b"x1", b"broken x2")
    result = send_now()
    assert (result.num_sent, result.num_refused, result.num_waiting) == (1, 1, 0)
    assert letters.tasks()[good][0] == "sent"
    state, external_id, note = letters.tasks()[bad]
    assert (state, external_id) == ("refused", None)
    assert "starts with b'broken'" in note
    assert letters.num_skips() == 1


def test_a_picture_that_no_browser_shows_sets_its_sample_aside(letters, send_now):
    labeling = dataclasses.replace(
        letters.task.labeling, data=lambda _: {"image": Media(b"no", "image/png")}
    )
    (sample_id,) = letters.choose(b"x1")
    result = send_now(task=dataclasses.replace(letters.task, labeling=labeling))
    assert (result.num_sent, result.num_refused) == (0, 1)
    assert "'image' cannot be shown: the picture: cannot identify" in letters.tasks()[sample_id][2]


def test_an_answer_that_cannot_be_drawn_sets_its_sample_aside(letters, send_now):
    (sample_id,) = letters.choose(b"x1", answer="no letter")
    assert (send_now().num_refused, letters.tasks()[sample_id][0]) == (1, "refused")


@pytest.mark.parametrize("part", ["data", "result"])
def test_an_error_of_the_task_sets_its_sample_aside_and_says_where(letters, send_now, part):
    """A class that was renamed ended the night with a KeyError."""
    (bad, good), whole = letters.choose(b"x1", b"x2"), getattr(letters.task.labeling, part)

    def fails(*arguments):
        if arguments[-1].id == bad:
            raise KeyError("lens")
        return whole(*arguments)

    labeling = dataclasses.replace(letters.task.labeling, **{part: fails})
    result = send_now(task=dataclasses.replace(letters.task, labeling=labeling))
    assert (result.num_sent, result.num_refused) == (1, 1)
    assert letters.tasks()[good][0] == "sent"
    said = letters.tasks()[bad][2]
    assert said.startswith(f"labeling.{part} of the task fails on sample {bad[:12]}: test_send.py:")
    assert "KeyError: 'lens'. Fix it" in said


def test_blobs_that_do_not_answer_set_nothing_aside_and_the_batch_waits(letters, send_now, silence):
    names = letters.choose(b"x1", b"x2")
    end = silence()
    with pytest.raises(UnavailableError, match="blob store"):
        send_now()
    end()
    assert {letters.tasks()[name][0] for name in names} == {"waiting"}
    send_now()
    assert {letters.tasks()[name][0] for name in names} == {"sent"}


def test_a_sample_whose_payload_is_lost_is_set_aside_and_the_rest_goes_on(letters, send_now, lose):
    gone, good = letters.choose(b"x1", b"x2")
    lose(gone)
    result = send_now()
    assert (result.num_sent, result.num_refused) == (1, 1)
    assert letters.tasks()[gone][0] == "refused"
    assert "no blob" in letters.tasks()[gone][2]
    assert letters.tasks()[good][0] == "sent"


def test_what_is_set_aside_stays_so_and_is_noted_once(letters, send_now):
    letters.choose(b"broken x2")
    results = [send_now(), send_now()]
    assert [result.num_refused for result in results] == [1, 0]
    assert letters.num_skips() == 1


@pytest.mark.parametrize("call", ["ensure", "half a push", "push"])
def test_a_kill_between_the_server_and_the_ledger_creates_nothing_twice(
    call, letters, studio, send_now
):
    ids = letters.choose(b"x1", b"x2")
    studio.breaks_after[call] = LOST
    with pytest.raises(UnavailableError):
        send_now()
    assert states(letters) == {"waiting"}
    assert send_now().num_sent == 2
    assert (len(studio.tasks), len(studio.projects)) == (2, 1)
    assert letters.tasks()[ids[0]][0] == "sent"


def test_what_a_killed_run_had_sent_is_found_behind_all_that_came_since(letters, studio, send_now):
    """Look-ups began behind the highest known number; harder samples had got higher ones."""
    (late,) = letters.choose(b"late")
    studio.breaks_after["push"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        send_now()
    letters.choose(*(b"sample %d" % number for number in range(260)))
    with letters.ledger.begin() as connection:
        table = letters.rows()[late]
        connection.exec_driver_sql(
            f"UPDATE labeling_tasks SET priority = 0 WHERE seq = {table.seq}"
        )
    send_now()
    assert len(studio.tasks) == 261


def test_a_number_that_is_given_out_again_hides_nothing(letters, studio, send_now):
    """SQLite gives the number of the newest labeling task out again once that is deleted."""
    (first,) = letters.choose(b"x1")
    send_now()
    del studio.tasks[studio.find(first)]
    (second,) = letters.choose(b"x2")
    studio.breaks_after["push"] = LOST
    with pytest.raises(UnavailableError):
        send_now()
    send_now()
    assert [task.data["sample_id"] for task in studio.tasks.values()] == [second]


def test_without_a_server_everything_waits(letters, studio, send_now):
    letters.choose(b"x1")
    studio.is_down = True
    with pytest.raises(UnavailableError):
        send_now()
    assert states(letters) == {"waiting"}


def test_a_second_try_sends_the_same(letters, studio, send_now, now):
    """A project whose blind share changed in between showed the model's answer the second time."""
    letters.change(quality={"blind_share": 1.0})
    (sample_id,) = letters.choose(b"x1")
    studio.breaks_after["ensure"] = LOST
    with pytest.raises(UnavailableError):
        send_now()
    before = letters.rows()[sample_id]
    letters.change(quality={"blind_share": 0.0})
    send_now()
    after = letters.rows()[sample_id]
    assert (after.key, after.campaign, after.shown) == (before.key, before.campaign, False)


def test_as_many_annotators_are_asked_as_the_choice_says(letters, studio, send_now):
    one, three = letters.choose(b"x1"), letters.choose(b"x2", num_annotators=3)
    send_now()
    assert [studio.tasks[studio.find(key)].num_annotators for key in (*one, *three)] == [1, 3]


def test_more_than_one_commit_s_worth_is_sent_whole(letters, studio, send_now):
    letters.choose(*(b"sample %d" % number for number in range(301)))
    assert send_now().num_sent == 301
    assert len(studio.tasks) == 301


def test_only_one_process_sends_at_a_time(letters, send_now, now, monkeypatch):
    with hold(letters.ledger, "the labeling backend", lambda: now):
        monkeypatch.setattr("flywheel.ledger.locks._me", lambda: "elsewhere:1:1.0")
        with pytest.raises(BusyError, match="the labeling backend is held by"):
            send_now()


ASKED = (Purpose.CHOICE, Purpose.GOLD, Purpose.REVIEW)


def test_samples_of_another_purpose_are_other_labeling_tasks(letters, studio, send_now):
    ids = letters.choose(b"x1")
    letters.ask(ids, Purpose.GOLD, num_annotators=3)
    letters.ask(ids, Purpose.REVIEW)
    assert send_now().num_sent == 3
    keys = {task.key for task in studio.tasks.values()}
    assert len(keys) == 3
    assert {letters.tasks(purpose)[ids[0]][0] for purpose in ASKED} == {"sent"}


def test_the_page_is_that_of_the_campaign_in_which_everyone_labels(letters, studio, send_now):
    assert send_now().project_url is None
    ids = letters.choose(b"x1")
    letters.ask(ids, Purpose.REVIEW)
    assert send_now().project_url == send_now().project_url == studio.page(1)
    assert sorted(studio.projects.values()) == [
        f"flywheel: {letters.project.project.name}",
        f"flywheel: {letters.project.project.name} experts",
    ]


def test_label_studio_gets_the_address_to_notify_of_annotations(letters, studio, send_now):
    letters.choose(b"x1")
    for _ in range(2):
        send_now(webhook=Webhook(url="http://here/hook", secret="hush"))
    assert studio.hooks == {(1, "http://here/hook"): "hush"}


def second_opinion(letters, sample_id, now):
    with letters.ledger.begin() as connection:
        ask_more(connection, [sample_id], Purpose.CHOICE, "disputed", 0, now)


def test_one_more_annotator_is_asked_once(
    letters, sample_id, studio, says, pull_now, send_now, now
):
    says(sample_id, "a")
    pull_now()
    second_opinion(letters, sample_id, now)
    assert [send_now().num_more, send_now().num_more] == [1, 0]
    assert studio.tasks[studio.find(sample_id)].num_annotators == 2
    assert letters.tasks()[sample_id][0] == "sent"
    says(sample_id, "b", by="bob")
    pull_now()
    assert letters.tasks()[sample_id][0] == "done"


def test_a_second_opinion_whose_answer_got_lost_is_asked_for_again_and_no_third(
    letters, sample_id, studio, send_now, now
):
    second_opinion(letters, sample_id, now)
    studio.breaks_after["raise_overlap"] = LOST
    with pytest.raises(UnavailableError):
        send_now()
    assert send_now().num_more == 1
    assert studio.tasks[studio.find(sample_id)].num_annotators == 2


def test_a_second_opinion_on_what_still_waits_is_asked_for_with_it(letters, studio, send_now, now):
    (sample_id,) = letters.choose(b"x1")
    second_opinion(letters, sample_id, now)
    assert (send_now().num_more, send_now().num_more) == (1, 0)
    assert studio.tasks[studio.find(sample_id)].num_annotators == 2


def test_a_server_that_refuses_to_notify_of_annotations_gets_its_samples_all_the_same(
    letters, studio, send_now
):
    def refuse(*_):
        raise RefusedError("Label Studio answers 403: a reserved network address")

    studio.register_webhook = refuse
    letters.choose(b"x1")
    assert send_now(webhook=Webhook(url="http://here/hook", secret="hush")).num_sent == 1
    assert letters.num_skips() == 1
