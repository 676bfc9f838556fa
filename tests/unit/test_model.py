import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from flywheel.errors import SettingsError, TaskError
from flywheel.model import Model, cpu_threads, load_weights, pick_device, weights_of
from flywheel.records import content_id

CPU = torch.device("cpu")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.other.weight = self.one.weight


def twin(module):
    copy = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    load_weights(copy, weights_of(module))
    return copy


@pytest.fixture
def module():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_equal_weights_give_equal_bytes_and_different_ones_do_not(module):
    assert weights_of(module) == weights_of(twin(module))
    other = twin(module)
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    assert weights_of(module) != weights_of(other)


def test_buffers_are_weights_too(module):
    module(torch.randn(8, 2))
    torch.testing.assert_close(twin(module)[1].running_mean, module[1].running_mean)


def test_layers_that_share_one_weight_can_be_stored(module):
    """safetensors refused them after a night of training."""
    tied, copy = Tied(), Tied()
    load_weights(copy, weights_of(tied))
    torch.testing.assert_close(copy.other.weight, tied.one.weight)


@pytest.mark.parametrize(
    "weights",
    [b"", b"no weights at all", pickle.dumps({"0.weight": [1.0]}), weights_of(nn.Linear(5, 5))],
    ids=["empty", "text", "pickle", "another network"],
)
def test_what_does_not_fit_the_network_is_a_task_error(module, weights):
    with pytest.raises(TaskError, match=r"does not fit the network that task\.model\(\) returns"):
        load_weights(module, weights)


def test_a_pickle_runs_no_code(module, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    with pytest.raises(TaskError):
        load_weights(module, pickle.dumps(Bomb()))
    assert not (tmp_path / "ran").exists()


def test_a_model_is_named_by_its_weights_and_answers_by_them(
    points_task, draw_points, line_weights
):
    samples, sides = draw_points(600, 3)
    weights = line_weights(1, 0)
    model = Model(points_task, weights, CPU)
    assert model.digest == content_id(weights)
    assert [answer.value for answer in model.answer_samples(samples, batch_size=7)] == sides


def test_a_sample_is_answered_alike_alone_and_among_others(points_task, draw_points, line_weights):
    samples, _ = draw_points(20, 4)
    model = Model(points_task, line_weights(1, 2), CPU)
    together, (alone,) = model.answer_samples(samples), model.answer_samples(samples[5:6])
    assert alone.confidence == pytest.approx(together[5].confidence, abs=1e-6)
    np.testing.assert_allclose(alone.embedding, together[5].embedding, atol=1e-6)


def test_no_samples_have_no_answers(points_task, line_weights):
    assert Model(points_task, line_weights(1, 0), CPU).answer_samples([]) == []


def test_another_number_of_answers_than_inputs_is_a_task_error(
    points_task, draw_points, line_weights
):
    """The night that trained the first model ended in a traceback about zip()."""
    task = dataclasses.replace(points_task, answers=lambda output: points_task.answers(output)[1:])
    samples, _ = draw_points(5, 4)
    with pytest.raises(
        TaskError, match=r"The task returned 4 answers to 5 samples\. Let it return"
    ):
        Model(task, line_weights(1, 0), CPU).answer_samples(samples)


def test_auto_is_a_device_that_is_there():
    assert pick_device("auto").type in ("cpu", "cuda")
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_a_settings_error_with_its_name(name):
    """meta holds no numbers: it went through, and training failed far from here."""
    with pytest.raises(SettingsError, match=rf"train\.device = '{name}'.*write auto"):
        pick_device(name)


def test_fewer_threads_for_a_block_only():
    before = torch.get_num_threads()
    with cpu_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_zero_threads_leave_torch_as_it_is():
    before = torch.get_num_threads()
    with cpu_threads(0):
        assert torch.get_num_threads() == before
