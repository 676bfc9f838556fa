import pytest
import torch

from flywheel.errors import TaskError
from flywheel.model import weights_of
from flywheel.train.fit import seeded, starting_network


def _start(task, champion, shrink, seed=0):
    with seeded(seed):
        return starting_network(task, champion, shrink)


def test_a_warm_start_is_the_champion_shrunk_with_small_noise(points_task, line_weights):
    weight = _start(points_task, line_weights(4.0, -2.0), 0.5)[0].weight.detach()
    expected = torch.tensor([[-2.0, 1.0], [2.0, -1.0]])
    assert (weight - expected).abs().max() < 0.05
    assert not torch.equal(weight, expected)


@pytest.mark.parametrize(("has_champion", "shrink"), [(False, 0.5), (True, 0.0)])
def test_without_champion_or_shrink_the_network_is_fresh(
    points_task, line_weights, has_champion, shrink
):
    champion = line_weights(4.0, -2.0) if has_champion else None
    with seeded(0):
        fresh = points_task.model()
    assert weights_of(_start(points_task, champion, shrink)) == weights_of(fresh)


def test_measured_statistics_are_not_shrunk(points_task):
    task = _with_batch_norm(points_task)
    champion = task.model()
    champion[1].running_mean.fill_(3.0)
    assert _start(task, weights_of(champion), 0.5)[1].running_mean.tolist() == [3.0, 3.0]


def test_weights_of_another_network_are_refused(points_task):
    other = weights_of(torch.nn.Linear(3, 3))
    with pytest.raises(TaskError, match="does not fit the network"):
        _start(points_task, other, 0.5)


def test_the_global_generator_is_as_it_was_after_the_block():
    before = torch.random.get_rng_state()
    with seeded(3):
        torch.rand(5)
    assert torch.equal(before, torch.random.get_rng_state())


def _with_batch_norm(task):
    return type(task)(
        model=lambda: torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)),
        inputs=task.inputs,
        targets=task.targets,
        loss=task.loss,
        answers=task.answers,
        scores=task.scores,
        labeling=task.labeling,
    )
