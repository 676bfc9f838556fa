"""Whatever one entrant or a user's function changes, the others get what they would get alone."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from flywheel.calls import copied
from flywheel.errors import TaskError
from flywheel.evaluate.baselines import fit_baselines
from flywheel.evaluate.scoring import score_entrants
from flywheel.model import Model, isolated
from flywheel.records import Sample
from flywheel.task import Baseline, Labeling, Task

CPU = torch.device("cpu")


def _write(inputs):
    inputs.abs_()


def _draw(inputs):
    inputs += torch.rand_like(inputs) + np.random.random() + random.random()  # noqa: NPY002


def _set_globals(_inputs):
    torch.set_default_dtype(torch.float64)
    np.seterr(all="raise")
    torch.manual_seed(int(torch.randint(9, ())))


def _look_around(inputs):
    inputs -= inputs.mean(dim=0)


HABITS = (_write, _draw, _set_globals, _look_around)


def _with_habits(task: Task, rng: np.random.Generator) -> Task:
    """A task of which each function has some habits that it should not have."""
    habits = [habit for habit in HABITS if rng.random() < 0.6]

    class Careless(torch.nn.Sequential):
        def forward(self, inputs):
            for habit in habits:
                habit(inputs)
            return super().forward(inputs.float())

    def inputs(samples):
        for sample in samples:
            sample.metadata["seen"] = sample.metadata.get("seen", 0) + 1
        return task.inputs(samples) + 0.1 * samples[0].metadata["seen"]

    def scores(answer, label):
        answer["seen"] = label["seen"] = label.get("seen", 0) + 1
        return {"correct": float(answer["side"] == label["side"]), "noise": float(torch.rand(()))}

    shared = {}

    def answers(output):
        given = task.answers(output)
        sides = [shared.setdefault(place, {}) for place in range(len(given))]
        for side, one in zip(sides, given, strict=True):
            side["side"] = one.value
        return [replace(one, value=side) for one, side in zip(given, sides, strict=True)]

    return replace(
        task,
        model=lambda: Careless(torch.nn.Linear(2, 2)),
        inputs=inputs,
        answers=answers,
        scores=scores,
    )


def _spoil(samples, answers):
    random.seed(3)
    for sample, answer in zip(samples, answers, strict=True):
        sample.metadata["seen"], answer["side"] = 7, "left"
    samples.clear()
    return lambda samples: [{"side": "left"} for _ in range(len(samples)) if samples.pop()]


@pytest.mark.parametrize("seed", range(12))
def test_scores_do_not_depend_on_who_else_is_measured_or_in_which_order(
    points_task, rows, line_weights, seed
):
    rng = np.random.default_rng(seed)
    task = _with_habits(points_task, rng)
    labeled = rows(300, seed)
    labeled = replace(labeled, answers=[{"side": answer} for answer in labeled.answers])
    models = {
        name: Model(task, line_weights(*rng.normal(size=2)), CPU) for name in ("first", "second")
    }
    predictors, _ = fit_baselines({"spoiler": Baseline(kind="scripted", fit=_spoil)}, labeled)
    orders = [dict(order) for order in itertools.permutations(models.items())]
    alone = [score_entrants(task, labeled, {name: models[name]}, {}) for name in models]
    tables = [score_entrants(task, labeled, order, predictors) for order in orders]
    expected = {**alone[0], **alone[1]}
    for table in tables:
        for name, scores in expected.items():
            assert {key: one.tolist() for key, one in table[name].items()} == {
                key: one.tolist() for key, one in scores.items()
            }
    assert all("seen" not in sample.metadata for sample in labeled.samples)


def test_one_set_of_weights_scores_the_same_as_candidate_and_as_champion(
    points_task, rows, line_weights
):
    class Writing(torch.nn.Sequential):
        def forward(self, inputs):
            return super().forward(inputs.mul_(-0.5).add_(0.1))

    task = replace(points_task, model=lambda: Writing(torch.nn.Linear(2, 2)))
    twins = {name: Model(task, line_weights(1, 1), CPU) for name in ("candidate", "champion")}
    tables = score_entrants(task, rows(300, 1), twins, {})
    assert tables["candidate"]["correct"].tolist() == tables["champion"]["correct"].tolist()


def test_a_network_that_all_models_share_is_refused(points_task, rows, line_weights):
    network = points_task.model()
    task = replace(points_task, model=lambda: network)
    models = {name: Model(task, line_weights(1, place), CPU) for place, name in enumerate("ab")}
    with pytest.raises(TaskError, match="Return a new network each time"):
        score_entrants(task, rows(9, 1), models, {})


def test_what_is_global_is_as_before_after_a_users_code():
    random.seed(1), torch.manual_seed(1)
    expected = random.getstate(), torch.random.get_rng_state().tolist(), np.geterr()
    with isolated():
        drawn = torch.rand(2).tolist()
        _set_globals(None)
        random.random()
    with isolated():
        assert torch.rand(2).tolist() == drawn
    assert (random.getstate(), torch.random.get_rng_state().tolist(), np.geterr()) == expected
    assert torch.get_default_dtype() is torch.float32


def test_functions_of_a_task_work_on_copies(points_task):
    def merge(answers):
        answers[0]["side"] = "changed"
        return answers.pop()

    def answer(result, sample):
        sample.metadata["seen"] = True
        return result.pop()

    labeling = Labeling(config="", data=dict, result=lambda a, s: a, answer=answer)
    task = replace(points_task, merge=merge, labeling=labeling)
    sample, given = Sample.of(b"", "text/plain"), [{}]
    task.merge(given)
    task.labeling.answer(given, sample)
    assert (given, "seen" in sample.metadata) == ([{}], False)
    assert replace(task).merge is task.merge  # it is not wrapped again


def test_a_copy_of_json_can_be_changed_alone():
    value = {"a": [1, {"b": (2,)}]}
    other = copied(value)
    other["a"][1]["b"] = 3
    assert value == {"a": [1, {"b": (2,)}]}
