"""Varied pictures stay pictures, each in its own way; a refuted class loses probability."""

import dataclasses
import math

import pytest
import torch

from flywheel.recipes import VaryPictures, not_this_class

NONE = VaryPictures(
    turn_degrees=0,
    scale=0,
    shear=0,
    shift=0,
    contrast=0,
    brightness=0,
    gamma=0,
    noise=0,
    erase=0,
)


@pytest.fixture
def pictures():
    """Eight of 3 x 24 x 16 with a bright bar off the middle."""
    drawn = torch.zeros(8, 3, 24, 16)
    drawn[:, :, 4:8, 3:13] = 0.8
    return drawn


def vary(inputs, seed=0, **changes):
    return dataclasses.replace(NONE, **changes)(inputs, torch.Generator().manual_seed(seed))


def test_without_any_change_a_picture_stays_as_it_is(pictures):
    torch.testing.assert_close(vary(pictures), pictures, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"turn_degrees": 20},
        {"scale": 0.3},
        {"shear": 0.3},
        {"shift": 0.2},
        {"contrast": 0.5},
        {"brightness": 0.3},
        {"gamma": 0.5},
        {"noise": 0.1},
        {"erase": 1.0},
    ],
)
def test_each_change_alone_varies_each_picture_in_its_own_way(pictures, change):
    varied = vary(pictures, **change)
    assert varied.shape == pictures.shape
    assert 0 <= float(varied.min()) <= float(varied.max()) <= 1
    assert len({row.numpy().tobytes() for row in varied}) == len(varied)


def test_the_same_generator_gives_the_same_pictures_and_the_global_one_is_left_alone(pictures):
    before = torch.random.get_rng_state()
    first, second = (VaryPictures()(pictures, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, VaryPictures()(pictures, torch.Generator().manual_seed(6)))


def test_a_shift_moves_by_at_most_its_part_of_the_side():
    dot = torch.zeros(200, 1, 41, 41)
    dot[:, :, 20, 20] = 1
    places = vary(dot, shift=0.1).flatten(1).argmax(dim=1)
    assert int((places // 41 - 20).abs().max()) == int((places % 41 - 20).abs().max()) == 4


def test_a_turn_keeps_the_shape_and_goes_no_further_than_asked():
    bar = torch.zeros(200, 1, 65, 65)
    bar[:, :, 32, 2:63] = 1
    angles = [math.degrees(math.atan(_slope(one[0]))) for one in vary(bar, turn_degrees=30)]
    assert 27 < max(angles) < 31
    assert -31 < min(angles) < -27


def _slope(picture):
    rows, columns = torch.where(picture > 0.3)
    x, y = columns - 32.0, rows - 32.0
    return float((x * y).sum() / (x * x).sum())


def test_what_is_erased_has_the_mean_colour_and_is_as_small_as_asked(pictures):
    varied = vary(pictures, erase=1.0, erase_side=0.5)
    changed = (varied - pictures).abs() > 1e-3
    mean = pictures.mean(dim=(2, 3), keepdim=True).expand_as(pictures)
    torch.testing.assert_close(varied[changed], mean[changed])
    parts = changed.float().mean(dim=(1, 2, 3))
    assert 0.04 < float(parts.min()) < float(parts.max()) <= 0.25


def test_beyond_the_edge_is_what_was_asked_for():
    white = torch.ones(50, 1, 20, 20)
    assert float(vary(white, shift=0.3).min()) == pytest.approx(1)
    assert float(vary(white, shift=0.3, outside="zeros").min()) == 0


def test_the_loss_of_a_refuted_class_is_minus_log_of_one_minus_its_chance():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    classes = torch.tensor([1, 2])
    chances = logits.softmax(dim=1)[[0, 1], classes]
    torch.testing.assert_close(not_this_class(logits, classes), -(1 - chances).log())


def test_it_stays_finite_for_a_certain_model_and_pushes_the_class_down():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = not_this_class(logits, torch.tensor([0])).sum()
    loss.backward()
    assert loss.item() == pytest.approx(200 - math.log(2), abs=1e-3)
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]
