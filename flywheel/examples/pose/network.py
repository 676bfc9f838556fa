"""A small fully convolutional network that finds keypoints; its inputs, targets and loss.

Shapes: B pictures of N x N pixels, K keypoints, S symmetries, H x W cells of the heatmaps, a
quarter as many as pixels along each side. Inputs are (B, 5, N, N): RGB of 0..1, then x / z and
y / z of the ray of each pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from flywheel.errors import TaskError
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import IMAGE_PIXELS, Camera, decode, rays, read_pose
from flywheel.records import Array, Json, Sample

_FINE, _MIDDLE, _COARSE = 24, 48, 96
"""features in cells of 2, 4 and at least 8 pixels"""
_LEAST_STD_PX = 0.15
_MOST_STD_PX = 30.0
_START_LOG_STD = math.log(4.0)

Output = dict[str, torch.Tensor]


_ROWS, _COLUMNS = np.mgrid[:IMAGE_PIXELS, :IMAGE_PIXELS]
_PIXELS = np.stack([_COLUMNS, _ROWS], axis=-1)  # (N, N, 2) of u, v


class _Block(nn.Module):
    """Convolution, normalisation within the sample, SiLU."""

    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(num_in, num_out, 3, stride=stride, padding=1, bias=False)
        self.normalise = nn.GroupNorm(num_out // 8, num_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return functional.silu(self.normalise(self.convolve(features)), inplace=True)


class KeypointNet(nn.Module):
    """Encoder and decoder over RGB; a keypoint is the mean of the cells' estimates under its heatmap.

    A cell estimates the keypoint as its own ray and an offset in pixels, which makes up for cells
    of 4 x 4 pixels. Why keypoints and not the pose itself:

    * A keypoint is where something can be seen; convolutions find it wherever the part lies, while
      a pose must be learned anew for every place and every camera.
    * The camera enters in closed form, as rays: the convolutions see colours only.
    * Each point has its own uncertainty and all must fit one rigid part, so the misfit too shows
      when not to trust an answer.
    * Annotators mark the same points, so that a correction is about what they see.

    Drawback: a point outside of the picture can hardly be guessed.
    """

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            _Block(12, _FINE),
            _Block(_FINE, _MIDDLE, 2),
            _Block(_MIDDLE, _MIDDLE),
        )
        self.coarse = nn.Sequential(_Block(_MIDDLE, _COARSE, 2), _Block(_COARSE, _COARSE))
        self.deep = nn.Sequential(_Block(_COARSE, _COARSE, 2), _Block(_COARSE, _COARSE))
        self.decode_coarse = _Block(_COARSE, _COARSE)
        self.narrow = nn.Conv2d(_COARSE, _MIDDLE, 1)
        self.decode = _Block(_MIDDLE, _MIDDLE)
        self.read = nn.Conv2d(_MIDDLE, 4 * num_keypoints, 1)

    def forward(self, inputs: torch.Tensor) -> Output:
        """(B, 5, 4 H, 4 W) -> keypoints (B, K, 2) and log_std (B, K) in rays, and more.

        Also camera (B, 4), pixel (B,), the rays that one pixel is wide, and embedding (B, D).
        """
        colours = inputs[:, :3].contiguous(memory_format=torch.channels_last)
        middle = self.stem(4.0 * (colours - 0.5))
        coarse = self.coarse(middle)
        deep = self.deep(coarse)
        up = self.decode_coarse(coarse + _larger(deep))
        up = self.decode(middle + _larger(self.narrow(up)))
        heat, doubt, right, down = self.read(up).flatten(2).chunk(4, dim=1)  # (B, K, H W) each
        heat = heat.softmax(dim=2)
        cells = functional.avg_pool2d(inputs[:, 3:], 4).flatten(2)  # (B, 2, H W)
        offset = torch.stack([(heat * right).sum(dim=2), (heat * down).sum(dim=2)], dim=2)
        log_px = _START_LOG_STD + (heat * doubt).sum(dim=2)
        camera, steps = _camera(inputs[:, 3:])
        pixel = torch.linalg.det(steps).abs().sqrt()
        least, most = math.log(_LEAST_STD_PX), math.log(_MOST_STD_PX)
        return {
            "keypoints": heat @ cells.transpose(1, 2) + offset @ steps,
            "log_std": log_px.clamp(least, most) + pixel.log()[:, None],
            "camera": camera,
            "pixel": pixel,
            "embedding": deep.mean(dim=(2, 3)),
        }


def loss(output: Output, target: torch.Tensor) -> torch.Tensor:
    """Output, rays of the keypoints under every symmetry (B, S, K, 2) -> (B,).

    Formula: min over symmetries of the mean over keypoints of d + d / b + 2 log(b / b_least),
    where d = |dx| + |dy| in pixels: an L1 distance, which pulls from afar, and the negative
    log-likelihood of a Laplace distribution of std b sqrt(2), which learns the uncertainty.
    Source: Kendall and Gal (2017), What uncertainties do we need in Bayesian deep learning?
    Departure: the likelihood alone lets hard points go, as a large b hides them from the gradient
    (Seitzer et al., arXiv 2203.09168), hence the plain distance beside it.
    """
    pixel = output["pixel"][:, None, None]
    gaps = output["keypoints"][:, None] - target  # (B, S, K, 2)
    distance = gaps.abs().sum(dim=3) / pixel
    log_b = output["log_std"][:, None] - pixel.log() - math.log(math.sqrt(2.0))
    least = math.log(_LEAST_STD_PX / math.sqrt(2.0))
    losses = distance + distance * (-log_b).exp() + 2.0 * (log_b - least)
    return losses.mean(dim=2).min(dim=1).values


def _larger(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2, mode="nearest")


def _camera(rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ray channels (B, 2, N, N), affine in the pixel -> intrinsics (B, 4), rays by pixel (B, 2, 2).

    The intrinsics are those of an upright picture; a turned one, as augmentation makes it, has
    none, but a step of one pixel, right or down, still moves the ray by a row of the second.
    """
    height, width = rays.shape[2:]
    across = (rays[:, :, 0, -1] - rays[:, :, 0, 0]) / (width - 1)  # (B, 2)
    along = (rays[:, :, -1, 0] - rays[:, :, 0, 0]) / (height - 1)
    focal = torch.stack([1.0 / across[:, 0], 1.0 / along[:, 1]], dim=1)
    camera = torch.cat([focal, -rays[:, :, 0, 0] * focal], dim=1)
    return camera, torch.stack([across, along], dim=1)


def pose_inputs(samples: Sequence[Sample]) -> torch.Tensor:
    """(B, 5, N, N) float32: RGB of 0..1, then x / z and y / z of each pixel's ray.

    Raises:
        PayloadError: a picture cannot be read, or has no camera.
    """
    inputs = np.empty((len(samples), 5, IMAGE_PIXELS, IMAGE_PIXELS), dtype=np.float32)
    for row, sample in zip(inputs, samples, strict=True):
        camera = Camera.of(sample.metadata, f"sample {sample.id[:12]}")
        row[:3] = decode(sample).transpose(2, 0, 1) / np.float32(255.0)
        row[3:] = rays(_PIXELS, camera).transpose(2, 0, 1)
    return torch.from_numpy(inputs)


def pose_targets(part: Part, answers: Sequence[Json]) -> torch.Tensor:
    """(B, S, K, 2) float32: rays of the keypoints, in each position that looks the same.

    Raises:
        TaskError: an answer is not a pose, or puts a keypoint behind the camera.
    """
    keypoints = np.array(list(part.keypoints.values()))
    places = keypoints @ np.swapaxes(part.symmetries, 1, 2)  # (S, K, 3), part frame
    found = np.empty((len(answers), *places.shape[:2], 2), dtype=np.float32)
    for row, answer in zip(found, answers, strict=True):
        row[:] = _seen(read_pose(answer).transform(places))
    return torch.from_numpy(found)


def _seen(points: Array) -> Array:
    nearest = float(points[..., 2].min())
    if nearest <= 0.0:
        raise TaskError(
            f"a pose puts a keypoint at z = {nearest:.3g} m, behind the camera, where nothing is "
            "seen; position_m is in the camera's frame, z forward and above 0"
        )
    seen: Array = points[..., :2] / points[..., 2:]
    return seen
