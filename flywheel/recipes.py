"""Ready-made parts of a training recipe: random variation of pictures, and a loss for refuted answers.

A task names them as its `augment` and in its `loss_not`. They are batched torch on the device of
the inputs, and all their randomness comes from the generator that the trainer passes. Libraries
such as torchvision and kornia draw from torch's global generator, with which the same seed would
not give the same model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, kw_only=True, slots=True)
class VaryPictures:
    """An `augment` for pictures: (B, C, H, W) of 0..1 -> the same, each varied in its own way.

    Every field is the most that a picture is changed by, drawn evenly from minus that to plus
    that; 0 leaves this change out. The defaults suit pictures in which up is up and left is left.
    """

    turn_degrees: float = 10.0
    scale: float = 0.1
    """of the size: 0.1 is 0.9 to 1.1 times"""
    shear: float = 0.1
    """of the height, sideways"""
    shift: float = 0.06
    """of the side, in both directions"""
    contrast: float = 0.2
    """of the range of brightness"""
    brightness: float = 0.1
    """of 0..1, added"""
    gamma: float = 0.2
    """exponent of the brightness: 0.2 is 0.8 to 1.25"""
    noise: float = 0.03
    """largest standard deviation of a picture's noise"""
    erase: float = 0.3
    """chance that a rectangle is erased; it takes the picture's mean colour"""
    erase_side: float = 0.35
    """longest side of that rectangle, of the picture's side; it has at least half of that"""
    outside: str = "border"
    """what a moved picture shows beyond its edge: border goes on with the edge, as a camera would
    see more of what lies there; reflection; zeros is black"""

    def __call__(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the pictures, each moved, erased in part, relit and with noise."""
        moved = self._move(inputs, generator)
        return self._relight(self._erase(moved, generator), generator)

    def _move(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        turn, size, lean, right, down = _even(inputs, 5, generator).unbind(1)
        angle = turn * math.radians(self.turn_degrees)
        size, lean = 1 + self.scale * size, self.shear * lean
        cos, sin = angle.cos() / size, angle.sin() / size
        shift = 2 * self.shift  # the picture of affine_grid is 2 wide
        rows = [cos, lean * cos - sin, right * shift, sin, lean * sin + cos, down * shift]
        grid = functional.affine_grid(
            torch.stack(rows, dim=1).view(-1, 2, 3), list(inputs.shape), align_corners=False
        )
        return functional.grid_sample(inputs, grid, padding_mode=self.outside, align_corners=False)

    def _erase(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.erase == 0:
            return inputs
        height, width = inputs.shape[-2:]
        draws = (_even(inputs, 5, generator) + 1) / 2
        happens, high, wide, top, left = draws.view(-1, 5, 1, 1, 1).unbind(1)
        high, wide = ((1 + part) / 2 * self.erase_side for part in (high, wide))
        top, left = top * (1 - high), left * (1 - wide)
        down = (torch.arange(height, device=inputs.device).view(1, 1, -1, 1) + 0.5) / height
        across = (torch.arange(width, device=inputs.device).view(1, 1, 1, -1) + 0.5) / width
        inside = (down >= top) & (down < top + high) & (across >= left) & (across < left + wide)
        mean = inputs.mean(dim=(2, 3), keepdim=True)
        return torch.where(inside & (happens < self.erase), mean, inputs)

    def _relight(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        draws = _even(inputs, 4, generator).view(-1, 4, 1, 1, 1)
        contrast, brightness, gamma, level = draws.unbind(1)
        mean = inputs.mean(dim=(1, 2, 3), keepdim=True)
        lit = mean + (inputs - mean) * (1 + self.contrast * contrast) + self.brightness * brightness
        lit = lit.clamp(0, 1)
        if self.gamma > 0:
            lit = (lit + 1e-6) ** ((1 + self.gamma) ** gamma)  # the slope of 0 ** g is infinite
        if self.noise > 0:
            spread = self.noise * (level + 1) / 2
            noise = torch.randn(inputs.shape, generator=generator, device=generator.device)
            lit = lit + spread * noise.to(inputs)
        return lit.clamp(0, 1)


def not_this_class(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return (B,) the loss -log(1 - p) of logits (B, K), with p of a class (B,) that is not the answer.

    It is computed as logsumexp(all) - logsumexp(all others), which stays finite for a certain
    model.
    Source: Ishida et al., "Learning from Complementary Labels", arXiv 1705.07541; the form is
    that of Yu et al., arXiv 1711.09535.
    """
    others = logits.scatter(1, classes.unsqueeze(1), -torch.inf)
    return logits.logsumexp(dim=1) - others.logsumexp(dim=1)


def _even(inputs: torch.Tensor, number: int, generator: torch.Generator) -> torch.Tensor:
    """Return (B, number) drawn evenly from -1 to 1, on the device of the inputs."""
    drawn = torch.rand(len(inputs), number, generator=generator, device=generator.device)
    return (drawn * 2 - 1).to(inputs)
