import pytest

from flywheel.errors import UnavailableError
from flywheel.records import Share


def test_the_hardest_sample_goes_first(letters, studio, send_now):
    ids = letters.choose(b"x1", b"x2", b"x3")
    send_now()
    assert [item.sample_id for item in studio.items] == ids


def test_every_waiting_sample_is_sent_and_marked_with_its_labeling_task(letters, studio, send_now):
    ids = letters.choose(b"x1", b"x2")
    assert send_now().num_sent == 2
    assert letters.tasks() == {key: ("sent", studio.find(7, ids)[key], "") for key in ids}


def test_sending_twice_sends_once(letters, studio, send_now):
    letters.choose(b"x1", b"x2")
    first, second = send_now(), send_now()
    assert (first.num_sent, second.num_sent) == (2, 0)
    assert len(studio.tasks) == 2


def test_an_item_says_what_people_and_the_queue_need(letters, studio, send_now):
    letters.choose(b"x1", answer="b")
    send_now()
    (item,) = studio.items
    assert letters.task.labeling.answer(item.result, None) == "b"
    assert (item.model_version, item.confidence, item.priority) == ("0123456789ab", 0.6, 1.0)
    assert (item.reason, item.share) == ("low_confidence 0.70", Share.TARGETED)


def test_a_sample_without_a_picture_is_set_aside_and_the_rest_goes_on(letters, studio, send_now):
    good, bad = letters.choose(b"x1", b"broken x2")
    result = send_now()
    assert (result.num_sent, result.num_refused, result.num_waiting) == (1, 1, 0)
    assert letters.tasks()[good][0] == "sent"
    state, external_id, note = letters.tasks()[bad]
    assert (state, external_id) == ("refused", None)
    assert "starts with b'broken'" in note
    assert letters.num_skips() == 1


def test_an_answer_that_cannot_be_drawn_sets_its_sample_aside(letters, send_now):
    (sample_id,) = letters.choose(b"x1", answer="no letter")
    assert (send_now().num_refused, letters.tasks()[sample_id][0]) == (1, "refused")


def test_what_is_set_aside_stays_so_and_is_noted_once(letters, send_now):
    letters.choose(b"broken x2")
    results = [send_now(), send_now()]
    assert [result.num_refused for result in results] == [1, 0]
    assert letters.num_skips() == 1


def test_a_kill_between_the_server_and_the_ledger_creates_nothing_twice(letters, studio, send_now):
    ids = letters.choose(b"x1", b"x2")
    studio.loses_answers = True
    with pytest.raises(UnavailableError):
        send_now()
    assert {state for state, _, _ in letters.tasks().values()} == {"waiting"}
    studio.loses_answers = False
    assert send_now().num_sent == 2
    assert len(studio.tasks) == 2
    assert letters.tasks()[ids[0]][0] == "sent"


def test_without_a_server_everything_waits(letters, studio, send_now):
    letters.choose(b"x1")
    studio.is_down = True
    with pytest.raises(UnavailableError):
        send_now()
    assert {state for state, _, _ in letters.tasks().values()} == {"waiting"}


def test_as_many_people_are_asked_as_the_settings_say(letters, studio, send_now):
    send_now()
    assert studio.asked_for == letters.project.labeling.annotations_per_sample


def test_more_than_one_commit_s_worth_is_sent_whole(letters, studio, send_now):
    letters.choose(*(b"sample %d" % number for number in range(301)))
    assert send_now().num_sent == 301
    assert len(studio.tasks) == 301
