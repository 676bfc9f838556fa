"""Whatever a function of a user does, a night ends with one sentence, or goes on and says what it left out."""

import copy
import dataclasses
import math
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from torch import nn

from flywheel.calls import guard
from flywheel.checks.subject import Subject
from flywheel.errors import FlywheelError, PayloadError, TaskError
from flywheel.faults import describe_fault
from flywheel.ledger.releases import current_release
from flywheel.records import Sample
from flywheel.task import Baseline, Labeling, Task
from flywheel.testing import draw_points, open_memory, side_of, toy_task

replace = dataclasses.replace
TRAIN = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 30}
GOOD = toy_task()
LATER_DAY = datetime(2026, 3, 9, tzinfo=UTC)
ERRORS = [ZeroDivisionError("boom"), SystemExit(3), StopIteration(), RuntimeError("boom")]


class Failing(nn.Sequential):
    """The toy's network; it fails when it is asked, but not while it is trained, or the other way round."""

    def __init__(self, error, *, in_training):
        super().__init__(nn.Linear(2, 2), nn.Dropout(0.0))
        self.error, self.in_training = error, in_training

    def forward(self, points):
        if self.training is self.in_training:
            raise self.error
        return super().forward(points)


class Normed(nn.Sequential):
    """A batch norm in train mode cannot take a batch of one."""

    def __init__(self):
        super().__init__(nn.BatchNorm1d(2), nn.Linear(2, 2))


def fails(error=ERRORS[0], whole=None, when=lambda *_: True):
    def call(*given):
        if when(*given):
            raise error
        return whole(*given)

    return call


def returns(value):
    return lambda *_: value


def labeling(**changes):
    return replace(GOOD, labeling=replace(GOOD.labeling, **changes))


def baseline(fit):
    return replace(GOOD, baselines={"rule": Baseline(kind="scripted", fit=fit)})


def changed(function, wrong):
    """What a function of the toy task gives, made wrong."""
    whole = getattr(GOOD, function)
    return replace(GOOD, **{function: lambda *given: wrong(whole(*given))})


NEEDED = [
    "model",
    "inputs",
    "targets",
    "loss",
    "answers",
    "scores",
    "agree",
    "augment",
    "start_data",
]
"""without these no model can be trained and judged"""

FIRST = {
    **{(name, "fails"): replace(GOOD, **{name: fails()}) for name in NEEDED},
    ("forward", "in training"): replace(GOOD, model=lambda: Failing(ERRORS[0], in_training=True)),
    ("forward", "asked"): replace(GOOD, model=lambda: Failing(ERRORS[0], in_training=False)),
    ("forward", "a batch of one"): replace(GOOD, model=Normed),
    ("baseline 'rule'", "fit fails"): baseline(fails()),
    ("baseline 'rule'", "predictor fails"): baseline(lambda *_: fails()),
    ("baseline 'rule'", "no predictor"): baseline(returns(None)),
    ("model", "None"): replace(GOOD, model=returns(None)),
    ("inputs", "None"): replace(GOOD, inputs=returns(None)),
    ("inputs", "a row less"): changed("inputs", lambda rows: rows[1:]),
    ("targets", "a row less"): changed("targets", lambda rows: rows[1:]),
    ("loss", "the mean"): changed("loss", lambda losses: losses.mean()),
    ("loss", "None"): replace(GOOD, loss=returns(None)),
    ("loss", "NaN"): changed("loss", lambda losses: losses * math.nan),
    ("augment", "a row less"): replace(GOOD, augment=lambda rows, _: rows[1:]),
    ("answers", "one less"): changed("answers", lambda answers: answers[1:]),
    ("answers", "no answers"): replace(GOOD, answers=lambda output: [1] * len(output)),
    ("answers", "no JSON"): changed(
        "answers", lambda answers: [replace(one, value=torch.tensor(1)) for one in answers]
    ),
    ("scores", "NaN"): replace(GOOD, scores=returns({"correct": math.nan})),
    ("scores", "None"): replace(GOOD, scores=returns(None)),
    ("scores", "a text"): replace(GOOD, scores=returns({"correct": "yes"})),
    ("agree", "None"): replace(GOOD, agree=returns(None)),
    ("start_data", "None"): replace(GOOD, start_data=returns(None)),
    ("start_data", "no examples"): replace(GOOD, start_data=returns([1, 2])),
}


@pytest.mark.parametrize("case", FIRST, ids=lambda case: f"{case[0]}: {case[1]}")
def test_a_first_night_without_a_model_ends_in_one_sentence_and_releases_nothing(tmp_path, case):
    """It ended in a traceback of torch, or with a model whose loss had no row for each sample."""
    name, kind = case
    train = {**TRAIN, "batch_size": 1} if kind == "a batch of one" else TRAIN
    with open_memory(FIRST[case], tmp_path, train=train) as toy:
        with pytest.raises(FlywheelError) as caught:
            toy.night()
        with toy.loop.ledger.read() as connection:
            assert current_release(connection) is None
    assert name.split(" '")[0] in str(caught.value).replace("rule gave", "baseline")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """The folder and the labeling server of a project with 40 annotated samples."""
    folder = tmp_path_factory.mktemp("labeled")
    with open_memory(GOOD, folder, train=TRAIN) as toy:
        toy.night()
        toy.serve(draw_points(40, seed=1)[0])
        toy.night()
        toy.annotate(side_of)
    return folder, toy.backend


@pytest.fixture
def labeled(past, tmp_path):
    """(task) -> a copy of that project, whose code is then that task's."""
    folder, backend = past
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with open_memory(GOOD, tmp_path, start=LATER_DAY, train=TRAIN) as toy:
        toy.backend.__dict__.update(copy.deepcopy(backend.__dict__))
        with toy.loop.ledger.read() as connection:
            toy.server.activate(current_release(connection).checkpoint_digest)

        def become(task: Task):
            object.__setattr__(toy.loop, "task", task)
            toy.server._task = task
            return toy

        yield become


def _released(toy):
    with toy.loop.ledger.read() as connection:
        return current_release(connection).number


LATER = {
    "merge": replace(GOOD, merge=fails()),
    "merge to a set": replace(GOOD, merge=returns({1})),
    "slice 'odd'": replace(GOOD, slices={"odd": fails()}),
    "targets": replace(GOOD, targets=fails()),
    "labeling.answer": labeling(answer=fails()),
    "labeling.result": labeling(result=fails()),
}


@pytest.mark.parametrize("name", LATER)
def test_a_later_night_ends_in_one_sentence_and_keeps_the_release(labeled, name):
    toy = labeled(LATER[name])
    before = _released(toy)
    with pytest.raises(TaskError, match=name.split()[0]) as caught:
        toy.night()
    assert _released(toy) == before
    assert "rename-class" not in str(caught.value)  # none of its labels can be read


def test_an_annotation_that_the_task_fails_on_is_refused_and_the_others_count(labeled):
    whole = GOOD.labeling.answer
    odd = fails(whole=whole, when=lambda _result, sample: sample.id[0] in "0123")
    ingested = labeled(labeling(answer=odd)).night()["ingest"]
    assert ingested.num_refused > 0 < ingested.num_labels
    assert ingested.num_refused + ingested.num_annotations >= 40


def test_a_sample_that_cannot_be_read_is_left_out_counted_and_named(tmp_path):
    """One broken picture ended every night."""
    bad = draw_points(48, 1_000_003)[0][3].id
    task = replace(GOOD, inputs=fails(whole=GOOD.inputs, when=lambda ones: bad in _ids(ones)))
    with open_memory(task, tmp_path, train=TRAIN) as toy:
        done = toy.night()
    assert done["decide"].verdict == "PROMOTE"
    assert done["ingest"].note.startswith(f"1 labeled samples are left out, {bad[:12]} for one")
    assert "ZeroDivisionError: boom" in done["ingest"].note


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"else")])
def test_a_labeled_sample_whose_bytes_are_gone_is_left_out_too(labeled, tmp_path, damage):
    """The night ended with an id, every night, and no way out."""
    toy = labeled(GOOD)
    toy.night()
    bad = draw_points(40, seed=1)[0][7].id
    (blob,) = (tmp_path / ".flywheel/blobs").rglob(bad)
    blob.chmod(0o600)
    damage(blob)
    done = toy.night()
    ingested = done["ingest"]
    assert done["decide"].verdict
    assert ingested.note.startswith(f"1 labeled samples are left out, {bad[:12]} for one")


def _ids(samples):
    return [sample.id for sample in samples]


def test_a_drawing_that_fails_stops_no_night(tmp_path):
    with open_memory(replace(GOOD, drawing=fails()), tmp_path, train=TRAIN) as toy:
        assert toy.night()["decide"].verdict == "PROMOTE"


SAMPLES = draw_points(5, 0)[0]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_function_the_sample_and_the_line_are_named(error):
    third = fails(error, GOOD.inputs, lambda samples: SAMPLES[2].id in _ids(samples))
    task = replace(GOOD, inputs=third)
    with pytest.raises(TaskError) as caught:
        task.inputs(SAMPLES)
    said = str(caught.value)
    assert said.startswith(
        f"inputs of the task fails on sample {SAMPLES[2].id[:12]}: test_calls.py:"
    )
    assert said.endswith("Fix it, then run flywheel check")
    assert isinstance(caught.value.__cause__, type(error))


def test_a_payload_error_of_a_batch_names_its_sample_and_alone_stays_as_it_is():
    task = replace(GOOD, inputs=fails(PayloadError("no picture")))
    with pytest.raises(
        PayloadError, match=f"sample {SAMPLES[0].id[:12]} cannot be read: no picture"
    ):
        task.inputs(SAMPLES)
    with pytest.raises(PayloadError, match=r"^no picture$"):
        task.inputs(SAMPLES[:1])


def test_what_fails_only_together_is_said_to():
    task = replace(GOOD, inputs=fails(whole=GOOD.inputs, when=lambda ones: len(ones) == 5))
    with pytest.raises(TaskError, match="on 5 samples together"):
        task.inputs(SAMPLES)


def test_keys_pressed_reach_the_caller():
    with pytest.raises(KeyboardInterrupt):
        replace(GOOD, scores=fails(KeyboardInterrupt())).scores("left", "left")


def test_a_guarded_function_is_guarded_once():
    once = guard("f", len, lambda *_: "")
    assert guard("g", once, lambda *_: "") is once
    assert replace(GOOD).scores is GOOD.scores


def test_the_cause_is_described_and_not_our_sentence_around_it(tmp_path):
    with pytest.raises(TaskError) as caught:
        replace(GOOD, scores=fails(KeyError("lens"))).scores("left", "left")
    assert describe_fault(caught.value, [tmp_path]) == "KeyError: 'lens'"


def test_every_function_of_a_task_is_called_through_the_guard():
    """A new field of Task or Labeling would be called bare."""
    plain = {"labeling", "baselines", "slices", "code", "config", "empty_is_answer"}
    names = [one.name for kind in (Task, Labeling) for one in dataclasses.fields(kind)]
    task = replace(
        GOOD,
        collate=fails(),
        augment=fails(),
        loss_not=fails(),
        drawing=fails(),
        embed=fails(),
        accepts=fails(),
        agree=fails(),
        merge=fails(),
    )
    for name in names:
        if name not in plain:
            function = getattr(task, name, None) or getattr(task.labeling, name)
            assert hasattr(function, "_is_guarded"), name
    assert hasattr(GOOD.slices["upper"], "_is_guarded")
    assert hasattr(GOOD.baselines["majority"].fit, "_is_guarded")
    assert Subject(task, seed=0).folders == [Path(__file__).parent]
    assert isinstance(SAMPLES[0], Sample)
