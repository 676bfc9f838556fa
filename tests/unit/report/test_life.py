"""One sample's life, told in order."""

import re

import pytest
from worlds.colors import HOUR

from flywheel.errors import UnknownIdError, UserError
from flywheel.ledger.annotations import save_annotations
from flywheel.ledger.datasets import add_version
from flywheel.ledger.outbox import set_aside
from flywheel.records import Purpose, content_id
from flywheel.report import trace
from flywheel.testing import row_of


def told(loop, key):
    return [(event.what, event.detail) for event in trace(loop, key)]


@pytest.fixture
def sample_id(shared):
    return shared.batch.choices[0].sample_id


def test_a_whole_life_runs_from_the_prediction_to_the_release(shared, sample_id):
    whats = [event.what for event in trace(shared.loop, sample_id)]
    order = ["sample", "prediction", "batch", "labeling task", "annotation", "label"]
    order += ["dataset version", "checkpoint", "decision", "release"]
    assert [what for what in dict.fromkeys(whats) if what in order] == order


def test_what_annotators_see_of_the_sample_is_described(shared, sample_id):
    (detail,) = [detail for what, detail in told(shared.loop, sample_id) if what == "sample"]
    assert re.search(r"; image: image/png, [\d.]+ kB$", detail)


def test_a_sample_that_cannot_be_shown_says_why(story):
    prediction = story.predict(b"")
    (detail,) = [detail for what, detail in told(story.loop, prediction.id) if what == "sample"]
    assert "; not shown: sample" in detail


def test_events_are_in_the_order_of_time(shared, sample_id):
    times = [event.at for event in trace(shared.loop, sample_id)]
    assert times == sorted(times)


def test_every_state_of_the_failure_is_told(shared, sample_id):
    states = [d for what, d in told(shared.loop, sample_id) if what == "failure"]
    assert [state.split(" in ")[0] for state in states] == ["seen", "queued", "labeled", "fixed"]
    assert states[0] == "seen in night 4; low confidence 1.00"


def test_the_draw_is_told_with_its_probability(shared, sample_id):
    (batch,) = [d for what, d in told(shared.loop, sample_id) if what == "batch"]
    assert batch.startswith("probability share of batch ")
    assert batch.endswith("inclusion probability 1.000 of 2 samples")


def test_a_checkpoint_and_what_followed_are_those_of_its_dataset_version(shared, sample_id):
    events = dict(told(shared.loop, sample_id))
    version = events["dataset version"].removeprefix("in ").split(":")[0]
    assert events["checkpoint"].endswith(f"trained on {version}")
    assert events["decision"].startswith("PROMOTE of ")
    assert events["release"].startswith("2: ")


def test_feedback_is_told_with_the_request_that_it_is_about(story):
    prediction = story.predict(b"\x07")
    story.contradict(prediction)
    (said,) = [d for what, d in told(story.loop, prediction.id) if what == "feedback"]
    assert said == f"outcome false on request {prediction.id}"


def test_a_request_id_and_the_beginning_of_an_id_find_the_sample(story):
    prediction = story.predict(b"\x07")
    by_id = told(story.loop, prediction.sample_id)
    assert told(story.loop, prediction.id) == by_id
    assert told(story.loop, prediction.sample_id[:8]) == by_id


@pytest.mark.parametrize("key", ["", "ab", "nothing", "f" * 64, "f" * 65, "%", "'; drop table"])
def test_what_nothing_has_as_its_id_is_an_error(story, key):
    story.predict(b"\x07")
    with pytest.raises(UnknownIdError, match="no sample begins with"):
        trace(story.loop, key)


def test_a_beginning_that_several_samples_share_is_an_error_that_shows_them(story):
    first, second = _collision(4)
    for payload in (first, second):
        story.predict(payload)
    with pytest.raises(UserError, match="give more characters") as error:
        trace(story.loop, content_id(first)[:4])
    assert content_id(second)[:10] in str(error.value)


def _collision(length):
    """Two payloads whose ids begin alike."""
    seen = {}
    for number in range(100_000):
        payload = number.to_bytes(4, "big")
        begin = content_id(payload)[:length]
        if begin in seen:
            return seen[begin], payload
        seen[begin] = payload
    raise AssertionError("ids are spread evenly, so there is one among so many")


def test_a_labeling_task_that_was_set_aside_says_why(story):
    prediction = story.predict(b"\x07")
    story.gather(1)
    with story.loop.ledger.begin() as connection:
        set_aside(connection, {prediction.sample_id: "its labeling task was deleted"}, story.now())
    said = dict(told(story.loop, prediction.sample_id))["labeling task"]
    assert said == "refused; number 0 in project 7; its labeling task was deleted"


def test_a_deleted_annotation_is_told_twice(story):
    prediction = story.predict(b"\x07")
    story.gather(1)
    story.annotate(annotators=("ada",))
    with story.loop.ledger.begin() as connection:
        nothing = {"1/0": (prediction.sample_id, Purpose.CHOICE, [])}
        save_annotations(connection, nothing, story.now())
    said = [d for what, d in told(story.loop, prediction.id) if what == "annotation"]
    assert said == ["ada: blue", "ada: deleted"]


def test_a_dataset_version_is_told_only_when_something_changed(four_nights, sample_id):
    before = told(four_nights.loop, sample_id)
    four_nights.version()
    assert told(four_nights.loop, sample_id) == before
    four_nights.batch = None
    four_nights.version()
    (left,) = set(told(four_nights.loop, sample_id)) - set(before)
    assert left[1].startswith("no longer in ")


def test_going_back_to_an_old_dataset_version_is_told_after_the_newer_one(story):
    prediction = story.predict(b"\x07")
    empty = story.version()
    story.gather(1)
    story.annotate()
    story.ingest(1)
    with story.loop.ledger.begin() as connection:
        add_version(connection, empty)
    said = [d for what, d in told(story.loop, prediction.id) if what == "dataset version"]
    assert [detail.split(" in")[0] for detail in said][-1] == "no longer"
    assert len(said) == 2


def test_every_detail_is_one_line_whatever_people_wrote(shared, sample_id):
    assert all("\n" not in event.detail for event in trace(shared.loop, sample_id))


def test_of_many_versions_few_are_read_and_every_change_is_found(loop, story, monkeypatch):
    prediction = story.predict(b"3")
    past = story.past
    past.label([prediction.sample_id], answer="red")
    others = [row_of(f"{number:064x}") for number in range(300)]
    for number in range(300):
        mine = [row_of(prediction.sample_id, "red" if number < 211 else "blue")]
        past.now += HOUR
        past.version([*others[: number + 1], *(mine if 17 <= number < 280 else [])])
    reads, get = [], type(loop.blobs).get
    monkeypatch.setattr(
        type(loop.blobs), "get", lambda self, key: reads.append(key) or get(self, key)
    )
    details = [detail for what, detail in told(loop, prediction.id) if what == "dataset version"]
    assert [detail.partition(": ")[2] or detail[:9] for detail in details] == [
        "train, red",
        "train, blue",
        "no longer",
    ]
    assert len(reads) < 80


def test_a_version_whose_manifest_is_gone_is_passed_over(loop, story):
    prediction = story.predict(b"3")
    story.past.label([prediction.sample_id], answer="red")
    kept, gone = (
        story.past.version([row_of(prediction.sample_id, "red"), row_of(f"{n:064x}")])
        for n in range(2)
    )
    place = loop.project.state / "blobs" / gone.id[:2] / gone.id
    place.unlink()
    details = [detail for what, detail in told(loop, prediction.id) if what == "dataset version"]
    assert details == [f"in {kept.id[:12]}: train, red"]
