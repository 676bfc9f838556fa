import dataclasses

import pytest
import torch

from flywheel.errors import FlywheelError, SettingsError, UserError
from flywheel.records import content_id


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
    trained = run_training(epochs=60)
    assert share_right(trained) > 0.95
    assert trained.checkpoint.losses[-1] < trained.checkpoint.losses[0] / 2


def test_the_checkpoint_says_what_made_it(run_training, training_data, line_weights):
    champion = line_weights(1.0, 0.0)
    trained = run_training(training_data(champion=champion), seed=9, shrink=0.5)
    checkpoint = trained.checkpoint
    assert checkpoint.digest == content_id(trained.weights)
    assert checkpoint.parent_digest == content_id(champion)
    assert (checkpoint.seed, checkpoint.device, len(checkpoint.losses)) == (9, "cpu", 3)
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


@pytest.mark.parametrize(("hard_share", "is_fooled"), [(0.0, False), (0.3, False), (1.0, True)])
def test_targeted_rows_sway_the_model_only_as_far_as_their_share(
    run_training, training_data, share_right, hard_share, is_fooled
):
    clean = training_data()
    lies = [{"left": "right", "right": "left"}[answer] for answer in clean.answers] * 2
    data = training_data(
        samples=[*clean.samples] * 3,
        answers=[*clean.answers, *lies],
        origins=["start"] * 60 + ["targeted"] * 120,
    )
    trained = run_training(data, hard_share=hard_share, epochs=60)
    assert (share_right(trained) < 0.5) == is_fooled


def test_progress_is_reported_after_every_epoch(run_training):
    reported = []
    run_training(progress=lambda epoch, epochs, loss: reported.append((epoch, epochs, loss > 0)))
    assert reported == [(1, 3, True), (2, 3, True), (3, 3, True)]


def test_no_batch_holds_a_single_row_when_more_fit(run_training, training_data, points_task):
    sizes = []

    def note_size(inputs, _):
        sizes.append(len(inputs))
        return inputs

    task = dataclasses.replace(points_task, augment=note_size)
    run_training(training_data(65), task=task, batch_size=64, epochs=1)
    assert sorted(sizes) == [32, 33]


def test_a_loss_that_is_no_number_stops_and_names_epoch_and_setting(run_training, points_task):
    task = dataclasses.replace(points_task, loss=lambda output, _: output[:, 0] * float("nan"))
    with pytest.raises(FlywheelError, match=r"nan in epoch 1 of 3; lower train.learning_rate"):
        run_training(task=task)


def test_weights_that_are_no_numbers_are_never_given_back(run_training, points_task):
    # The loss of the only step is fine, its gradient is not: d sqrt(x) / dx at 0 is infinite.
    task = dataclasses.replace(points_task, loss=lambda output, _: (output[:, 0] * 0).sqrt())
    with pytest.raises(FlywheelError, match="are not finite after epoch 1"):
        run_training(task=task, epochs=1)


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


def _jitter(inputs, generator):
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
