"""The network of the template, one layer, whose parts tests change."""

from __future__ import annotations

import torch


class Plain(torch.nn.Sequential):
    """(B, 8, 8) pixels -> logits (B, 10), which are the embedding too."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = super().forward(pixels)
        return {"logits": logits, "embedding": logits}
