"""Inputs of every form train: one tensor, a tree of tensors, items of different sizes; in memory or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.utils.rnn import pad_sequence

from flywheel.batches import flattened, join, map_tensors, num_rows, shape_of
from flywheel.checks import check_task
from flywheel.errors import TaskError
from flywheel.model import Model
from flywheel.testing import draw_points, toy_task
from flywheel.train import rows
from flywheel.train.rows import Team


class Tree(nn.Module):
    def __init__(self):
        super().__init__()
        self.sides = nn.Linear(1, 2)
        self.heights = nn.Embedding(2, 2)

    def forward(self, inputs):
        return self.sides(inputs["x"]) + self.heights(inputs["rest"][0])


def tree_inputs(samples):
    points = toy_task().inputs(samples)
    return {"x": points[:, :1], "rest": ((points[:, 1] > 0).long(),)}


class Ragged(nn.Module):
    """The mean over as many numbers as a sample has."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(1, 2)

    def forward(self, inputs):
        total = (inputs["numbers"] * inputs["mask"]).sum(dim=1, keepdim=True)
        return self.last(total / inputs["mask"].sum(dim=1, keepdim=True))


def lengths(samples):
    """As many copies of x as the payload's last byte says."""
    points = toy_task().inputs(samples)
    return [
        point[:1].repeat(1 + sample.payload[-2] % 3)
        for point, sample in zip(points, samples, strict=True)
    ]


def padded(batch):
    return {
        "numbers": pad_sequence(batch, batch_first=True),
        "mask": pad_sequence([torch.ones(len(one)) for one in batch], batch_first=True),
    }


TASKS = {
    "tensor": toy_task,
    "tree": lambda: replace(toy_task(), model=Tree, inputs=tree_inputs),
    "ragged": lambda: replace(toy_task(), model=Ragged, inputs=lengths, collate=padded),
}


@pytest.mark.parametrize("kind", TASKS)
def test_every_form_of_inputs_trains(kind, run_training):
    task = TASKS[kind]()
    trained = run_training(task=task, steps=200)
    samples, sides = draw_points(100, 2)
    answers = Model(task, trained.weights, torch.device("cpu")).answer_samples(samples)
    assert np.mean([one.value == side for one, side in zip(answers, sides, strict=True)]) > 0.9


@pytest.mark.parametrize("kind", TASKS)
def test_rows_that_do_not_fit_into_memory_give_the_same_weights(kind, run_training, monkeypatch):
    task = TASKS[kind]()
    resident = run_training(task=task, steps=30)
    monkeypatch.setattr(rows, "_free", lambda _: 0.0)
    assert run_training(task=task, steps=30).weights == resident.weights


@pytest.mark.parametrize("kind", TASKS)
def test_every_form_keeps_the_laws(kind):
    found, toys = (check_task(one, np.random.default_rng(0)) for one in (TASKS[kind](), toy_task()))
    assert {one.law for one in found} <= {one.law for one in toys}, found


def test_a_row_that_cannot_be_read_ends_a_streamed_training_with_its_error(
    run_training, monkeypatch
):
    monkeypatch.setattr(rows, "_free", lambda _: 0.0)
    seen = []

    def inputs(samples):
        seen.append(len(samples))
        if len(seen) > 3:
            raise ValueError("disk gone")
        return toy_task().inputs(samples)

    with pytest.raises(TaskError, match="disk gone"):
        run_training(task=replace(toy_task(), inputs=inputs), steps=50)


def test_blocks_that_a_task_pads_differently_are_decoded_together(run_training, training_data):
    """Inputs that are padded to the longest of their call have other shapes in every block."""
    longest = []

    def inputs(samples):
        longest.append(len(samples))
        return nn.functional.pad(toy_task().inputs(samples), (0, len(samples) % 7))

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(2, 2)

        def forward(self, given):
            return self.last(given[:, :2])

    task = replace(toy_task(), model=Padded, inputs=inputs)
    run_training(training_data(300), task=task, steps=5)
    assert max(longest) == 300


def test_trees_are_joined_and_measured():
    tree = {"a": torch.ones(2, 3), "b": (torch.zeros(2), [torch.ones(2, 1)])}
    assert num_rows(tree) == 2
    both = join([tree, tree])
    assert both["a"].shape == (4, 3)
    assert both["b"][1][0].shape == (4, 1)
    assert flattened(tree).shape == (2, 5)
    assert shape_of(tree) == shape_of(map_tensors(torch.zeros_like, tree))
    assert shape_of(tree) != shape_of(torch.ones(2, 3))
    assert join([[1], [2, 3]]) == [1, 2, 3]


@pytest.mark.parametrize("free", [0.0, 1e12])
@pytest.mark.parametrize("augment", [None, lambda inputs, _: inputs])
def test_a_process_of_a_team_decodes_its_share_unless_the_task_varies_whole_batches(
    training_data, monkeypatch, free, augment
):
    monkeypatch.setattr(rows, "_free", lambda _: free)
    task, data = replace(toy_task(), augment=augment), training_data(30)
    decoded, cpu = task.inputs(data.samples), torch.device("cpu")
    batches = torch.randperm(30).split(10)
    for rank in range(3):
        team = Team(rank=rank, size=3)
        read = rows.Rows.read(task, data, cpu, team)
        for batch, inputs in read.stream(batches, team):
            mine = batch if augment is not None else batch[team.share(10)]
            assert torch.equal(inputs, decoded[mine])


def test_a_team_on_a_cpu_shares_one_copy_of_the_rows(training_data, monkeypatch, tmp_path):
    met, decoded = [], []
    monkeypatch.setattr(distributed, "barrier", lambda: met.append(True))

    def inputs(samples):
        decoded.append(len(samples))
        return {"x": toy_task().inputs(samples)}

    task, data = replace(toy_task(), inputs=inputs), training_data(30)
    held = [
        rows.Rows.read(task, data, torch.device("cpu"), Team(rank=rank, size=3, folder=tmp_path))
        for rank in range(3)
    ]
    assert (decoded, len(met)) == ([30], 3)
    assert all(torch.equal(one.inputs["x"], toy_task().inputs(data.samples)) for one in held)


def test_the_limit_of_a_container_counts_as_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_CONTAINER", tmp_path)
    cpu = torch.device("cpu")
    whole = rows._free(cpu)
    for name, text in (("max", "max\n"), ("current", "600\n"), ("stat", "anon 1\ninactive_file 8")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert rows._free(cpu) == pytest.approx(whole, rel=0.5)
    (tmp_path / "memory.max").write_text("1000\n")
    assert rows._free(cpu) == (1000 - 600 + 8) / 4
