"""A detector of boxes for pictures: for each cell of a grid, what has its middle there.

`CellDetector` brings network, inputs, targets, loss and answers of a task about boxes, to begin with
and to compare a larger one with. It is trained from nothing in seconds to minutes on one core.
Source: Redmon et al. (2016), "You Only Look Once", one scale, with a cell for each box; the loss of
the place is smooth L1.

Shapes: B pictures, G cells a side, L labels; a cell has 5 + L numbers: is a box there, place of its
middle within the cell, width and height as shares of the picture, labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from flywheel.errors import AnnotationError
from flywheel.pictures import open_picture
from flywheel.records import Answer, Array, Json, Sample

_FOUND, _PLACE = 1.0, 10.0
"""weights of the few cells with a box, and of where it is"""
_CLOSE = 0.05
"""of a cell, or of the picture's side: below, the loss of a place is squared"""
_LEAST = 0.01
"""of a picture's side: the smallest width and height of an answer"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellDetector:
    """What a task about boxes gives: `Task(model=d.network, inputs=d.inputs, targets=d.targets, ...)`.

    Pictures are read in grey, scaled to a square. Boxes are {"label", "x", "y", "width", "height"} in
    pixels of the picture as it was sent. Two boxes whose middles fall into one cell are one to it.

    >>> import torch
    >>> from flywheel.detector import CellDetector
    >>> detector = CellDetector(labels=["screw", "nut"], side_pixels=64)
    >>> empty = {"picture": torch.zeros(1, 1, 64, 64), "size": torch.ones(1, 2)}
    >>> tuple(detector.network()(empty)["cells"].shape)
    (1, 7, 8, 8)
    """

    labels: Sequence[str]
    side_pixels: int = 128
    """to which pictures are scaled; a multiple of 8"""
    least_confidence: float = 0.5
    """of a box that is an answer"""

    def network(self) -> nn.Module:
        """Return a fresh network."""
        return _Network(5 + len(self.labels))

    def inputs(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Return pictures (B, 1, side, side) in 0..1, and (B, 2) width and height as they were sent."""
        side, pictures, sizes = self.side_pixels, list[Array](), list[tuple[int, int]]()
        for sample in samples:
            picture = open_picture(sample)
            sizes.append(picture.size)
            pictures.append(np.asarray(picture.convert("L").resize((side, side)), dtype=np.float32))
        stacked = np.array(pictures, dtype=np.float32).reshape(-1, 1, side, side) / 255.0
        return {
            "picture": torch.from_numpy(stacked),
            "size": torch.tensor(sizes, dtype=torch.float32).reshape(-1, 2),
        }

    def targets(self, answers: Sequence[Json]) -> list[list[tuple[float, ...]]]:
        """Return (label, middle x, middle y, width, height) in pixels of every box, by answer."""
        return [[self._numbers(box) for box in answer] for answer in answers]

    def loss(
        self, output: dict[str, torch.Tensor], targets: Sequence[Sequence[tuple[float, ...]]]
    ) -> torch.Tensor:
        """Return (B,) the loss of each picture."""
        cells, size = output["cells"], output["size"]
        wanted = self._grid(targets, size, cells.shape[-1]).to(cells.device)
        there = wanted[:, 0]
        found = functional.binary_cross_entropy_with_logits(cells[:, 0], there, reduction="none")
        label = functional.cross_entropy(cells[:, 5:], wanted[:, 1].long(), reduction="none")
        place = functional.smooth_l1_loss(
            cells[:, 1:5], wanted[:, 2:], reduction="none", beta=_CLOSE
        ).sum(dim=1)
        losses = found * (1 + _FOUND * there) + (label + _PLACE * place) * there
        return losses.mean(dim=(1, 2))

    def answers(self, output: dict[str, torch.Tensor]) -> list[Answer]:
        """Return the boxes of each picture; the confidence is that of its least certain cell."""
        cells = output["cells"].detach().cpu()
        chances = cells[:, 0].sigmoid().numpy()
        sizes, embeddings = output["size"].cpu().numpy(), output["embedding"].detach().cpu().numpy()
        return [
            Answer(
                value=self._boxes(chance, cell, size),
                confidence=float(np.maximum(chance, 1 - chance).min()),
                embedding=embedding.astype(np.float32),
            )
            for chance, cell, size, embedding in zip(
                chances, cells.numpy(), sizes, embeddings, strict=True
            )
        ]

    def _numbers(self, box: Json) -> tuple[float, ...]:
        try:
            x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
            return self.labels.index(box["label"]), x + width / 2, y + height / 2, width, height
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(
                f"{box!r:.80} is no box of this task ({error}). Give label, x, y, width and height, "
                f"with one of {', '.join(self.labels):.100}"
            ) from error

    def _grid(
        self, targets: Sequence[Sequence[tuple[float, ...]]], sizes: torch.Tensor, number: int
    ) -> torch.Tensor:
        """Return (B, 6, G, G): is a box there, its label, place within the cell, shares of the sides."""
        grid = torch.zeros(len(targets), 6, number, number)
        for row, (boxes, (width, height)) in enumerate(zip(targets, sizes.tolist(), strict=True)):
            for label, x, y, wide, high in boxes:
                across, down = x / width * number, y / height * number
                column, line = (int(min(max(one, 0), number - 1)) for one in (across, down))
                numbers = [1, label, across - column, down - line, wide / width, high / height]
                grid[row, :, line, column] = torch.tensor(numbers)
        return grid

    def _boxes(self, chances: Array, cells: Array, size: Array) -> list[dict[str, Json]]:
        number, (width, height) = len(chances), size.tolist()
        found = []
        for line, column in np.argwhere(chances > self.least_confidence).tolist():
            dx, dy, wide, high = cells[1:5, line, column].tolist()
            wide, high = max(wide, _LEAST) * width, max(high, _LEAST) * height
            found.append(
                {
                    "label": self.labels[int(cells[5:, line, column].argmax())],
                    "x": (column + dx) / number * width - wide / 2,
                    "y": (line + dy) / number * height - high / 2,
                    "width": wide,
                    "height": high,
                    "confidence": float(chances[line, column]),
                }
            )
        return found


class _Network(nn.Module):
    def __init__(self, num_numbers: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())
        self.cells = nn.Conv2d(64, num_numbers, 1)
        with torch.no_grad():  # most cells are empty: Lin et al. (2017), section 4.1
            self.cells.bias[0] = -3.0  # type: ignore[index]  # a convolution has a bias

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        features = self.features(inputs["picture"])
        return {
            "cells": self.cells(features),
            "embedding": features.amax(dim=(2, 3)),
            "size": inputs["size"],
        }
