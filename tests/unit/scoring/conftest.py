from __future__ import annotations

import numpy as np
import pytest

NAMES = ("cup", "pan", "pot")


@pytest.fixture(scope="session")
def torchmetrics():
    from torchmetrics import functional  # noqa: PLC0415 - seconds, for which all who collect would wait

    return functional


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def some_box(rng):
    x, y, width, height = rng.uniform([0, 0, 5, 5], [100, 100, 60, 60]).tolist()
    return {"label": str(rng.choice(NAMES)), "x": x, "y": y, "width": width, "height": height}


def moved(box, rng):
    """The box as a detector may see it: shifted, sometimes of another class."""
    far = float(rng.choice([1, 3, 10]))
    shifted = {side: box[side] + float(rng.normal(0, far)) for side in ("x", "y")}
    label = box["label"] if rng.random() < 0.9 else str(rng.choice(NAMES))
    return {**box, **shifted, "label": label}


@pytest.fixture(scope="session")
def draw_boxes():
    """(number, seed, levels=None) -> answers and labels; confidences have that many levels, or any."""

    def draw(number, seed, levels=None):
        rng = np.random.default_rng(seed)
        labels = [[some_box(rng) for _ in range(rng.integers(0, 8))] for _ in range(number)]
        answers = []
        for label in labels:
            found = [moved(box, rng) for box in label if rng.random() < 0.85]
            found += [some_box(rng) for _ in range(rng.integers(0, 3))]
            rng.shuffle(found)
            sure = rng.random(len(found))
            sure = sure if levels is None else np.floor(sure * levels) / levels
            answers.append(
                [{**box, "confidence": one} for box, one in zip(found, sure.tolist(), strict=True)]
            )
        return answers, labels

    return draw
