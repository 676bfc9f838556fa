"""The digits task keeps the contract, learns, and reads annotations strictly."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from label_studio_sdk.label_interface import LabelInterface
from sklearn.datasets import load_digits

import flywheel
from flywheel.checks import check_task
from flywheel.errors import AnnotationError
from flywheel.examples.digits.task import CLASSES, clean_scan, encode_png, start_scans
from flywheel.project import load_project
from flywheel.records import Sample, Split
from flywheel.task import load_task


def _region(*choices: str) -> dict:
    return {
        "id": "x",
        "type": "choices",
        "from_name": "choice",
        "to_name": "image",
        "value": {"choices": list(choices)},
    }


def _fit(task, inputs, targets, epochs):
    torch.manual_seed(0)
    model = task.model()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(32):
            optimizer.zero_grad()
            output = model(task.augment(inputs[rows], generator))
            task.loss(output, targets[rows]).mean().backward()
            optimizer.step()
    return model.eval()


def _accuracy(task, model, examples):
    with torch.no_grad():
        answers = task.answers(model(task.inputs([e.sample for e in examples])))
    pairs = zip(answers, examples, strict=True)
    return np.mean([task.scores(a.value, e.answer)["correct"] for a, e in pairs])


def test_the_task_keeps_every_law(task):
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_load_and_name_this_task(tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "digits" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    project = load_project(tmp_path)
    scores = load_task(project.project.task, tmp_path).scores("3", "3")
    assert scores[project.metric.optimize] == 1.0
    assert project.dataset.group == "scan"


def test_start_and_held_scans_are_apart_and_fixed():
    train, held = start_scans()
    assert (len(set(train)), len(set(held))) == (120, 300)
    assert not set(train) & set(held)
    assert start_scans() == (train, held)


def test_start_data_has_every_digit_in_both_splits(examples):
    for split in Split:
        assert {e.answer for e in examples if e.split is split} == set(CLASSES)


def test_a_model_of_600_scans_is_right_on_95_percent_of_held_scans(task, examples):
    scans = load_digits()
    start = {index for part in start_scans() for index in part}
    chosen = [index for index in range(1797) if index not in start][:600]
    samples = [Sample.of(encode_png(clean_scan(scans.images[i])), "image/png") for i in chosen]
    targets = task.targets([CLASSES[scans.target[i]] for i in chosen])
    model = _fit(task, task.inputs(samples), targets, epochs=15)
    assert _accuracy(task, model, [e for e in examples if e.split is Split.TEST]) > 0.95


@pytest.mark.parametrize("name", ["majority class", "nearest neighbour", "logistic regression"])
def test_a_baseline_beats_guessing_as_far_as_it_can(task, examples, name):
    train = [e for e in examples if e.split is Split.TRAIN]
    test = [e for e in examples if e.split is Split.TEST]
    predict = task.baselines[name].fit([e.sample for e in train], [e.answer for e in train])
    found = predict([e.sample for e in test])
    accuracy = np.mean([a == e.answer for a, e in zip(found, test, strict=True)])
    assert accuracy > (0.05 if name == "majority class" else 0.8)


def test_baselines_answer_nothing_with_nothing(task, examples):
    samples, answers = [e.sample for e in examples[:50]], [e.answer for e in examples[:50]]
    assert [b.fit(samples, answers)([]) for b in task.baselines.values()] == [[], [], []]


def test_an_untrained_confidence_is_the_largest_probability(task, examples):
    output = {"logits": torch.tensor([[0.0, 1.0] + [0.0] * 8]), "embedding": torch.zeros(1, 64)}
    [answer] = task.answers(output)
    assert answer.value == "1"
    assert answer.confidence == pytest.approx(np.e / (np.e + 9))


def test_augment_changes_pictures_and_stays_in_range(task, examples):
    inputs = task.inputs([e.sample for e in examples[:8]])
    changed = task.augment(inputs, torch.Generator().manual_seed(1))
    assert not torch.allclose(changed, inputs, atol=0.05)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_an_augmented_picture_still_shows_the_same_digit(task, examples):
    inputs = task.inputs([e.sample for e in examples[:200]])
    changed = task.augment(inputs, torch.Generator().manual_seed(1))
    distances = torch.cdist(changed.flatten(1), inputs.flatten(1))
    own = [e.answer for e in examples[:200]]
    nearest = [own[i] for i in distances.argmin(dim=1).tolist()]
    assert np.mean([a == b for a, b in zip(nearest, own, strict=True)]) > 0.6


def test_label_studio_accepts_the_config_and_every_pre_annotation(task):
    interface = LabelInterface(task.labeling.config)
    interface.validate()
    for answer in CLASSES:
        prediction = {
            "model_version": "m",
            "score": 0.5,
            "result": task.labeling.result(answer, None),
        }
        assert interface.validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize("choices", [[], ["unusable"], ["11"], ["3", "5"], ["x"]])
def test_an_annotation_that_is_no_single_digit_is_refused(task, choices):
    with pytest.raises(AnnotationError, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9"):
        task.labeling.answer([_region(*choices)], None)


@pytest.mark.parametrize("result", [[{"from_name": "other"}], [{"from_name": "choice"}], []])
def test_an_annotation_without_choices_is_refused(task, result):
    with pytest.raises(AnnotationError, match="exactly one"):
        task.labeling.answer(result, None)


@pytest.mark.parametrize("answer", ["10", "", None, 3, ["3"]])
def test_an_answer_that_is_no_class_has_no_target(task, answer):
    with pytest.raises(AnnotationError, match="is not a digit of this task"):
        task.targets([answer])


@pytest.mark.parametrize(
    ("name", "level", "site", "expected"),
    [
        ("faint ink", 0.5, "desk", True),
        ("faint ink", 1.0, "desk", False),
        ("thick strokes", 1.0, "desk", True),
        ("thick strokes", 0.0, "desk", False),
        ("phone", 1.0, "phone", True),
        ("phone", 1.0, "desk", False),
    ],
)
def test_slices_see_what_they_are_named_for(task, name, level, site, expected):
    payload = encode_png(np.full((32, 32), level))
    assert task.slices[name](Sample.of(payload, "image/png", {"site": site})) is expected
