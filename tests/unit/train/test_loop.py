import dataclasses
import re

import pytest
import safetensors.torch
import torch

from flywheel.errors import FlywheelError, SettingsError, UserError
from flywheel.recipes import not_this_class
from flywheel.records import content_id
from flywheel.testing import toy_task


def test_the_same_seed_gives_the_same_bytes(run_training, points_task):
    noisy = dataclasses.replace(points_task, augment=_jitter)
    first, second = run_training(task=noisy, seed=5), run_training(task=noisy, seed=5)
    assert first.weights == second.weights
    assert first.checkpoint.losses == second.checkpoint.losses


def test_another_seed_gives_another_digest(run_training):
    assert run_training(seed=1).checkpoint.digest != run_training(seed=2).checkpoint.digest


def test_training_leaves_the_global_generator_alone(run_training):
    before = torch.random.get_rng_state()
    run_training()
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_can_be_learned_is_learned(run_training, share_right):
    trained = run_training(steps=60)
    assert share_right(trained) > 0.95
    assert trained.checkpoint.losses[-1] < trained.checkpoint.losses[0] / 2


def test_the_checkpoint_says_what_made_it(run_training, training_data, line_weights):
    champion = line_weights(1.0, 0.0)
    trained = run_training(training_data(champion=champion), seed=9, shrink=0.5)
    checkpoint = trained.checkpoint
    assert checkpoint.digest == content_id(trained.weights)
    assert checkpoint.parent_digest == content_id(champion)
    assert (checkpoint.seed, checkpoint.device, len(checkpoint.losses)) == (9, "cpu", 10)
    assert checkpoint.settings["shrink"] == 0.5
    assert checkpoint.train_seconds > 0


def test_a_warm_start_begins_where_the_champion_is(run_training, training_data, line_weights):
    champion = line_weights(20.0, 0.0)
    warm = run_training(training_data(champion=champion), shrink=1.0, learning_rate=1e-6)
    fresh = run_training(learning_rate=1e-6)
    assert warm.checkpoint.losses[0] < 0.1 < fresh.checkpoint.losses[0]


def test_a_fresh_start_has_no_parent(run_training, training_data, line_weights):
    data = training_data(champion=line_weights(1.0, 0.0))
    assert run_training(data, shrink=0.0).checkpoint.parent_digest is None


def test_progress_is_reported_after_every_epoch(run_training):
    reported = []
    run_training(progress=lambda epoch, epochs, loss: reported.append((epoch, epochs, loss > 0)))
    assert reported == [(epoch, 10, True) for epoch in range(1, 11)]


def test_no_batch_holds_a_single_row_when_more_fit(run_training, training_data, points_task):
    sizes = []

    def note_size(inputs, _):
        sizes.append(len(inputs))
        return inputs

    task = dataclasses.replace(points_task, augment=note_size)
    run_training(training_data(65), task=task, batch_size=64)
    assert set(sizes) == {32, 33}


def test_a_loss_that_is_no_number_stops_and_names_epoch_and_setting(run_training, points_task):
    task = dataclasses.replace(points_task, loss=lambda output, _: output[:, 0] * float("nan"))
    with pytest.raises(FlywheelError, match=r"nan in epoch 1 of 10; lower train.learning_rate"):
        run_training(task=task)


def test_weights_that_are_no_numbers_are_never_given_back(run_training, points_task):
    # The loss of every step is fine, the gradient of the last is not: d sqrt(x) / dx at 0 is infinite.
    steps = iter(range(1, 11))

    def loss(output, _):
        zero = output[:, 0] * 0
        return zero.sqrt() if next(steps) == 10 else zero

    task = dataclasses.replace(points_task, loss=loss)
    with pytest.raises(FlywheelError, match="are not finite after the last epoch"):
        run_training(task=task)


def test_steps_count_unless_ten_epochs_are_more(run_training, training_data):
    few, many = run_training(steps=7), run_training(training_data(60), steps=90, batch_size=20)
    assert few.checkpoint.recipe.startswith("10 steps on 60 rows (60 start)")
    assert many.checkpoint.recipe.startswith("90 steps on 60 rows")
    assert len(many.checkpoint.losses) == 30


def test_a_curve_has_no_more_than_a_hundred_points(run_training):
    losses = run_training(steps=250).checkpoint.losses
    assert len(losses) == 100
    assert losses[-1] < losses[0]


def test_training_ends_early_with_the_best_step_on_the_validation_part(
    run_training, training_data, points_task
):
    """Labels are noise: what is learned by heart makes the loss on other rows rise."""
    task = dataclasses.replace(points_task, model=_memory)
    data = training_data(160, answers=["left", "right"] * 80)
    settings = {"steps": 400, "batch_size": 128, "learning_rate": 0.03}
    recipe = run_training(data, task=task, validation_share=0.3, **settings).checkpoint.recipe
    steps, best, number = map(int, re.search(_BEST, recipe).groups())
    assert best < steps < 400
    assert 30 < number < 70


def test_without_a_validation_part_the_last_step_counts_and_it_is_said_why(run_training):
    recipe = run_training(steps=30, validation_share=0.1).checkpoint.recipe
    assert recipe.endswith("are fewer than 20, so the last step counts")
    assert "validat" not in run_training(steps=30).checkpoint.recipe


def test_production_rows_outweigh_start_data_by_their_share(
    run_training, training_data, share_right
):
    """Sixty start rows are all wrong; thirty rows of production are right."""
    right = training_data(90)
    lies = [_OTHER[answer] for answer in right.answers[:60]]
    data = training_data(
        90,
        answers=[*lies, *right.answers[60:]],
        origins=["start"] * 60 + ["probability"] * 30,
    )
    assert share_right(run_training(data, steps=60, production_share=0.8)) > 0.5
    assert share_right(run_training(data, steps=60, production_share=0.0)) < 0.5


def test_only_what_training_changes_has_to_be_finite(run_training, points_task):
    task = dataclasses.replace(points_task, model=lambda: _masked(points_task))
    assert run_training(task=task).checkpoint.losses


def test_a_buffer_that_training_makes_infinite_is_refused(run_training, points_task):
    def model():
        network = points_task.model()
        network.register_buffer("count", torch.ones(1))
        network.register_forward_pre_hook(lambda part, _: part.count.mul_(1e30) and None)
        return network

    with pytest.raises(FlywheelError, match="'count' are not finite"):
        run_training(task=dataclasses.replace(points_task, model=model))


def _masked(task):
    network = task.model()
    network.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1))
    return network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": [], "answers": [], "origins": []}, "0 training rows and at least 2"),
        ({"answers": ["left"] * 60}, "all 60 training rows have the answer 'left'"),
    ],
)
def test_data_that_teaches_nothing_is_refused(run_training, training_data, changes, message):
    with pytest.raises(UserError, match=message):
        run_training(training_data(**changes))


def test_a_device_that_is_not_there_is_refused(run_training):
    with pytest.raises(SettingsError, match=r"train\.device"):
        run_training(device="cuda:99")


_OTHER = {"left": "right", "right": "left"}
_THREE = ["left", "middle", "right"]
_BEST = r"^(\d+) steps .* step (\d+) is better than later ones, by the loss on (\d+) held-out"


def _memory():
    """A network that can learn a hundred points by heart."""
    wide = torch.nn.Linear(2, 256), torch.nn.ReLU(), torch.nn.Linear(256, 2)
    return torch.nn.Sequential(*wide)


def _jitter(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)


def test_a_failed_outcome_teaches_what_not_to_answer(run_training, training_data, share_right):
    """Two rows give the answers; sixty say only which one is wrong."""
    right = training_data(62).answers
    given = {right.index("left"), right.index("right")}
    data = training_data(
        62,
        answers=[side if row in given else _OTHER[side] for row, side in enumerate(right)],
        origins=["start" if row in given else "failed" for row in range(62)],
    )
    task = dataclasses.replace(toy_task(), loss_not=not_this_class)
    assert share_right(run_training(data, task=task, steps=60)) > 0.9


def test_without_loss_not_failed_rows_do_not_train(run_training, training_data):
    data = training_data(60, origins=["start"] * 40 + ["failed"] * 20)
    recipe = run_training(data).checkpoint.recipe
    assert recipe.startswith("10 steps on 40 rows (40 start)")


def test_outcomes_alone_train(run_training, training_data, share_right):
    data = training_data(60, origins=["worked"] * 60, weights=[0.8] * 60)
    assert share_right(run_training(data, steps=60)) > 0.9


def test_a_class_without_a_label_and_fewer_labels_than_classes_train(training_data, run_training):
    """Three classes: the second has only an outcome that excludes it, the third nothing."""
    task = dataclasses.replace(
        toy_task(),
        model=lambda: torch.nn.Linear(2, 3),
        targets=lambda answers: torch.tensor([_THREE.index(answer) for answer in answers]),
        loss_not=not_this_class,
    )
    data = training_data(3, answers=["left", "right", "middle"], origins=["start"] * 2 + ["failed"])
    losses = run_training(data, task=task, steps=30).checkpoint.losses
    assert losses[-1] < losses[0]


SEEN = set[torch.dtype]()


class _Seen(torch.nn.Module):
    """A linear layer that notes of what kind its outputs are while it trains."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 2)

    def forward(self, inputs):
        output = self.line(inputs)
        if self.training:
            SEEN.add(output.dtype)
        return output


def test_mixed_precision_computes_in_bfloat16_and_learns_the_same(run_training, points_task):
    lossy = set()

    def loss(output, target):
        lossy.add(output.dtype)
        return points_task.loss(output, target)

    task = dataclasses.replace(points_task, model=_Seen, loss=loss)
    SEEN.clear()
    mixed = run_training(task=task, steps=60, mixed_precision=True)
    assert list(SEEN) == [torch.bfloat16]
    assert lossy == {torch.float32}
    full = run_training(task=task, steps=60)
    assert mixed.checkpoint.losses == pytest.approx(full.checkpoint.losses, rel=0.1)
    assert mixed.weights != full.weights
    assert {one.dtype for one in safetensors.torch.load(mixed.weights).values()} == {torch.float32}
