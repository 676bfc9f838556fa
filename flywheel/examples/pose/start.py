"""The start data of a pose project, rendered from the part's mesh, and the augmentation in training.

One lamp, a plain floor, a camera in its place, nothing else in the bin: what can be had before the
robot runs. It is narrower than production on purpose. Augmentation moves the colours and the rays
together, so that the keypoints, which are rays, stay where they are and no label changes.

Shapes: B pictures of N x N pixels; (B, 5, N, N) holds RGB of 0..1 and the two ray channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Camera, encode, write_pose
from flywheel.examples.pose.render.effects import Effects
from flywheel.examples.pose.render.picture import render
from flywheel.examples.pose.render.scene import Light, Scene, leaning, look_at, resting, seen_from
from flywheel.examples.pose.render.texture import Surface
from flywheel.records import Sample, Split
from flywheel.task import Example

_SEED = 23
_CAMERA = Camera(fx=200.0, fy=200.0, cx=31.5, cy=31.5)
_EYE_M = np.array([0.0, -0.15, 0.43])
"""for a part of 10 cm; all lengths grow with the part"""
_PART_M = 0.1
_LAMP = np.array([-0.35, 0.3, 0.89])
_METAL = Surface(colour=(0.42, 0.43, 0.45), gloss=0.15)
_MAT = Surface(colour=(0.2, 0.21, 0.22))
_MOST_TILT_DEG = 15.0
_NOISE = 0.006


_MOST_TURN_DEG = 180.0
_SCALES = (0.8, 1.25)
_MOST_SHIFT = 0.08
"""of the picture's side"""
_MOVED = 0.6
"""share of the pictures that are moved at all: moving blurs, and production's pictures are sharp"""
_CONTRAST, _BRIGHTNESS, _CAST, _NOISE_SCALES = 0.3, 0.12, 0.1, 0.03
_BLURRED, _COVERED = 0.25, 0.3
"""shares of the pictures"""
_COVER_SIDES = (0.1, 0.35)
"""of the picture's side"""


def start_examples(part: Part, num_train: int = 1_500, num_test: int = 200) -> Iterator[Example]:
    """Labeled pictures to train on, then those held for testing; the same ones at every call."""
    rng = np.random.default_rng(_SEED)
    for number in range(num_train + num_test):
        scene = start_scene(part, rng)
        metadata = {
            "camera": scene.pose.camera.values,
            "scene": f"start-{number}",
            "cell": "cad",
        }
        yield Example(
            sample=Sample.of(encode(render(part, scene)), "image/png", metadata),
            answer=write_pose(scene.pose),
            split=Split.TRAIN if number < num_train else Split.TEST,
        )


def start_scene(part: Part, rng: np.random.Generator) -> Scene:
    """The part alone on a plain floor: turned in any way, hardly tilted."""
    scale = part.diameter_m / _PART_M
    view = look_at(_EYE_M * scale, np.array([0.0, 0.0, 0.2 * part.diameter_m]))
    rotation = leaning(
        rng.uniform(0.0, 360.0), rng.uniform(0.0, _MOST_TILT_DEG), rng.uniform(0.0, 360.0)
    )
    position = resting(part, rotation, rng.uniform(-0.012, 0.012, 2) * scale)
    lamp = _LAMP + rng.normal(0.0, 0.03, 3)
    return Scene(
        pose=seen_from(view, _CAMERA, rotation, position),
        view=view,
        light=Light(direction=lamp / math.sqrt(lamp @ lamp)),
        part=_METAL,
        floor=_MAT,
        effects=Effects(noise=_NOISE, seed=int(rng.integers(2**62))),
    )


def augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, 5, N, N) -> a new (B, 5, N, N), all chance from the generator."""
    moved = _move(inputs, generator)
    colours = _relight(moved[:, :3], generator)
    colours = _cover(_blur(colours, generator), generator)
    noise = torch.randn(colours.shape, generator=generator, device=generator.device)
    level = _draw(len(inputs), generator, inputs, 0.0, _NOISE_SCALES).view(-1, 1, 1, 1)
    colours = (colours + level * noise.to(inputs.device)).clamp(0.0, 1.0)
    return torch.cat([colours, moved[:, 3:]], dim=1)


def _draw(
    count: int, generator: torch.Generator, like: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    draws = torch.rand(count, generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(like.device)


def _move(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale and shift about the middle; what comes in from outside mirrors the picture."""
    count, side = len(inputs), inputs.shape[3]
    turn = _draw(count, generator, inputs, -1.0, 1.0) * math.radians(_MOST_TURN_DEG)
    low, high = (math.log(scale) for scale in _SCALES)
    scale = _draw(count, generator, inputs, low, high).exp()
    right = _draw(count, generator, inputs, -2.0, 2.0) * _MOST_SHIFT
    down = _draw(count, generator, inputs, -2.0, 2.0) * _MOST_SHIFT
    is_moved = _draw(count, generator, inputs, 0.0, 1.0) < _MOVED
    turn, right, down = turn * is_moved, right * is_moved, down * is_moved
    scale = torch.where(is_moved, scale, torch.ones_like(scale))
    cosine, sine = turn.cos() / scale, turn.sin() / scale
    rows = torch.stack([cosine, -sine, right, sine, cosine, down], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(rows, [count, 3, side, side], align_corners=True)
    colours = functional.grid_sample(
        inputs[:, :3], grid, padding_mode="reflection", align_corners=True
    )
    # Rays are affine in the grid, which is -1..1 between the middles of the outermost pixels.
    corners = inputs[:, 3:, [0, 0, -1], [0, -1, 0]]  # (B, 2, 3)
    across, along = ((corners[:, :, k] - corners[:, :, 0]) / 2.0 for k in (1, 2))
    steps = torch.stack([across, along], dim=2)  # (B, 2, 2)
    turned = steps @ rows
    turned[:, :, 2] += corners[:, :, 0] + across + along
    rays = functional.affine_grid(turned, [count, 2, side, side], align_corners=True)
    return torch.cat([colours, rays.permute(0, 3, 1, 2)], dim=1)


def _relight(colours: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    count = len(colours)
    contrast = 1.0 + _draw(count, generator, colours, -_CONTRAST, _CONTRAST)
    brightness = _draw(count, generator, colours, -_BRIGHTNESS, _BRIGHTNESS)
    cast = 1.0 + _draw(3 * count, generator, colours, -_CAST, _CAST)
    middle = colours.mean(dim=(1, 2, 3), keepdim=True)
    changed = (colours - middle) * contrast.view(-1, 1, 1, 1) + middle
    return (changed + brightness.view(-1, 1, 1, 1)) * cast.view(-1, 3, 1, 1)


def _blur(colours: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mix in a 3 x 3 mean, in some of the pictures."""
    count = len(colours)
    is_blurred = _draw(count, generator, colours, 0.0, 1.0) < _BLURRED
    share = (_draw(count, generator, colours, 0.0, 1.0) * is_blurred).view(-1, 1, 1, 1)
    mean = functional.avg_pool2d(colours, 3, stride=1, padding=1, count_include_pad=False)
    return colours + share * (mean - colours)


def _cover(colours: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Put an upright rectangle of one colour over some of the pictures."""
    count, side = len(colours), colours.shape[3]
    is_covered = _draw(count, generator, colours, 0.0, 1.0) < _COVERED
    pixels = torch.arange(side, device=colours.device)[None, :] / side
    inside = []
    for _ in range(2):
        length = _draw(count, generator, colours, *_COVER_SIDES)[:, None]
        start = _draw(count, generator, colours, 0.0, 1.0)[:, None] * (1.0 - length)
        inside.append((pixels >= start) & (pixels < start + length))
    mask = inside[0][:, :, None] & inside[1][:, None, :] & is_covered[:, None, None]
    colour = _draw(3 * count, generator, colours, 0.0, 1.0).view(-1, 3, 1, 1)
    return torch.where(mask[:, None], colour, colours)
