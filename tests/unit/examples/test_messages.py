"""The messages project: a task on text that keeps the contract, and two worlds that it serves."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import flywheel
from flywheel.checks import check_task
from flywheel.errors import AnnotationError, PayloadError, UserError
from flywheel.examples.demos import find_demo
from flywheel.examples.messages import task as messages
from flywheel.examples.messages.task import INTENTS, phrases, write_message
from flywheel.examples.messages.world import Messages
from flywheel.project import load_project
from flywheel.records import Sample, Split
from flywheel.task import load_task


@pytest.fixture(scope="module")
def task():
    return messages.task()


@pytest.fixture(scope="module")
def first_model(task):
    """A model of the start data, as settings and trainer would make it in a second."""
    start = [one for one in task.start_data() if one.split is Split.TRAIN]
    inputs = task.inputs([one.sample for one in start])
    targets = task.targets([one.answer for one in start])
    torch.manual_seed(0)
    model, generator = task.model(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(8):
        for rows in torch.randperm(len(inputs), generator=generator).split(32):
            optimizer.zero_grad()
            output = model(task.augment(inputs[rows], generator))
            task.loss(output, targets[rows]).mean().backward()
            optimizer.step()
    return model.eval()


def right_by_kind(task, model, arrivals):
    with torch.no_grad():
        answers = task.answers(model(task.inputs([one.sample for one in arrivals])))
    right = {"all": []}
    for answer, arrival in zip(answers, arrivals, strict=True):
        for kind in ("all", arrival.kind):
            right.setdefault(kind, []).append(Messages.is_right(answer.value, arrival.truth))
    return {kind: np.mean(found) for kind, found in right.items()}


def message(text):
    return Sample.of(text.encode(), "text/plain")


def region(*choices):
    return {"from_name": "choice", "value": {"choices": list(choices)}}


def test_the_task_keeps_every_law(task):
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_load_and_name_this_task(tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "messages" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    project = load_project(tmp_path)
    scores = load_task(project.project.task, tmp_path).scores("refund", "refund")
    assert scores[project.metric.optimize] == 1.0
    assert project.dataset.group in Messages(seed=0, is_drifting=False).traffic(0)[0].metadata


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "with 0 characters"),
        (b" \n", "not only spaces"),
        (b"\xff\xfe", "are no text"),
        (b"a\x00b", "without NUL"),
        (b"x" * 2_001, "with 2,001 characters"),
    ],
)
def test_what_is_no_message_is_refused(task, payload, reason):
    with pytest.raises(PayloadError, match=reason):
        task.inputs([Sample.of(payload, "text/plain")])


def test_a_typo_moves_a_message_less_than_another_wish(task):
    plain, typo, other = task.inputs(
        [message("Where is my order?"), message("Wher is my order?"), message("My lamp is broken.")]
    )
    assert plain @ typo > 0.7
    assert plain @ other < 0.4


def test_annotators_read_the_text_itself(task):
    assert task.labeling.data(message("für ß 🎉")) == {"text": "für ß 🎉"}


@pytest.mark.parametrize("choices", [[], ["unusable"], ["refund", "login"], ["praise"]])
def test_an_annotation_that_is_no_single_intent_is_refused(task, choices):
    with pytest.raises(AnnotationError, match=", ".join(INTENTS)):
        task.labeling.answer([region(*choices)], None)


@pytest.mark.parametrize("name", ["majority class", "logistic regression"])
def test_a_baseline_beats_guessing_as_far_as_it_can(task, name):
    start = list(task.start_data())
    train = [one for one in start if one.split is Split.TRAIN]
    test = [one for one in start if one.split is Split.TEST]
    predict = task.baselines[name].fit([one.sample for one in train], [one.answer for one in train])
    found = predict([one.sample for one in test])
    right = np.mean([answer == one.answer for answer, one in zip(found, test, strict=True)])
    assert right > (0.1 if name == "majority class" else 0.85)
    assert predict([]) == []


def test_every_template_can_be_filled():
    rng = np.random.default_rng(0)
    for kind in ("usual", "hub", "phrasing", "chat"):
        assert set(phrases()[kind]) <= set(INTENTS)
        for intent in phrases()[kind]:
            texts = [write_message(kind, intent, rng, typos=0.0) for _ in range(30)]
            assert not any(letter in text for text in texts for letter in "{|}")


def test_a_night_is_the_same_at_every_call_and_nights_seeds_and_truth_sets_differ():
    world = Messages(seed=1, is_drifting=True)
    assert world.traffic(2) == world.traffic(2)
    parts = [world.traffic(2), world.traffic(3), Messages(seed=2, is_drifting=True).traffic(2)]
    texts = [{one.payload for one in part} for part in [*parts, world.truth_set(2, 400)]]
    assert all(
        len(one & other) < 10 for one in texts for other in texts if one is not other
    )  # a short one may come twice


def test_in_the_long_tail_nine_of_ten_messages_are_as_the_start_data(task, first_model):
    world = Messages(seed=0, is_drifting=False)
    kinds = Counter(one.kind for night in range(5) for one in world.traffic(night))
    assert kinds["usual"] / 2_000 == pytest.approx(0.89, abs=0.02)
    assert kinds["hub"] / 2_000 == pytest.approx(0.06, abs=0.015)
    right = right_by_kind(task, first_model, world.truth_set(0, 2_000))
    assert 0.86 < right["all"] < 0.95
    assert right["usual"] > 0.95
    assert max(right["hub"], right["chat"], right["phrasing"]) < 0.45


def test_where_everything_moved_the_first_model_is_wrong_more_often_every_week(task, first_model):
    world = Messages(seed=0, is_drifting=True)
    right = [
        right_by_kind(task, first_model, world.truth_set(night, 1_000))["all"] for night in (0, 12)
    ]
    assert 0.6 < right[0] < 0.85
    assert right[1] < right[0] - 0.1


def test_only_the_chat_is_known_by_its_channel():
    arrivals = Messages(seed=0, is_drifting=True).traffic(0)
    channels = {(one.kind, one.metadata["channel"]) for one in arrivals}
    assert channels == {("usual", "mail"), ("hub", "mail"), ("phrasing", "mail"), ("chat", "chat")}


def test_the_demo_knows_both_worlds():
    demo = find_demo("messages")
    assert not demo.world(0).is_drifting
    assert demo.world(0, "everything-moved").is_drifting
    with pytest.raises(UserError, match="Write long-tail or everything-moved"):
        demo.world(0, "moon")
